"""The network behind CrossModal. Imports torch, so it is imported where it is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Multilayer perceptron on standardised inputs that returns outputs in their own units.

    Layer norm rather than batch norm: the two draws of the "unbiased" loss share a batch and must stay independent.

    Parameters
    ----------
    n_inputs, n_outputs
        Features of source and target.
    n_hidden, n_layers, dropout
        Width and number of hidden layers; share of hidden units left out in training.
    """

    def __init__(self, n_inputs: int, n_outputs: int, n_hidden: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        for side, width in (("input", n_inputs), ("output", n_outputs)):
            self.register_buffer(f"{side}_mean", torch.zeros(width))
            self.register_buffer(f"{side}_scale", torch.ones(width))
        layers: list[nn.Module] = []
        for width in [n_inputs] + [n_hidden] * (n_layers - 1):
            layers += [nn.Linear(width, n_hidden), nn.LayerNorm(n_hidden), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(n_hidden, n_outputs))

    def standardise(self, inputs: Tensor, outputs: Tensor) -> None:
        """Take means and scales from training data; a constant feature keeps scale one."""
        for side, values in (("input", inputs), ("output", outputs)):
            scale = values.std(dim=0, correction=0)
            self.get_buffer(f"{side}_mean").copy_(values.mean(dim=0))
            self.get_buffer(f"{side}_scale").copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def scaled(self, outputs: Tensor) -> Tensor:
        """Outputs in standard units, in which the loss is computed."""
        return (outputs - self.get_buffer("output_mean")) / self.get_buffer("output_scale")

    def forward(self, inputs: Tensor) -> Tensor:
        """Standardised outputs (n_cells, n_outputs) for inputs (n_cells, n_inputs) in their own units."""
        result: Tensor = self.layers((inputs - self.get_buffer("input_mean")) / self.get_buffer("input_scale"))
        return result

    def predict(self, inputs: Tensor) -> Tensor:
        """Outputs in their own units."""
        return self(inputs) * self.get_buffer("output_scale") + self.get_buffer("output_mean")
