import numpy as np
import pytest

from psalm.core.held_out import Features, Space, distribution_scores, feature_scores, pair_scores, pooled


def test_space_has_mean_zero_and_scale_one_and_keeps_constants(rng):
    cells = np.column_stack([rng.normal(5, 3, size=200), np.full(200, 2.0)])
    found = Space.of(cells)(cells)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), [1, 0], atol=1e-12)


def test_pair_scores_by_hand():
    truth = np.array([[1.0, 0.0], [3.0, 4.0]])
    predicted = np.array([[1.0, 2.0], [1.0, 2.0]])
    scores, sums = pair_scores(predicted, truth, np.array([1.0, 3.0]))  # of more cells than those with a partner
    assert (sums.error, sums.total, sums.within) == (4 + 4 + 4, 26, 0 + 9 + 4 + 1)
    assert scores == {"r2": pytest.approx(1 - 12 / 26), "r2_within": pytest.approx(1 - 12 / 14), "pearson": 0}
    assert pooled([sums, sums]) == {"r2": scores["r2"], "r2_within": scores["r2_within"]}


def test_a_perfect_prediction_and_the_training_mean_are_the_ends_of_the_scale(rng):
    cells = rng.normal(size=(300, 6)) + 1.0
    space = Space(np.zeros(6), np.ones(6), np.eye(6))
    perfect = distribution_scores(cells, cells, space, rng)
    assert perfect["r2_mean"] == perfect["pearson_mean"] == pytest.approx(1)
    assert perfect["wasserstein"] == 0
    assert abs(distribution_scores(np.zeros((10, 6)), cells, space, rng)["r2_mean"]) < 1e-12


def test_feature_scores_are_correlations_over_all_treatments(rng):
    """Independent: numpy's correlation of the stacked cells."""
    blocks = [(rng.normal(size=(20, 3)) + k, rng.normal(size=(20, 3)) + k) for k in range(4)]
    found = feature_scores([Features.of(x, y, (x, y)) for x, y in blocks])
    x, y = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    expected = [np.corrcoef(x[:, j], y[:, j])[0, 1] for j in range(3)]
    np.testing.assert_allclose(found["pearson"], expected)
    np.testing.assert_allclose(found["r2"], 1 - ((x - y) ** 2).sum(axis=0) / (y**2).sum(axis=0))
    means = [np.array([part.mean(axis=0) for part in side]) for side in zip(*blocks, strict=True)]
    np.testing.assert_allclose(
        found["pearson_means"], [np.corrcoef(means[0][:, j], means[1][:, j])[0, 1] for j in range(3)]
    )


def test_without_pairs_there_are_no_scores_over_cells(rng):
    found = feature_scores([Features.of(rng.normal(size=(5, 2)), rng.normal(size=(6, 2)), None) for _ in range(3)])
    assert np.isnan(found["pearson"]).all()
    assert np.isnan(found["r2"]).all()
    assert np.isfinite(found["pearson_means"]).all()


def test_a_constant_prediction_has_no_correlation_and_numbers_far_from_zero_keep_theirs(rng):
    """Independent: the definition. As differences of sums of squares both were rounding."""
    y = rng.normal(size=(20, 2))
    constant = feature_scores([Features.of(np.full((20, 2), 0.1), y, (np.full((20, 2), 0.1), y))])
    np.testing.assert_allclose(constant["pearson"], 0, atol=1e-6)
    x = 1e-3 * y + 1e5
    np.testing.assert_allclose(feature_scores([Features.of(x, y, (x, y))])["pearson"], 1, rtol=1e-4)
