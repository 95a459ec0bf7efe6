"""Mass between groups of columns, set right at once: what sweeps alone move a little at a time.

Where cells form groups, a sweep settles the mass within them and hardly moves any between them: a few slow directions
make nearly all of the iterations. Here columns are put into groups of near cells, and after a sweep the dual problem is
solved for one shift per group, the rows being eliminated as they are in a sweep (aggregation, as in two-level
multigrid). With K groups it is a problem of n × K, and a sample of the rows stands for all of them, as the gradient is
taken from the sweep itself: the fixed point is that of the sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.cost import row_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from psalm.core._types import FloatArray, IntArray

    GroupSums = Callable[[IntArray, IntArray], FloatArray]

N_GROUPS, N_ROWS = 48, 1024
ROUGH, LATER = 0.02, 0.1
"""Sums are taken anew while the error is above the first, and after that once it has fallen to this part."""
PRECISE, MOST_STEPS, LONGEST, DAMPING = 0.02, 30, 2.0, 1e-3
"""Newton's method ends at this part of the sweep's error; its steps, and the largest in nats."""
MOST_TIMES = 32
"""Sweeps that are corrected; cells far from all others make directions that no group follows."""
SEEN = 1e-3
"""A group whose columns have less than this part of their mass on the sampled rows moves as in a plain sweep."""
TILE_BYTES = 2**20
_TINY, _RIDGE = 1e-300, 1e-9


def grouped(y: FloatArray) -> tuple[IntArray, IntArray]:
    """Order (m,) that puts near columns side by side, and where each group begins and ends (n_groups + 1,).

    Groups are the cells nearest to each of 48 means: those of the cells nearest to evenly spaced cells.
    """
    marks = y[np.unique(np.linspace(0, len(y) - 1, min(N_GROUPS, len(y))).astype(int))]
    label = _nearest(y, marks)
    used = np.unique(label)
    label = _nearest(y, np.array([y[label == k].mean(axis=0) for k in used]))
    count = np.bincount(label)
    return np.argsort(label, kind="stable"), np.concatenate([[0], np.cumsum(count[count > 0])])


def _nearest(y: FloatArray, marks: FloatArray) -> IntArray:
    half_norm = (marks**2).sum(axis=1) / 2
    tiles = row_tiles(len(y), len(marks), TILE_BYTES)
    return np.concatenate([(half_norm - y[tile] @ marks.T).argmin(axis=1) for tile in tiles])


@dataclass
class Aggregate:
    """Corrects the steps of one iteration at one ε.

    Parameters
    ----------
    edges
        (n_groups + 1,) where each group of columns begins.
    log_a, log_b
        Marginals of rows and columns.
    """

    edges: IntArray
    log_a: FloatArray
    log_b: FloatArray
    _model: _Model | None = field(default=None, init=False)
    _error: float = field(default=np.inf, init=False)
    _times: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        n = len(self.log_a)
        self.rows = np.unique(np.linspace(0, n - 1, min(n, N_ROWS)).astype(int))
        self.row_mass = np.exp(self.log_a[self.rows])
        self.row_mass /= self.row_mass.sum()
        self.wanted = np.add.reduceat(np.exp(self.log_b), self.edges[:-1])

    def pays(self, *, steady: bool) -> bool:
        """Whether to go on: not where the iteration had to go back, or where slow directions are not between groups."""
        self._times += 1
        return steady and self._times <= MOST_TIMES

    def __call__(self, step: FloatArray, masses: FloatArray, error: float, group_sums: GroupSums) -> FloatArray:
        """The step of a sweep, with the mass of each group as it should be after it.

        Parameters
        ----------
        step
            (m,) plain step of the column potentials.
        masses
            (m,) column masses before it.
        error
            Their L1 error.
        group_sums
            Of rows and edges: (n_rows, n_groups) mass of each row in each group, up to a factor per row.
        """
        found = np.add.reduceat(masses, self.edges[:-1])
        log_ratio = np.log(self.wanted) - np.log(np.maximum(found, _TINY))
        if self._model is None or error > ROUGH or not LATER * self._error <= error <= 2 * self._error:
            self._model, self._error = _Model(group_sums(self.rows, self.edges), self.row_mass, self.wanted), error
        shift = self._model.shifts(log_ratio, PRECISE * error, MOST_STEPS if error > ROUGH else 1)
        return np.asarray(step + np.repeat(shift - log_ratio, np.diff(self.edges)))


class _Model:
    """Semi-dual of sampled rows and groups of columns, at the potentials of a sweep.

    Parameters
    ----------
    sums
        (n_rows, n_groups) S, mass of each row in each group, up to a factor per row.
    row_mass
        (n_rows,) a, summing to one.
    wanted
        (n_groups,) mass of each group.
    """

    def __init__(self, sums: FloatArray, row_mass: FloatArray, wanted: FloatArray) -> None:
        self.sums, self.row_mass = sums, row_mass
        self.present, self.curvature = self._at(np.zeros(len(wanted)))
        self.seen = self.present > SEEN * wanted / wanted.sum()

    def _at(self, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Masses of the groups (n_groups,) after a shift, and their derivatives in it."""
        weighted = self.sums * np.exp(shift)
        root = np.sqrt(self.row_mass)
        weighted *= (root / weighted.sum(axis=1))[:, None]
        masses = root @ weighted
        curvature = np.diag(masses) - weighted.T @ weighted
        curvature[np.diag_indices_from(curvature)] += _RIDGE / len(masses)
        return masses, curvature

    def shifts(self, log_ratio: FloatArray, goal: float, most_steps: int) -> FloatArray:
        """Shift of each group (n_groups,) with which the rows carry what they do now times a ratio, by Newton's method.

        Maximises ``Σ_k q_k c_k − Σ_i a_i log Σ_k S_ik exp(c_k)`` over c, q being those masses.
        """
        target = self.present * np.exp(np.where(self.seen, log_ratio, 0.0))
        target /= target.sum()
        shift, masses, curvature = np.zeros(len(log_ratio)), self.present, self.curvature
        for step in range(most_steps):
            if step > 0:
                masses, curvature = self._at(shift)
            gradient = np.where(self.seen, target - masses, 0.0)
            size = float(np.abs(gradient).sum())
            if size <= goal:
                break
            damped = curvature + np.diag(DAMPING * min(1.0, size) * masses)
            move = np.linalg.solve(damped, gradient)
            move -= move.mean()
            shift += move * min(1.0, LONGEST / max(np.abs(move).max(), _TINY))
        return np.where(self.seen, shift, log_ratio)
