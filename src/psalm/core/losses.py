"""Losses that train a predictor f of the target's features y from the source's features x through a coupling G.

With M the coupling normalised over source cells for each target cell i, and ŷ_j the matched average of source cell j:

- "mse": ``E ‖y_i − f(x_j)‖²`` with (i, j) drawn from the coupling, one draw of j ~ M_i per step;
- "unbiased": ``Σ_i ‖y_i − Σ_j M_ij f(x_j)‖²``, the paper's projected loss, estimated from two independent draws
  as ``(y_i − f(x_j')) · (y_i − f(x_j''))``; a single step's value may be negative;
- "barycentric": ``‖ŷ_j − f(x_j)‖²``, the noise-free form of "mse": where all cells of a treatment carry the
  same mass, as in optimal transport, both have the same minimiser.

Squares are those of standardised features. For another likelihood than the Gaussian, "mse" and "barycentric" take its
loss (``psalm.core.likelihoods``) in place of the square; "unbiased" is a statement about squares only.

Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 ("mse", "unbiased").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from psalm.core.likelihoods import Gaussian, Likelihood

LOSSES = ("barycentric", "mse", "unbiased")
N_DRAWS = {"barycentric": 0, "mse": 1, "unbiased": 2}
"""Partners that a step needs for each target cell."""


class Batch(NamedTuple):
    """Some cells of a training step.

    Parameters
    ----------
    inputs
        Source cells of each draw, (n_cells, ...).
    target
        (n_cells, n_features) features of target cells, or matched averages.
    size
        (n_cells, 1) size factors, or (1, 1) where they are one.
    variance
        (n_cells, n_features) variance around matched averages at size one; (n_cells, 0) for drawn cells.
    treatment
        (n_cells,) row of the treatment in a table of means; (0,) in training.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    size: Tensor
    variance: Tensor
    treatment: Tensor


def location_loss(likelihood: Likelihood, batch: Batch, outputs: Sequence[Tensor]) -> Tensor:
    """(n_cells, n_features) loss of the outputs of one draw, or of two."""
    if len(outputs) == 1:
        return likelihood.loss(outputs[0], batch.target, batch.size)
    gaussian: Gaussian = likelihood  # the only one that two draws are allowed for
    return two_draw_product(gaussian.standardised(batch.target), *outputs)


def two_draw_product(target: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``(y − f(x')) · (y − f(x''))``: unbiased for the projected loss when x' and x'' are independent draws.

    Its gradient in the parameters of f is unbiased for the gradient of ``(y − E f)²`` as well, since both factors are
    differentiated and have the same distribution.
    """
    return (target - first) * (target - second)


def spread_loss(likelihood: Likelihood, batch: Batch, output: Tensor, log_variance: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of what the mean leaves open, (n_cells, n_features), in standard units.

    The residual, of which only the variance is learned, holds the noise of the features and that of the match: around
    matched averages it is the residual of the average plus the variance of the matches.
    """
    residual = (batch.target / batch.size - likelihood.expected(output.detach())) ** 2
    if batch.variance.shape[1]:
        residual = residual + batch.variance
    relative = residual / likelihood.get_buffer("scale") ** 2
    return (log_variance + relative * (-log_variance).exp()) / 2
