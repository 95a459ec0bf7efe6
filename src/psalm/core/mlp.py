"""A multilayer perceptron as classifier of treatment, on CPU or GPU. Imports torch: imported where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from psalm.core.classifier import FittedClassifier, log_shares, with_weight
from psalm.core.minibatch import Schedule, Standardise, chunks, fit_network, moments

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class PerceptronClassifier:
    """One hidden layer on standardised features, trained in minibatches with early stopping on held-out cells.

    Sparse features stay sparse but for the batch at hand. Treatments are not balanced.

    Parameters
    ----------
    n_hidden, dropout
        Width of the hidden layer; share of its units left out in training.
    learning_rate, weight_decay, batch_size
        Of AdamW.
    max_epochs, patience
        Passes over the cells; stop once the held-out loss has not fallen for ``patience`` of them.
    device
        "auto" (CUDA where there is one, else CPU), or a torch device.
    """

    n_hidden: int = 128
    dropout: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    max_epochs: int = 100
    patience: int = 8
    device: str = "auto"

    def fit(
        self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0, weights: FloatArray | None = None
    ) -> FittedClassifier:
        """Fit on (n_cells, n_features), (n_cells,) and, maybe, weights (n_cells,)."""
        cells = with_weight(features, codes, weights)
        schedule = Schedule(
            self.learning_rate, self.weight_decay, self.batch_size, self.max_epochs, self.patience, self.device
        )
        model = fit_network(lambda n_outputs: self._network(cells[0], n_outputs), cells, schedule, seed)
        return FittedClassifier(model, log_shares(cells[1], n_treatments, cells[2]))

    def _network(self, features: Matrix, n_outputs: int) -> nn.Sequential:
        return nn.Sequential(
            Standardise(*moments(features[rows] for rows in chunks(features))),
            nn.Linear(features.shape[1], self.n_hidden),
            nn.LayerNorm(self.n_hidden),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.n_hidden, n_outputs),
        )
