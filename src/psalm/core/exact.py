"""Exact optimal transport between the scores of one block, without its cost matrix.

Minimises ``Σ P_ij C_ij`` over plans with the block's marginals (Peyré & Cuturi, Computational Optimal Transport, 2019,
chapter 3) by column generation: a network simplex (Bonneel et al., SIGGRAPH Asia 2011, as in POT) solves the problem
on a short list of pairs; its dual potentials price all pairs, and those that violate them join the list, until none
does. The potentials are then feasible for all pairs, so that their value proves the plan to be optimal.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.cost import pairwise
from psalm.core.matcher import Match, Need, Side
from psalm.core.neighbors import marginal_error, nearest
from psalm.core.plan import EntropicPlan, SparsePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.entropic import Tick
    from psalm.core.pricing import Search

COSTS = ("euclidean", "sqeuclidean")
BYTES_PER_CELL = 12_000.0
"""Measured peak on blocks of 50,000 × 50,000 mixture cells (1.2 GB)."""
EPSILONS, LOOSE, SWEEPS, MEMORY_MB = (0.025, 0.1, 0.4), 0.1, 20, 64.0
"""The entropic plan that suggests pairs: the first ε, relative to the mean cost, that reaches the error in time."""
SHARE, PER_ROW = 3e-3, 32
"""Pairs with so much of their row's mass in that plan are on the first list, at most so many of a row."""
LANDMARKS, CELLS_PER_LANDMARK = 1000, 20
ADDED, NOTICED = 8, 0.1
"""Most pairs of a row, and of a column, that a round adds; they violate by this share of the tolerance at least."""
MOST_PIVOTS, OPTIMAL = 2**40, 1


@dataclass(frozen=True)
class Certificate:
    """How near to the optimum a plan is proven to be.

    Parameters
    ----------
    gap
        Bound on what the plan costs above the optimum, in units of cost: its cost less the value of the potentials,
        which is the sum of their means, weighted by the marginals.
    rounds, n_arcs
        How often the problem on a list of pairs was solved, and the pairs on the last list.
    mean_cost
        Mean over all pairs of the block.
    source_potential, target_potential
        (n_source,) and (n_target,); their sum exceeds the cost of no pair, up to float64 rounding.
    """

    gap: float
    rounds: int
    n_arcs: int
    mean_cost: float
    source_potential: FloatArray
    target_potential: FloatArray


@dataclass(frozen=True)
class ExactMatcher:
    """Match by optimal transport without entropy: of all plans with the block's marginals, one of least cost.

    At most n + m − 1 pairs carry mass; where both sides have equally many cells of equal mass, each has one partner.

    Parameters
    ----------
    cost
        "euclidean" or "sqeuclidean" distance between scores.
    tolerance
        A match has converged when its gap to the optimum is proven to be at most this, relative to the mean cost.
        Below about 1e-11 rounding decides.
    max_rounds
        Bound on the rounds of a block. One that stops here has a plan with the right marginals that is not proven.
    dense_pairs
        Blocks of at most so many pairs are solved on their whole cost matrix, in one round.
    """

    cost: str = "euclidean"
    tolerance: float = 1e-9
    max_rounds: int = 50
    dense_pairs: int = 2**16

    def __post_init__(self) -> None:
        if self.cost not in COSTS or self.max_rounds < 1:
            msg = (
                f"`cost={self.cost!r}`, `max_rounds={self.max_rounds}` cannot be solved exactly. Pass a cost out of "
                f"{', '.join(map(repr, COSTS))}, and at least 1 round."
            )
            raise ValueError(msg)

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block with one thread."""
        return self.match_many([(source, target)], 1)[0]

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes: the listed pairs, and the simplex on them."""
        n_pairs = shape[0] * shape[1]
        return Need(40.0 * n_pairs if n_pairs <= self.dense_pairs else BYTES_PER_CELL * sum(shape), n_pairs)

    def match_many(self, blocks: Sequence[tuple[Side, Side]], n_threads: int, tick: Tick | None = None) -> list[Match]:
        """Match each block; passes over pairs use so many threads, the simplex one."""
        found = []
        for source, target in blocks:
            mass, proof = solve_exact(self, source, target, n_threads)
            converged = proof.gap <= self.tolerance * (proof.mean_cost or 1.0)
            error = marginal_error(mass, source, target)
            found.append(Match(SparsePlan(mass), float("nan"), proof.rounds, error, converged, proof.mean_cost))
        return found


def solve_exact(
    method: ExactMatcher, source: Side, target: Side, n_threads: int = 1
) -> tuple[sparse.csr_matrix, Certificate]:
    """Plan (n_source, n_target) of mass one, and what it is proven to be worth."""
    from psalm.core.threads import single_threaded_blas

    if len(source) * len(target) > method.dense_pairs:
        with single_threaded_blas():
            return _solve_in_units(method, source, target, n_threads)
    cost = pairwise(source.scores, target.scores, method.cost)
    unit = float(cost.mean()) or 1.0
    plan, _, v = _simplex(source.mass, target.mass, cost / unit)
    v = v * unit
    u = (cost - v).min(axis=1)
    gap = float(plan.multiply(cost).sum() - source.mass @ u - target.mass @ v)
    return plan, Certificate(gap, 1, cost.size, float(cost.mean()), u, v)


def _solve_in_units(
    method: ExactMatcher, source: Side, target: Side, n_threads: int
) -> tuple[sparse.csr_matrix, Certificate]:
    """:func:`_solve_listed` on scores in a unit of their own, so that float32 holds their squares."""
    from psalm.core.problem import cost_kind, frame, unit_of_cost

    scores = [np.asarray(side.scores, dtype=np.float64) for side in (source, target)]
    centre, unit, factor = frame(*scores)
    x, y = ((values - centre) * factor for values in scores)
    plan, proof = _solve_listed(method, Side(x, source.mass), Side(y, target.mass), n_threads)
    unit = unit_of_cost(cost_kind(method.cost), unit)
    potentials = unit * proof.source_potential, unit * proof.target_potential
    return plan, Certificate(unit * proof.gap, proof.rounds, proof.n_arcs, unit * proof.mean_cost, *potentials)


def _solve_listed(
    method: ExactMatcher, source: Side, target: Side, n_threads: int
) -> tuple[sparse.csr_matrix, Certificate]:
    from psalm.core.pricing import Search

    search = Search(method.cost, source.scores, target.scores, n_threads)
    across = Search(method.cost, target.scores, source.scores, n_threads)
    u, v, epsilon, mean = _loose(search, source, target)
    unit, crowd = mean or 1.0, max(1, len(v) // len(u))
    slack = -epsilon * np.log(SHARE * np.minimum(source.mass, 1 / len(v)))
    likely = search(u, v, slack, min(len(v), PER_ROW * crowd))[1]
    pairs = np.hstack([likely, _spanning(search, source.mass, target.mass)])  # one that is there twice does no harm
    for rounds in range(1, method.max_rounds + 1):
        # costs less the last potentials: the optimum is the same, and the simplex sets out near it
        reduced = (search.costs(pairs) - u[pairs[0]] - v[pairs[1]]) / unit
        listed = sparse.coo_array((reduced - reduced.min(), tuple(pairs)), shape=(len(u), len(v)))
        plan, more_u, more_v = _simplex(source.mass, target.mass, listed)
        u, v = u + unit * (more_u + reduced.min()), v + unit * more_v
        lowest, new = search(u, v, np.zeros(len(u)), ADDED * crowd)
        feasible = u + np.minimum(lowest, 0.0)
        cost = plan.tocoo().data @ search.costs(np.array(plan.tocoo().coords))
        gap = float(cost - source.mass @ feasible - target.mass @ v)
        certificate = Certificate(gap, rounds, pairs.shape[1], mean, feasible, v)
        if gap <= method.tolerance * unit:
            break
        new = np.hstack([new, across(v, u, np.zeros(len(v)), ADDED * max(1, len(u) // len(v)))[1][::-1]])
        violate = search.costs(new) - u[new[0]] - v[new[1]] < -NOTICED * method.tolerance * unit
        if not violate.any():
            break
        pairs = np.hstack([pairs, new[:, violate]])
    return plan, certificate


def _loose(search: Search, source: Side, target: Side) -> tuple[FloatArray, FloatArray, float, float]:
    """Potentials (n,) and (m,) of a loose entropic plan, its ε, and the mean cost."""
    from psalm.core.entropic import Entropic

    if (search.x == search.x[0]).all() and (search.y == search.x[0]).all():
        return np.zeros(len(source)), np.zeros(len(target)), 1.0, 0.0
    for epsilon in EPSILONS:
        entropic = Entropic(
            search.cost, epsilon, tolerance=LOOSE, max_iterations=SWEEPS, memory_mb=MEMORY_MB, device="cpu"
        )
        match = entropic.solve([(source, target)], search.n_threads)[0]
        if match.converged:
            break
    assert isinstance(match.plan, EntropicPlan)
    return match.plan.source_potential, match.plan.target_potential, match.epsilon, match.mean_cost


def _simplex(
    a: FloatArray, b: FloatArray, cost: FloatArray | sparse.coo_array
) -> tuple[sparse.csr_matrix, FloatArray, FloatArray]:
    """Optimal plan on the pairs that ``cost`` stores, and its dual potentials (n,) and (m,).

    Where cells weigh the same, mass is counted in whole numbers, so that flows are exact.
    """
    from ot.lp import emd  # type: ignore[import-untyped,unused-ignore]

    n, m = len(a), len(b)
    even = (a == a[0]).all() and (b == b[0]).all()
    total = float(n * m // gcd(n, m) if even else max(n, m))
    supply, demand = (np.full(k, total / k) if even else side * (total / side.sum()) for k, side in ((n, a), (m, b)))
    flow, log = emd(supply, demand, cost, numItermax=MOST_PIVOTS, log=True)
    if log["result_code"] != OPTIMAL:
        msg = f"POT's network simplex failed on {n} × {m} cells: {log['warning']} Choose another method."
        raise RuntimeError(msg)
    return sparse.csr_matrix(flow) / total, log["u"], log["v"]


def _spanning(search: Search, a: FloatArray, b: FloatArray) -> IntArray:
    """Pairs (2, n_pairs) of a plan with the given marginals: optimal between landmarks, in any order near each.

    Where clusters of cells differ in mass, this is what connects the right ones.
    """
    cells = np.concatenate([search.x, search.y])
    n_landmarks = min(LANDMARKS, 1 + len(cells) // CELLS_PER_LANDMARK)
    landmarks = cells[np.linspace(0, len(cells) - 1, n_landmarks).astype(int)]
    near = [nearest(side, landmarks, 1)[:, 0] for side in (search.x, search.y)]
    masses = [np.bincount(of, mass, n_landmarks).astype(float) for of, mass in zip(near, (a, b), strict=True)]
    used = [np.flatnonzero(mass) for mass in masses]
    between = pairwise(landmarks[used[0]], landmarks[used[1]], search.cost)
    flow = _simplex(masses[0][used[0]], masses[1][used[1]], between / (between.mean() or 1.0))[0].tocoo()
    order_a, order_b = (np.argsort(of, kind="stable") for of in near)
    by_row = np.lexsort((flow.col, flow.row))
    i, piece, mass = _overlap(a[order_a], flow.data[by_row])
    sent = np.argsort(flow.col[by_row][piece], kind="stable")
    part, j, _ = _overlap(mass[sent], b[order_b])
    return np.array([order_a[i[sent[part]]], order_b[j]])


def _overlap(a: FloatArray, b: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pieces (i, j, mass) that two cuts of the same mass have in common: the north-west corner plan."""
    ends_a, ends_b = np.cumsum(a)[:-1], np.cumsum(b)[:-1]
    starts = np.sort(np.concatenate([[0.0], ends_a, ends_b]))
    i, j = (np.searchsorted(ends, starts, side="right") for ends in (ends_a, ends_b))
    return i, j, np.diff(np.append(starts, a.sum()))
