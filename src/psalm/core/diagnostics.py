"""Can the propensity scores be trusted? Discrimination, calibration and overlap, all on out-of-fold scores.

Cells are tallied some rows at a time, in bins of log-odds, so that the matrix of all cells and treatments is not
needed. Within a bin, cells count as tied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from psalm.core.log_odds import normalised

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

WIDEST = 20.0
"""Log-odds beyond ± this share the outermost bins."""

N_BINS = 640
"""Bins of 1/16 nat."""


class Histogram:
    """How often probabilities fall into bins of their log-odds, and how often they come true, per treatment."""

    def __init__(self, n_treatments: int) -> None:
        self.n_cells, self.n_true, self.sum_p = np.zeros((3, n_treatments, N_BINS))

    def add(self, p: FloatArray, log_p: FloatArray, true: tuple[IntArray, ...]) -> None:
        """Count cells: their probabilities (n_cells, n_treatments), the logarithms, and which of these came true."""
        n_treatments, shape = len(self.n_cells), self.n_cells.shape
        with np.errstate(divide="ignore"):
            scaled = log_p - np.log1p(-np.minimum(p, 1.0))  # log-odds
        np.clip(scaled, -WIDEST, WIDEST, out=scaled)
        scaled += WIDEST
        scaled *= (N_BINS - 1) / (2 * WIDEST)
        place = np.rint(scaled, out=scaled).astype(np.int64)
        place += N_BINS * np.arange(n_treatments)
        self.n_cells += np.bincount(place.ravel(), None, self.n_cells.size).reshape(shape)
        self.n_true += np.bincount(place[true], None, self.n_cells.size).reshape(shape)
        self.sum_p += np.bincount(place.ravel(), p.ravel(), self.n_cells.size).reshape(shape)

    def auc(self) -> FloatArray:
        """Area under the ROC curve of each treatment's probability against all others; 0.5 is chance."""
        others = self.n_cells - self.n_true
        below = others.cumsum(axis=1) - others / 2
        pairs = self.n_true.sum(axis=1) * others.sum(axis=1)
        return np.asarray((self.n_true * below).sum(axis=1) / pairs)

    def curve(self, treatment: int, n_points: int = 10) -> FloatArray:
        """Reliability curve in groups of bins that hold about equally many cells.

        Returns
        -------
        (n_points, 3): mean predicted probability, observed frequency, number of cells.
        """
        cells = self.n_cells[treatment]
        done = cells.cumsum() - cells / 2
        group = np.minimum((done / max(cells.sum(), 1) * n_points).astype(int), n_points - 1)
        n, true, p = (np.bincount(group, part[treatment], n_points) for part in (self.n_cells, self.n_true, self.sum_p))
        n, true, p = (part[n > 0] for part in (n, true, p))
        return np.column_stack([p / n, true / n, n])

    def calibration_errors(self) -> FloatArray:
        """Expected calibration error of each treatment's probability (n_treatments,)."""
        return np.array([calibration_error(self.curve(t)) for t in range(len(self.n_cells))])


class Tally:
    """Everything that is counted about the probabilities of one kind, calibrated or not.

    Parameters
    ----------
    n_treatments
        Number of columns.
    """

    def __init__(self, n_treatments: int) -> None:
        self.each = Histogram(n_treatments)
        self.top = Histogram(1)
        self.n_cells, self.log_loss, self.open_variance = np.zeros((3, n_treatments))
        self.confusion = np.zeros((n_treatments, n_treatments)) if n_treatments <= MOST_CONFUSED else None

    def add(self, log_odds: FloatArray, codes: IntArray) -> Self:
        """Count cells.

        Parameters
        ----------
        log_odds
            (n_cells, n_treatments), up to a constant per cell.
        codes
            (n_cells,) treatment of each cell; cells of −1 are left out.
        """
        cells = np.flatnonzero(codes >= 0)
        log_p, codes = normalised(log_odds[cells]), codes[cells]
        p, rows, n_treatments = np.exp(log_p), np.arange(len(cells)), log_odds.shape[1]
        self.each.add(p, log_p, (rows, codes))
        best = p.argmax(axis=1)
        self.top.add(p[rows, best, None], log_p[rows, best, None], np.nonzero((best == codes)[:, None]))
        self.n_cells += np.bincount(codes, minlength=n_treatments)
        self.log_loss -= np.bincount(codes, log_p[rows, codes], n_treatments)
        self.open_variance += (p * (1 - p)).sum(axis=0)
        if self.confusion is not None:
            for treatment in np.unique(codes):
                self.confusion[treatment] += p[codes == treatment].sum(axis=0)
        return self

    def overlap(self) -> FloatArray:
        """Positivity of each treatment: ``mean(p_t (1 − p_t)) / (π_t (1 − π_t))``.

        The share of the treatment's label variance that the cells leave open: 0 where the treatment is told with
        certainty (nothing to match by), 1 where it cannot be told at all.
        """
        n = self.n_cells.sum()
        share = self.n_cells / n
        return np.asarray(self.open_variance / n / (share * (1 - share)))

    def mean_probabilities(self) -> FloatArray | None:
        """Mean probability of each treatment (columns) in the cells of each (rows); None for very many treatments."""
        return None if self.confusion is None else self.confusion / self.n_cells[:, None]


MOST_CONFUSED = 500
"""Number of treatments up to which they are compared pair by pair."""


@dataclass(frozen=True)
class Tallies:
    """Before and after calibration."""

    before: Tally
    after: Tally

    @classmethod
    def of(cls, n_treatments: int) -> Self:
        """Nothing counted."""
        return cls(Tally(n_treatments), Tally(n_treatments))


def calibration_error(curve: FloatArray) -> float:
    """Expected calibration error: mean ``|predicted − observed|`` over cells (Naeini et al., AAAI 2015)."""
    return float(np.average(np.abs(curve[:, 0] - curve[:, 1]), weights=curve[:, 2]))


def chance_calibration_error(curve: FloatArray) -> float:
    """The calibration error that probabilities without fault would show on as few cells."""
    spread = np.sqrt(curve[:, 0] * (1 - curve[:, 0]) / curve[:, 2])
    return float(np.average(np.sqrt(2 / np.pi) * spread, weights=curve[:, 2]))


def auc_standard_error(auc: FloatArray, n_true: FloatArray, n_other: FloatArray) -> FloatArray:
    """Standard error of areas under the ROC curve (Hanley and McNeil, Radiology 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_true - 1) * (q1 - auc**2) + (n_other - 1) * (q2 - auc**2)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0) / (n_true * n_other)))
