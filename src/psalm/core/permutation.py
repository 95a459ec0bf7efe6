"""Does a match relate cells at all? A covariance over matched cells, against the same with cells shuffled in blocks.

Shuffling the scores of the source cells of a block permutes the rows of its plan, whatever the method (all are blind to
the order of cells), so that no match has to be made again: the statistic is a sum of products over cells, and its null
distribution that of the sum with one factor's rows permuted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import BoolArray, FloatArray, IntArray

FEWEST_CELLS = 3
SMALL = 512
"""Blocks of at most so many cells are permuted in the matrix of all products, larger ones row by row."""


@dataclass(frozen=True)
class Relation:
    """Covariance of two quantities over the cells of each block, and under permutation.

    Parameters
    ----------
    n_cells
        (n_blocks,) cells that take part.
    product
        (n_blocks,) ``Σ_i u_i · v_i``, u and v less their means over the block.
    null
        (n_permutations, n_blocks) the same with the rows of u permuted.
    u_squares, v_squares
        (n_blocks,) ``Σ_i ‖u_i‖²`` and ``Σ_i ‖v_i‖²``.
    """

    n_cells: IntArray
    product: FloatArray
    null: FloatArray
    u_squares: FloatArray
    v_squares: FloatArray

    def correlation(self, blocks: IntArray | None = None) -> Statistic:
        """Correlation over the cells of some blocks, by default all, each block's means taken away."""
        chosen = np.arange(len(self.product)) if blocks is None else blocks
        scale = np.sqrt(self.u_squares[chosen].sum() * self.v_squares[chosen].sum())
        return self._tested(chosen, scale)

    def mean(self, blocks: IntArray | None = None) -> Statistic:
        """Mean of the product over the cells of some blocks, by default all."""
        chosen = np.arange(len(self.product)) if blocks is None else blocks
        return self._tested(chosen, float(self.n_cells[chosen].sum()))

    def _tested(self, blocks: IntArray, scale: float) -> Statistic:
        n_cells = int(self.n_cells[blocks].sum())
        if not scale > 0:
            return Statistic(n_cells, float("nan"), np.full(len(self.null), np.nan))
        return Statistic(n_cells, float(self.product[blocks].sum() / scale), self.null[:, blocks].sum(axis=1) / scale)


@dataclass(frozen=True)
class Statistic:
    """A statistic and its null distribution.

    Parameters
    ----------
    n_cells
        Cells that it was taken over.
    value
        NaN where one of both quantities does not vary.
    null
        (n_permutations,).
    low
        Whether small values are the remarkable ones.
    observed
        What the p-value is of, where it is not the value.
    """

    n_cells: int
    value: float
    null: FloatArray

    low: bool = False
    observed: float | None = None

    @property
    def p_value(self) -> float:
        """Share of permutations with at least this value, or at most where ``low``, the observed one included."""
        if np.isnan(self.value) or np.isnan(self.null).any():
            return float("nan")
        sign, value = -1 if self.low else 1, self.value if self.observed is None else self.observed
        beyond = sign * self.null >= sign * value - 1e-9 * abs(value)
        return float((1 + beyond.sum()) / (1 + len(self.null)))


def relate(
    u: FloatArray, v: FloatArray, blocks: Sequence[IntArray], rng: np.random.Generator, n_permutations: int
) -> Relation:
    """Relate two quantities of the same cells.

    Parameters
    ----------
    u, v
        (n_cells, k). Cells with NaN in either take no part.
    blocks
        Positions of the cells of each block. Blocks of fewer than three cells count as without variation.
    rng
        Draws the permutations.
    n_permutations
        The smallest p-value is ``1 / (n_permutations + 1)``.
    """
    n_cells, product, squares = np.zeros(len(blocks), int), np.zeros(len(blocks)), np.zeros((2, len(blocks)))
    null = np.zeros((n_permutations, len(blocks)))
    known = known_in(u, v)
    for place, block in enumerate(blocks):
        cells = block[known[block]]
        if len(cells) < FEWEST_CELLS:
            continue
        x, y = (np.asarray(values[cells], dtype=np.float64) for values in (u, v))
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        n_cells[place], product[place] = len(cells), (x * y).sum()
        squares[:, place] = (x**2).sum(), (y**2).sum()
        null[:, place] = _permuted(x, y, rng, n_permutations)
    return Relation(n_cells, product, null, squares[0], squares[1])


def known_in(*values: FloatArray) -> BoolArray:
    """Cells without NaN in any of some arrays."""
    found = np.ones(len(values[0]), dtype=bool)
    for array in values:
        found &= ~np.asarray(np.isnan(array)).any(axis=1)
    return found


def _permuted(x: FloatArray, y: FloatArray, rng: np.random.Generator, n_permutations: int) -> FloatArray:
    orders = (rng.permutation(len(x)) for _ in range(n_permutations))
    if len(x) <= SMALL:
        products: FloatArray = np.asarray(x @ y.T)
        places = np.arange(len(x))
        return np.array([products[order, places].sum() for order in orders])
    return np.array([np.einsum("ij,ij->", x[order], y) for order in orders])
