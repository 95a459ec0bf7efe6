import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from psalm.core import diagnostics
from psalm.core.diagnostics import Histogram, Tally


def counted(p, codes):
    return Tally(p.shape[1]).add(np.log(p), codes)


def test_auc_by_hand():
    """Independent: fraction of ordered pairs, counted. Treatment 0: scores .9 .4 against .6 .1."""
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    np.testing.assert_allclose(counted(p, np.array([0, 0, 1, 1])).each.auc(), [0.75, 0.75])


def test_auc_in_bins_is_close_to_the_exact_one(rng):
    """Independent: scikit-learn's, on scores of every size."""
    codes = rng.integers(3, size=600)
    scores = rng.normal(size=(600, 3)) * 3 + 2 * np.eye(3)[codes]
    found = Tally(3).add(scores, codes)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.each.auc(), [roc_auc_score(codes == t, p[:, t]) for t in range(3)], atol=2e-3)


def test_counting_in_portions_is_counting_at_once(rng):
    codes, scores = rng.integers(-1, 3, size=200), rng.normal(size=(200, 3))
    whole, portions = Tally(3).add(scores, codes), Tally(3)
    for rows in np.array_split(np.arange(200), 7):
        portions.add(scores[rows], codes[rows])
    np.testing.assert_allclose(portions.overlap(), whole.overlap())
    np.testing.assert_allclose(portions.each.auc(), whole.each.auc())
    np.testing.assert_allclose(portions.mean_probabilities(), whole.mean_probabilities())
    assert whole.n_cells.sum() == (codes >= 0).sum()


def test_overlap_is_zero_when_certain_and_one_when_nothing_is_known():
    codes = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(Tally(2).add(100 * np.eye(2)[codes], codes).overlap(), 0, atol=1e-12)
    np.testing.assert_allclose(counted(np.tile([0.75, 0.25], (4, 1)), codes).overlap(), 1)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    curve = counted(p, np.array([0, 0, 0, 1])).top.curve(0, n_points=2)
    np.testing.assert_allclose(curve, [[0.6, 0.5, 2], [0.9, 1.0, 2]])
    assert diagnostics.calibration_error(curve) == pytest.approx(0.1)


def test_log_loss_by_hand():
    p = np.array([[0.5, 0.5], [0.25, 0.75]])
    found = counted(p, np.array([0, 1]))
    np.testing.assert_allclose(found.log_loss / found.n_cells, [-np.log(0.5), -np.log(0.75)])


def test_faultless_probabilities_err_as_much_as_chance_says(rng):
    """Independent: labels drawn with the probabilities themselves."""
    errors, expected = [], []
    for _ in range(50):
        p = rng.uniform(size=(300, 1))
        curve = Histogram(1)
        curve.add(p, np.log(p), np.nonzero(rng.random((300, 1)) < p))
        errors.append(diagnostics.calibration_error(curve.curve(0)))
        expected.append(diagnostics.chance_calibration_error(curve.curve(0)))
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)


def test_standard_error_of_the_auc(rng):
    """Independent: spread of the AUC over samples."""
    found = []
    for _ in range(300):
        scores = np.append(rng.normal(1, 1, 40), rng.normal(0, 1, 60))
        found.append(roc_auc_score(np.repeat([1, 0], [40, 60]), scores))
    said = diagnostics.auc_standard_error(np.array([np.mean(found)]), np.array([40]), np.array([60]))
    assert said[0] == pytest.approx(np.std(found), rel=0.2)


def test_standard_error_of_the_auc_by_hand():
    """Q1 is .75 / 1.25 = .6 and Q2 is 1.125 / 1.75 = 9/14, each multiplied by the other group's size less one."""
    said = diagnostics.auc_standard_error(np.array([0.75, 0.75]), np.array([1, 4]), np.array([3, 1]))
    none_more, three_more = 0.1875 + 2 * (9 / 14 - 0.5625), 0.1875 + 3 * (0.6 - 0.5625)
    np.testing.assert_allclose(said, np.sqrt([none_more / 3, three_more / 4]))
    assert diagnostics.auc_standard_error(np.array([1.0]), np.array([5]), np.array([5])).tolist() == [0.0]


def test_mean_probabilities_by_hand():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]])
    found = counted(p, np.array([0, 1, 0, 1])).mean_probabilities()
    np.testing.assert_allclose(found, [[0.7, 0.3], [0.3, 0.7]])
