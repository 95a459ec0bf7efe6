import numpy as np
import pytest
import torch
from scipy import sparse

from psalm.core.mlp import PerceptronClassifier


@pytest.fixture
def rings(rng):
    """Two treatments on circles of different radius: no linear classifier tells them."""
    codes = np.repeat([0, 1], 400)
    angle = rng.uniform(0, 2 * np.pi, size=800)
    radius = np.where(codes == 0, 1.0, 2.5) + 0.2 * rng.normal(size=800)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(800, 7.0)]), codes


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_learns_what_no_linear_model_can(rings, as_matrix):
    features, codes = rings
    order = np.random.default_rng(1).permutation(800)
    training, new = order[:600], order[600:]
    fitted = PerceptronClassifier(device="cpu").fit(as_matrix(features[training]), codes[training], 2, seed=0)
    log_p = fitted.log_likelihood(as_matrix(features[new])) + fitted.log_prior
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    assert (log_p.argmax(axis=1) == codes[new]).mean() > 0.95


def test_same_seed_same_model_and_the_global_stream_is_left_alone(rings):
    features, codes = rings
    state = torch.random.get_rng_state()
    first, second, other = (
        PerceptronClassifier(max_epochs=2, device="cpu").fit(features, codes, 2, seed).log_likelihood(features)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert torch.equal(torch.random.get_rng_state(), state)
