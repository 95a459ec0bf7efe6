"""Propensity scores of one modality: cross-fitting around a classifier of treatment.

Every labelled cell is scored only by models that have not seen it; cells without a treatment are scored by all models.
Models are trained first and cells are scored afterwards, some rows at a time: the matrix of all cells and treatments
is never needed.
Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 (the score); out-of-fold, calibrated and centred scores are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.batch import BatchShift, adjust, balancing_weights
from psalm.core.calibration import TemperatureCalibrator
from psalm.core.ensemble import Ensemble, Member
from psalm.core.folds import deal_folds, deal_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import BoolArray, FloatArray, IntArray, Matrix
    from psalm.core.calibration import Calibration, Calibrator
    from psalm.core.classifier import Classifier

CHUNK_ENTRIES = 2**23
"""Log-odds that are computed at a time: 64 MB."""

EVIDENCE_ENTRIES = 2**25
"""Log-likelihoods that a calibration is learnt from at most; beyond, from a random sample of the cells."""


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
    chance
        Share of the variance between repeats that comes from the classifier's seed.
    """

    features: Matrix
    codes: IntArray
    batches: IntArray | None
    repeats: tuple[Repeat, ...]
    ensemble: Ensemble
    chance: float = 0.0

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
        squares, n_repeats, n_folds = np.zeros(len(cells)), len(self.repeats), 0
        for repeat, sign in zip(self.repeats, _halves(n_repeats), strict=True):
            n_folds = max(n_folds, len(repeat.members))
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
        if n_repeats > 1:  # a repeat trains on a share 1 − 1/K of the cells: its variance, given them, is 1/(K − 1)
            factor = (n_folds - 1) * (1 - self.chance) + self.chance / n_repeats
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


def _halves(n_repeats: int) -> FloatArray:
    """Weight of each repeat in the difference of both halves' means, which has the variance of one repeat."""
    first = np.arange(n_repeats) < (n_repeats + 1) // 2
    sizes = first.sum(), max(1, (~first).sum())
    weights = np.where(first, 1 / sizes[0], -1 / sizes[1])
    return np.asarray(weights / np.sqrt(1 / sizes[0] + 1 / sizes[1]))


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
        batches: IntArray | None = None,
        n_jobs: int | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> Propensity:
        """Train and calibrate.

        Parameters
        ----------
        features
            (n_cells, n_features), dense or CSR, or for some classifiers an array of more dimensions.
        codes
            (n_cells,) treatment of each cell, −1 where it has none.
        n_treatments
            Number of columns of the scores.
        rng
            Draws the folds, and seeds estimators whose ``random_state`` is None.
        groups
            (n_cells,) group of each cell; folds never split a group.
        batches
            (n_cells,) batch of each cell, which scores are to be free of.
        n_jobs
            Folds trained at a time, as in joblib; the result does not depend on it.
        tick
            Called after each trained model.
        """
        inputs = _Inputs(features, codes, batches, n_treatments)
        repeats: list[Repeat] = []
        members: list[Member] = []
        first_seeds: list[int] = []
        for _ in range(self.n_repeats):
            folds = self._deal(codes, groups, rng)
            seeds = rng.integers(2**31, size=self.n_folds).tolist()
            first_seeds = first_seeds or seeds
            trained = self._train(inputs, folds, seeds, n_jobs=n_jobs, tick=tick)
            repeat, whole = self._calibrate(inputs, folds, trained, rng)
            repeats.append(repeat)
            members += whole
        found = Propensity(features, codes, batches, tuple(repeats), Ensemble(tuple(members)))
        if not self._asks_chance:
            return found
        found = replace(found, chance=self._chance(inputs, found, first_seeds))
        tick()
        return found

    @property
    def n_models(self) -> int:
        """How many models are trained."""
        return self.n_folds * self.n_repeats + self._asks_chance

    @property
    def _asks_chance(self) -> bool:
        """Whether one model is trained again, to tell what the classifier's seed does from what the cells do."""
        return self.n_repeats > 1 and not getattr(self.classifier, "deterministic", False)

    def _chance(self, inputs: _Inputs, found: Propensity, seeds: list[int]) -> float:
        """Share of the variance between repeats that the seed alone makes: one model is trained again with another."""
        repeat = found.repeats[0]
        fold, member = next(iter(repeat.members.items()))
        training = (inputs.codes >= 0) & (repeat.folds != fold)
        twin = _train_one(self.classifier, inputs, training, seeds[fold] + 1)
        twin = replace(twin, n_labelled=member.n_labelled, calibration=member.calibration)
        cells = np.flatnonzero((inputs.codes >= 0) & (repeat.folds == fold))
        cells = cells[: max(1, CHUNK_ENTRIES // inputs.n_treatments)]
        first, second = (one.calibrated(one.log_likelihood(*inputs.of(cells))) for one in (member, twin))
        by_seed = float(((first - second) ** 2).sum() / 2)
        between = float(found.rows(cells).noise.sum() / (len(repeat.members) - 1))
        return min(1.0, by_seed / between) if between > 0 else 0.0

    def _deal(self, codes: IntArray, groups: IntArray | None, rng: np.random.Generator) -> IntArray:
        if groups is None:
            return deal_folds(codes, self.n_folds, rng)
        return deal_groups(codes, groups, self.n_folds, rng)

    def _train(
        self,
        inputs: _Inputs,
        folds: IntArray,
        seeds: list[int],
        *,
        n_jobs: int | None,
        tick: Callable[[], object],
    ) -> dict[int, Member]:
        """The model of each fold, trained on all others."""
        from joblib import Parallel, delayed

        labelled = inputs.codes >= 0
        present = np.unique(folds[labelled]).tolist()
        jobs = (
            delayed(_train_one)(self.classifier, inputs, labelled & (folds != fold), seeds[fold]) for fold in present
        )
        members = {}
        for fold, member in zip(present, Parallel(n_jobs=n_jobs, return_as="generator")(jobs), strict=True):
            members[fold] = replace(member, n_labelled=int(labelled.sum()))
            tick()
        return members

    def _calibrate(
        self, inputs: _Inputs, folds: IntArray, trained: dict[int, Member], rng: np.random.Generator
    ) -> tuple[Repeat, list[Member]]:
        """Each fold's member, calibrated on the cells of all others; and all members, calibrated on all cells."""
        cells = np.flatnonzero(inputs.codes >= 0)
        n_most = max(1, EVIDENCE_ENTRIES // inputs.n_treatments)
        if len(cells) > n_most:
            cells = np.sort(rng.choice(cells, n_most, replace=False))
        said, log_prior = np.zeros((2, len(cells), inputs.n_treatments))
        for fold, member in trained.items():
            own = folds[cells] == fold
            said[own] = member.log_likelihood(*inputs.of(cells[own]))
            log_prior[own] = member.model.log_prior

        def learnt_from(chosen: BoolArray) -> Calibration:
            return self.calibrator.fit(said[chosen], inputs.codes[cells[chosen]], log_prior[chosen])

        repeat = Repeat(
            folds,
            {fold: replace(member, calibration=learnt_from(folds[cells] != fold)) for fold, member in trained.items()},
        )
        everything = learnt_from(np.ones(len(cells), dtype=bool))
        return repeat, [replace(member, calibration=everything) for member in trained.values()]


@dataclass(frozen=True)
class _Inputs:
    """What a cross-fit learns from."""

    features: Matrix
    codes: IntArray
    batches: IntArray | None
    n_treatments: int

    @property
    def n_batches(self) -> int:
        """Number of batches, 0 without."""
        return 0 if self.batches is None else int(self.batches.max()) + 1

    def of(self, cells: IntArray | BoolArray) -> tuple[Matrix, IntArray | None]:
        """Features and batches of some cells."""
        return self.features[cells], None if self.batches is None else self.batches[cells]


def _train_one(classifier: Classifier, inputs: _Inputs, training: BoolArray, seed: int) -> Member:
    """One model on the training cells, free of batches where these are given."""
    from threadpoolctl import threadpool_limits

    (features, batches), codes = inputs.of(training), inputs.codes[training]
    # the number of threads changes the last bits of a sum, and may not change the scores
    with threadpool_limits(limits=1):
        if batches is None:
            return Member(classifier.fit(features, codes, inputs.n_treatments, seed), None, len(codes))
        shift = BatchShift.fit(features, codes, batches, inputs.n_batches)
        model = classifier.fit(
            adjust(features, batches, shift), codes, inputs.n_treatments, seed, balancing_weights(codes, batches)
        )
        return Member(model, shift, len(codes))


def as_rows(features: Matrix) -> Matrix:
    """Features whose rows can be selected cheaply: CSR where sparse, float64 where dense, images as they are."""
    if sparse.issparse(features):
        return sparse.csr_matrix(features)
    if np.ndim(features) > 2:  # noqa: PLR2004, images
        return np.asarray(features)
    return np.asarray(features, dtype=np.float64)
