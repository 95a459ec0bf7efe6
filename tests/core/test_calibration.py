import numpy as np
import pytest
from scipy.special import softmax

from psalm.core import calibration


def labels_from(probabilities, rng):
    return (rng.random((len(probabilities), 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered_from_labels_drawn_at_that_temperature(rng, temperature):
    """Independent: labels are drawn from the probabilities that the formula states."""
    claimed = np.log(softmax(3 * rng.normal(size=(20_000, 4)), axis=1))
    offset = np.log([0.1, 0.2, 0.3, 0.4])
    codes = labels_from(softmax(claimed / temperature + offset, axis=1), rng)
    assert calibration.fit_temperature(claimed, codes, offset) == pytest.approx(temperature, rel=0.05)


def test_cap_limits_the_odds_of_the_first_and_keeps_the_ratios_of_the_others():
    log_p = np.log(np.array([[1 - 3e-9, 2e-9, 1e-9], [0.5, 0.3, 0.2]]))
    capped = np.exp(calibration.cap_certainty(log_p, n_cells=50))
    odds = capped[:, 0] / (1 - capped[:, 0])
    expected = 1 / (np.array([3e-9, 0.5]) / np.array([1 - 3e-9, 0.5]) + 1 / 100)
    np.testing.assert_allclose(odds, expected, rtol=1e-6)
    np.testing.assert_allclose(capped[:, 1] / capped[:, 2], [2.0, 1.5])
    np.testing.assert_allclose(capped.sum(axis=1), 1)


def test_centred_rows_sum_to_zero_and_give_the_probabilities_back(rng):
    p = softmax(rng.normal(size=(7, 5)), axis=1)
    centred = calibration.centre(np.log(p))
    np.testing.assert_allclose(centred.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(calibration.probabilities(centred), p)


def test_a_probability_of_zero_stays_finite():
    assert np.isfinite(calibration.log_probabilities(np.array([[1.0, 0.0]]))).all()


def test_log_loss_by_hand():
    assert calibration.log_loss(np.log(np.array([[0.5, 0.5], [0.25, 0.75]])), np.array([0, 1])) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2
    )
