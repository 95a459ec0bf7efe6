import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from psalm.core.estimator import EstimatorClassifier


def test_an_estimator_is_cloned_never_fitted(rng):
    estimator = DummyClassifier(strategy="prior")
    features, codes = rng.normal(size=(40, 2)), np.repeat([0, 1], [30, 10])
    fitted = EstimatorClassifier(estimator).fit(features, codes, 2)
    np.testing.assert_allclose(np.exp(fitted.log_prior), [0.75, 0.25])
    np.testing.assert_allclose(fitted.log_likelihood(features), 0, atol=1e-9)  # the prior tells nothing
    assert not hasattr(estimator, "classes_")


def test_a_pipeline_is_fitted_as_scikit_learn_fits_it(rng):
    """Independent: the same pipeline by hand, with sample weights."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    features, codes = rng.normal(size=(60, 3)), np.arange(60) % 3
    weights = rng.uniform(0.5, 1.5, size=60)
    by_hand = clone(pipeline).fit(features, codes, logisticregression__sample_weight=weights).predict_proba(features)
    found = EstimatorClassifier(pipeline).fit(features, codes, 3, weights=weights).model.predict_proba(features)
    np.testing.assert_array_equal(found, by_hand)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_weights_reach_the_last_step(read_only, depth):
    """Independent: what a classifier without features predicts is the weighted share, in closed form."""
    estimator = DummyClassifier(strategy="prior")
    for _ in range(depth):
        estimator = make_pipeline(StandardScaler(), estimator)
    codes = np.tile([0, 1], 10)
    fitted = EstimatorClassifier(estimator).fit(read_only(20, 2), codes, 2, weights=np.where(codes == 0, 1.6, 0.4))
    np.testing.assert_allclose(fitted.model.predict_proba(read_only(1, 2)), [[0.8, 0.2]])
    np.testing.assert_allclose(np.exp(fitted.log_prior), [0.8, 0.2])


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(KNeighborsClassifier(), id="plain"),
        pytest.param(make_pipeline(StandardScaler(), KNeighborsClassifier()), id="pipeline"),
    ],
)
def test_who_takes_no_weights_is_refused_only_where_there_are_weights(read_only, estimator):
    features, codes = read_only(20, 2), np.tile([0, 1], 10)
    EstimatorClassifier(estimator).fit(features, codes, 2)
    with pytest.raises(TypeError, match="KNeighborsClassifier takes no `sample_weight`"):
        EstimatorClassifier(estimator).fit(features, codes, 2, weights=np.ones(20))


def test_the_seed_fills_a_random_state_of_none_within_a_pipeline(read_only):
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(5))
    features, codes = read_only(60, 3), np.arange(60) % 2
    first, second, other = (EstimatorClassifier(forest).fit(features, codes, 2, s).model for s in (0, 0, 1))
    np.testing.assert_array_equal(first.predict_proba(features), second.predict_proba(features))
    assert (first.predict_proba(features) != other.predict_proba(features)).any()


@pytest.fixture
def skorch_network():
    """A linear network; its data loader and its criterion are skorch's business."""
    skorch = pytest.importorskip("skorch")
    return skorch.NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=3,
        module__out_features=3,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=15,
        lr=0.3,
        train_split=None,
        verbose=0,
    )


@pytest.mark.parametrize("in_pipeline", [False, True], ids=["plain", "pipeline"])
def test_a_skorch_network_learns_from_float64_and_short_codes(rng, skorch_network, in_pipeline):
    estimator = make_pipeline(StandardScaler(), skorch_network) if in_pipeline else skorch_network
    codes = (np.arange(300) % 2).astype(np.int8)  # the third treatment is absent from training
    features = rng.normal(size=(300, 3)) + 3.0 * np.eye(3)[codes]
    state = torch.random.get_rng_state()
    first, second = (EstimatorClassifier(estimator).fit(features, codes, 3, 4) for _ in range(2))
    found = first.log_likelihood(features) + first.log_prior
    assert (found.argmax(axis=1) == codes).mean() > 0.9
    np.testing.assert_array_equal(found, second.log_likelihood(features) + second.log_prior)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_skorch_network_takes_no_weights(read_only, skorch_network):
    with pytest.raises(TypeError, match="NeuralNetClassifier takes no `sample_weight`"):
        EstimatorClassifier(skorch_network).fit(read_only(20, 3), np.arange(20) % 2, 3, weights=np.ones(20))
