import numpy as np
from sklearn.dummy import DummyClassifier

from psalm.core.estimator import EstimatorClassifier


def test_an_estimator_is_cloned_never_fitted(rng):
    estimator = DummyClassifier(strategy="prior")
    features, codes = rng.normal(size=(40, 2)), np.repeat([0, 1], [30, 10])
    fitted = EstimatorClassifier(estimator).fit(features, codes, 2)
    np.testing.assert_allclose(np.exp(fitted.log_prior), [0.75, 0.25])
    np.testing.assert_allclose(fitted.log_likelihood(features), 0, atol=1e-9)  # the prior tells nothing
    assert not hasattr(estimator, "classes_")
