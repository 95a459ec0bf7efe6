import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from psalm.core import log_odds


def test_cap_limits_the_odds_of_the_first_and_keeps_the_ratios_of_the_others():
    log_p = np.log(np.array([[1 - 3e-9, 2e-9, 1e-9], [0.5, 0.3, 0.2]]))
    capped = np.exp(log_odds.cap_certainty(log_p, n_cells=50))
    odds = capped[:, 0] / (1 - capped[:, 0])
    expected = 1 / (np.array([3e-9, 0.5]) / np.array([1 - 3e-9, 0.5]) + 1 / 100)
    np.testing.assert_allclose(odds, expected, rtol=1e-6)
    np.testing.assert_allclose(capped[:, 1] / capped[:, 2], [2.0, 1.5])
    np.testing.assert_allclose(capped.sum(axis=1), 1)


def test_centred_rows_sum_to_zero_and_give_the_probabilities_back(rng):
    p = softmax(rng.normal(size=(7, 5)), axis=1)
    centred = log_odds.centre(np.log(p))
    np.testing.assert_allclose(centred.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(log_odds.probabilities(centred), p)


def test_a_probability_of_zero_stays_finite():
    assert np.isfinite(log_odds.log_probabilities(np.array([[1.0, 0.0]]))).all()


def test_change_of_prior_is_bayes_rule(rng):
    """Independent: posteriors from likelihoods under either prior."""
    likelihood = rng.random((6, 3))
    before, after = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    changed = log_odds.change_prior(log_odds.centre(np.log(likelihood * before)), np.log(after / before))
    expected = likelihood * after
    np.testing.assert_allclose(log_odds.probabilities(changed), expected / expected.sum(axis=1, keepdims=True))


def test_log_loss_by_hand():
    assert log_odds.log_loss(np.log(np.array([[0.5, 0.5], [0.25, 0.75]])), np.array([0, 1])) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2
    )


def test_log_sums_are_scipys(rng):
    values = rng.normal(size=(50, 7)) * 100
    values[3] = -np.inf
    values[4, 2:] = -np.inf
    np.testing.assert_allclose(log_odds.log_sum(values), logsumexp(values, axis=1), rtol=1e-14)
    np.testing.assert_allclose(log_odds.normalised(values[:3]), log_softmax(values[:3], axis=1), rtol=1e-13)
