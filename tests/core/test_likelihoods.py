import numpy as np
import pytest
import torch
from scipy import stats

from psalm.core.likelihoods import LIKELIHOODS, counts, suited

MEAN, SCALE = torch.tensor([0.5, 0.2]), torch.tensor([2.0, 0.5])


def fitted(name):
    likelihood = LIKELIHOODS[name](2)
    likelihood.fit(MEAN, SCALE)
    return likelihood


def sample():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(6, 2, generator=generator)
    size = torch.rand(6, 1, generator=generator) + 0.5
    target = torch.poisson(torch.full((6, 2), 1.5), generator=generator)
    return output, target, size


def test_poisson_is_scipys_up_to_a_constant():
    """Independent: scipy's log-probabilities."""
    likelihood, (output, target, size) = fitted("poisson"), sample()
    mean = (size * MEAN * output.exp()).numpy()
    expected = -stats.poisson.logpmf(target.numpy(), mean)
    constant = torch.lgamma(target + 1) - target * size.log()
    np.testing.assert_allclose(likelihood.loss(output, target, size) + constant, expected, rtol=1e-4, atol=1e-5)


def test_negative_binomial_is_scipys():
    likelihood, (output, target, size) = fitted("nb"), sample()
    with torch.no_grad():
        likelihood.log_dispersion.copy_(torch.tensor([0.3, -1.0]))
    theta = likelihood.log_dispersion.detach().exp().numpy()
    mean = (size * MEAN * output.exp()).numpy()
    expected = -stats.nbinom.logpmf(target.numpy(), theta, theta / (theta + mean))
    found = likelihood.loss(output, target, size).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bernoulli_is_scipys():
    likelihood, (output, target, size) = fitted("bernoulli"), sample()
    target = (target > 1).float()
    probability = likelihood.expected(output).numpy()
    expected = -stats.bernoulli.logpmf(target.numpy(), probability)
    np.testing.assert_allclose(likelihood.loss(output, target, size), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_output_and_mean_are_inverse_and_zero_is_the_features_mean(name):
    likelihood = fitted(name)
    mean = torch.tensor([[0.3, 0.7], [0.01, 0.5]])
    torch.testing.assert_close(likelihood.expected(likelihood.output_of(mean)), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(likelihood.expected(torch.zeros(1, 2))[0], MEAN, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, kind in LIKELIHOODS.items() if kind.linear])
def test_the_mean_loss_over_matches_is_the_loss_of_their_average_up_to_a_constant(name):
    """What "barycentric" rests on: the gradient in the output is the same."""
    likelihood, (_, target, size) = fitted(name), sample()
    if name == "bernoulli":
        target = (target > 1).float()
    given = torch.zeros(1, 2, requires_grad=True)
    of_each = likelihood.loss(given.expand(6, 2), target, size).mean(dim=0).sum()
    of_average = likelihood.loss(given, target.mean(dim=0, keepdim=True), size.mean(dim=0, keepdim=True)).sum()
    first, second = (torch.autograd.grad(loss, given)[0] for loss in (of_each, of_average))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_extreme_outputs_stay_finite():
    for name in LIKELIHOODS:
        likelihood = fitted(name)
        for value in (-1e4, 1e4):
            output = torch.full((1, 2), value, requires_grad=True)
            loss = likelihood.loss(output, torch.tensor([[0.0, 1.0]]), torch.ones(1, 1))
            assert torch.isfinite(loss).all()
            loss.sum().backward()
            assert torch.isfinite(output.grad).all()


def test_constant_features_keep_scale_one():
    likelihood = LIKELIHOODS["gaussian"](2)
    likelihood.fit(MEAN, torch.tensor([0.0, 0.5]))
    assert likelihood.get_buffer("scale").tolist() == [1.0, 0.5]


def test_suited(rng):
    rate = rng.gamma(2.0, size=(300, 1)) * rng.gamma(1.0, size=20)
    assert suited(rng.normal(size=(50, 4))) == "gaussian"
    assert suited(rng.integers(0, 2, size=(50, 4)).astype(float)) == "bernoulli"
    assert suited(rng.poisson(5 * rate).astype(float)) == "poisson"  # what varies is the cells' size
    assert suited(rng.poisson(5 * rate * rng.gamma(1.0, size=(300, 20))).astype(float)) == "nb"
    assert suited(np.zeros((5, 3))) == "gaussian"
    assert not counts(np.array([[1.5, 2.0]]))
    assert not counts(np.array([[-1.0, 2.0]]))


def test_cells_of_unlike_size_do_not_look_overdispersed(rng):
    """A Poisson count over its size s has the variance ``mean / s``, above the mean where some cells are small."""
    size = rng.choice([0.2, 1.0, 1.0], size=(3000, 1))
    rate = size * rng.uniform(0.5, 1.5, size=200)
    assert suited(rng.poisson(rate).astype(float)) == "poisson"
    assert suited(rng.poisson(rate * rng.gamma(5.0, 1 / 5.0, size=rate.shape)).astype(float)) == "nb"
    empty = np.vstack([rng.poisson(rate), np.zeros((50, 200))]).astype(float)
    assert suited(empty) == "poisson"
