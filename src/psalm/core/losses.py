"""Losses that train a predictor f of the target's features y from the source's features x through a coupling G.

With M the coupling normalised over source cells for each target cell i, and ŷ_j the matched average of source cell j:

- "mse": ``E ‖y_i − f(x_j)‖²`` with (i, j) drawn from the coupling, one draw of j ~ M_i per step;
- "unbiased": ``Σ_i ‖y_i − Σ_j M_ij f(x_j)‖²``, the paper's projected loss, estimated from two independent draws
  as ``(y_i − f(x_j')) · (y_i − f(x_j''))``; a single step's value may be negative;
- "barycentric": ``‖ŷ_j − f(x_j)‖²``, the noise-free form of "mse": where all cells of a treatment carry the
  same mass, as in optimal transport, both have the same minimiser.

Source: Xi, Osea, Xu and Hartford, NeurIPS 2024 ("mse", "unbiased").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = ("barycentric", "mse", "unbiased")


def squared_error(target: Tensor, predicted: Tensor) -> Tensor:
    """``mean ‖y − f‖² / k`` over (n_cells, k): the loss of "mse" and, with matched averages as y, "barycentric"."""
    return ((target - predicted) ** 2).mean()


def two_draw_product(target: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``mean (y − f(x')) · (y − f(x'')) / k``: unbiased for the projected loss when x' and x'' are independent draws.

    Its gradient in the parameters of f is unbiased for the gradient of ``(y − E f)²`` as well, since both factors are
    differentiated and have the same distribution.
    """
    return ((target - first) * (target - second)).mean()
