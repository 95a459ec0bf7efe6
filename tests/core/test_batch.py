import numpy as np
import pytest

from psalm.core.batch import BatchShift, adjust, balancing_weights, predictability
from psalm.core.cross_fit import CrossFit
from psalm.core.logistic import LogisticClassifier


@pytest.fixture
def confounded(rng):
    """Treatment 1 is common in batch 1; treatments shift feature 0, batches shift feature 1."""
    batches = rng.integers(2, size=2000)
    codes = (rng.random(2000) < np.where(batches == 1, 0.8, 0.2)).astype(int)
    features = rng.normal(size=(2000, 3))
    features[:, 0] += codes
    features[:, 1] += 3.0 * batches
    return features, codes, batches


def test_shifts_are_found_beside_the_treatments(confounded):
    """Independent: the shifts that were put in. Plain means per batch would take part of the treatment's effect."""
    features, codes, batches = confounded
    shift = BatchShift.fit(features, codes, batches, 2).shift
    np.testing.assert_allclose(shift[1] - shift[0], [0, 3, 0], atol=0.15)
    naive = features[batches == 1].mean(axis=0) - features[batches == 0].mean(axis=0)
    assert naive[0] > 0.4
    np.testing.assert_allclose(shift[batches].mean(axis=0), 0, atol=1e-9)


def test_shifts_of_more_batches_than_two(rng):
    """Independent: least squares with a column for every treatment and batch. The last treatment has its own batch."""
    codes = rng.integers(3, size=900)
    batches = np.where(codes == 2, 3, rng.integers(3, size=900))
    features = rng.normal(size=(900, 2)) + codes[:, None] + np.array([0.0, 2.0, -1.0, 0.0])[batches, None]
    shift = BatchShift.fit(features, codes, batches, 4).shift
    columns = np.hstack([np.eye(3)[codes], np.eye(4)[batches]])
    expected = np.linalg.lstsq(columns, features, rcond=None)[0][3:]
    np.testing.assert_allclose(shift[1:3] - shift[0], expected[1:3] - expected[0], atol=1e-8)
    np.testing.assert_allclose(np.bincount(batches) @ shift, 0, atol=1e-8)


def test_under_the_weights_treatment_and_batch_are_independent(confounded):
    _, codes, batches = confounded
    weights = balancing_weights(codes, batches)
    table = np.array([[weights[(codes == t) & (batches == b)].sum() for b in (0, 1)] for t in (0, 1)]) / 2000
    np.testing.assert_allclose(table, np.outer(table.sum(axis=1), table.sum(axis=0)), atol=1e-12)
    assert weights.mean() == pytest.approx(1)


def test_weights_where_a_treatment_misses_a_batch():
    """By hand: p(t) p(batch) over p(t, batch), such as (1/3 · 1/2) / (1/3) for treatment 0."""
    codes, batches = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    raw = np.array([0.5, 0.5, 2.0, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(balancing_weights(codes, batches), raw / raw.mean())


def test_scores_are_free_of_batches(confounded):
    """Independent: within a treatment, the true log-odds do not depend on the batch."""
    features, codes, batches = confounded
    gaps = {}
    for name, given in (("as it is", None), ("adjusted", batches)):
        found = CrossFit(LogisticClassifier(C=1.0), n_repeats=1)(
            features, codes, 2, np.random.default_rng(0), batches=given
        ).log_odds[:, 1]
        gaps[name] = np.mean(
            [found[(codes == t) & (batches == 1)].mean() - found[(codes == t) & (batches == 0)].mean() for t in (0, 1)]
        )
    assert gaps["as it is"] > 0.8
    assert abs(gaps["adjusted"]) < 0.1


def test_without_shift_features_are_as_they_are(confounded):
    features, _, batches = confounded
    assert adjust(features, batches, None) is features


def test_predictability(rng):
    codes = np.repeat([0, 1, 2], [50, 50, 100])
    batches = np.repeat([0, 1, 1], [50, 50, 100])
    np.testing.assert_allclose(predictability(codes, batches, 3), [1.0, 2 / 3, 0.75])
    assert np.isnan(predictability(codes, batches, 4)[3])
    np.testing.assert_allclose(predictability(codes, np.zeros(200, int), 3), 0.5)
    even = predictability(rng.integers(3, size=5000), rng.integers(4, size=5000), 3)
    np.testing.assert_allclose(even, 0.5, atol=0.05)


def test_a_batch_whose_only_cell_is_held_out_has_no_shift(confounded):
    features, codes, batches = confounded
    batches = batches.copy()
    batches[0] = 2
    shift = BatchShift.fit(features[1:], codes[1:], batches[1:], 3).shift
    np.testing.assert_array_equal(shift[2], 0)
    found = CrossFit(LogisticClassifier(), n_repeats=1)(features, codes, 2, np.random.default_rng(0), batches=batches)
    assert np.isfinite(found.log_odds).all()
