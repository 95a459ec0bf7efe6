"""What matched cells say of a cell: the label with most mass, the mean by mass, the average of arrays.

Cells that receive are the rows of a coupling, cells that give its columns. One pass over the coupling serves any number
of things carried, a tile of mass at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import sparse

from psalm.core.cost import row_tiles
from psalm.core.coupling import TILE_BYTES, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.plan import Plan
    from psalm.core.rows import Rows

    Reader = Callable[[FloatArray], FloatArray]


class Carried(Protocol):
    """Values of the giving cells, and what a receiving cell makes of them."""

    @property
    def width(self) -> int:
        """Columns of the result."""
        ...

    @property
    def dtype(self) -> type[np.floating]:
        """Type of the result."""
        ...

    def reader(self, givers: IntArray) -> Reader:
        """A function from masses (n_rows, n_givers) between some cells and these givers to results (n_rows, width)."""
        ...


def carry(coupling: Coupling, carried: Sequence[Carried]) -> list[FloatArray]:
    """Results for every receiving cell.

    Parameters
    ----------
    coupling
        Rows are the cells that receive, columns the cells that give.
    carried
        What is carried over.

    Returns
    -------
    One array (n_rows of the coupling, width) for each; NaN where a cell has no mass, or none that says anything.
    """
    results = [np.full((coupling.n_source, one.width), np.nan, one.dtype) for one in carried]
    widest = max((one.width for one in carried), default=1)
    for block in coupling.blocks:
        readers = [one.reader(block.target) for one in carried]
        for rows, mass in _tiles(block.plan, widest):
            for result, read in zip(results, readers, strict=True):
                result[block.source[rows]] = read(mass)
    return results


def _tiles(plan: Plan, width: int) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of a plan, so many at a time that a result of this width is bounded, too."""
    for rows, mass in plan_tiles(plan):
        for part in row_tiles(len(mass), width, TILE_BYTES):
            yield slice(rows.start + part.start, rows.start + part.stop), mass[part]


@dataclass(frozen=True)
class Labels:
    """The label with most mass; of equals the first. Results: its code, and its share of the mass that has a label.

    Parameters
    ----------
    codes
        (n_givers,); −1 for cells without a label, which take no part.
    """

    codes: IntArray

    width = 2
    dtype = np.float64

    def reader(self, givers: IntArray) -> Reader:
        """Sums mass by label."""
        labelled = np.flatnonzero(self.codes[givers] >= 0)
        present, label = np.unique(self.codes[givers][labelled], return_inverse=True)
        shape = len(present), len(givers)
        members = sparse.csr_matrix((np.ones(len(labelled)), (label, labelled)), shape=shape)

        def read(mass: FloatArray) -> FloatArray:
            if not len(present):
                return np.full((len(mass), 2), np.nan)
            by_label = (members @ mass.T).T  # (n_rows, n_labels)
            best, total = by_label.argmax(axis=1), by_label.sum(axis=1)
            share = _ratio(by_label[np.arange(len(mass)), best], total)
            return np.column_stack([np.where(total > 0, present[best], np.nan), share])

        return read


@dataclass(frozen=True)
class Numbers:
    """Mean by mass, standard deviation of the matched values, and the share of the cell's mass that they are known for.

    Parameters
    ----------
    values
        (n_givers,); NaN where unknown.
    """

    values: FloatArray

    width = 3
    dtype = np.float64

    def reader(self, givers: IntArray) -> Reader:
        """Sums mass, values and squares; around the block's mean, so that nothing cancels."""
        values = self.values[givers]
        known = ~np.isnan(values)
        centre = float(values[known].mean()) if known.any() else 0.0
        offset = np.where(known, values - centre, 0.0)
        columns = np.column_stack([known, offset, offset**2]).astype(np.float64)

        def read(mass: FloatArray) -> FloatArray:
            of_known, first, second = (mass @ columns).T
            mean = _ratio(first, of_known)
            spread = np.sqrt(np.maximum(_ratio(second, of_known) - mean**2, 0.0))
            known_share = _ratio(of_known, mass.sum(axis=1, dtype=np.float64))
            return np.column_stack([centre + mean, spread, np.minimum(known_share, 1.0)])

        return read


@dataclass(frozen=True)
class Averages:
    """Average by mass of all values of a cell, flattened; float32.

    Parameters
    ----------
    rows
        (n_givers, ...), read so many cells at a time that they are a tile when dense.
    """

    rows: Rows

    dtype = np.float32

    @property
    def width(self) -> int:
        """Values of one cell."""
        return int(np.prod(self.rows.shape[1:]))

    def reader(self, givers: IntArray) -> Reader:
        """Averages part by part of the givers; where they are one part, it is read once."""
        parts = row_tiles(len(givers), self.width, TILE_BYTES)
        whole = self._part(givers, parts[0]) if len(parts) == 1 else None

        def read(mass: FloatArray) -> FloatArray:
            sums = np.zeros((len(mass), self.width))
            for part in parts:
                sums += mass[:, part] @ (self._part(givers, part) if whole is None else whole)
            total = mass.sum(axis=1, dtype=np.float64)[:, None]
            averages: FloatArray = np.divide(sums, total, where=total > 0, out=np.full_like(sums, np.nan))
            return averages.astype(np.float32)

        return read

    def _part(self, givers: IntArray, part: slice) -> FloatArray:
        found: FloatArray = self.rows.take(givers[part])
        return found.reshape(len(found), self.width)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.asarray(np.divide(part, whole, where=whole > 0, out=np.full(len(whole), np.nan)))
