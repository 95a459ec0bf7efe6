"""Propensity scores of one modality: cross-fitting around a classifier of treatment.

Every labelled cell is scored only by models that have not seen it; cells without a treatment are scored by all models.
Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 (the score); out-of-fold, calibrated and centred scores are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.calibration import TemperatureCalibrator, as_claimed
from psalm.core.folds import deal_folds, deal_groups
from psalm.core.log_odds import cap_certainty, centre

if TYPE_CHECKING:
    from collections.abc import Callable

    from psalm.core._types import BoolArray, FloatArray, IntArray, Matrix
    from psalm.core.calibration import Calibration, Calibrator
    from psalm.core.classifier import Classifier, FittedClassifier


@dataclass(frozen=True)
class Member:
    """One model of an ensemble with its calibration."""

    model: FittedClassifier
    calibration: Calibration
    n_labelled: int

    def log_odds(self, features: Matrix) -> FloatArray:
        """Calibrated, capped, centred log-odds (n_cells, n_treatments) of cells that the model has not seen."""
        raw = self.model.log_likelihood(features)
        return centre(cap_certainty(self.calibration(raw, self.model.log_prior), self.n_labelled))


@dataclass(frozen=True)
class Ensemble:
    """All models of a cross-fit, for cells that none of them has seen."""

    members: tuple[Member, ...]

    def log_odds(self, features: Matrix) -> FloatArray:
        """Mean over the members (n_cells, n_treatments)."""
        total = self.members[0].log_odds(features)
        for member in self.members[1:]:
            total = total + member.log_odds(features)
        return np.asarray(total / len(self.members))


@dataclass(frozen=True)
class Propensity:
    """Scores of all cells of one modality.

    Parameters
    ----------
    log_odds
        (n_cells, n_treatments) calibrated, out-of-fold, centred log-odds.
    uncalibrated
        The same without calibration and cap: what the classifier claimed. NaN for cells without a treatment.
    calibrations
        One per fold and repeat.
    ensemble
        The models, for new cells.
    """

    log_odds: FloatArray
    uncalibrated: FloatArray
    calibrations: tuple[Calibration, ...]
    ensemble: Ensemble


@dataclass(frozen=True)
class CrossFit:
    """How models are trained and calibrated, and how often folds are drawn anew.

    Every cell is scored by models, and calibrated by calibrations, that have not seen it: the calibration of a fold is
    learnt from the out-of-fold log-likelihoods of the other folds' cells.

    Parameters
    ----------
    classifier
        How to classify.
    n_folds, n_repeats
        Parts per repeat, and repeats.
    calibrator
        How to calibrate.
    """

    classifier: Classifier
    n_folds: int = 5
    n_repeats: int = 5
    calibrator: Calibrator = field(default_factory=TemperatureCalibrator)

    def __call__(
        self,
        features: Matrix,
        codes: IntArray,
        n_treatments: int,
        rng: np.random.Generator,
        *,
        groups: IntArray | None = None,
        n_jobs: int | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> Propensity:
        """Score every cell.

        Parameters
        ----------
        features
            (n_cells, n_features), dense or CSR.
        codes
            (n_cells,) treatment of each cell, −1 where it has none.
        n_treatments
            Number of columns of the scores.
        rng
            Draws the folds, and seeds estimators whose ``random_state`` is None.
        groups
            (n_cells,) group of each cell; folds never split a group.
        n_jobs
            Folds trained at a time, as in joblib; the result does not depend on it.
        tick
            Called after each trained model.
        """
        labelled = codes >= 0
        log_odds, uncalibrated = np.zeros((2, len(codes), n_treatments))
        members: list[Member] = []
        calibrations: list[Calibration] = []
        for _ in range(self.n_repeats):
            folds = self._deal(codes, groups, rng)
            seeds = rng.integers(2**31, size=self.n_folds).tolist()
            models = self._fit(features, codes, n_treatments, folds, seeds, n_jobs=n_jobs, tick=tick)
            repeat = _Repeat(codes, folds, models, features)
            fitted = repeat.calibrate(self.calibrator)
            log_odds += repeat.log_odds(fitted) / self.n_repeats
            uncalibrated += repeat.uncalibrated() / self.n_repeats
            whole = self.calibrator.fit(*repeat.evidence(labelled))
            members += [Member(model, whole, int(labelled.sum())) for model in models.values()]
            calibrations += fitted.values()
        ensemble = Ensemble(tuple(members))
        if not labelled.all():
            log_odds[~labelled] = ensemble.log_odds(features[~labelled])
        return Propensity(log_odds, uncalibrated, tuple(calibrations), ensemble)

    def _deal(self, codes: IntArray, groups: IntArray | None, rng: np.random.Generator) -> IntArray:
        if groups is None:
            return deal_folds(codes, self.n_folds, rng)
        return deal_groups(codes, groups, self.n_folds, rng)

    def _fit(
        self,
        features: Matrix,
        codes: IntArray,
        n_treatments: int,
        folds: IntArray,
        seeds: list[int],
        *,
        n_jobs: int | None,
        tick: Callable[[], None],
    ) -> dict[int, FittedClassifier]:
        """The model of each fold, trained on all others."""
        from joblib import Parallel, delayed

        labelled = codes >= 0
        present = np.unique(folds[labelled]).tolist()
        jobs = (
            delayed(_fit_fold)(self.classifier, features, codes, n_treatments, labelled & (folds != fold), seeds[fold])
            for fold in present
        )
        models = {}
        for fold, model in zip(present, Parallel(n_jobs=n_jobs, return_as="generator")(jobs), strict=True):
            models[fold] = model
            tick()
        return models


def _fit_fold(
    classifier: Classifier, features: Matrix, codes: IntArray, n_treatments: int, training: BoolArray, seed: int
) -> FittedClassifier:
    from threadpoolctl import threadpool_limits

    # the number of threads changes the last bits of a sum, and may not change the scores
    with threadpool_limits(limits=1):
        return classifier.fit(features[training], codes[training], n_treatments, seed)


class _Repeat:
    """Out-of-fold log-likelihoods of one way to deal the cells."""

    def __init__(self, codes: IntArray, folds: IntArray, models: dict[int, FittedClassifier], features: Matrix) -> None:
        self.codes, self.folds = codes, folds
        n_treatments = next(iter(models.values())).n_treatments
        self.log_likelihood, self.log_prior = np.zeros((2, len(codes), n_treatments))
        for fold, model in models.items():
            cells = folds == fold
            self.log_likelihood[cells] = model.log_likelihood(features[cells])
            self.log_prior[cells] = model.log_prior

    def evidence(self, cells: BoolArray) -> tuple[FloatArray, IntArray, FloatArray]:
        """What a calibrator learns from."""
        return self.log_likelihood[cells], self.codes[cells], self.log_prior[cells]

    def calibrate(self, calibrator: Calibrator) -> dict[int, Calibration]:
        """The calibration of each fold, learnt from the cells of all others."""
        labelled = self.codes >= 0
        return {
            fold: calibrator.fit(*self.evidence(labelled & (self.folds != fold)))
            for fold in np.unique(self.folds[labelled]).tolist()
        }

    def log_odds(self, calibrations: dict[int, Calibration]) -> FloatArray:
        """Calibrated, capped, centred log-odds of the labelled cells; zero for others."""
        found = np.zeros_like(self.log_likelihood)
        n_labelled = int((self.codes >= 0).sum())
        for fold, calibration in calibrations.items():
            cells = self.folds == fold
            found[cells] = centre(
                cap_certainty(calibration(self.log_likelihood[cells], self.log_prior[cells]), n_labelled)
            )
        return found

    def uncalibrated(self) -> FloatArray:
        """Centred log-odds as the classifier claims them; NaN for cells without a treatment."""
        found = centre(as_claimed()(self.log_likelihood, self.log_prior))
        found[self.codes < 0] = np.nan
        return found


def as_rows(features: Matrix) -> Matrix:
    """Features whose rows can be selected cheaply: CSR where sparse, float64 where dense."""
    if sparse.issparse(features):
        return sparse.csr_matrix(features)
    return np.asarray(features, dtype=np.float64)
