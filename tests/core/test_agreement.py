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


def test_random_splits_are_rarely_exceeded_by_samples_of_one_distribution(rng):
    found = [energy_agreement(rng.normal(size=(25, 2)), rng.normal(size=(15, 2)), rng) for _ in range(200)]
    assert np.mean([one.share > one.random_split for one in found]) < 0.04  # 0.01, and four standard errors


def test_shared_errors_exceed_random_splits_though_both_samples_have_one_truth(rng):
    """Why it is no test of the model: cells of a modality share the errors of its classifiers."""
    truth = rng.normal(size=(2, 60, 2))
    found = [energy_agreement(*(truth + rng.normal(scale=0.7, size=(2, 1, 2))), rng) for _ in range(50)]
    assert np.mean([one.share > one.random_split for one in found]) > 0.5


def test_samples_that_differ(rng):
    found = energy_agreement(rng.normal(size=(50, 2)), rng.normal(3, 1, size=(50, 2)), rng)
    assert found.share > 0.4
    assert found.share > 2 * found.random_split > 0
    assert energy_agreement(np.zeros((5, 2)), np.ones((5, 2)), rng).share == pytest.approx(1)
    same = energy_agreement(np.zeros((5, 2)), np.zeros((5, 2)), rng)
    assert same.share == same.random_split == 0


def test_too_few_cells_say_nothing(rng):
    assert np.isnan(energy_agreement(np.zeros((2, 2)), np.ones((9, 2)), rng).share)
    assert energy_agreement(np.zeros((3, 2)), np.ones((9, 2)), rng).share == pytest.approx(1)


def test_effective_dimensions(rng):
    scores = rng.normal(size=(4000, 3)) @ np.diag([1, 1, 0.01])
    effective, needed = effective_dimensions(scores, np.zeros(4000, int))
    assert effective == pytest.approx(2, abs=0.05)
    assert needed == 2
    assert effective_dimensions(np.zeros((10, 3)), np.zeros(10, int)) == (0.0, 0)
