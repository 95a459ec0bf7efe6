"""The parts of a recipe, from features to scores, each of which `ablation.py` can switch.

As it stands a `Recipe` is the paper's: in-sample logits of a network and an absolute ε. The network is the package's
perceptron. Other classifiers are the package's as they are, with log-probabilities floored at float32's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from psalm.core.calibration import TEMPERATURE_RANGE, NoCalibrator, VectorCalibration
from psalm.core.folds import deal_folds
from psalm.core.log_odds import cap_certainty, centre, log_loss
from psalm.core.mlp import PerceptronClassifier
from psalm.core.propensity import as_rows
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core.calibration import Calibrator
    from psalm.core.classifier import Classifier, FittedClassifier
    from psalm.core.matcher import Match, Matcher, Side

N_FOLDS, N_REPEATS = 5, 5
LARGEST_EPSILON = 1.0
NETWORK, AT_ITS_WORD = PerceptronClassifier(device="cpu"), NoCalibrator()


@dataclass(frozen=True)
class Logits:
    """A fitted network whose outputs are taken before the softmax."""

    fitted: Any

    @property
    def log_prior(self) -> np.ndarray:
        return self.fitted.log_prior

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            logits = self.fitted.model.network(torch.as_tensor(np.asarray(features), dtype=torch.float32))
        return logits.double().numpy() - self.log_prior


@dataclass(frozen=True)
class NetworkLogits:
    """The package's perceptron, read as the paper reads its networks."""

    network: Classifier = NETWORK

    def fit(self, features: np.ndarray, codes: np.ndarray, n_treatments: int, seed: int = 0) -> Logits:
        return Logits(self.network.fit(features, codes, n_treatments, seed))


@dataclass(frozen=True)
class PlainTemperature:
    """A temperature by maximum likelihood of the labels as they are, without smoothing."""

    def fit(self, log_l: np.ndarray, codes: np.ndarray, log_prior: np.ndarray) -> VectorCalibration:
        from scipy.optimize import minimize_scalar

        def calibration(log_temperature: float) -> VectorCalibration:
            return VectorCalibration(np.exp(-log_temperature), np.array(0.0))

        def loss(log_temperature: float) -> float:
            return log_loss(calibration(log_temperature)(log_l, log_prior), codes)

        found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
        return calibration(float(found.x))


@dataclass(frozen=True)
class AbsoluteSinkhorn:
    """The paper's matching: an ε in units of the scores, raised by 0.01 while the plan is not a number."""

    epsilon: float = 0.05
    step: float = 0.01

    def __call__(self, source: Side, target: Side) -> Match:
        for epsilon in np.arange(self.epsilon, LARGEST_EPSILON, self.step):
            match = SinkhornMatcher(epsilon_absolute=epsilon)(source, target)
            if np.isfinite(match.marginal_error):
                return match
        msg = f"The plan of {len(source)} × {len(target)} cells is not a number up to ε = {epsilon:.2f}."
        raise FloatingPointError(msg)


@dataclass(frozen=True)
class Recipe:
    """All parts of the way from features to a match. As it stands: the paper's."""

    classifier: Classifier = NetworkLogits()
    out_of_fold: bool = False
    calibrator: Calibrator = AT_ITS_WORD  # one whose calibration is a single weight
    centred: bool = False
    capped: bool = False
    n_repeats: int = 1
    shared_prior: bool = False
    matcher: Matcher = AbsoluteSinkhorn()


@dataclass(frozen=True, eq=False)
class Cells:
    """The labelled cells of one modality, and the folds and seeds that `psalm.tl.propensity` would draw."""

    features: Any
    codes: np.ndarray
    places: np.ndarray  # among all cells of the modality
    n_treatments: int
    deals: tuple[tuple[np.ndarray, list[int]], ...]

    @property
    def shares(self) -> np.ndarray:
        return np.bincount(self.codes, minlength=self.n_treatments) / len(self.codes)


@dataclass(frozen=True)
class Evidence:
    """What a classifier says of each cell, and the fold of the model that said it."""

    log_likelihood: np.ndarray
    log_prior: np.ndarray
    folds: np.ndarray


def deals(codes: np.ndarray, rng: np.random.Generator) -> tuple[tuple[np.ndarray, list[int]], ...]:
    """Folds and seeds of every repeat, drawn in the package's order."""
    return tuple(
        (deal_folds(codes, N_FOLDS, rng), rng.integers(2**31, size=N_FOLDS).tolist()) for _ in range(N_REPEATS)
    )


def cells_of(mdata: MuData, name: str, rng: np.random.Generator) -> Cells:
    labels = mdata[name].obs["treatment"].cat
    places = np.flatnonzero(labels.codes >= 0)
    codes = labels.codes.to_numpy()[places].astype(int)
    features = as_rows(mdata[name].obsm["X_psalm"])[places]
    return Cells(features, codes, places, len(labels.categories), deals(codes, rng))


def fitted(cells: Cells, classifier: Classifier, training: np.ndarray, seed: int) -> FittedClassifier:
    """A model of some of the cells; one thread, as in the package, so that the last bits are the same."""
    with threadpool_limits(limits=1):
        return classifier.fit(cells.features[training], cells.codes[training], cells.n_treatments, seed)


@cache
def out_of_fold(cells: Cells, classifier: Classifier, repeat: int) -> Evidence:
    folds, seeds = cells.deals[repeat]
    log_likelihood, log_prior = np.zeros((2, len(cells.codes), cells.n_treatments))
    for fold, seed in enumerate(seeds):
        test = folds == fold
        model = fitted(cells, classifier, ~test, seed)
        log_likelihood[test] = model.log_likelihood(cells.features[test])
        log_prior[test] = model.log_prior
    return Evidence(log_likelihood, log_prior, folds)


@cache
def in_sample(cells: Cells, classifier: Classifier, repeat: int) -> Evidence:
    model = fitted(cells, classifier, np.ones(len(cells.codes), dtype=bool), cells.deals[repeat][1][0])
    log_likelihood = model.log_likelihood(cells.features)
    log_prior = np.broadcast_to(model.log_prior, log_likelihood.shape)
    return Evidence(log_likelihood, log_prior, np.zeros(len(cells.codes), dtype=int))


def calibrated(recipe: Recipe, cells: Cells, evidence: Evidence) -> np.ndarray:
    """Scores of one repeat; each fold's calibration is learnt from the others, where there are others."""
    scores = np.zeros_like(evidence.log_likelihood)
    for fold in np.unique(evidence.folds):
        here = evidence.folds == fold
        others = ~here if recipe.out_of_fold else here
        calibration = recipe.calibrator.fit(
            evidence.log_likelihood[others], cells.codes[others], evidence.log_prior[others]
        )
        logits = evidence.log_likelihood[here] * calibration.weight + evidence.log_prior[here]
        if recipe.capped:
            logits = cap_certainty(log_softmax(logits, axis=1), len(cells.codes))
        scores[here] = centre(log_softmax(logits, axis=1)) if recipe.centred else logits
    return scores


def scores_of(recipe: Recipe, sides: list[Cells]) -> list[np.ndarray]:
    """Scores of both modalities: means of the repeats, which in-sample scores do not have."""
    classify, n_repeats = (out_of_fold, recipe.n_repeats) if recipe.out_of_fold else (in_sample, 1)
    scores = [
        np.mean([calibrated(recipe, side, classify(side, recipe.classifier, r)) for r in range(n_repeats)], axis=0)
        for side in sides
    ]
    if not recipe.shared_prior:
        return scores
    common = np.log(np.mean([side.shares for side in sides], axis=0))
    moved = [s + common - np.log(side.shares) for s, side in zip(scores, sides, strict=True)]
    return [centre(s) for s in moved] if recipe.centred else moved


def forget() -> None:
    """Drop the models' answers, which are kept while one problem is worked on."""
    out_of_fold.cache_clear()
    in_sample.cache_clear()
