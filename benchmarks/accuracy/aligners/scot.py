"""SCOT (Demetci et al., Journal of Computational Biology 2022) within treatments: Gromov-Wasserstein on graphs.

Cells are scaled to length 1, joined with their k nearest by correlation, and compared by the number of steps between
them, over its maximum; cells of separate components are as far apart as the most distant of one. k is a fifth of the
cells, at most 50, and ε is 1e-3: the authors' defaults. Solved as `gromov` does, one treatment after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import dijkstra
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import normalize

from aligners.gromov import LabelledGromov, in_turn

if TYPE_CHECKING:
    from problem import Problem

MOST_NEIGHBORS, SHARE = 50, 0.2


@dataclass(frozen=True)
class Scot:
    """Graphs within each modality, then Gromov-Wasserstein, within each treatment."""

    solver: LabelledGromov = field(default_factory=lambda: LabelledGromov(joint=False, epsilon=1e-3))

    def __call__(self, problem: Problem, seed: int) -> list[np.ndarray]:
        found = []
        for block in problem.blocks():
            k = max(1, min(MOST_NEIGHBORS, *(int(SHARE * len(cells)) for cells in block)))
            distances = [steps(side.features[cells], k) for side, cells in zip(problem.sides, block, strict=True)]
            found += self.solver.solve(distances, in_turn([block]))
        return found


def steps(features: np.ndarray, k: int) -> np.ndarray:
    """Steps between cells in the graph of neighbours, over their maximum."""
    graph = kneighbors_graph(normalize(features), k, mode="connectivity", metric="correlation", include_self=True)
    found = dijkstra(graph, directed=False, unweighted=True)
    reached = np.isfinite(found)
    found[~reached] = found[reached].max()
    return found / max(found.max(), 1.0)
