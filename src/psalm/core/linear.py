"""Logistic regression in minibatches, for more logits than fit in memory. Imports torch: imported where it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from psalm.core.minibatch import NetworkModel, Schedule, Standardise, chunks, fit_network, moments, sample

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.classifier import OneTreatment

STEP = 1.0
"""How far the logits may move in a step, in nats: the learning rate is this over the root of the number of features."""

N_SIDES = 2
BATCH_SIZE = 4096
MIN_EPOCHS, MIN_STEPS = 3, 100
STEPS = 250
EPOCHS = 20
"""``STEPS`` steps or ``EPOCHS`` passes over the cells, whichever is less work, but no less than the two minima."""

MOST_FEATURES_TO_TURN = 2000
"""Beyond, correlations between features are left in: their matrix would be too large."""


def fit_linear(
    cells: tuple[Matrix, IntArray, FloatArray], ridge: float, device: str, seed: int, *, standardise: bool = True
) -> NetworkModel | OneTreatment:
    """Minimise ``mean_i(w_i cross-entropy_i) + ridge/2 ||W||²`` over linear classifiers of standardised features.

    The intercept is not penalised; of two treatments only the difference is, as in scikit-learn. Adam moves the
    coefficients of decorrelated features, so that correlated ones, such as genes, take no more steps than others.

    Parameters
    ----------
    cells
        Features (n_cells, n_features), treatments (n_cells,) and weights (n_cells,) of mean one.
    ridge
        1 / (C n_cells) for scikit-learn's C.
    device, seed
        As for :func:`psalm.core.minibatch.fit_network`.
    standardise
        Whether to; else features are taken as they are.
    """
    features, codes, _ = cells
    if len(np.unique(codes)) == N_SIDES:
        ridge *= 2  # the square of the difference is twice the sum of the squares
    schedule = Schedule(STEP / features.shape[1] ** 0.5, 0.0, BATCH_SIZE, n_epochs(len(codes)), None, device)
    model = fit_network(
        lambda n_outputs: LinearNetwork(features, n_outputs, ridge, standardise=standardise),
        cells,
        schedule,
        seed,
        penalty=lambda network: ridge / 2 * network.weight().square().sum(),
    )
    return replace(model, network=model.network.plain()) if isinstance(model, NetworkModel) else model


def n_epochs(n_cells: int) -> int:
    """How often every cell is seen."""
    steps_per_epoch = -(-n_cells // BATCH_SIZE)
    least = max(MIN_EPOCHS, -(-MIN_STEPS // steps_per_epoch))
    return max(least, min(EPOCHS, -(-STEPS // steps_per_epoch)))


class LinearNetwork(nn.Module):
    """A linear layer on standardised features; its weights are ``U turnᵀ``, U being what is trained, zero at first.

    Parameters
    ----------
    features
        (n_cells, n_features) that are to be standardised and, where they are not too many, decorrelated.
    n_outputs
        Number of outputs.
    ridge
        Of the loss; what varies less than the ridge forgives is not blown up.
    standardise
        Whether to standardise them.
    """

    def __init__(self, features: Matrix, n_outputs: int, ridge: float, *, standardise: bool) -> None:
        super().__init__()
        width = features.shape[1]
        as_it_is = np.zeros(width), np.ones(width)
        parts = (features[rows] for rows in chunks(features))
        self.standardise = Standardise(*(moments(parts) if standardise else as_it_is))
        turn = None
        if features.shape[1] <= MOST_FEATURES_TO_TURN:
            turn = _turn(self.standardise(sample(features)), n_outputs * ridge)
        self.register_buffer("turn", turn)
        self.turned = nn.Parameter(torch.zeros(n_outputs, features.shape[1]))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def weight(self) -> Tensor:
        """(n_outputs, n_features) coefficients of the standardised features."""
        return self.turned if self.turn is None else self.turned @ self.turn.T

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n_cells, n_outputs)."""
        return nn.functional.linear(self.standardise(inputs), self.weight(), self.bias)

    def plain(self) -> nn.Sequential:
        """The same without the turn."""
        layer = nn.Linear(self.turned.shape[1], self.turned.shape[0])
        with torch.no_grad():
            layer.weight.copy_(self.weight())
            layer.bias.copy_(self.bias)
        return nn.Sequential(self.standardise, layer)


def _turn(standardised: Tensor, floor: float) -> Tensor:
    """(n_features, n_features): along each principal axis, one over its standard deviation.

    Added to each variance is what makes the curvature of the loss alike along all axes: that of the cross-entropy is
    near the variance over the number of treatments, that of the ridge is the ridge.
    """
    values = standardised.double()
    variances, axes = torch.linalg.eigh(values.T @ values / len(values))
    return (axes / torch.sqrt(variances.clamp(min=0.0) + floor)).float()
