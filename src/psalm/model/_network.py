"""The network behind CrossModal. Imports torch, so it is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from psalm.core.image import convolutions
from psalm.core.likelihoods import LIKELIHOODS
from psalm.core.minibatch import moments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psalm.core._types import FloatArray

N_IMAGE_AXES = 3
PER_CELL = 1e4
"""Counts given as inputs are scaled to so many per cell before their logarithm."""
SMALLEST_SPREAD, LARGEST_SPREAD = 1e-3, 1e3
"""Bounds of a feature's predicted standard deviation, in units of its standard deviation over all cells."""


class Network(nn.Module):
    """A multilayer perceptron, or convolutions before one, on standardised inputs.

    Layer norm rather than batch norm: the two draws of the "unbiased" loss share a batch and must stay independent.

    Parameters
    ----------
    shape
        Of one cell's inputs: (n_features,), or (channels, height, width) of an image.
    n_outputs
        Features of the target.
    n_hidden, n_layers, dropout
        Width and number of hidden layers; share of hidden units left out in training.
    likelihood
        Name of the likelihood, which owns the units of the outputs.
    log_counts
        Inputs are counts: they are scaled to 10,000 per cell and log1p is taken first.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_outputs: int,
        *,
        n_hidden: int,
        n_layers: int,
        dropout: float,
        likelihood: str,
        log_counts: bool,
    ) -> None:
        super().__init__()
        self.log_counts = log_counts
        standardised = shape if len(shape) < N_IMAGE_AXES else (shape[0], 1, 1)
        self.register_buffer("input_mean", torch.zeros(standardised))
        self.register_buffer("input_scale", torch.ones(standardised))
        layers: list[nn.Module] = []
        width = shape[0]
        if len(shape) == N_IMAGE_AXES:
            layers, width = convolutions(shape)
        for wide in [width] + [n_hidden] * (n_layers - 1):
            layers += [nn.Linear(wide, n_hidden), nn.LayerNorm(n_hidden), nn.GELU(), nn.Dropout(dropout)]
        self.encoder = nn.Sequential(*layers)
        self.location = nn.Linear(n_hidden, n_outputs)
        self.log_spread = nn.Linear(n_hidden, n_outputs)
        nn.init.zeros_(self.log_spread.weight)
        nn.init.zeros_(self.log_spread.bias)
        self.likelihood = LIKELIHOODS[likelihood](n_outputs)

    def prepared(self, inputs: Tensor) -> Tensor:
        """Inputs as they are, or the logarithm of counts."""
        if not self.log_counts:
            return inputs
        total = inputs.sum(dim=1, keepdim=True).clamp(min=1.0)
        return torch.log1p(inputs * (PER_CELL / total))

    def standardise(self, chunks: Iterable[Tensor]) -> None:
        """Take mean and scale of the inputs from all cells, some at a time; a constant feature keeps scale one."""
        found = moments(self._columns(chunk) for chunk in chunks)
        for name, values in zip(("input_mean", "input_scale"), found, strict=True):
            buffer = self.get_buffer(name)
            buffer.copy_(torch.from_numpy(values).reshape(buffer.shape))

    def _columns(self, chunk: Tensor) -> FloatArray:
        """What is standardised alike in one column each: features, or the channels of all pixels."""
        values = self.prepared(chunk).double()
        if values.ndim > N_IMAGE_AXES:
            values = values.movedim(1, -1).reshape(-1, values.shape[1])
        return np.asarray(values.numpy())

    def hidden(self, inputs: Tensor) -> Tensor:
        """Last hidden layer (n_cells, n_hidden)."""
        standard = (self.prepared(inputs) - self.get_buffer("input_mean")) / self.get_buffer("input_scale")
        found: Tensor = self.encoder(standard)
        return found

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs, and logarithms of the variance of what they leave open, both (n_cells, n_outputs).

        The second head sees the hidden layer but does not train it.
        """
        hidden = self.hidden(inputs)
        return self.location(hidden), self.log_spread(hidden.detach())

    def expected(self, output: Tensor) -> Tensor:
        """Mean of the target's features in their units, at size one."""
        found: Tensor = self.likelihood.expected(output)
        return found

    def spread(self, log_variance: Tensor) -> Tensor:
        """Standard deviation of the target's features around their mean, in their units."""
        relative = (log_variance / 2).exp().clamp(SMALLEST_SPREAD, LARGEST_SPREAD)
        return relative * self.likelihood.get_buffer("scale")
