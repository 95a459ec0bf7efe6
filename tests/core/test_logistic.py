import numpy as np
import pytest
from scipy import sparse
from sklearn.pipeline import Pipeline

from psalm.core.logistic import LogisticClassifier
from psalm.core.minibatch import NetworkModel


def gaussian_classes(rng, counts):
    codes = np.repeat(np.arange(len(counts)), counts)
    means = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]])[: len(counts)]
    features = means[codes] + rng.normal(size=(len(codes), 2))
    log_p = -0.5 * ((features[:, None] - means) ** 2).sum(axis=2) + np.log(np.array(counts) / sum(counts))
    return features, codes, log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_logistic_restores_observed_frequencies_whatever_the_balance(rng, balance):
    """Independent: Gaussian classes have linear log-odds in closed form, with the frequencies in the intercept."""
    features, codes, truth = gaussian_classes(rng, [12_000, 2_000, 500])
    fitted = LogisticClassifier(C=1e3, balance=balance).fit(features, codes, 3)
    found = fitted.log_likelihood(features) + fitted.log_prior
    found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
    assert np.abs(found - truth)[:, :2].mean() < 0.12


def test_a_treatment_that_training_lacks_gets_the_lowest_probability(rng):
    features, codes, _ = gaussian_classes(rng, [50, 50])
    found = LogisticClassifier().fit(features, codes, 3).log_likelihood(features)
    assert found.shape == (100, 3)
    assert (found[:, 2] < found[:, :2].min(axis=1)).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_minibatches_find_what_scikit_learn_finds(rng, as_matrix):
    """Independent: scikit-learn's solution of the same problem, with correlated features and uneven weights."""
    codes = rng.choice(6, size=6000, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    mixing = rng.normal(size=(10, 10)) * np.exp(-np.arange(10) / 3)
    features = as_matrix((rng.normal(size=(6, 10))[codes] + rng.normal(size=(6000, 10))) @ mixing.T + 3.0)
    weights = rng.exponential(size=4000)
    weights /= weights.mean()
    exact, minibatch = (
        LogisticClassifier(max_logits=bound, device="cpu").fit(features[:4000], codes[:4000], 6, 0, weights)
        for bound in (10**6, 0)
    )
    assert isinstance(exact.model, Pipeline)
    assert isinstance(minibatch.model, NetworkModel)

    def log_p(fitted):
        found = fitted.log_likelihood(features[4000:]) + fitted.log_prior
        return found - np.logaddexp.reduce(found, axis=1, keepdims=True)

    losses = [-log_p(fitted)[np.arange(2000), codes[4000:]].mean() for fitted in (exact, minibatch)]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert np.abs(log_p(minibatch) - log_p(exact)).mean() < 0.05


def test_features_beyond_the_bound_are_left_correlated(monkeypatch, rng):
    features, codes, _ = gaussian_classes(rng, [400, 400])
    monkeypatch.setattr("psalm.core.linear.MOST_FEATURES_TO_TURN", 1)
    exact, minibatch = (LogisticClassifier(max_logits=bound).fit(features, codes, 2) for bound in (10**6, 0))
    np.testing.assert_allclose(minibatch.log_likelihood(features), exact.log_likelihood(features), atol=0.1)


def test_the_bound_counts_cells_times_treatments(rng):
    features, codes, _ = gaussian_classes(rng, [30, 30])
    models = [LogisticClassifier(max_logits=bound).fit(features, codes, 2).model for bound in (120, 119)]
    assert [isinstance(model, NetworkModel) for model in models] == [False, True]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_weights_of_cells_have_mean_one(rng, balance):
    """Else the ridge would be stronger or weaker for treatments of unequal size."""
    codes = np.repeat([0, 1, 2], [150, 40, 10])
    own = rng.gamma(1.0, size=200)
    for given, weights in ((None, np.ones(200)), (own, own)):
        found = LogisticClassifier(balance=balance)._weights(codes, 3, given)
        assert found.sum() == pytest.approx(weights.sum())
        sums = np.bincount(codes, found)
        if balance == 1:
            np.testing.assert_allclose(sums, sums.mean())
