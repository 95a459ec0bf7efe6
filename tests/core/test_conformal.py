import numpy as np
import pytest

from psalm.core.conformal import Residuals


def test_quantile_by_hand():
    """Nine residuals 1..9 and coverage 0.8: the ⌈10 · 0.8⌉ = 8th smallest."""
    residuals = Residuals(np.arange(1.0, 10.0)[::-1, None], np.array([[7.9], [8.0], [8.1], [1.0]]))
    assert residuals.quantile(0.8).tolist() == [8.0]
    assert residuals.coverage(0.8).tolist() == [0.75]


@pytest.mark.parametrize("n_cells", [9, 12, 30, 59])
def test_every_feature_is_covered_however_few_cells_there_are(n_cells):
    """Independent: the theorem, for features of different spread whose residuals go together in a cell.

    One quantile over all features, as for fewer than 50 cells before, covers .7 of the widest at nominal .9.
    """
    rng, scales = np.random.default_rng(1), np.array([0.2, 1.0, 1.0, 3.0])

    def residuals(n):
        return np.abs(rng.normal(size=(n, 4)) + rng.normal(size=(n, 1))) * np.exp(rng.normal(size=(n, 1))) * scales

    found = np.array([Residuals(residuals(n_cells), residuals(50)).coverage(0.9) for _ in range(600)])
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (found.mean(axis=0) >= 0.9 - 3 * error).all()
    assert (found.mean(axis=0) <= 0.9 + 1 / (n_cells + 1) + 3 * error).all()


def test_coverage_is_at_least_what_was_asked_for_on_average():
    """Independent: the theorem. Mean over 400 draws of calibration and test cells, three standard errors."""
    rng = np.random.default_rng(0)
    found = [
        Residuals(rng.exponential(size=(59, 1)), rng.exponential(size=(100, 1))).coverage(0.8)[0] for _ in range(400)
    ]
    error = np.std(found) / 20
    assert 0.8 - 3 * error <= np.mean(found) <= 0.8 + 1 / 60 + 3 * error


@pytest.mark.parametrize(
    ("coverage", "message"),
    [
        pytest.param(0.95, "need 19 held-out cells to be calibrated on, and there are 10", id="few"),
        pytest.param(1.0, "`coverage=1.0` must be a number between 0 and 1", id="one"),
        pytest.param("0.9", "must be a number", id="text"),
    ],
)
def test_errors(coverage, message, rng):
    with pytest.raises(ValueError, match=message):
        Residuals(rng.random((10, 1)), rng.random((10, 1))).quantile(coverage)
