"""Cross-fitting: models of the treatment, each trained and calibrated on other cells than it is to score.

Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 (the score); out-of-fold, calibrated and centred scores are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.batch import BatchShift, adjust, balancing_weights
from psalm.core.calibration import TemperatureCalibrator
from psalm.core.classifier import log_shares
from psalm.core.ensemble import Ensemble, Member
from psalm.core.folds import deal_folds, deal_groups, other_folds, training_cells
from psalm.core.jobs import results
from psalm.core.kept_models import KeptModels
from psalm.core.propensity import CHUNK_ENTRIES, Propensity, Repeat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from psalm.core._types import BoolArray, FloatArray, IntArray, Matrix
    from psalm.core.calibration import Calibration, Calibrator
    from psalm.core.classifier import Classifier

EVIDENCE_ENTRIES = 2**25
"""Log-likelihoods that a calibration is learnt from at most; beyond, from a random sample of the cells."""


@dataclass(frozen=True)
class CrossFit:
    """How models are trained and calibrated, and how often folds are drawn anew.

    Every cell is scored by models that have not seen it. All of them are trained on as many cells of each treatment
    (``psalm.core.folds.training_cells``; not where folds follow groups) and refer to the same treatment
    frequencies, so that a model does not tell which cells it was not trained on.

    Calibration is learnt from out-of-fold log-likelihoods. A single temperature is learnt from all cells, and is the
    same for all: a cell's own label moves it as every label does. Calibrations with more parameters are learnt for each
    fold from other cells than its own; these were scored by models that have seen the fold's cells, so a label reaches
    its own cell's calibration in this roundabout way. Models trained without both folds would close it, at three times
    the cost.

    Parameters
    ----------
    classifier
        How to classify.
    n_folds, n_repeats
        Parts per repeat, and repeats.
    calibrator
        How to calibrate.
    checkpoint
        Folder that keeps trained models and is looked into first, or None.
    """

    classifier: Classifier
    n_folds: int = 5
    n_repeats: int = 5
    calibrator: Calibrator = field(default_factory=TemperatureCalibrator)
    checkpoint: Path | None = None

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
        kept = None
        if self.checkpoint is not None:
            kept = KeptModels.of(self.checkpoint, self.classifier, features, codes, batches, n_treatments)
        repeats: list[Repeat] = []
        members: list[Member] = []
        left_out: list[float] = []
        again: list[tuple[BoolArray, int]] = []
        for _ in range(self.n_repeats):
            folds, training = self._deal(codes, groups, rng)
            seeds = rng.integers(2**31, size=self.n_folds).tolist()
            again = again or [(cells, seeds[fold] + 1) for fold, cells in training.items()]
            trained = self._train(inputs, training, seeds, kept, n_jobs=n_jobs, tick=tick)
            repeat, whole = self._calibrate(inputs, folds, training, trained, rng)
            repeats.append(repeat)
            members += whole
            left_out += [1 - int(cells.sum()) / int((codes >= 0).sum()) for cells in training.values()]
        sizes = tuple(len(repeat.members) for repeat in repeats)
        ensemble = Ensemble(tuple(members), sizes, float(np.mean(left_out)))
        found = Propensity(features, codes, batches, tuple(repeats), ensemble)
        if not self._asks_chance:
            return found
        found = replace(found, ensemble=replace(ensemble, chance=self._chance(inputs, found, *again[0])))
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

    def _chance(self, inputs: _Inputs, found: Propensity, training: BoolArray, seed: int) -> float:
        """Share of the variance between repeats that the seed alone makes: one model is trained again with another."""
        repeat = found.repeats[0]
        fold, member = next(iter(repeat.members.items()))
        twin = _train_one(self.classifier, inputs, training, seed)
        twin = replace(twin, n_labelled=member.n_labelled, calibration=member.calibration)
        cells = np.flatnonzero((inputs.codes >= 0) & (repeat.folds == fold))
        cells = cells[: max(1, CHUNK_ENTRIES // inputs.n_treatments)]
        first, second = (one.calibrated(one.log_likelihood(*inputs.of(cells))) for one in (member, twin))
        by_seed = float(((first - second) ** 2).sum() / 2)
        between = float(found.rows(cells).noise.sum() / found.ensemble.jackknife)
        return min(1.0, by_seed / between) if between > 0 else 0.0

    def _deal(
        self, codes: IntArray, groups: IntArray | None, rng: np.random.Generator
    ) -> tuple[IntArray, dict[int, BoolArray]]:
        """The fold of each cell, and the cells that the model of each fold is trained on."""
        if groups is None:
            folds = deal_folds(codes, self.n_folds, rng)
            return folds, training_cells(codes, folds, rng)
        folds = deal_groups(codes, groups, self.n_folds, rng)
        return folds, other_folds(codes, folds)

    def _train(
        self,
        inputs: _Inputs,
        training: dict[int, BoolArray],
        seeds: list[int],
        kept: KeptModels | None,
        *,
        n_jobs: int | None,
        tick: Callable[[], object],
    ) -> dict[int, Member]:
        """The model of each fold."""
        from joblib import delayed

        members: dict[int, Member] = {}
        for fold, cells in training.items():
            found = None if kept is None else kept.read(cells, seeds[fold])
            if found is not None:
                members[fold] = found
                tick()
        missing = [fold for fold in training if fold not in members]
        jobs = (delayed(_train_one)(self.classifier, inputs, training[fold], seeds[fold]) for fold in missing)
        for fold, member in zip(missing, results(jobs, n_jobs), strict=True):
            if kept is not None:
                kept.write(training[fold], seeds[fold], member)
            members[fold] = member
            tick()
        n_labelled = int((inputs.codes >= 0).sum())
        return {fold: replace(members[fold], n_labelled=n_labelled) for fold in training}

    def _calibrate(
        self,
        inputs: _Inputs,
        folds: IntArray,
        training: dict[int, BoolArray],
        trained: dict[int, Member],
        rng: np.random.Generator,
    ) -> tuple[Repeat, list[Member]]:
        """Each fold's member, calibrated for the fold's cells; and all members, calibrated on all cells."""
        cells = np.flatnonzero(inputs.codes >= 0)
        n_most = max(1, EVIDENCE_ENTRIES // inputs.n_treatments)
        if len(cells) > n_most:
            cells = np.sort(rng.choice(cells, n_most, replace=False))
        said = np.zeros((len(cells), inputs.n_treatments))
        for fold, member in trained.items():
            own = folds[cells] == fold
            said[own] = member.log_likelihood(*inputs.of(cells[own]))

        def learnt_from(chosen: BoolArray) -> Calibration:
            return self.calibrator.fit(said[chosen], inputs.codes[cells[chosen]], inputs.log_prior)

        everything = learnt_from(np.ones(len(cells), dtype=bool))
        whole = {fold: replace(member, calibration=everything) for fold, member in trained.items()}
        if self.calibrator.shared:
            return Repeat(folds, whole), list(whole.values())
        own = {f: replace(member, calibration=learnt_from(training[f][cells])) for f, member in trained.items()}
        return Repeat(folds, own), list(whole.values())


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
        return 0 if self.batches is None else int(np.max(self.batches)) + 1

    @property
    def log_prior(self) -> FloatArray:
        """Logarithm of the treatment frequencies among all labelled cells (n_treatments,)."""
        return log_shares(self.codes[self.codes >= 0], self.n_treatments)

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
            model = classifier.fit(features, codes, inputs.n_treatments, seed)
            return Member(model, None, len(codes), inputs.log_prior)
        shift = BatchShift.fit(features, codes, batches, inputs.n_batches)
        model = classifier.fit(
            adjust(features, batches, shift), codes, inputs.n_treatments, seed, balancing_weights(codes, batches)
        )
        return Member(model, shift, len(codes), inputs.log_prior)
