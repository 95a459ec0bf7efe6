import numpy as np
import pytest
import torch

from psalm.core import losses
from psalm.core.likelihoods import LIKELIHOODS


def setting():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, k, generator=generator, dtype=torch.float64) for k in (3, 2))
    matching = torch.rand(4, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    return x, y, matching / matching.sum(dim=1, keepdim=True), weights


def gradient(loss, weights):
    return torch.autograd.grad(loss, weights)[0].numpy()


def expected_gradients():
    """Exact expectation over all draws, by enumeration, and the gradient of the projected loss itself."""
    x, y, matching, weights = setting()
    exact = gradient(((y - matching @ torch.tanh(x @ weights)) ** 2).mean(), weights)
    two, one = np.zeros_like(exact), np.zeros_like(exact)
    for i in range(4):
        for first in range(4):
            f = torch.tanh(x @ weights)
            value = ((y[[i]] - f[[first]]) ** 2).mean()
            one += float(matching[i, first]) * gradient(value, weights) / 4
            for second in range(4):
                f = torch.tanh(x @ weights)
                value = losses.two_draw_product(y[[i]], f[[first]], f[[second]]).mean()
                two += float(matching[i, first] * matching[i, second]) * gradient(value, weights) / 4
    return exact, two, one


def test_two_draws_have_the_gradient_of_the_projected_loss_and_one_draw_has_not():
    exact, two, one = expected_gradients()
    np.testing.assert_allclose(two, exact, rtol=1e-9)
    assert np.abs(one - exact).max() > 0.05 * np.abs(exact).max()


def test_values_by_hand():
    y, f, g = (torch.tensor([values]) for values in ([1.0, 2.0], [0.0, 2.0], [3.0, 0.0]))
    assert losses.two_draw_product(y, f, g).tolist() == [[-2.0, 0.0]]


def test_spread_by_hand():
    """Counts of 6 in a cell of size 2 are 3 at size one; (3 − 1)² + 5 is 9, in units of a scale of 3 it is 1."""
    likelihood = LIKELIHOODS["poisson"](1)
    likelihood.fit(torch.tensor([1.0]), torch.tensor([3.0]))
    target, size, variance = torch.tensor([[6.0]]), torch.tensor([[2.0]]), torch.tensor([[5.0]])
    output, log_variance = torch.zeros(1, 1, requires_grad=True), torch.tensor([[np.log(2.0)]], requires_grad=True)
    for around, expected in ((variance, 1.0), (variance[:, :0], 4 / 9)):
        batch = losses.Batch((), target, size, around, torch.zeros(0))
        loss = losses.spread_loss(likelihood, batch, output, log_variance)
        assert loss.item() == pytest.approx((np.log(2) + expected / 2) / 2, rel=1e-6)
    (slope,) = torch.autograd.grad(loss.sum(), output, allow_unused=True)
    assert slope is None  # only the variance is learned here


def test_the_mean_gradient_over_many_draws_is_that_of_the_projected_loss():
    """With the sampler that training uses: "unbiased" is within four standard errors, "mse" far outside."""
    from scipy import sparse

    from psalm.core.coupling import Block, Coupling
    from psalm.core.plan import SparsePlan

    x, y, matching, weights = setting()
    plan = SparsePlan(sparse.csr_matrix(matching.numpy() / 4))
    cells = np.arange(4)
    sampler = Coupling(4, 4, (Block(0, cells, cells, plan),)).transpose.sampler()
    exact = gradient(((y - matching @ torch.tanh(x @ weights)) ** 2).sum(), weights)
    rng, found = np.random.default_rng(0), {"unbiased": [], "mse": []}
    for _ in range(4000):
        drawn = sampler.draw(cells, 2, rng)
        f = torch.tanh(x @ weights)
        two = losses.two_draw_product(y, f[drawn[:, 0]], f[drawn[:, 1]]).sum()
        found["unbiased"].append(gradient(two, weights))
        found["mse"].append(gradient(((y - torch.tanh(x @ weights)[drawn[:, 0]]) ** 2).sum(), weights))
    off = {}
    for name, values in found.items():
        error = np.std(values, axis=0) / np.sqrt(len(values))
        off[name] = np.abs(np.mean(values, axis=0) - exact) / error
    assert off["unbiased"].max() < 4
    assert off["mse"].max() > 10
