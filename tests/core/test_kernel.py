import numpy as np
import pytest
from scipy import sparse

from psalm.core.kernel import KernelClassifier
from psalm.core.logistic import LogisticClassifier


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_learns_a_ring_that_no_linear_model_can(rng, as_matrix):
    codes = np.repeat([0, 1], 400)
    angle, radius = rng.uniform(0, 2 * np.pi, size=800), np.where(codes == 0, 1.0, 2.5) + 0.2 * rng.normal(size=800)
    features = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    training = np.arange(800) % 2 == 0
    fitted = KernelClassifier(C=1.0).fit(as_matrix(features[training]), codes[training], 2, seed=0)
    found = fitted.log_likelihood(as_matrix(features[~training])).argmax(axis=1)
    assert (found == codes[~training]).mean() > 0.95


def test_small_components_are_held_back_unless_scales_are_equal(rng):
    """Two components tell the treatment equally well; the second has a hundredth of the variance."""
    codes = np.repeat([0, 1], 500)
    features = (np.where(codes == 0, -1.0, 1.0)[:, None] + rng.normal(size=(1000, 2))) * [1.0, 0.1]
    probes = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.1]])

    def gains(*, equal_scales):
        fitted = KernelClassifier(equal_scales=equal_scales).fit(features, codes, 2, seed=0)
        odds = np.diff(fitted.log_likelihood(probes), axis=1)[:, 0]
        return odds[1] - odds[0], odds[2] - odds[0]

    large, small = gains(equal_scales=False)
    assert small < 0.3 * large
    large, small = gains(equal_scales=True)
    assert small == pytest.approx(large, rel=0.15)


def test_no_landmark_effect_where_features_do_not_vary_and_same_seed_same_model(rng):
    codes = np.repeat([0, 1], 50)
    constant = KernelClassifier().fit(np.ones((100, 3)), codes, 2).log_likelihood(np.ones((2, 3)))
    assert np.isfinite(constant).all()
    features = rng.normal(size=(100, 3))
    first, second = (KernelClassifier(n_landmarks=20).fit(features, codes, 2, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.log_likelihood(features), second.log_likelihood(features))


def test_treatments_without_cells_or_alone(rng):
    features = rng.normal(size=(60, 4))
    lonely = KernelClassifier().fit(features, np.zeros(60, int), 2).log_likelihood(features)
    assert (lonely[:, 0] > lonely[:, 1]).all()
    assert LogisticClassifier().fit(features, np.zeros(60, int), 2).log_likelihood(features).shape == (60, 2)


def test_minibatches_come_close_to_the_exact_fit(rng, monkeypatch):
    """Independent: scikit-learn's fit of the same basis; coordinates kept, and computed for each batch anew."""
    codes = rng.integers(4, size=3000)
    features = rng.normal(size=(3000, 5)) + np.eye(5)[codes]
    exact = KernelClassifier(n_landmarks=50).fit(features, codes, 4).log_likelihood(features)
    kept = KernelClassifier(n_landmarks=50, max_logits=0).fit(features, codes, 4).log_likelihood(features)
    monkeypatch.setattr("psalm.core.kernel.MOST_COORDINATES", 0)
    anew = KernelClassifier(n_landmarks=50, max_logits=0).fit(features, codes, 4).log_likelihood(features)
    np.testing.assert_allclose(anew, kept, atol=1e-3)
    exact, kept = (a - a.mean(axis=1, keepdims=True) for a in (exact, kept))
    assert np.sqrt(((exact - kept) ** 2).mean()) < 0.1 * exact.std()


@pytest.mark.parametrize(("max_logits", "in_batches"), [(119, True), (120, False)])
def test_the_bound_counts_cells_times_treatments(rng, monkeypatch, max_logits, in_batches):
    """Up to the bound coordinates of all cells are a matrix; beyond, they come in batches."""
    from psalm.core import kernel

    asked, ask = [], kernel._in_batches
    monkeypatch.setattr(kernel, "_in_batches", lambda *given: asked.append(1) or ask(*given))
    KernelClassifier(n_landmarks=10, max_logits=max_logits).fit(rng.normal(size=(40, 3)), np.arange(40) % 3, 3)
    assert bool(asked) == in_batches
