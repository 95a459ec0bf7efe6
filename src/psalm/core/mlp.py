"""A multilayer perceptron as classifier of treatment, on CPU or GPU. Imports torch: imported where it is used."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from psalm.core.classifier import FittedClassifier, log_shares

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class PerceptronClassifier:
    """One hidden layer on standardised features, trained in minibatches with early stopping on held-out cells.

    Sparse features stay sparse but for the batch at hand. Every cell weighs the same.

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

    def fit(self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0) -> FittedClassifier:
        """Fit on (n_cells, n_features) and (n_cells,)."""
        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        )
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng():  # initial weights and dropout draw from torch's own stream
            torch.manual_seed(seed)
            network = self._network(features, n_treatments).to(device)
            self._train(network, features, codes, rng)
        return FittedClassifier(NetworkModel(network.cpu(), n_treatments), log_shares(codes, n_treatments))

    def _network(self, features: Matrix, n_treatments: int) -> nn.Sequential:
        mean, scale = _moments(features)
        width = features.shape[1]
        return nn.Sequential(
            Standardise(torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(scale, dtype=torch.float32)),
            nn.Linear(width, self.n_hidden),
            nn.LayerNorm(self.n_hidden),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.n_hidden, n_treatments),
        )

    def _train(self, network: nn.Sequential, features: Matrix, codes: IntArray, rng: np.random.Generator) -> None:
        """Train in place and keep the weights of the best epoch."""
        order = rng.permutation(len(codes))
        held_out, training = np.split(order, [max(1, len(order) // 10)])
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        best, best_epoch, best_weights = np.inf, 0, copy.deepcopy(network.state_dict())
        for epoch in range(self.max_epochs):
            network.train()
            for batch in _batches(rng.permutation(training), self.batch_size):
                optimizer.zero_grad()
                _loss(network, features, codes, batch).backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                losses = [_loss(network, features, codes, b).item() * len(b) for b in _batches(held_out, 4096)]
            if sum(losses) < best:
                best, best_epoch, best_weights = sum(losses), epoch, copy.deepcopy(network.state_dict())
            if epoch - best_epoch >= self.patience:
                break
        network.load_state_dict(best_weights)
        network.eval()


class Standardise(nn.Module):
    """Subtract means and divide by scales."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n_cells, n_features), standardised."""
        return (inputs - self.get_buffer("mean")) / self.get_buffer("scale")


@dataclass(frozen=True)
class NetworkModel:
    """A trained network that answers as a scikit-learn classifier does."""

    network: nn.Sequential
    n_treatments: int

    @property
    def classes_(self) -> IntArray:
        """All treatments."""
        return np.arange(self.n_treatments)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, n_treatments) probabilities."""
        with torch.no_grad():
            parts = [
                torch.softmax(self.network(_tensor(features, batch, torch.device("cpu"))).double(), dim=1).numpy()
                for batch in _batches(np.arange(features.shape[0]), 4096)
            ]
        return np.concatenate(parts)


def _moments(features: Matrix) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature; a constant feature keeps scale one."""
    mean = np.asarray(features.mean(axis=0)).ravel()
    if sparse.issparse(features):
        square = np.asarray(features.multiply(features).mean(axis=0)).ravel()
    else:
        square = (np.asarray(features) ** 2).mean(axis=0)
    scale = np.sqrt(np.maximum(square - mean**2, 0.0))
    return mean, np.where(scale > 0, scale, 1.0)


def _batches(cells: IntArray, size: int) -> list[IntArray]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def _tensor(features: Matrix, cells: IntArray, device: torch.device) -> Tensor:
    rows = features[cells]
    dense = rows.toarray() if sparse.issparse(rows) else rows
    return torch.as_tensor(np.asarray(dense, dtype=np.float32), device=device)


def _loss(network: nn.Sequential, features: Matrix, codes: IntArray, cells: IntArray) -> Tensor:
    device = next(network.parameters()).device
    labels = torch.as_tensor(codes[cells], dtype=torch.long, device=device)
    return nn.functional.cross_entropy(network(_tensor(features, cells, device)), labels)
