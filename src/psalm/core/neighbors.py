"""Matching by shared nearest neighbours: two cells match as far as the same cells lie next to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from psalm.core.cost import row_tiles
from psalm.core.matcher import Match, Need
from psalm.core.plan import BYTES_PER_ENTRY, SparsePlan

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.matcher import Side

HUBNESS = ("csls",)
CSLS_NEIGHBORS = 10
"""Neighbours that say how crowded a cell's surroundings are; the number of Conneau et al."""
TILE_BYTES = 32 * 2**20
GROUP = 128


@dataclass(frozen=True)
class SharedNeighborMatcher:
    """Match by the Jaccard index of the two cells' nearest neighbours in both modalities.

    Each cell has k neighbours among the source and k among the target cells (a cell is a neighbour of itself).
    A pair that shares s of them gets the weight ``s / (4k − s)``; each source cell spreads its mass by these weights.
    The target marginal is not constrained: its error is measured and reported.
    Source: Xi et al. 2024, after the CLUE entry of the NeurIPS 2021 single-cell competition.

    Parameters
    ----------
    n_neighbors
        k; bounded by the number of cells on either side of the block.
        Large is soft, small is sharp; 1 is the paper's choice.
    hubness
        None: neighbours by Euclidean distance. With many treatments a few cells (hubs) are then neighbours of very
        many others, and most of none.
        "csls": neighbours by cross-domain similarity local scaling, which moves cells with close neighbours away; see
        :func:`nearest`. Costs a pass over all pairs, in tiles.
    """

    n_neighbors: int = 15
    hubness: str | None = None

    def __post_init__(self) -> None:
        check_n_neighbors(self.n_neighbors)
        if self.hubness is not None and self.hubness not in HUBNESS:
            msg = f"`hubness={self.hubness!r}` is not known. Pass None or {', '.join(map(repr, HUBNESS))}."
            raise ValueError(msg)

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block; the plan's source marginal is ``source.mass``."""
        n_source, n_target = len(source), len(target)
        k = min(self.n_neighbors, n_source, n_target)
        both = (source.scores, target.scores)
        source_graph = self._graph(0, both, k)
        target_graph = self._graph(1, both, k)
        jaccard = (source_graph @ target_graph.T).tocsr()
        jaccard.data = jaccard.data / (4 * k - jaccard.data)
        # no row is empty: a target cell near the source cell is its own neighbour, so they share it
        per_row = source.mass / np.asarray(jaccard.sum(axis=1)).ravel()
        mass = sparse.csr_matrix(sparse.diags(per_row) @ jaccard)
        return Match(SparsePlan(mass), marginal_error=marginal_error(mass, source, target))

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes: tiles of distances, neighbours, and the pairs that share some."""
        k = min(self.n_neighbors, *shape)
        entries = 2 * shape[0] * min(shape[1], 4 * k * k) + 4 * k * sum(shape)
        return Need(n_threads * (2.0 * TILE_BYTES + BYTES_PER_ENTRY * entries), shape[0] * shape[1])

    def _graph(self, own: int, sides: tuple[FloatArray, FloatArray], k: int) -> sparse.csr_matrix:
        """(n_cells, n_source + n_target) 0/1: the k nearest of each side to the cells of side ``own``."""
        found = [
            nearest_within(side, k, self.hubness) if which == own else nearest(sides[own], side, k, self.hubness)
            for which, side in enumerate(sides)
        ]
        return sparse.hstack([as_graph(near, len(side)) for near, side in zip(found, sides, strict=True)], format="csr")


def nearest(cells: FloatArray, others: FloatArray, k: int, hubness: str | None = None) -> IntArray:
    """Positions (n_cells, k) of the k nearest of other cells, in no order that is promised.

    Parameters
    ----------
    cells, others
        (n_cells, p) and (n_others, p).
    k
        At most n_others.
    hubness
        None: by Euclidean distance d.
        "csls": by ``2 d(x, y) − r(x) − r(y)``, where r is a cell's mean distance to its ten nearest
        on the other side. r(x) does not change the order. Source: Conneau et al., ICLR 2018 (cross-domain similarity
        local scaling), with distance in place of their cosine similarity; one of the local scalings compared by
        Feldbauer and Flexer, Knowledge and Information Systems 2019.
    """
    from sklearn.neighbors import NearestNeighbors

    if hubness is None:
        return np.asarray(NearestNeighbors(n_neighbors=k).fit(others).kneighbors(cells, return_distance=False))
    radius = NearestNeighbors(n_neighbors=min(CSLS_NEIGHBORS, len(cells))).fit(cells).kneighbors(others)[0].mean(axis=1)
    return _scaled(cells, others, radius, k, within=False)


def nearest_within(cells: FloatArray, k: int, hubness: str | None = None) -> IntArray:
    """Positions (n_cells, k) of the k nearest of the same cells; each cell is one of its own.

    Parameters are those of :func:`nearest`. A cell does not count towards its own r.
    """
    from sklearn.neighbors import NearestNeighbors

    itself = np.arange(len(cells))[:, None]
    if k == 1:
        return itself
    if hubness is None:
        others = NearestNeighbors(n_neighbors=k - 1).fit(cells).kneighbors(return_distance=False)
        return np.hstack([itself, others])
    n_near = min(CSLS_NEIGHBORS, len(cells) - 1)
    radius = NearestNeighbors(n_neighbors=n_near).fit(cells).kneighbors()[0].mean(axis=1)
    return _scaled(cells, cells, radius, k, within=True)


def _scaled(cells: FloatArray, others: FloatArray, radius: FloatArray, k: int, *, within: bool) -> IntArray:
    """The k least ``d(x, y) − radius(y) / 2`` of every cell, a tile of distances at a time."""
    middle = others.mean(axis=0, dtype=np.float64)
    x, y = cells - middle, others - middle
    squares = [np.square(side).sum(axis=1) for side in (x, y)]
    x = np.column_stack([-2 * x, squares[0], np.ones(len(x))])
    y = np.column_stack([y, np.ones(len(y)), squares[1]]).T  # x @ y is the squared distance
    tiles = row_tiles(len(x), len(others), TILE_BYTES)
    memory = np.empty((tiles[0].stop, len(others)))
    found = np.empty((len(x), k), dtype=np.int64)
    for rows in tiles:
        tile = np.matmul(x[rows], y, out=memory[: rows.stop - rows.start])
        np.sqrt(np.maximum(tile, 0, out=tile), out=tile)
        tile -= 0.5 * radius
        if within:
            tile[np.arange(len(tile)), np.arange(rows.start, rows.stop)] = -np.inf
        found[rows] = _least(tile, k)
    return found


def _least(values: FloatArray, k: int) -> IntArray:
    """Columns (n, k) of the k least values of every row (n, m), ascending; of equal ones the first.

    The k-th least of the minima of disjoint groups of columns is a bound that few values but the k least stay under,
    so that only those are sorted.
    """
    n, m = values.shape
    width = max(1, min(GROUP, m // k))
    n_groups = m // width
    minima = values[:, : n_groups * width].reshape(n, n_groups, width).min(axis=2)
    row, column = np.nonzero(values <= np.partition(minima, k - 1, axis=1)[:, k - 1 : k])
    order = np.lexsort((values[row, column], row))
    first = np.searchsorted(row, np.arange(n))
    return np.asarray(column[order[first[:, None] + np.arange(k)]])


def as_graph(near: IntArray, n_others: int) -> sparse.csr_matrix:
    """(n_cells, n_others) with 1 where ``near`` (n_cells, k) has the position, else 0."""
    n_cells, k = near.shape
    graph = sparse.csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, k)), (n_cells, n_others))
    graph.sort_indices()
    return graph


def marginal_error(mass: Any, source: Side, target: Side) -> float:
    """L1 distance of a plan's row sums from the source mass, plus that of its column sums from the target mass.

    Parameters
    ----------
    mass
        (n_source, n_target), sparse or dense.
    source, target
        Sides with the marginals that were wanted.
    """
    rows, columns = (np.asarray(mass.sum(axis=axis)).ravel() for axis in (1, 0))
    return float(np.abs(rows - source.mass).sum() + np.abs(columns - target.mass).sum())


def check_n_neighbors(n_neighbors: Any) -> None:
    """Refuse a number of neighbours that is none."""
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, int | np.integer) or n_neighbors < 1:
        msg = f"`n_neighbors` is {n_neighbors!r}. Pass a whole number from 1 on, e.g. 15."
        raise ValueError(msg)
