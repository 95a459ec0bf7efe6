"""Propensity scores of one modality, from models that `cross_fit` has trained.

Every labelled cell is scored only by models that have not seen it; cells without a treatment are scored by all models.
Cells are scored some rows at a time: the matrix of all cells and treatments is never needed.
Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 (the score); out-of-fold, calibrated and centred scores are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.ensemble import halves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.calibration import Calibration
    from psalm.core.ensemble import Ensemble, Member

CHUNK_ENTRIES = 2**20
"""Log-odds that are computed at a time, 8 MB: portions that stay near the processor are faster than larger ones."""


@dataclass(frozen=True)
class Repeat:
    """One way to deal the cells: the fold of each, and for each fold the member that has not seen it."""

    folds: IntArray
    members: dict[int, Member]


@dataclass(frozen=True)
class Rows:
    """Scores of some cells.

    Parameters
    ----------
    log_odds, uncalibrated
        Centred log-odds (n_rows, n_treatments): calibrated and capped, and as the classifier claims.
    noise
        (n_rows,) error variance of ``log_odds``, summed over treatments: what repeats differ by, as a delete-a-group
        jackknife (Shao and Wu, 1989). Of a classifier that is random itself (initial weights, batches), the share of
        that variance which two trainings on the same cells differ by counts once per repeat only, as it averages out.
        NaN with one repeat, and for cells without a treatment.
    error
        (n_rows, n_treatments) one draw of that error: the difference of the means of the first and the second half of
        the repeats, of variance ``noise`` in all. ``log_odds ± error`` are, for each cell, as noisy as two independent
        estimates with twice the noise (data fission: Leiner et al., JASA 2023); true errors of cells that are alike
        are alike, drawn ones less so. NaN as ``noise``.
    """

    log_odds: FloatArray
    uncalibrated: FloatArray
    noise: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class Propensity:
    """The scores of one modality, computed for the rows that are asked for.

    Parameters
    ----------
    features, codes, batches
        As they were trained on.
    repeats
        Trained and calibrated.
    ensemble
        All models, for cells without a treatment and for new cells.
    """

    features: Matrix
    codes: IntArray
    batches: IntArray | None
    repeats: tuple[Repeat, ...]
    ensemble: Ensemble

    @property
    def n_treatments(self) -> int:
        """Number of columns of the scores."""
        return self.ensemble.n_treatments

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """One per fold and repeat."""
        return tuple(member.calibration for repeat in self.repeats for member in repeat.members.values())

    @cached_property
    def log_odds(self) -> FloatArray:
        """Scores of all cells (n_cells, n_treatments)."""
        return np.concatenate([self.rows(cells).log_odds for cells in self.chunks()])

    @cached_property
    def uncalibrated(self) -> FloatArray:
        """The same as the classifier claims them."""
        return np.concatenate([self.rows(cells).uncalibrated for cells in self.chunks()])

    def chunks(self) -> Iterator[IntArray]:
        """All cells, in portions that fit :data:`CHUNK_ENTRIES`."""
        size = max(1, CHUNK_ENTRIES // self.n_treatments)
        for start in range(0, len(self.codes), size):
            yield np.arange(start, min(start + size, len(self.codes)))

    def rows(self, cells: IntArray) -> Rows:
        """Out-of-fold scores of some cells; what is uncalibrated is NaN for cells without a treatment."""
        found, claimed, error = np.zeros((3, len(cells), self.n_treatments))
        squares, n_repeats = np.zeros(len(cells)), len(self.repeats)
        for repeat, sign in zip(self.repeats, halves(n_repeats), strict=True):
            for fold, member in repeat.members.items():
                own = np.flatnonzero(repeat.folds[cells] == fold)
                if len(own):
                    said = member.log_likelihood(*self._inputs(cells[own]))
                    calibrated = member.calibrated(said)
                    found[own] += calibrated / n_repeats
                    squares[own] += (calibrated**2).sum(axis=1) / n_repeats
                    claimed[own] += member.claimed(said) / n_repeats
                    error[own] += sign * calibrated
        spread = np.full(len(cells), np.nan)
        if n_repeats > 1:  # a repeat trains on a share of the cells, 1 − 1/K: its variance, given them, is 1/(K − 1)
            chance = self.ensemble.chance
            factor = self.ensemble.jackknife * (1 - chance) + chance / n_repeats
            spread = np.maximum(squares - (found**2).sum(axis=1), 0.0) * n_repeats / (n_repeats - 1) * factor
            error *= np.sqrt(factor)
        else:
            error[:] = np.nan
        unlabelled = np.flatnonzero(self.codes[cells] < 0)
        if len(unlabelled):
            found[unlabelled] = self.ensemble.log_odds(*self._inputs(cells[unlabelled]))
            claimed[unlabelled], spread[unlabelled], error[unlabelled] = np.nan, np.nan, np.nan
        return Rows(found, claimed, spread, error)

    def _inputs(self, cells: IntArray) -> tuple[Matrix, IntArray | None]:
        return self.features[cells], None if self.batches is None else self.batches[cells]


def as_rows(features: Matrix) -> Matrix:
    """Features whose rows can be selected cheaply: CSR where sparse, float64 where dense, images as they are."""
    if sparse.issparse(features):
        return sparse.csr_matrix(features)
    if np.ndim(features) > 2:  # noqa: PLR2004, images
        return np.asarray(features)
    return np.asarray(features, dtype=np.float64)
