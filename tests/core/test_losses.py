import numpy as np
import torch

from psalm.core import losses


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
            value = losses.squared_error(y[[i]], f[[first]])
            one += float(matching[i, first]) * gradient(value, weights) / 4
            for second in range(4):
                f = torch.tanh(x @ weights)
                value = losses.two_draw_product(y[[i]], f[[first]], f[[second]])
                two += float(matching[i, first] * matching[i, second]) * gradient(value, weights) / 4
    return exact, two, one


def test_two_draws_have_the_gradient_of_the_projected_loss_and_one_draw_has_not():
    exact, two, one = expected_gradients()
    np.testing.assert_allclose(two, exact, rtol=1e-9)
    assert np.abs(one - exact).max() > 0.05 * np.abs(exact).max()


def test_values_by_hand():
    y, f, g = (torch.tensor([values]) for values in ([1.0, 2.0], [0.0, 2.0], [3.0, 0.0]))
    assert float(losses.squared_error(y, f)) == 0.5
    assert float(losses.two_draw_product(y, f, g)) == -1.0
