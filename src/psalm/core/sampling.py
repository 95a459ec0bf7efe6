"""Partners drawn from a coupling: one pass to prepare, then no pass per draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.plan import Plan

PAIRS_AT_A_TIME = 2**18


class Sampler:
    """Draws partners of cells by inverting their cumulative mass.

    A soft plan of m columns keeps the mass of √m groups of √m columns for every row. A draw finds the group, and
    computes the exact mass of that group's columns only: √m entries instead of m. A sparse plan keeps the cumulative
    sum of its entries.

    Parameters
    ----------
    n_cells
        Number of cells whose partners are drawn, matched or not.
    blocks
        Positions of a block's cells, positions of their possible partners, and the plan between them.
    """

    def __init__(self, n_cells: int, blocks: Sequence[tuple[IntArray, IntArray, Plan]]) -> None:
        self._block, self._row = np.full(n_cells, -1), np.zeros(n_cells, dtype=int)
        self._partners = [partners for _, partners, _ in blocks]
        self._rows: list[_Entries | _Groups] = []
        for position, (cells, _, plan) in enumerate(blocks):
            self._block[cells], self._row[cells] = position, np.arange(len(cells))
            self._rows.append(_Entries(plan) if isinstance(plan, SparsePlan) else _Groups(plan))

    def draw(self, cells: IntArray, n_draws: int, rng: np.random.Generator) -> IntArray:
        """Partners (n, n_draws) of some cells, independent of each other; −1 where a cell carries no mass."""
        drawn = np.full((len(cells), n_draws), -1)
        uniform = rng.random((len(cells), n_draws))
        blocks = self._block[cells]
        for block in np.unique(blocks[blocks >= 0]):
            chosen = np.flatnonzero(blocks == block)
            found = self._rows[block].invert(self._row[cells[chosen]], uniform[chosen])
            drawn[chosen] = np.where(found >= 0, self._partners[block][found], -1)
        return drawn


class _Entries:
    """Rows of stored entries."""

    def __init__(self, plan: SparsePlan) -> None:
        self._mass = plan.mass
        self._cumulative = np.concatenate([[0.0], np.cumsum(plan.mass.data)])

    def invert(self, rows: IntArray, uniform: FloatArray) -> IntArray:
        """Columns at which the rows' cumulative share passes ``uniform`` (n, n_draws); −1 for empty rows."""
        first, last = self._mass.indptr[rows], self._mass.indptr[rows + 1]
        low, high = self._cumulative[first][:, None], self._cumulative[last][:, None]
        found = np.searchsorted(self._cumulative, low + uniform * (high - low), side="right") - 1
        inside = np.clip(found, first[:, None], np.maximum(last - 1, first)[:, None])
        columns = self._mass.indices[np.minimum(inside, max(0, self._mass.nnz - 1))] if self._mass.nnz else inside
        return np.where(high > low, columns, -1)


class _Groups:
    """Rows of potentials."""

    def __init__(self, plan: Any) -> None:
        from psalm.core.coupling import plan_tiles

        self._plan = plan
        n_rows, n_columns = plan.shape
        self._size = max(1, int(np.sqrt(n_columns)))
        starts = np.arange(0, n_columns, self._size)
        self._cumulative = np.empty((n_rows, len(starts)), dtype=np.float32)
        for rows, mass in plan_tiles(plan):
            total = np.cumsum(np.add.reduceat(mass, starts, axis=1, dtype=np.float64), axis=1)
            with np.errstate(invalid="ignore"):
                self._cumulative[rows] = total / total[:, -1:]

    def invert(self, rows: IntArray, uniform: FloatArray) -> IntArray:
        """Columns at which the rows' cumulative share passes ``uniform`` (n, n_draws); −1 for rows without mass."""
        found = np.empty(uniform.shape, dtype=int)
        step = max(1, PAIRS_AT_A_TIME // (self._size * uniform.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            found[part] = self._some(rows[part], uniform[part])
        return found

    def _some(self, rows: IntArray, uniform: FloatArray) -> IntArray:
        n_columns = self._plan.shape[1]
        cumulative = self._cumulative[rows]
        group = (cumulative[:, None, :] <= uniform[:, :, None]).sum(axis=2)
        group = np.minimum(group, cumulative.shape[1] - 1)
        columns = group[:, :, None] * self._size + np.arange(self._size)
        real = columns < n_columns
        columns = np.minimum(columns, n_columns - 1)
        mass = self._plan.pairs(rows, columns.reshape(len(rows), -1)).reshape(columns.shape) * real
        within = np.cumsum(mass, axis=2)
        before = np.where(group > 0, np.take_along_axis(cumulative, np.maximum(group - 1, 0), axis=1), 0.0)
        width = np.take_along_axis(cumulative, group, axis=1) - before
        place = np.clip((uniform - before) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        inside = (within <= (place * within[:, :, -1])[:, :, None]).sum(axis=2)
        chosen = np.take_along_axis(columns, np.minimum(inside, self._size - 1)[:, :, None], axis=2)[:, :, 0]
        return np.where(np.isfinite(cumulative[:, -1:]), np.minimum(chosen, n_columns - 1), -1)
