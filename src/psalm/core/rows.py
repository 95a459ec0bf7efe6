"""Features that are read some cells at a time: in memory, dense or CSR, or left in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from psalm.core.missing import account, is_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psalm.core._types import FloatArray, IntArray

CHUNK_BYTES = 32 * 2**20
LARGEST_CHUNK = 8192


@dataclass(frozen=True)
class Rows:
    """Cells × features, of which only the rows asked for become dense float32.

    Parameters
    ----------
    values
        numpy array of two or more axes, scipy sparse matrix, or what reads rows from a file: AnnData's backed sparse
        data sets, h5py and zarr arrays, dask arrays.
    said, features, cells
        Where they are, and names of both, for messages.
    """

    values: Any
    said: str = "The features"
    features: Sequence[Any] | None = None
    cells: Sequence[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_cells, ...)."""
        return tuple(int(length) for length in self.values.shape)

    @property
    def in_memory(self) -> bool:
        """Whether random rows cost nothing to find."""
        return isinstance(self.values, np.ndarray) or sparse.issparse(self.values)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all of it in dense float32."""
        return 4 * int(np.prod(self.shape))

    def take(self, rows: IntArray | slice) -> FloatArray:
        """Some rows as a new dense float32 array, in the order asked for.

        Raises
        ------
        ValueError
            Values that were left in a file are NaN or infinite; those in memory are checked beforehand.
        """
        if self.in_memory:
            return dense(self.values[rows])
        found = self._read(rows)
        if not is_finite(found):
            cells = np.asarray(range(self.shape[0]) if self.cells is None else self.cells)[rows]
            msg = (
                f"Of {len(found)} cells that were read, {self.said} has {account(found, self.features, cells)} "
                "Impute or remove them, and run again."
            )
            raise ValueError(msg)
        return found

    def _read(self, rows: IntArray | slice) -> FloatArray:
        """Rows of a file, which wants them sorted and each once."""
        if isinstance(rows, slice):
            return dense(self.values[rows])
        wanted, place = np.unique(rows, return_inverse=True)
        if len(wanted) == 0:
            return np.empty((0, *self.shape[1:]), np.float32)
        if wanted[-1] - wanted[0] + 1 == len(wanted):
            return dense(self.values[int(wanted[0]) : int(wanted[-1]) + 1])[place]
        source = getattr(self.values, "oindex", self.values)  # zarr's own way to choose rows
        return dense(source[wanted])[place]

    def chunks(self) -> Iterator[slice]:
        """All rows, a bounded number of bytes at a time."""
        n_cells, width = self.shape[0], int(np.prod(self.shape[1:]))
        step = int(np.clip(CHUNK_BYTES // (4 * max(1, width)), 1, LARGEST_CHUNK))
        return (slice(start, min(start + step, n_cells)) for start in range(0, n_cells, step))

    def everything(self) -> FloatArray:
        """All rows, dense float32."""
        found = np.empty(self.shape, np.float32)
        for rows in self.chunks():
            found[rows] = self.take(rows)
        return found


def dense(values: Any) -> FloatArray:
    """A new, C-contiguous float32 array of rows that were read."""
    if hasattr(values, "compute"):  # dask
        values = values.compute()
    if sparse.issparse(values):
        values = values.astype(np.float32).toarray()
    if isinstance(values, np.ma.MaskedArray):  # of a chunk; NaN is refused
        values = np.ma.filled(values.astype(np.float32), np.nan)
    return np.array(values, dtype=np.float32, order="C")


def shuffled(items: IntArray, rng: np.random.Generator, *, run: int = 1, window: int = 1) -> IntArray:
    """The items in random order.

    Parameters
    ----------
    items
        Positions, sorted.
    rng
        Source of the order.
    run
        So many neighbours are kept in one window, so that a file is read in runs; 1 shuffles freely.
    window
        Runs whose items are shuffled among each other.
    """
    if run == 1:
        return rng.permutation(items)
    starts = rng.permutation(np.arange(0, len(items), run))
    ordered = [
        rng.permutation(np.concatenate([items[s : s + run] for s in starts[w : w + window]]))
        for w in range(0, len(starts), window)
    ]
    return np.concatenate(ordered) if ordered else items
