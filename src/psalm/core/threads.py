"""Threads over strips of rows of one block; what they find does not depend on how many there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from psalm.core.tiles import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import FloatArray

MOST_STRIPS = 16


@cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Products inside tiles use one thread each, as the tiles themselves are spread over threads."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


class Strips:
    """Runs a function over strips of rows, some at a time.

    Parameters
    ----------
    n_rows
        Rows of the block; with it alone the strips are fixed.
    scratch
        (n_chunks, width) of the tiles: every thread has ``(n_chunks, ROWS, width)`` float32 of its own.
    n_threads
        Strips at a time.
    """

    def __init__(self, n_rows: int, scratch: tuple[int, int], n_threads: int) -> None:
        n_strips = min(MOST_STRIPS, max(1, n_rows // (4 * ROWS)))
        edges = np.linspace(0, -(-n_rows // ROWS), n_strips + 1).astype(int) * ROWS
        self.strips = [(int(a), int(min(b, n_rows))) for a, b in pairwise(edges)]
        self.n_threads = min(n_threads, n_strips)
        self._work = [np.empty((scratch[0], ROWS, scratch[1]), np.float32) for _ in range(self.n_threads)]
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, one: Callable[[int, int, int, FloatArray], Any]) -> list[Any]:
        """Results of ``one(strip, start, stop, work)`` in the order of strips."""

        def some(thread: int) -> list[tuple[int, Any]]:
            return [
                (k, one(k, *self.strips[k], self._work[thread]))
                for k in range(thread, len(self.strips), self.n_threads)
            ]

        if self._pool is None:
            return [result for _, result in some(0)]
        found = dict(pair for part in self._pool.map(some, range(self.n_threads)) for pair in part)
        return [found[k] for k in range(len(self.strips))]
