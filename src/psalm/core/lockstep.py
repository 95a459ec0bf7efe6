"""Iterations of many blocks whose sweeps are made together, elsewhere: each block at its own ε, error and history."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.anderson import advance, copy, forget, start_many, state_of
from psalm.core.compiled import compiled
from psalm.core.problem import response
from psalm.core.solver import FACTOR, LOOSE, n_stages, relaxed, start_of_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray

_compiled = compiled()


class Lockstep:
    """The iteration of :func:`psalm.core.solver.solve_kept` for many blocks, between one sweep of all and the next.

    Parameters
    ----------
    marginals
        Logarithms (n_blocks, n) and (n_blocks, m), padded.
    sizes
        Rows and columns of each block.
    settings
        As for :func:`psalm.core.solver.solve_kept`.
    means, epsilons
        (n_blocks,) mean cost, and ε as the settings mean it.
    """

    def __init__(
        self,
        marginals: tuple[FloatArray, FloatArray],
        sizes: Sequence[tuple[int, int]],
        settings: tuple[Any, ...],
        means: FloatArray,
        epsilons: FloatArray,
    ) -> None:
        relative, max_iterations = settings[1], settings[3]
        self.log_a, self.log_b = marginals
        self.sizes, self.settings, self.means = np.array(sizes), settings, means
        self.wanted = np.where(means > 0, epsilons * means, 1.0) if relative else epsilons
        pairs = zip(self.wanted, means, strict=True)
        self.left = np.array([min(n_stages(*pair), max_iterations) - 1 for pair in pairs])
        self.f, self.g = self.log_a.copy(), self.log_b.copy()
        first = np.cumsum([0, *self.sizes[:, 1]])
        self.states = start_many(np.concatenate([g[:m] for g, m in zip(self.g, self.sizes[:, 1], strict=True)]), first)
        self.active = np.ones(len(means), dtype=bool)
        self.outcome = np.array([self.wanted, means, np.zeros_like(means), np.full_like(means, np.inf)]).T

    @property
    def epsilons(self) -> FloatArray:
        """(n_blocks,) ε of the next sweep."""
        return self.wanted * FACTOR**self.left

    @property
    def kappas(self) -> FloatArray:
        """(n_blocks,) exponents of the row marginals in the next sweep."""
        rho = self.settings[4]
        if np.isinf(rho):
            return np.ones_like(self.means)
        return np.asarray(rho * self.means / (rho * self.means + self.epsilons))

    def __call__(self, f: FloatArray, masses: FloatArray) -> None:
        """Move the blocks that are not finished.

        Parameters
        ----------
        f, masses
            (n_blocks, n) and (n_blocks, m) row potentials and column masses of a sweep.
        """
        self.f[self.active] = f[self.active]
        marginals, found = (self.log_a, self.log_b), (self.f, self.g, masses)
        _advance(self.states, marginals, found, self.sizes, self.settings, self.left, self.active, self.outcome)


@_compiled
def _advance(states, marginals, found, sizes, settings, left, active, outcome):
    _, _, tolerance, max_iterations, _, rho, cap, log_budget = settings
    for k in range(len(sizes)):
        if not active[k]:
            continue
        state, n, m = state_of(states, k), sizes[k, 0], sizes[k, 1]
        log_a, log_b = marginals[0][k, :n], marginals[1][k, :m]
        kappa = relaxed(rho, outcome[k, 1], outcome[k, 0] * FACTOR ** left[k])
        step, error = response(state.g, found[0][k, :n], found[2][k, :m], (log_a,), (log_b, kappa, cap, log_budget))
        outcome[k, 2] += 1
        outcome[k, 3] = error
        goal = tolerance if left[k] == 0 else max(LOOSE, tolerance)
        if not (error <= goal or outcome[k, 2] >= max_iterations - left[k]):
            advance(state, step, np.exp(log_b), error)
        elif left[k] > 0:
            left[k] -= 1
            copy(start_of_stage(state.g, log_b), state.g)
            forget(state)
        else:
            active[k] = False
        copy(state.g, found[1][k, :m])
