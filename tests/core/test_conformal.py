import numpy as np
import pytest

from psalm.core.conformal import Residuals


def test_quantile_by_hand():
    """Nine residuals 1..9 and coverage 0.8: the ⌈10 · 0.8⌉ = 8th smallest. With one feature pooling changes nothing."""
    residuals = Residuals(np.arange(1.0, 10.0)[::-1, None], np.array([[7.9], [8.0], [8.1], [1.0]]))
    assert residuals.pooled
    assert residuals.quantile(0.8).tolist() == [8.0]
    assert residuals.coverage(0.8).tolist() == [0.75]


def test_features_share_a_quantile_where_cells_are_few(rng):
    few, many = (Residuals(rng.random((n, 2)) * [1, 10], rng.random((n, 2))) for n in (40, 60))
    assert np.ptp(few.quantile(0.9)) == 0
    assert np.ptp(many.quantile(0.9)) > 5


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
        pytest.param(0.95, "need 19 held-out values, and there are 10", id="few"),
        pytest.param(1.0, "`coverage=1.0` must be a number between 0 and 1", id="one"),
        pytest.param("0.9", "must be a number", id="text"),
    ],
)
def test_errors(coverage, message, rng):
    with pytest.raises(ValueError, match=message):
        Residuals(rng.random((10, 1)), rng.random((10, 1))).quantile(coverage)
