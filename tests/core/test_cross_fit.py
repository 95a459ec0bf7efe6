import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

from psalm import datasets
from psalm.core.calibration import NoCalibrator
from psalm.core.cross_fit import CrossFit
from psalm.core.estimator import EstimatorClassifier
from psalm.core.logistic import LogisticClassifier


def test_no_cell_is_scored_by_a_model_that_has_seen_it(read_only, rng):
    """Independent: a nearest-neighbour model knows every cell it has seen by heart; labels are pure noise."""
    features, codes = read_only(400, 5), rng.integers(2, size=400)
    memoriser = KNeighborsClassifier(1)
    assert memoriser.fit(features, codes).score(features, codes) == 1.0
    found = CrossFit(EstimatorClassifier(memoriser), n_repeats=1)(features, codes, 2, rng)
    assert abs((found.log_odds.argmax(axis=1) == codes).mean() - 0.5) < 0.1


def test_scores_approach_the_closed_form_with_more_cells():
    """Independent: the simulation's propensity is known in closed form."""
    errors = []
    for n_cells in (300, 5000):
        cells = datasets.simulated(n_cells=n_cells, n_treatments=5, n_private=0, rng=0)["a"]
        codes, truth = cells.obs["perturbation"].cat.codes.to_numpy(), cells.obsm["propensity_true"]
        classifier = LogisticClassifier(C=1.0)
        found = CrossFit(classifier, n_repeats=1)(cells.X, codes, 5, np.random.default_rng(0))
        errors.append(np.abs(found.log_odds - truth).mean())
    assert errors[1] < errors[0]
    assert errors[1] < 0.25 * np.abs(truth).mean()


def test_calibration_repairs_an_overconfident_classifier(rng):
    """Independent: log loss of the uncalibrated scores of the same models."""
    features = rng.normal(size=(500, 30))
    codes = (features[:, 0] + rng.normal(size=500) > 0).astype(int)
    found = CrossFit(LogisticClassifier(C=1e4))(features, codes, 2, rng)
    rows = np.arange(500)

    def loss(scores):
        return -(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))[rows, codes].mean()

    assert all(calibration.weight < 1 for calibration in found.calibrations)
    assert loss(found.log_odds) < loss(found.uncalibrated)


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_every_cell_gets_finite_centred_scores(read_only, rng, as_matrix):
    codes = np.repeat([0, 1, 2, -1], [20, 20, 1, 9])  # a single-cell treatment and unlabelled cells
    found = CrossFit(LogisticClassifier())(as_matrix(read_only(50, 6)), codes, 3, rng)
    assert np.isfinite(found.log_odds).all()
    np.testing.assert_allclose(found.log_odds.sum(axis=1), 0, atol=1e-9)


def test_an_unlabelled_copy_of_a_cell_is_scored_like_it(rng):
    codes = np.repeat([0, 1], 100)
    features = rng.normal(size=(200, 3)) + codes[:, None]
    found = CrossFit(LogisticClassifier())(np.vstack([features, features]), np.append(codes, [-1] * 200), 2, rng)
    assert np.corrcoef(found.log_odds[:200, 1], found.log_odds[200:, 1])[0, 1] > 0.99


def test_jobs_do_not_change_scores(read_only):
    features, codes = read_only(60, 4), np.repeat([0, 1, 2], 20)
    serial, parallel = (
        CrossFit(LogisticClassifier())(features, codes, 3, np.random.default_rng(3), n_jobs=n) for n in (1, 2)
    )
    np.testing.assert_array_equal(serial.log_odds, parallel.log_odds)


def test_groups_are_scored_by_models_that_have_not_seen_them(rng):
    """Independent: features tell the donor and nothing else, so whoever knows the donor knows its treatments' mix."""
    groups = np.repeat(np.arange(6), 60)
    mix = np.array([0.9, 0.1, 0.9, 0.1, 0.9, 0.1])
    codes = (rng.random(360) < mix[groups]).astype(int)
    features = np.eye(6)[groups] + 0.01 * rng.normal(size=(360, 6))
    split, whole = (
        CrossFit(LogisticClassifier(C=1.0), n_folds=3)(features, codes, 2, np.random.default_rng(0), groups=g)
        for g in (None, groups)
    )

    def accuracy(found):
        return (found.log_odds.argmax(axis=1) == codes).mean()

    assert accuracy(split) > 0.85
    assert accuracy(whole) < 0.7


@pytest.mark.parametrize(("shared", "expected"), [(True, [60]), (False, [60, 40, 40, 40])])
def test_what_a_calibration_is_learnt_from(rng, shared, expected):
    """One number for all cells: from all. More parameters: those of a fold from the cells of the others."""
    features, codes = rng.normal(size=(60, 3)), np.repeat([0, 1], 30)
    seen = []

    class Spy(NoCalibrator):
        def fit(self, log_p, codes, offset):
            seen.append(len(codes))
            return super().fit(log_p, codes, offset)

    Spy.shared = shared
    CrossFit(LogisticClassifier(), n_folds=3, n_repeats=1, calibrator=Spy())(features, codes, 2, rng)
    assert seen == expected


def test_the_ensemble_scores_new_cells_like_unlabelled_ones(rng):
    features, codes = rng.normal(size=(90, 3)), np.repeat([0, 1, -1], 30)
    found = CrossFit(LogisticClassifier())(features, codes, 2, rng)
    np.testing.assert_allclose(found.ensemble.log_odds(features[60:]), found.log_odds[60:])


class Shaken:
    """Ridge logistic regression whose log-likelihoods are moved by noise of the seed, the same for all cells but two
    columns: a classifier that is random itself.
    """

    def __init__(self, strength):
        self.strength = strength

    def fit(self, features, codes, n_treatments, seed=0, weights=None):
        fitted = LogisticClassifier().fit(features, codes, n_treatments, seed, weights)
        turn = np.random.default_rng(seed).normal(size=(features.shape[1], n_treatments)) * self.strength

        class Moved:
            log_prior, n_treatments = fitted.log_prior, fitted.n_treatments

            @staticmethod
            def log_likelihood(features):
                return fitted.log_likelihood(features) + features @ turn

        return Moved()


def test_what_the_seed_does_counts_once_per_repeat():
    """Independent: the variance that the seed adds is known, strength² · ‖x‖² a column, less one for centring."""
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=600)
    features = rng.normal(size=(600, 4)) + np.eye(3, 4)[codes]
    plain, shaken = (
        CrossFit(classifier, n_folds=5, n_repeats=4, calibrator=NoCalibrator())(
            features, codes, 3, np.random.default_rng(1)
        )
        for classifier in (LogisticClassifier(), Shaken(0.5))
    )
    assert plain.ensemble.chance == 0
    assert shaken.ensemble.chance > 0.8
    added = 0.25 * (features**2).sum(axis=1).mean() * 2
    noise = [found.rows(np.arange(600)).noise.mean() for found in (plain, shaken)]
    # four repeats average it out to a quarter; were it taken for error of the cells it would count four times.
    # One repeat more or less like the others moves it: .59 to .92 over five seeds of the cells, .6 expected
    assert noise[1] == pytest.approx(noise[0] + added / 4, rel=0.35)
    error = shaken.rows(np.arange(600)).error
    assert (error**2).sum(axis=1).mean() == pytest.approx(noise[1], rel=0.5)
    # new cells are scored by all twenty members, over which it averages out
    estimates = [found.ensemble.estimate(features).noise.mean() for found in (plain, shaken)]
    assert estimates[1] == pytest.approx(estimates[0] + added / 20, rel=0.35)
