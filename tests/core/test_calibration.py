import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax

from psalm.core.calibration import (
    CALIBRATORS,
    IsotonicCalibrator,
    TemperatureCalibrator,
    VectorCalibrator,
    smoothed_labels,
)
from psalm.core.log_odds import log_loss


def labels_from(probabilities, rng):
    return (rng.random((len(probabilities), 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered_from_labels_drawn_at_that_temperature(rng, temperature):
    """Independent: labels are drawn from the probabilities that the formula states."""
    claimed = np.log(softmax(3 * rng.normal(size=(20_000, 4)), axis=1))
    offset = np.log([0.1, 0.2, 0.3, 0.4])
    codes = labels_from(softmax(claimed / temperature + offset, axis=1), rng)
    found = TemperatureCalibrator().fit(claimed, codes, offset)
    assert 1 / found.weight == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("per_cell", [False, True])
def test_temperature_minimises_the_loss_of_smoothed_labels(rng, per_cell):
    """Independent: the definition, with labels as a matrix, on a grid."""
    claimed, codes = rng.normal(size=(60, 3)), rng.integers(3, size=60)
    prior = np.log(rng.dirichlet(np.ones(3), size=60)) if per_cell else np.log([0.2, 0.3, 0.5])
    labels = smoothed_labels(codes, 3)

    def loss(temperature):
        return -(labels * log_softmax(claimed / temperature + prior, axis=1)).sum()

    grid = np.exp(np.linspace(np.log(0.02), np.log(50), 20_001))
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    found = float(1 / TemperatureCalibrator().fit(claimed, codes, prior).weight)
    assert loss(found) <= loss(best) + 1e-6


def test_vector_scaling_is_recovered_from_labels_drawn_by_it(rng):
    weight, bias = np.array([0.5, 1.0, 1.5]), np.array([1.0, 0.0, -1.0])
    claimed = log_softmax(2 * rng.normal(size=(40_000, 3)), axis=1)
    truth = softmax(claimed * weight + bias, axis=1)
    found = VectorCalibrator().fit(claimed, labels_from(truth, rng), np.zeros(3))
    np.testing.assert_allclose(np.exp(found(claimed, np.zeros(3))), truth, atol=0.02)


def test_vector_scaling_of_few_cells_stays_near_the_temperature(rng):
    claimed = log_softmax(rng.normal(size=(12, 6)), axis=1)
    codes = np.arange(12) % 6
    found = VectorCalibrator(ridge=1e6).fit(claimed, codes, np.zeros(6))
    np.testing.assert_allclose(found.weight, TemperatureCalibrator().fit(claimed, codes, np.zeros(6)).weight, rtol=1e-3)


@pytest.mark.parametrize("ridge", [1.0, 50.0])
def test_vector_scaling_is_where_its_penalised_loss_is_flat(rng, ridge):
    """Independent: finite differences of the loss, written anew; the pull is towards the best temperature."""
    codes = rng.integers(3, size=120)
    log_l, log_prior = rng.normal(size=(120, 3)) * 2, np.log(np.full((120, 3), 1 / 3))
    log_l[np.arange(120), codes] += np.array([0.5, 1.5, 4.0])[codes]
    start = float(TemperatureCalibrator().fit(log_l, codes, log_prior).weight)
    found = VectorCalibrator(ridge).fit(log_l, codes, log_prior)
    labels = smoothed_labels(codes, 3)

    def loss(flat):
        weight, bias = flat.reshape(2, 3)
        said = log_softmax(weight * log_l + bias + log_prior, axis=1)
        return -(labels * said).sum() + ridge / 2 * ((weight - start) ** 2).sum() + ridge / 2 * (bias**2).sum()

    slopes = approx_fprime(np.concatenate([found.weight, found.bias]), loss, 1e-6)
    np.testing.assert_allclose(slopes, 0, atol=0.01)


def test_isotonic_repairs_a_curve_that_no_temperature_can(rng):
    """Independent: the true probability is a known monotone function of the claimed one."""
    claimed = rng.uniform(0.02, 0.98, size=20_000)
    truth = claimed**3
    log_p = np.log(np.column_stack([1 - claimed, claimed]))
    codes = (rng.random(20_000) < truth).astype(int)
    found = np.exp(IsotonicCalibrator().fit(log_p, codes, np.zeros(2))(log_p, np.zeros(2)))[:, 1]
    by_temperature = np.exp(TemperatureCalibrator().fit(log_p, codes, np.zeros(2))(log_p, np.zeros(2)))[:, 1]
    assert np.abs(found - truth).mean() < 0.02
    assert np.abs(by_temperature - truth).mean() > 0.1


@pytest.mark.parametrize("name", CALIBRATORS)
def test_every_calibration_returns_normalised_finite_probabilities(rng, name):
    claimed = log_softmax(6 * rng.normal(size=(60, 3)), axis=1)
    codes = rng.integers(3, size=60)
    calibrated = CALIBRATORS[name]().fit(claimed, codes, np.zeros(3))(claimed, np.zeros(3))
    assert np.isfinite(calibrated).all()
    np.testing.assert_allclose(np.exp(calibrated).sum(axis=1), 1)
    if name != "none":
        assert log_loss(calibrated, codes) < log_loss(claimed, codes)


@pytest.mark.parametrize("calibrator", [TemperatureCalibrator(), VectorCalibrator()], ids=["temperature", "vector"])
def test_a_classifier_that_is_always_right_does_not_become_infinitely_certain(calibrator):
    """With n cells and a margin that is the same for all, odds end where half a cell of n votes for the others."""
    codes = np.arange(300) % 3
    claimed = log_softmax(np.eye(3)[codes], axis=1)
    calibrated = calibrator.fit(claimed, codes, np.zeros(3))(claimed, np.zeros(3))
    own = np.exp(calibrated[np.arange(300), codes])
    odds = own / (1 - own)
    np.testing.assert_allclose(odds, (300 + 0.5 / 3) / (0.5 * 2 / 3), rtol=0.01)
