"""Baselines without a marginal to meet on the target side: the nearest cell, and mutual nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.matcher import Match, Need
from psalm.core.neighbors import TILE_BYTES, as_graph, check_n_neighbors, marginal_error, nearest
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from psalm.core.matcher import Side


@dataclass(frozen=True)
class NearestMatcher:
    """Match every source cell with its nearest target cell, by Euclidean distance of scores.

    The source cell sends all its mass there. Of target cells with identical scores the first gets it; of others that
    are equally far, one. The target marginal is not constrained: its error is measured and reported, and target
    cells that are nobody's nearest carry no mass.
    """

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block; the plan's source marginal is ``source.mass``."""
        distinct, first = np.unique(target.scores, axis=0, return_index=True)
        partner = first[nearest(source.scores, distinct, 1)[:, 0]]
        entries = (np.asarray(source.mass, dtype=np.float64), partner, np.arange(len(source) + 1))
        mass = sparse.csr_matrix(entries, shape=(len(source), len(target)))
        return Match(SparsePlan(mass), marginal_error=marginal_error(mass, source, target))

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes: tiles of distances, and the scores again."""
        return Need(n_threads * (2.0 * TILE_BYTES + 8.0 * sum(shape) * (2 * n_columns + 4)), shape[0] * shape[1])


@dataclass(frozen=True)
class MutualMatcher:
    """Match mutual nearest neighbours: pairs in which each cell is among the other's k nearest of its modality.

    A source cell spreads its mass equally over its mutual neighbours. One that has none carries no mass, so the
    plan's mass is below one wherever that happens; ``marginal_error`` counts what is missing on both sides.
    Neighbours are found by Euclidean distance of scores.
    Source: Haghverdi et al., Nature Biotechnology 2018, who use it to find anchors between batches.

    Parameters
    ----------
    n_neighbors
        k; bounded by the number of cells of the side that is searched. Fewer leave more cells without a match.
    """

    n_neighbors: int = 15

    def __post_init__(self) -> None:
        check_n_neighbors(self.n_neighbors)

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block."""
        n_source, n_target = len(source), len(target)
        of_source = as_graph(nearest(source.scores, target.scores, min(self.n_neighbors, n_target)), n_target)
        of_target = as_graph(nearest(target.scores, source.scores, min(self.n_neighbors, n_source)), n_source)
        mutual = of_source.multiply(of_target.T.tocsr()).tocsr()
        n_partners = np.diff(mutual.indptr)
        share = np.divide(source.mass, n_partners, where=n_partners > 0, out=np.zeros(n_source))
        mass = sparse.csr_matrix((np.repeat(share, n_partners), mutual.indices, mutual.indptr), mutual.shape)
        return Match(SparsePlan(mass), marginal_error=marginal_error(mass, source, target))

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes: tiles of distances, and neighbours of both sides."""
        per_cell = n_columns + 6 * self.n_neighbors
        return Need(n_threads * (2.0 * TILE_BYTES + 8.0 * sum(shape) * per_cell), shape[0] * shape[1])
