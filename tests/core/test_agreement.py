import numpy as np
import pytest
from scipy.spatial.distance import cdist

from psalm.core.agreement import effective_dimensions, energy_agreement


def test_energy_distance_by_hand(rng):
    """Independent: the three means, written out."""
    x, y = rng.normal(size=(30, 2)), rng.normal(1, 1, size=(20, 2))
    within = [cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    expected = (2 * cdist(x, y).mean() - sum(within)) / (2 * cdist(x, y).mean())
    assert energy_agreement(x, y, rng).share == pytest.approx(expected)


def test_p_values_are_uniform_where_distributions_are_equal(rng):
    p = [energy_agreement(rng.normal(size=(25, 2)), rng.normal(size=(15, 2)), rng).p_value for _ in range(200)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_samples_that_differ(rng):
    found = energy_agreement(rng.normal(size=(50, 2)), rng.normal(3, 1, size=(50, 2)), rng)
    assert found.share > 0.4
    assert found.p_value == pytest.approx(1 / 200)
    assert energy_agreement(np.zeros((5, 2)), np.ones((5, 2)), rng).share == pytest.approx(1)
    assert energy_agreement(np.zeros((5, 2)), np.zeros((5, 2)), rng).p_value == 1


def test_too_few_cells_say_nothing(rng):
    assert np.isnan(energy_agreement(np.zeros((2, 2)), np.ones((9, 2)), rng).share)
    assert energy_agreement(np.zeros((3, 2)), np.ones((9, 2)), rng).share == pytest.approx(1)


def test_effective_dimensions(rng):
    scores = rng.normal(size=(4000, 3)) @ np.diag([1, 1, 0.01])
    effective, needed = effective_dimensions(scores, np.zeros(4000, int))
    assert effective == pytest.approx(2, abs=0.05)
    assert needed == 2
    assert effective_dimensions(np.zeros((10, 3)), np.zeros(10, int)) == (0.0, 0)
