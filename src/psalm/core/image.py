"""A small convolutional network as classifier of treatment from images. Imports torch: imported where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy import sparse
from torch import nn

from psalm.core.classifier import FittedClassifier, log_shares, with_weight
from psalm.core.image_shape import N_MATRIX_AXES, image_shape
from psalm.core.minibatch import Schedule, Standardise, chunks, fit_network, moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray, Matrix

SMALLEST_GRID = 4
"""Convolutions halve height and width until both are at most this, so that the place within the image is kept."""

MOST_DOUBLINGS, N_CHANNELS = 2, 16


@dataclass(frozen=True)
class ImageClassifier:
    """Convolutions that halve the image to a grid of about 4 × 4, then a linear layer that sees the whole grid.

    Channels are standardised by the mean and standard deviation of the training images. Trained in minibatches with
    early stopping on held-out cells. Treatments are not balanced.

    Parameters
    ----------
    shape
        (channels, height, width) of images that are stored as rows of a matrix, channel after channel, row after row.
        Not needed for (n_cells, channels, height, width).
    n_channels, dropout
        Channels after the first convolution, doubled twice; share of the grid left out in training.
    learning_rate, weight_decay, batch_size
        Of AdamW.
    max_epochs, patience
        Passes over the cells; stop once the held-out loss has not fallen for ``patience`` of them.
    device
        "auto" (CUDA where there is one, else CPU), or a torch device.
    """

    shape: tuple[int, int, int] | None = None
    n_channels: int = N_CHANNELS
    dropout: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    batch_size: int = 64
    max_epochs: int = 30
    patience: int = 5
    device: str = "auto"

    def fit(
        self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0, weights: FloatArray | None = None
    ) -> FittedClassifier:
        """Fit on images (n_cells, channels, height, width) or rows of a matrix, dense or CSR, and (n_cells,)."""
        shape = image_shape(features.shape, self.shape)
        cells = with_weight(features, codes, weights)
        schedule = Schedule(
            self.learning_rate, self.weight_decay, self.batch_size, self.max_epochs, self.patience, self.device
        )
        model = fit_network(lambda n_outputs: self._network(cells[0], shape, n_outputs), cells, schedule, seed)
        return FittedClassifier(model, log_shares(cells[1], n_treatments, cells[2]))

    def _network(self, features: Matrix, shape: tuple[int, int, int], n_outputs: int) -> nn.Sequential:
        mean, scale = (value[:, None, None] for value in moments(_pixels(features, shape)))
        layers: list[nn.Module] = [nn.Unflatten(1, shape)] if features.ndim == N_MATRIX_AXES else []
        layers.append(Standardise(mean, scale))
        convolved, n_features = convolutions(shape, self.n_channels)
        layers += [*convolved, nn.Dropout(self.dropout), nn.Linear(n_features, n_outputs)]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def convolutions(shape: tuple[int, ...], n_channels: int = N_CHANNELS) -> tuple[list[nn.Module], int]:
    """Layers that halve images (channels, height, width) to a grid of about 4 × 4 and flatten it, and its size.

    Parameters
    ----------
    shape
        Of one image.
    n_channels
        Channels after the first convolution, doubled twice.
    """
    n_inputs, height, width = shape
    layers: list[nn.Module] = []
    n_layers = 0
    while max(height, width) > SMALLEST_GRID:
        strides = tuple(2 if size > SMALLEST_GRID else 1 for size in (height, width))
        height, width = (-(-size // stride) for size, stride in zip((height, width), strides, strict=True))
        n_outputs = n_channels * 2 ** min(n_layers, MOST_DOUBLINGS)
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, strides, padding=1), nn.GroupNorm(1, n_outputs), nn.GELU()]
        n_inputs, n_layers = n_outputs, n_layers + 1
    return [*layers, nn.Flatten()], n_inputs * height * width


def _pixels(features: Matrix, shape: tuple[int, int, int]) -> Iterator[FloatArray]:
    """All pixels (n_pixels, channels), some cells at a time."""
    for rows in chunks(features):
        part = features[rows].toarray() if sparse.issparse(features) else features[rows]
        yield part.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(-1, shape[0])
