"""Training of torch networks in minibatches, shared by the linear, the perceptron and the convolutional classifier.

Numbers are float32 from the batch on. Imports torch: imported where it is used.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from psalm.core.classifier import OneTreatment
from psalm.core.device import one_torch_thread, or_cpu, require, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from psalm.core._types import FloatArray, IntArray, Matrix

LARGEST_CHUNK = 4096
CHUNK_ENTRIES = 2**22
"""Rows that are looked at together: numbers among their features or their treatments at most."""

SAMPLE = 20_000
"""Cells to learn correlations between features from."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, by AdamW.

    Parameters
    ----------
    learning_rate, weight_decay, batch_size
        Of AdamW.
    max_epochs
        Passes over the cells.
    patience
        Stop once the loss on held-out cells, a tenth of all, has not fallen for so many passes, and keep the best pass.
        None: no cell is held out, all passes are made, and the learning rate falls to zero on the way.
    device
        "auto" (CUDA where there is one, else CPU), or a torch device.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int | None
    device: str = "auto"


@dataclass(frozen=True)
class NetworkModel:
    """A trained network that answers as a scikit-learn classifier does, some rows at a time."""

    network: nn.Module
    classes_: IntArray
    device: str = "cpu"

    def predict_log_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, n_classes) log-probabilities, float64."""
        device = torch.device(or_cpu(self.device))
        self.network.to(device)
        found = np.empty((features.shape[0], len(self.classes_)))
        with torch.no_grad():
            for rows in chunks(features, len(self.classes_)):
                logits = self.network(_tensor(features[rows], device))
                found[rows] = torch.log_softmax(logits.cpu().double(), dim=1).numpy()
        self.network.cpu()
        return found

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, n_classes) probabilities, float64."""
        found = self.predict_log_proba(features)
        return np.asarray(np.exp(found, out=found))


class Standardise(nn.Module):
    """Subtract means and divide by scales; both are broadcast to one cell's features."""

    def __init__(self, mean: FloatArray, scale: FloatArray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs (n_cells, ...), standardised."""
        return (inputs - self.get_buffer("mean")) / self.get_buffer("scale")


def fit_network(
    build: Callable[[int], nn.Module],
    cells: tuple[Matrix, IntArray, FloatArray | None],
    schedule: Schedule,
    seed: int,
    penalty: Callable[[nn.Module], Tensor] | None = None,
) -> NetworkModel | OneTreatment:
    """Train a network on the treatments that there are.

    The loss is the weighted mean of the cross-entropy, plus the penalty.

    Parameters
    ----------
    build
        Makes a network with so many outputs; called once torch is seeded.
    cells
        Features (n_cells, ...), treatments (n_cells,) and, maybe, weights (n_cells,) of mean one.
    schedule
        How to train.
    seed
        Of the initial weights, the dropout and the order of the cells. The number of threads changes nothing.
    penalty
        What to add to the loss of every batch, from the network.
    """
    features, codes, weights = cells
    classes, targets = np.unique(codes, return_inverse=True)
    if len(classes) == 1:
        return OneTreatment(classes)
    device = _device(schedule.device)
    rng = np.random.default_rng(seed)
    with reproducible(seed, schedule.device):
        network = build(len(classes)).to(device)
        loss = _Loss(network, features, targets, np.ones(len(codes)) if weights is None else weights, penalty)
        if schedule.patience is None:
            _descend(loss, schedule, rng)
        else:
            _descend_and_stop(loss, schedule, schedule.patience, rng)
    return NetworkModel(network.eval().cpu(), classes, schedule.device)


@contextmanager
def reproducible(seed: int, device: str = "auto") -> Iterator[None]:
    """Seed torch inside and leave its own stream alone; one thread, as their number changes the last bits of a sum."""
    found = _device(device)
    with (
        one_torch_thread(),
        torch.random.fork_rng(devices=[found] if found.type == "cuda" else []),
        torch.backends.cudnn.flags(deterministic=True),
    ):
        torch.manual_seed(seed)
        yield


def moments(parts: Iterable[Matrix]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column, over parts of the rows; a constant column keeps scale one."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for part in parts:
        scaler.set_params(with_mean=not sparse.issparse(part)).partial_fit(part)
    return np.asarray(scaler.mean_), np.asarray(scaler.scale_)


def sample(features: Matrix, n_cells: int = SAMPLE) -> Tensor:
    """Some cells, evenly spaced (at most about ``n_cells``), float32."""
    return _tensor(features[:: max(1, features.shape[0] // n_cells)], torch.device("cpu"))


def chunks(features: Matrix, n_outputs: int = 1) -> Iterator[slice]:
    """All rows, in portions that fit :data:`CHUNK_ENTRIES`."""
    entries = max(int(np.prod(features.shape[1:])), n_outputs)
    size = min(LARGEST_CHUNK, max(1, CHUNK_ENTRIES // entries))
    for start in range(0, features.shape[0], size):
        yield slice(start, min(start + size, features.shape[0]))


def deal_held_out(targets: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Cells to train on, and a tenth of all to stop by; every treatment keeps a cell to train on.

    Where this leaves none to hold out, training stops by the cells it trains on.
    """
    order = rng.permutation(len(targets))
    _, first = np.unique(targets[order], return_index=True)
    n_held_out = min(max(1, len(order) // 10), len(order) - len(first))
    held_out = np.delete(order, first)[:n_held_out]
    training = np.setdiff1d(order, held_out)
    return training, held_out if n_held_out else training


@dataclass(frozen=True)
class _Loss:
    """The loss of some cells under the network as it is."""

    network: nn.Module
    features: Matrix
    targets: IntArray
    weights: FloatArray
    penalty: Callable[[nn.Module], Tensor] | None

    def __call__(self, cells: IntArray) -> Tensor:
        """Weighted cross-entropy of each cell (n,)."""
        device = next(self.network.parameters()).device
        logits = self.network(_tensor(self.features[cells], device))
        targets = torch.as_tensor(self.targets[cells], dtype=torch.long, device=device)
        weights = torch.as_tensor(self.weights[cells], dtype=torch.float32, device=device)
        return nn.functional.cross_entropy(logits, targets, reduction="none") * weights

    def penalised(self, cells: IntArray) -> Tensor:
        """Mean over the cells, plus the penalty."""
        mean = self(cells).mean()
        return mean if self.penalty is None else mean + self.penalty(self.network)

    def total(self, cells: IntArray, batch_size: int) -> float:
        """Sum over the cells, nothing left out by dropout."""
        self.network.eval()
        with torch.no_grad():
            return float(sum(self(batch).sum().item() for batch in _batches(cells, batch_size)))


def _optimizer(loss: _Loss, schedule: Schedule) -> torch.optim.Optimizer:
    return torch.optim.AdamW(loss.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)


def _step(loss: _Loss, optimizer: torch.optim.Optimizer, batch: IntArray) -> None:
    optimizer.zero_grad()
    loss.penalised(batch).backward()
    optimizer.step()


def _descend(loss: _Loss, schedule: Schedule, rng: np.random.Generator) -> None:
    """All epochs on all cells, with a learning rate that falls to zero."""
    optimizer, everything = _optimizer(loss, schedule), np.arange(len(loss.targets))
    n_steps = schedule.max_epochs * -(-len(everything) // schedule.batch_size)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    loss.network.train()
    for _ in range(schedule.max_epochs):
        for batch in _batches(rng.permutation(everything), schedule.batch_size):
            _step(loss, optimizer, batch)
            falling.step()


def _descend_and_stop(loss: _Loss, schedule: Schedule, patience: int, rng: np.random.Generator) -> None:
    """Epochs until the held-out loss falls no more; the weights of the best are kept."""
    training, held_out = deal_held_out(loss.targets, rng)
    network, optimizer = loss.network, _optimizer(loss, schedule)
    best, best_epoch, best_weights = np.inf, 0, copy.deepcopy(network.state_dict())
    for epoch in range(schedule.max_epochs):
        network.train()
        for batch in _batches(rng.permutation(training), schedule.batch_size):
            _step(loss, optimizer, batch)
        found = loss.total(held_out, schedule.batch_size)
        if found < best:
            best, best_epoch, best_weights = found, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_weights)


def _device(name: str) -> torch.device:
    require(name)
    return torch.device(resolved(name))


def _batches(cells: IntArray, size: int) -> list[IntArray]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def _tensor(rows: Matrix, device: torch.device) -> Tensor:
    """Some cells' features, float32 on the device; bytes travel as bytes."""
    dense = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
    if dense.dtype != np.uint8:
        dense = np.asarray(dense, dtype=np.float32)
    return torch.as_tensor(dense).to(device).float()
