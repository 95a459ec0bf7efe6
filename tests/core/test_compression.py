import numpy as np
import pytest
from scipy.spatial.distance import pdist

from psalm.core.compression import find_basis


@pytest.fixture
def scores(rng):
    """Log-odds of 300 treatments that move in 20 directions, and a little noise."""
    scores = rng.normal(size=(600, 20)) @ rng.normal(size=(20, 300)) + 0.01 * rng.normal(size=(600, 300))
    return scores - scores.mean(axis=1, keepdims=True)


def test_distances_are_kept_to_the_stated_error(scores, rng):
    """Independent: all distances between cells, counted."""
    basis = find_basis(scores, rng.integers(5, size=600), 0.01, 100, rng)
    assert len(basis.loadings) <= 25
    np.testing.assert_allclose(basis.loadings @ basis.loadings.T, np.eye(len(basis.loadings)), atol=1e-8)
    exact, kept = pdist(scores), pdist(basis.compress(scores))
    error = np.sqrt(((exact - kept) ** 2).mean() / (exact**2).mean())
    assert basis.distance_error <= 0.01
    assert error == pytest.approx(basis.distance_error, rel=0.5)
    np.testing.assert_allclose(basis.expand(basis.compress(scores)), scores, atol=0.2)


def test_too_few_components_are_said_to_be(scores, rng):
    basis = find_basis(scores, rng.integers(5, size=600), 0.01, 5, rng)
    assert len(basis.loadings) == 5
    assert basis.distance_error > 0.2


def test_log_odds_are_read_back_to_the_stated_error(scores, rng):
    """Independent: what is lost of the scores, relative to their spread around the mean cell."""
    for n_most in (5, 15):
        basis = find_basis(scores, rng.integers(5, size=600), 1e-9, n_most, rng)
        lost = ((basis.expand(basis.compress(scores)) - scores) ** 2).sum()
        spread = ((scores - scores.mean(axis=0)) ** 2).sum()
        assert np.sqrt(lost / spread) == pytest.approx(basis.log_odds_error, rel=0.1)


def test_cells_without_a_pair_of_their_treatment(scores, rng):
    assert find_basis(scores, np.full(600, -1), 0.05, 100, rng).distance_error <= 0.05
