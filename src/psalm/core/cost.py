"""Cost of matching two cells: a distance between their score vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray

COSTS = ("euclidean", "sqeuclidean")


def pairwise(source: FloatArray, target: FloatArray, cost: str) -> FloatArray:
    """Cost matrix (n_source, n_target) between rows of scores.

    Parameters
    ----------
    source, target
        (n_source, n_treatments) and (n_target, n_treatments) centred log-odds.
    cost
        "euclidean" or "sqeuclidean".
    """
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(source, target, metric=cost))


def row_tiles(n_rows: int, n_columns: int, memory_bytes: int) -> list[slice]:
    """Slices of rows such that a float64 tile of all columns stays within ``memory_bytes``."""
    height = max(1, memory_bytes // (8 * max(1, n_columns)))
    return [slice(start, min(start + height, n_rows)) for start in range(0, n_rows, height)]
