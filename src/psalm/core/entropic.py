"""Entropic transport of blocks on the processor: many small blocks in one call, large ones in strips of rows.

Minimises ``Σ P_ij C_ij + ε KL(P | a bᵀ)`` under constraints on the marginals (Cuturi, NeurIPS 2013). The plan is
``P_ij = exp((f_i + g_j − C_ij) / ε)``; f and g are found by sweeps that make all rows best for given columns
(Sinkhorn), accelerated by Anderson's method, and are all that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from psalm.core import precise
from psalm.core.cost import POSTERIOR
from psalm.core.device import choose
from psalm.core.matcher import Match, Need
from psalm.core.plan import EntropicPlan
from psalm.core.posterior import solve_posterior
from psalm.core.precise import REACHABLE, SMALL_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psalm.core._types import FloatArray
    from psalm.core.matcher import Side

    Tick = Callable[[float], object]

SMALL_PAIRS = 2**20
"""Blocks of at most so many pairs are solved by one thread each, with their kernel kept."""
VECTORS = 24
"""Float64 numbers per cell beside its scores: potentials, masses, and the history of Anderson's method."""


@dataclass(frozen=True)
class Entropic:
    """What to solve, and how well.

    Parameters
    ----------
    cost
        One of :data:`psalm.core.cost.COSTS`. "posterior" takes coordinates for scores, and ε is 1.
    epsilon
        Strength of the entropy.
    relative
        Whether ε is in units of the block's mean cost, else in units of cost.
    tolerance
        Largest L1 error of the marginals relative to the block's mass.
    max_iterations
        Bound on the sweeps of a block.
    relaxation
        ρ of source and target: price of a marginal's Kullback–Leibler divergence, relative to the block's mean cost
        ("posterior": in nats); ∞ where the marginal is to be met.
    fraction
        Share of the mass to transport, with marginals as upper bounds; None: all.
    memory_mb
        A large block's kernel is kept up to this size and recomputed in every sweep above it.
    device
        "cpu": compiled, all cores. "cuda" or as torch names a device: in torch. "auto":
        :func:`psalm.core.device.choose`.
    """

    cost: str = "euclidean"
    epsilon: float = 0.2
    relative: bool = True
    tolerance: float = 1e-3
    max_iterations: int = 2000
    relaxation: tuple[float, float] = (float("inf"), float("inf"))
    fraction: float | None = None
    memory_mb: float = 512.0
    device: str = "auto"

    @property
    def settings(self) -> tuple[float, bool, float, int, float, float, float, float]:
        """As :func:`psalm.core.solver.solve_kept` takes them."""
        cap, log_budget = (np.inf, np.nan) if self.fraction is None else (0.0, float(np.log(self.fraction)))
        # half of a small tolerance is left to what float32 rounds off
        goal = self.tolerance / 2 if self.tolerance < SMALL_TOLERANCE else self.tolerance
        exact = (float(self.epsilon), self.relative, max(float(goal), REACHABLE), self.max_iterations)
        return (*exact, float(self.relaxation[0]), float(self.relaxation[1]), cap, log_budget)

    def solve(
        self,
        blocks: Sequence[tuple[Side, Side]],
        n_threads: int,
        epsilons: FloatArray | None = None,
        tick: Tick | None = None,
    ) -> list[Match]:
        """Match of every block; large ones use so many threads, small ones one for all.

        Parameters
        ----------
        blocks
            Source and target of each.
        n_threads
            For large blocks; the result does not depend on it.
        epsilons
            (n_blocks,) in the place of ``epsilon``.
        tick
            Told how much of a large block is done, from 0 to 1.
        """
        each = np.full(len(blocks), self.epsilon) if epsilons is None else epsilons
        from psalm.core.threads import single_threaded_blas

        if self.cost == POSTERIOR:
            return [solve_posterior(self, *block) for block in blocks]
        device = choose(self.device, sum(len(x) * len(y) for x, y in blocks))
        if device != "cpu":
            return self._torch(blocks, device.removeprefix("torch:"), each)
        found: list[Match | None] = [None] * len(blocks)
        small = [k for k, (x, y) in enumerate(blocks) if len(x) * len(y) <= SMALL_PAIRS]
        with single_threaded_blas():
            for k, match in zip(small, self._small([blocks[k] for k in small], each[small]), strict=True):
                found[k] = match
            for k in sorted(set(range(len(blocks))) - set(small)):
                found[k] = replace(self, epsilon=float(each[k]))._large(*blocks[k], n_threads, tick)
        return [match for match in found if match is not None]

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes: scores and vectors, tiles of every thread, and its kernel where that is kept.

        Small blocks are solved by one thread each, and so many at a time.
        """
        from psalm.core.tiles import ROWS

        n_pairs, n_cells = shape[0] * shape[1], sum(shape)
        vectors, kernel = 8.0 * n_cells * (3 * n_columns + VECTORS), 4.0 * n_pairs
        if self.cost == POSTERIOR:
            return Need(vectors, n_cells)
        if n_pairs <= SMALL_PAIRS:
            return Need(vectors + n_threads * kernel, n_pairs)
        kept = kernel if kernel <= self.memory_mb * 2**20 else 0.0
        return Need(vectors + n_threads * 4.0 * ROWS * shape[1] + kept, n_pairs)

    def _torch(self, blocks: Sequence[tuple[Side, Side]], device: str, epsilons: FloatArray) -> list[Match]:
        from psalm.core.torch_entropic import solve_torch

        return [
            replace(self._match(block, _arrays(*block)[1], (f, g), outcome), device=device)
            for block, (f, g, outcome) in zip(blocks, solve_torch(self, blocks, device, epsilons), strict=True)
        ]

    def _small(self, blocks: list[tuple[Side, Side]], epsilons: FloatArray) -> list[Match]:
        from psalm.core.problem import cost_kind
        from psalm.core.solver import solve_many
        from psalm.core.tiles import chunk_width

        if not blocks:
            return []
        first = [np.cumsum([0, *(len(block[side]) for block in blocks)]) for side in (0, 1)]
        scores = [np.concatenate([b[side].scores for b in blocks], dtype=np.float64) for side in (0, 1)]
        log_mass = [np.log(np.concatenate([block[side].mass for block in blocks])) for side in (0, 1)]
        width = np.array([chunk_width(len(y), y.scores.shape[1]) for _, y in blocks])
        f, g, outcome = solve_many(cost_kind(self.cost), *scores, *log_mass, *first, epsilons, self.settings[1:], width)
        rows = [slice(*pair) for pair in zip(first[0][:-1], first[0][1:], strict=True)]
        cells = [slice(*pair) for pair in zip(first[1][:-1], first[1][1:], strict=True)]
        return [
            self._match(block, (log_mass[0][a], log_mass[1][b]), (f[a], g[b]), out)
            for block, a, b, out in zip(blocks, rows, cells, outcome.tolist(), strict=True)
        ]

    def _large(self, source: Side, target: Side, n_threads: int, tick: Tick | None) -> Match:
        from psalm.core.large import solve_large

        scores, log_mass = _arrays(source, target)
        f, g, *outcome = solve_large(self, scores, log_mass, n_threads, tick or (lambda _: None))
        return self._match((source, target), log_mass, (f, g), outcome)

    def _match(
        self,
        block: tuple[Side, Side],
        log_mass: tuple[FloatArray, FloatArray],
        found: tuple[FloatArray, FloatArray],
        outcome: Sequence[float],
    ) -> Match:
        """Match from potentials over ε; in float64 where float32 has not reached the tolerance."""
        epsilon, mean, iterations, error = outcome
        f, g = found
        scores = block[0].scores, block[1].scores
        plan = EntropicPlan(*scores, epsilon * f, epsilon * g, epsilon, self.cost)
        if precise.may_matter(self.tolerance, mean / epsilon):
            # rows of a partial plan may carry less than their mass: there is nothing to compare them with
            if self.fraction is None:
                error += precise.rounding_error(plan, self._row_masses(f, log_mass[0], mean, epsilon))
            if (error > self.tolerance or self.fraction is not None) and iterations < self.max_iterations:
                f, g, iterations, error = self._polish(scores, log_mass, g, outcome)
                plan = EntropicPlan(*scores, epsilon * f, epsilon * g, epsilon, self.cost)
        return Match(plan, epsilon, int(iterations), error, converged=error <= self.tolerance, mean_cost=mean)

    def _row_masses(self, f: FloatArray, log_a: FloatArray, mean: float, epsilon: float) -> FloatArray:
        """Row masses that belong to row potentials: the optimum's relation between the two."""
        rho = self.relaxation[0]
        met = np.isinf(rho) or mean == 0  # where nothing costs, all mass is transported
        return np.asarray(np.exp(log_a if met else log_a - (f - log_a) * epsilon / (rho * mean)))

    def _polish(
        self,
        scores: tuple[FloatArray, FloatArray],
        log_mass: tuple[FloatArray, FloatArray],
        g: FloatArray,
        outcome: Sequence[float],
    ) -> tuple[FloatArray, FloatArray, int, float]:
        """Continue in float64 from column potentials over ε."""
        from psalm.core.anderson import advance, start
        from psalm.core.problem import response
        from psalm.core.solver import relaxed

        epsilon, mean, iterations, _ = outcome
        cap, log_budget = self.settings[6:]
        kappa = [relaxed(float(rho), mean, epsilon) for rho in self.relaxation]
        sweeps = precise.Sweeps(*scores, self.cost, epsilon, self.memory_mb)
        cells = log_mass[1], kappa[1], cap, log_budget
        state, weight = start(g), np.exp(log_mass[1])
        iteration, error = int(iterations), float("inf")
        while iteration < self.max_iterations:
            iteration += 1
            f, masses = sweeps(state.g, log_mass[0], kappa[0], cap)
            step, error = response(state.g, f, masses, (log_mass[0],), cells)
            if error <= self.tolerance:
                break
            advance(state, step, weight, error)
        return f, state.g, iteration, error


def _arrays(source: Side, target: Side) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Scores and logarithms of masses, float64."""
    scores = source.scores.astype(np.float64), target.scores.astype(np.float64)
    return scores, (np.log(source.mass), np.log(target.mass))
