"""Entropic optimal transport between the scores of one treatment's cells, in memory that does not grow with n × m.

Minimises ``Σ G_ij C_ij + ε Σ G_ij log G_ij`` over plans with uniform marginals (Cuturi, NeurIPS 2013), in the log
domain. The plan is ``G_ij = exp((f_i + g_j − C_ij) / ε)`` for dual potentials f and g, which are all that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.cost import pairwise, row_tiles
from psalm.core.matching import Match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray

LOWEST_MASS = float(np.finfo(np.float64).tiny)
FLAT_EPSILON = 1.0
"""Absolute ε of a block whose costs are all zero, where every ε gives the uniform plan."""


@dataclass(frozen=True)
class EntropicPlan:
    """A plan kept as dual potentials: ``exp((source_potential_i + target_potential_j − cost_ij) / epsilon)``.

    Parameters
    ----------
    source_scores, target_scores
        (n_source, n_treatments) and (n_target, n_treatments).
    source_potential, target_potential
        (n_source,) and (n_target,), in units of cost.
    epsilon
        Absolute, in units of cost.
    cost
        Name of the cost.
    """

    source_scores: FloatArray
    target_scores: FloatArray
    source_potential: FloatArray
    target_potential: FloatArray
    epsilon: float
    cost: str

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        return len(self.source_potential), len(self.target_potential)

    @property
    def transpose(self) -> EntropicPlan:
        """The same plan with source and target exchanged."""
        return EntropicPlan(
            self.target_scores,
            self.source_scores,
            self.target_potential,
            self.source_potential,
            self.epsilon,
            self.cost,
        )

    def rows(self, tile: slice) -> FloatArray:
        """Exact mass of some source cells."""
        exponent = self.source_potential[tile, None] + self.target_potential
        exponent -= pairwise(self.source_scores[tile], self.target_scores, self.cost)
        exponent /= self.epsilon
        return np.asarray(np.exp(exponent, out=exponent))

    def weighted(self, weight: float) -> EntropicPlan:
        """The same plan with its mass multiplied by ``weight``."""
        return replace(self, source_potential=self.source_potential + self.epsilon * np.log(weight))


@dataclass(frozen=True)
class SinkhornMatcher:
    """Match by entropic optimal transport with uniform marginals.

    Parameters
    ----------
    epsilon
        Strength of the entropy relative to the block's mean cost: small is sharp and noisy, large is soft.
    cost
        "euclidean" or "sqeuclidean" distance between centred log-odds.
    tolerance
        Largest L1 error of the target marginal, relative to the block's mass; the source marginal is exact.
    max_iterations
        Bound on the sweeps. A block that stops here is reported as not converged.
    memory_mb
        The cost matrix of a block is kept in memory up to this size and recomputed in tiles above it.
    """

    epsilon: float = 0.2
    cost: str = "euclidean"
    tolerance: float = 1e-3
    max_iterations: int = 2000
    memory_mb: int = 512

    def __call__(self, source_scores: FloatArray, target_scores: FloatArray) -> Match:
        """Match one block.

        Parameters
        ----------
        source_scores, target_scores
            (n_source, n_treatments) and (n_target, n_treatments).

        Returns
        -------
        A plan of mass one.
        """
        sweep = _Sweep(np.asarray(source_scores, float), np.asarray(target_scores, float), self.cost, self.memory_mb)
        epsilon = self.epsilon * sweep.mean_cost or FLAT_EPSILON
        n_target = len(target_scores)
        target_log = np.zeros(n_target)  # g / ε
        for iteration in range(1, self.max_iterations + 1):
            source_log, column_mass = sweep(target_log, epsilon)
            error = float(np.abs(column_mass - 1 / n_target).sum())
            if error <= self.tolerance or iteration == self.max_iterations:
                break
            target_log -= np.log(n_target * np.maximum(column_mass, LOWEST_MASS))
        plan = EntropicPlan(sweep.source, sweep.target, epsilon * source_log, epsilon * target_log, epsilon, self.cost)
        return Match(plan, epsilon, iteration, error, converged=error <= self.tolerance)


@dataclass(frozen=True)
class _Sweep:
    """One pass over the block: makes the rows exact and returns the column sums that this leaves."""

    source: FloatArray
    target: FloatArray
    cost: str
    memory_mb: int

    def __call__(self, target_log: FloatArray, epsilon: float) -> tuple[FloatArray, FloatArray]:
        """Row potentials ``f / ε`` (n_source,) and column mass (n_target,) for given ``g / ε``."""
        n_source = len(self.source)
        source_log, column_mass = np.empty(n_source), np.zeros(len(self.target))
        for rows, cost in self._tiles():
            exponent = cost / -epsilon
            exponent += target_log
            peak = exponent.max(axis=1, keepdims=True)
            exponent -= peak
            mass = np.exp(exponent, out=exponent)
            total = mass.sum(axis=1)
            source_log[rows] = -np.log(n_source * total) - peak[:, 0]
            column_mass += (1 / (n_source * total)) @ mass
        return source_log, column_mass

    @cached_property
    def mean_cost(self) -> float:
        """Mean of the block's cost matrix."""
        return float(sum(cost.sum() for _, cost in self._tiles()) / (len(self.source) * len(self.target)))

    @cached_property
    def _slices(self) -> list[slice]:
        # a tile is small enough to stay in the processor's cache between the passes over it
        return row_tiles(len(self.source), len(self.target), 2**20)

    @cached_property
    def _kept(self) -> FloatArray | None:
        fits = 8 * len(self.source) * len(self.target) <= self.memory_mb * 2**20
        return pairwise(self.source, self.target, self.cost) if fits else None

    def _tiles(self) -> Iterator[tuple[slice, FloatArray]]:
        for rows in self._slices:
            if self._kept is not None:
                yield rows, self._kept[rows]
            else:
                yield rows, pairwise(self.source[rows], self.target, self.cost)
