"""A cell's score may not depend on its own label: neither through the model, nor through which cells trained it."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from psalm.core.calibration import CALIBRATORS
from psalm.core.classifier import FittedClassifier, log_shares
from psalm.core.cross_fit import CrossFit
from psalm.core.estimator import EstimatorClassifier
from psalm.core.folds import deal_folds, training_cells
from psalm.core.logistic import LogisticClassifier

N_TREATMENTS = 8
SIZES = [(2, 4), (5, 9), (10, 14)]


@dataclass(frozen=True)
class Centroids:
    """Probabilities by distance to shrunken means, times the shares of the treatments to a power.

    Power 1 is what a maximum-likelihood classifier does. Others have other ideas of the shares that they were trained
    on: networks that stop early, trees, neighbours, and classifiers that balance treatments (power 0).
    """

    power: float

    def fit(self, features, codes, n_treatments, seed=0, weights=None):
        counts = np.bincount(codes, minlength=n_treatments)
        means = (np.eye(n_treatments)[codes].T @ features) / (counts[:, None] + 1)
        log_prior = log_shares(codes, n_treatments)

        class Model:
            classes_ = np.arange(n_treatments)

            @staticmethod
            def predict_proba(cells):
                distances = ((cells[:, None] - means) ** 2).sum(axis=2)
                return softmax(self.power * log_prior - distances / 2, axis=1)

        return FittedClassifier(Model(), log_prior)


CLASSIFIERS = {
    "faithful": Centroids(1.0),
    "balanced": Centroids(0.0),
    "exaggerating": Centroids(2.0),
    "logistic": LogisticClassifier(),
    "class_weight": EstimatorClassifier(LogisticRegression(C=0.1, class_weight="balanced")),
    "naive Bayes": EstimatorClassifier(GaussianNB()),
}


def noise_auc(classifier, sizes, seed, calibration="temperature"):
    """P(own log-odds above another cell's of the same treatment's), over all pairs, and over pairs of one fold."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(N_TREATMENTS), rng.integers(sizes[0], sizes[1] + 1, N_TREATMENTS)))
    features = rng.normal(size=(len(codes), 3))
    fit = CrossFit(classifier, n_repeats=1, calibrator=CALIBRATORS[calibration]())
    found = fit(features, codes, N_TREATMENTS, rng)
    folds, above, beside = found.repeats[0].folds, [], []
    for treatment in range(N_TREATMENTS):
        own = codes == treatment
        difference = np.subtract.outer(found.log_odds[own, treatment], found.log_odds[~own, treatment])
        above.append((difference > 0) + (difference == 0) / 2)
        beside.append(np.equal.outer(folds[own], folds[~own]))
    return np.mean([one.mean() for one in above]), np.concatenate([a[b] for a, b in zip(above, beside, strict=True)])


def mean_and_error(values):
    return np.mean(values), np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_on_noise_no_classifier_tells_the_own_treatment(name, sizes):
    """By symmetry: cells that one model scores are exchangeable where features say nothing, so the AUC is 1/2.

    It was .22 for 2 to 4 cells and .475 for 10 to 14. Over all folds together it is a little below 1/2 for whatever
    classifier: a cell that is like its own treatment's others widens the scores of all cells but itself.
    """
    found = [noise_auc(CLASSIFIERS[name], sizes, seed) for seed in range(60)]
    pooled, _ = mean_and_error([auc for auc, _ in found])
    within, error = mean_and_error([pairs.mean() for _, pairs in found])
    assert error < 0.02
    assert abs(within - 0.5) < 3.5 * error
    assert abs(pooled - 0.5) < 0.035


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_fold_trains_on_as_many_cells_of_each_treatment(sizes):
    rng = np.random.default_rng(3)
    codes = rng.permutation(np.repeat(np.arange(-1, 9), rng.integers(sizes[0], sizes[1] + 1, 10)))
    folds = deal_folds(codes, 5, rng)
    training = training_cells(codes, folds, rng)
    counts = np.array([np.bincount(codes[cells], minlength=9) for cells in training.values()])
    assert np.ptp(counts, axis=0).max() == 0
    n_cells = np.bincount(codes[codes >= 0])
    np.testing.assert_array_equal(counts[0], n_cells - -(-n_cells // 5))  # at most one is left out
    for fold, cells in training.items():
        assert not cells[(folds == fold) | (codes < 0)].any()


def test_a_single_cell_trains_all_folds_but_its_own():
    codes = np.append(np.zeros(20, dtype=int), 1)
    rng = np.random.default_rng(0)
    folds = deal_folds(codes, 5, rng)
    training = training_cells(codes, folds, rng)
    assert [cells[-1] for cells in training.values()] == [fold != folds[-1] for fold in training]


@pytest.mark.parametrize("calibration", ["temperature", "vector"])
def test_own_labels_reach_the_own_score_by_the_calibration_only(calibration, monkeypatch):
    """Labels exchanged within a fold: what its model says of it stays, bit by bit."""
    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(60, 3)), np.repeat([0, 1, 2], 20)
    folds = np.arange(60) % 5
    monkeypatch.setattr("psalm.core.cross_fit.deal_folds", lambda *_: folds)
    fit = CrossFit(Centroids(0.5), n_repeats=1, calibrator=CALIBRATORS[calibration]())
    own = np.flatnonzero(folds == 2)
    exchanged = codes.copy()
    exchanged[own] = codes[own][::-1]
    first, second = (fit(features, labels, 3, np.random.default_rng(1)) for labels in (codes, exchanged))
    np.testing.assert_array_equal(first.uncalibrated[own], second.uncalibrated[own])
    assert (first.uncalibrated[folds != 2] != second.uncalibrated[folds != 2]).any()
    np.testing.assert_allclose(first.log_odds[own], second.log_odds[own], atol=0.5)
