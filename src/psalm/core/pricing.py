"""Finds the pairs of least reduced cost of a block in tiles, without its cost matrix."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.compiled import compiled
from psalm.core.problem import prepare
from psalm.core.threads import Strips
from psalm.core.tiles import chunk_width

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

_F = np.float32
_ROUNDING = 2.0**-24
_compiled = compiled(reordered=True)


class Search:
    """Finds the pairs of least reduced cost ``cost_ij − u_i − v_j`` of every row, in tiles.

    Tiles are float32, with a margin for their rounding; what passes is computed again in float64.
    """

    def __init__(self, cost: str, x: FloatArray, y: FloatArray, n_threads: int) -> None:
        self.cost, self.rooted, self.n_threads = cost, float(cost == "euclidean"), n_threads
        self.x, self.y = np.array(x, np.float64, order="C"), np.array(y, np.float64, order="C")
        x, chunks, norms_x, norms_y, unit = prepare(self.x, self.y, chunk_width(len(y), x.shape[1]))
        self.prepared = _F(unit) * x, _F(unit) * chunks, unit**2 * norms_x, unit**2 * norms_y

    def costs(self, pairs: IntArray) -> FloatArray:
        """Cost of some pairs (2, n_pairs)."""
        return np.asarray(_costs(self.rooted, self.x, self.y, np.ascontiguousarray(pairs, np.int64)))

    def __call__(self, u: FloatArray, v: FloatArray, slack: FloatArray, most: int) -> tuple[FloatArray, IntArray]:
        """Least reduced cost (n,) of a row where it is below ``slack`` (n,), and those pairs, so many of a row."""
        n, width = len(u), self.prepared[1].shape[2]
        lowest, count = np.full(n, np.inf), np.zeros(n, np.int64)
        values, columns = np.empty((n, most)), np.empty((n, most), np.int32)
        given = self.rooted, self.x, self.y, u, v, self._rounded(u, v)
        with Strips(n, (1, width), self.n_threads) as strips:
            strips.run(lambda _, i, j, work: _price(given, slack, i, j, work[0], (lowest, count, values, columns)))
        return lowest, np.array([np.repeat(np.arange(n), count), columns[np.arange(most) < count[:, None]]])

    def _rounded(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, ...]:
        """Twice x, y in chunks; level and potential of columns; level, potential and margin of rows.

        A reduced cost is at most t if ``level_y − 2xy − w|w| ≤ level_x``, where w is 0, and t is part of level_x, for
        the squared distance; and ``u + t + v`` for the distance, whose root is then not needed.
        """
        x, chunks, norms_x, norms_y = self.prepared
        norms_y = norms_y.ravel()[: len(v)]
        middle = v.mean() if self.rooted else (v - norms_y).mean()
        u, v = u + middle, v - middle
        far = np.sqrt(norms_x) + np.sqrt(norms_y.max())
        if self.rooted:
            level_x, level_y, size = -norms_x, norms_y, 8 * far * (far + np.abs(u) + np.abs(v).max())
        else:
            level_x, level_y, size = u - norms_x, norms_y - v, 0.0
            u, v = np.zeros_like(u), np.zeros_like(v)
        size = size + (x.shape[1] + 16) * far**2 + 8 * (np.abs(level_x) + np.abs(level_y).max())
        return 2 * x, chunks, level_y.astype(_F), v.astype(_F), level_x, u, _ROUNDING * size


@_compiled
def _cost(rooted: float, x: FloatArray, y: FloatArray) -> float:
    total = 0.0
    for k in range(x.size):
        total += (x[k] - y[k]) ** 2
    return np.sqrt(total) if rooted else total


@_compiled
def _costs(rooted: float, x: FloatArray, y: FloatArray, pairs: IntArray) -> FloatArray:
    costs = np.empty(pairs.shape[1])
    for p in range(costs.size):
        costs[p] = _cost(rooted, x[pairs[0, p]], y[pairs[1, p]])
    return costs


@_compiled
def _any_near(products: FloatArray, levels: FloatArray, v: FloatArray, reach: Any, bound: Any) -> bool:
    """Whether a pair of a row in a chunk may have a reduced cost below the row's limit."""
    count = _F(0.0)
    for j in range(products.size):
        w = reach + v[j]
        count += _F(1.0) if levels[j] - products[j] - w * abs(w) <= bound else _F(0.0)
    return bool(count > 0)


@_compiled
def _price(given: Any, slack: FloatArray, start: int, stop: int, work: FloatArray, found: Any) -> None:
    """:meth:`Search.__call__` for some rows; tiles of rows begin at different columns, so that ties spread."""
    doubled, chunks, levels, v = given[5][:4]
    height, width = work.shape
    limits = slack[start:stop].copy()
    for first in range(start, stop, height):
        n = min(height, stop - first)
        for k in range(len(chunks)):
            column = (k + first // height) % len(chunks) * width
            part = slice(column, min(column + width, levels.size))
            np.dot(doubled[first : first + n], chunks[column // width], work[:n])
            for i in range(first, first + n):
                chunk = work[i - first, : part.stop - column], levels[part], v[part]
                limits[i - start] = _look(given, chunk, i, column, limits[i - start], found)


@_compiled
def _look(given: Any, chunk: Any, i: int, column: int, limit: float, found: Any) -> float:
    """Find pairs of a row in a chunk; returns what the reduced cost of later ones must not exceed."""
    products, levels, v_y = chunk
    rooted, x, y, u, v, (_, _, _, _, level_x, u_x, margin) = given
    lowest, count, values, columns = found
    most = values.shape[1]
    reach, bound = _F(rooted * (u_x[i] + limit)), _F(level_x[i] + (1.0 - rooted) * limit + margin[i])
    if not _any_near(products, levels, v_y, reach, bound):
        return limit
    for k in range(products.size):
        j = (k + i) % products.size
        if levels[j] - products[j] - (reach + v_y[j]) * abs(reach + v_y[j]) > bound:
            continue
        value = _cost(rooted, x[i], y[column + j]) - u[i] - v[column + j]
        lowest[i] = min(lowest[i], value)
        if value > limit or (value == limit and count[i] == most):
            continue
        place = count[i] if count[i] < most else np.argmax(values[i])
        values[i, place], columns[i, place] = value, column + j
        count[i] = min(count[i] + 1, most)
        if count[i] == most:
            limit = values[i].max()
            reach, bound = _F(rooted * (u_x[i] + limit)), _F(level_x[i] + (1.0 - rooted) * limit + margin[i])
    return limit
