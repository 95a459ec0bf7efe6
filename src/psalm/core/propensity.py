"""Propensity scores of one modality: cross-fitting around a classifier of treatment.

Every labelled cell is scored only by models that have not seen it; cells without a treatment are scored by all models.
Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 (the score); out-of-fold, calibrated and centred scores are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.calibration import (
    apply_temperature,
    cap_certainty,
    centre,
    fit_temperature,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import BoolArray, FloatArray, IntArray, Matrix
    from psalm.core.classifier import Classifier, FittedClassifier


@dataclass(frozen=True)
class Propensity:
    """Scores of all cells of one modality.

    Parameters
    ----------
    log_odds
        (n_cells, n_treatments) calibrated, out-of-fold, centred log-odds.
    uncalibrated
        The same without temperature and cap: what the classifier claimed.
    temperature
        (n_repeats,) fitted temperatures; above one the classifier was over-confident.
    """

    log_odds: FloatArray
    uncalibrated: FloatArray
    temperature: FloatArray


@dataclass(frozen=True)
class CrossFit:
    """How models are trained: the classifier, the number of folds, and how often folds are drawn anew."""

    classifier: Classifier
    n_folds: int = 5
    n_repeats: int = 5

    def __call__(
        self,
        features: Matrix,
        codes: IntArray,
        n_treatments: int,
        rng: np.random.Generator,
        *,
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
        n_jobs
            Folds trained at a time, as in joblib; the result does not depend on it.
        tick
            Called after each trained model.
        """
        repeats = [self._repeat(features, codes, n_treatments, rng, n_jobs, tick) for _ in range(self.n_repeats)]
        return Propensity(
            log_odds=np.mean([repeat.log_odds for repeat in repeats], axis=0),
            uncalibrated=np.mean([repeat.uncalibrated for repeat in repeats], axis=0),
            temperature=np.array([repeat.temperature[0] for repeat in repeats]),
        )

    def _repeat(
        self,
        features: Matrix,
        codes: IntArray,
        n_treatments: int,
        rng: np.random.Generator,
        n_jobs: int | None,
        tick: Callable[[], None],
    ) -> Propensity:
        from joblib import Parallel, delayed

        folds = deal_folds(codes, self.n_folds, rng)
        seeds = rng.integers(2**31, size=self.n_folds).tolist()
        labelled = codes >= 0
        jobs = (
            delayed(_fit_fold)(self.classifier, features, codes, n_treatments, labelled & (folds != fold), seed)
            for fold, seed in zip(np.unique(folds[labelled]), seeds, strict=False)
        )
        fitted = []
        for model in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
            fitted.append(model)
            tick()
        return _assemble(features, codes, n_treatments, folds, fitted)


def _fit_fold(
    classifier: Classifier, features: Matrix, codes: IntArray, n_treatments: int, training: BoolArray, seed: int
) -> FittedClassifier:
    from threadpoolctl import threadpool_limits

    # the number of threads changes the last bits of a sum, and may not change the scores
    with threadpool_limits(limits=1):
        return classifier.fit(features[training], codes[training], n_treatments, seed)


def _assemble(
    features: Matrix, codes: IntArray, n_treatments: int, folds: IntArray, fitted: list[FittedClassifier]
) -> Propensity:
    """Score cells with the models that may score them; calibrate on the labelled cells."""
    labelled = codes >= 0
    log_p = np.zeros((len(codes), n_treatments))
    offset = np.zeros_like(log_p)
    for cells, model in _scorers(folds, labelled, fitted):
        log_p[cells] = model.log_probabilities(features[cells])
        offset[cells] = model.offset
    temperature = fit_temperature(log_p[labelled], codes[labelled], offset[labelled])
    n_labelled = int(labelled.sum())

    def finish(raw: FloatArray, shift: FloatArray) -> FloatArray:
        return centre(cap_certainty(apply_temperature(raw, temperature, shift), n_labelled))

    log_odds = finish(log_p, offset)
    uncalibrated = centre(apply_temperature(log_p, 1.0, offset))
    if not labelled.all():
        others = features[~labelled]
        raw = [(model.log_probabilities(others), model.offset) for model in fitted]
        log_odds[~labelled] = np.mean([finish(p, shift) for p, shift in raw], axis=0)
        uncalibrated[~labelled] = np.mean([centre(apply_temperature(p, 1.0, shift)) for p, shift in raw], axis=0)
    return Propensity(log_odds, uncalibrated, np.array([temperature]))


def _scorers(
    folds: IntArray, labelled: BoolArray, fitted: list[FittedClassifier]
) -> Iterator[tuple[BoolArray, FittedClassifier]]:
    for fold, model in zip(np.unique(folds[labelled]), fitted, strict=True):
        yield labelled & (folds == fold), model


def deal_folds(codes: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """Deal the cells of each treatment to the folds like cards, in random order.

    Fold sizes within a treatment differ by at most one.
    A treatment with fewer cells than folds is missing from the test side of some folds, never from training,
    unless it has a single cell: the model that scores this cell has not seen its treatment.

    Parameters
    ----------
    codes
        (n_cells,) treatment of each cell, −1 where it has none.
    n_folds
        Number of folds.
    rng
        Source of the shuffle.

    Returns
    -------
    (n_cells,) fold of each cell; −1 where it has no treatment.
    """
    folds = np.full(len(codes), -1)
    for code in np.unique(codes[codes >= 0]):
        cells = rng.permutation(np.flatnonzero(codes == code))
        folds[cells] = (np.arange(len(cells)) + rng.integers(n_folds)) % n_folds
    return folds


def as_rows(features: Matrix) -> Matrix:
    """Features whose rows can be selected cheaply: CSR where sparse, float64 where dense."""
    if sparse.issparse(features):
        return sparse.csr_matrix(features)
    return np.asarray(features, dtype=np.float64)
