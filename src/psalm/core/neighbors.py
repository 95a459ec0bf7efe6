"""Matching by shared nearest neighbours: two cells match as far as the same cells lie next to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.coupling import SparsePlan
from psalm.core.matching import Match

if TYPE_CHECKING:
    from psalm.core._types import FloatArray


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
    """

    n_neighbors: int = 15

    def __call__(self, source_scores: FloatArray, target_scores: FloatArray) -> Match:
        """Match one block of (n_source, n_treatments) against (n_target, n_treatments) scores; mass one."""
        n_source, n_target = len(source_scores), len(target_scores)
        k = min(self.n_neighbors, n_source, n_target)
        source_graph = _neighbors(source_scores, source_scores, target_scores, k)
        target_graph = _neighbors(target_scores, source_scores, target_scores, k)
        jaccard = (source_graph @ target_graph.T).tocsr()
        jaccard.data = jaccard.data / (4 * k - jaccard.data)
        row_sums = np.asarray(jaccard.sum(axis=1)).ravel()
        mass = sparse.csr_matrix(sparse.diags(1 / (n_source * row_sums)) @ jaccard)
        error = float(np.abs(np.asarray(mass.sum(axis=0)).ravel() - 1 / n_target).sum())
        return Match(SparsePlan(mass), epsilon=float("nan"), iterations=0, marginal_error=error, converged=True)


def _neighbors(cells: FloatArray, source: FloatArray, target: FloatArray, k: int) -> sparse.csr_matrix:
    """(n_cells, n_source + n_target) 0/1: the k nearest of each side."""
    from sklearn.neighbors import NearestNeighbors

    graphs = [NearestNeighbors(n_neighbors=k).fit(side).kneighbors_graph(cells) for side in (source, target)]
    return sparse.hstack(graphs, format="csr")
