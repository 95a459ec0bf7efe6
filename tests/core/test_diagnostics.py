import numpy as np
import pytest

from psalm.core import diagnostics


def test_auc_by_hand():
    """Independent: fraction of ordered pairs, counted. Treatment 0: scores .9 .4 against .6 .1."""
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    np.testing.assert_allclose(diagnostics.one_vs_rest_auc(p, np.array([0, 0, 1, 1])), [0.75, 0.75])


def test_overlap_is_zero_when_certain_and_one_when_nothing_is_known():
    codes = np.array([0, 0, 0, 1])
    certain = np.eye(2)[codes]
    np.testing.assert_allclose(diagnostics.overlap(certain, codes), 0)
    np.testing.assert_allclose(diagnostics.overlap(np.tile([0.75, 0.25], (4, 1)), codes), 1)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    curve = diagnostics.reliability(p, np.array([0, 0, 0, 1]), n_bins=2)
    np.testing.assert_allclose(curve, [[0.6, 0.5, 2], [0.9, 1.0, 2]])
    assert diagnostics.calibration_error(curve) == pytest.approx(0.1)
