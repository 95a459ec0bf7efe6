import numpy as np
import pytest

from psalm.core.logistic import LogisticClassifier


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
