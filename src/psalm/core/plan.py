"""The matching of one block, in the form its method leaves it: stored entries, or potentials that stand for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from psalm.core.cost import POSTERIOR, paired, pairwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy import sparse

    from psalm.core._types import FloatArray, IntArray

BYTES_PER_ENTRY = 12
"""Of a stored pair in a sparse matrix: float64 value and int32 column."""


class Plan(Protocol):
    """The matching of one block; its mass is what the block transports."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        ...

    @property
    def transpose(self) -> Plan:
        """The same plan with source and target exchanged."""
        ...

    def rows(self, tile: slice) -> FloatArray:
        """Exact mass of some source cells, dense (n_rows, n_target)."""
        ...

    def weighted(self, weight: float) -> Plan:
        """The same plan with its mass multiplied by ``weight``."""
        ...


@dataclass(frozen=True)
class SparsePlan:
    """A plan that is its stored entries.

    Parameters
    ----------
    mass
        CSR (n_source, n_target), non-negative.
    """

    mass: sparse.csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        return int(self.mass.shape[0]), int(self.mass.shape[1])

    @property
    def transpose(self) -> SparsePlan:
        """The same plan with source and target exchanged."""
        return SparsePlan(self.mass.T.tocsr())

    def rows(self, tile: slice) -> FloatArray:
        """Exact mass of some source cells."""
        return np.asarray(self.mass[tile].toarray())

    def weighted(self, weight: float) -> SparsePlan:
        """The same plan with its mass multiplied by ``weight``."""
        return SparsePlan(self.mass * weight)


@dataclass(frozen=True)
class EntropicPlan:
    """A plan kept as dual potentials: ``exp((source_potential_i + target_potential_j − cost_ij) / epsilon)``.

    Parameters
    ----------
    source_scores, target_scores
        (n_source, k) and (n_target, k).
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
        """Exact mass of some source cells, in float64."""
        exponent = self.source_potential[tile, None] + self.target_potential
        exponent -= pairwise(self.source_scores[tile], self.target_scores, self.cost)
        exponent /= self.epsilon
        return np.asarray(np.exp(exponent, out=exponent))

    def pairs(self, rows: IntArray, columns: IntArray) -> FloatArray:
        """Exact mass of some pairs: (n_rows, k) for (n_rows,) source cells and (n_rows, k) target cells."""
        costs = paired(self.source_scores[rows], self.target_scores[columns], self.cost)
        exponent = self.source_potential[rows, None] + self.target_potential[columns] - costs
        return np.asarray(np.exp(exponent / self.epsilon))

    def fast_rows(self) -> Callable[[slice], FloatArray]:
        """A function like :meth:`rows` with float32 arithmetic: some ten times faster, relative error about 1e-6."""
        if self.cost == POSTERIOR:
            return self._products
        from psalm.core.solver import row_maker

        rows: Callable[[slice], FloatArray] = row_maker(self)  # type: ignore[no-untyped-call]
        return rows

    def _products(self, tile: slice) -> FloatArray:
        left = self.source_scores[tile] * np.exp(self.source_potential[tile, None])
        return np.asarray(left @ (self.target_scores * np.exp(self.target_potential[:, None])).T)

    def weighted(self, weight: float) -> EntropicPlan:
        """The same plan with its mass multiplied by ``weight``."""
        return replace(self, source_potential=self.source_potential + self.epsilon * np.log(weight))
