import numpy as np
import pytest
from scipy import stats

from psalm.core.samples import energy_distance, kl_divergence, some, wasserstein


def test_energy_distance_by_hand():
    """{0, 2} and {1, 5}: 2·(1+5+1+3)/4 − 2 − 4 = −1; scipy's V-statistic would be 2·2.5 − 1 − 2 = 2."""
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(-1.0)
    assert np.isnan(energy_distance(x[:1], y))


def test_energy_distance_is_zero_on_average_for_one_distribution(rng):
    found = [energy_distance(rng.normal(size=(20, 2)), rng.normal(size=(30, 2))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)


def test_wasserstein_of_a_shift_is_the_shift(rng):
    x = rng.normal(size=(40, 2))
    assert wasserstein(x, x + np.array([1.0, 3.0])) == pytest.approx(2.0)


def test_kl_divergence_of_two_gaussians():
    """Independent: the closed form, ½(σ² + μ² − 1 − log σ²) for N(μ, σ²) from N(0, 1)."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(1.0, 0.5, size=(4000, 1)), rng.normal(size=(4000, 1))
    expected = 0.5 * (0.25 + 1 - 1 - np.log(0.25))
    assert kl_divergence(x, y) == pytest.approx(expected, abs=0.08)
    assert kl_divergence(y[:2000], y[2000:]) == pytest.approx(0.0, abs=0.08)
    assert np.isnan(kl_divergence(x[:5], y))


def test_predictions_that_all_are_one_point_are_far_and_finite(rng):
    x, y = rng.normal(size=(50, 3)), np.zeros((40, 3))
    assert np.isfinite(kl_divergence(x, y))
    assert energy_distance(x, y) > 0.5
    assert wasserstein(x, y) == pytest.approx(np.mean([stats.wasserstein_distance(c, [0.0]) for c in x.T]))


def test_some_keeps_at_most_so_many(rng):
    x = rng.normal(size=(30, 2))
    assert some(x, rng, 10).shape == (10, 2)
    assert some(x, rng, 50) is x
