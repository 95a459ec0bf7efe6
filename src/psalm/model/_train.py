"""Training of CrossModal through a coupling, with early stopping on held-out cells."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from psalm._progress import bar
from psalm.core.losses import squared_error, two_draw_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.model._network import Perceptron

EPOCHS_PER_DRAWING = 16
Batch = tuple[Tensor, ...]  # targets, inputs of the first draw, inputs of the second draw


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; fields as :meth:`psalm.model.CrossModal.train` describes them."""

    loss: str
    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    validation_size: float
    patience: int


@dataclass
class Pairs:
    """Training pairs of one loss: fixed for "barycentric", drawn anew each epoch for "mse" and "unbiased"."""

    loss: str
    inputs: FloatArray  # (n_source, n_inputs)
    targets: FloatArray  # (n_items, n_outputs), matched averages or target cells
    items: IntArray  # positions of the matched cells among inputs or targets
    coupling: Coupling
    rng: np.random.Generator
    _draws: list[IntArray] = field(default_factory=list)

    @classmethod
    def of(
        cls, loss: str, inputs: FloatArray, targets: FloatArray, coupling: Coupling, rng: np.random.Generator
    ) -> Pairs:
        """Pairs for a loss from features of source (n_source, p) and target (n_target, q)."""
        if loss == "barycentric":
            averages = coupling.pull(targets)
            return cls(loss, inputs, averages, np.flatnonzero(~np.isnan(averages[:, 0])), coupling, rng)
        items = np.flatnonzero(coupling.sample(1, rng)[:, 0] >= 0)
        return cls(loss, inputs, targets, items, coupling, rng)

    @property
    def n_draws(self) -> int:
        """Partners that one step needs for each target cell."""
        return {"barycentric": 0, "mse": 1, "unbiased": 2}[self.loss]

    def partners(self) -> IntArray:
        """(n_items, max(1, n_draws)) source cell of every item, for one epoch."""
        if self.n_draws == 0:
            return np.arange(len(self.targets))[:, None]
        if not self._draws:
            drawn = self.coupling.sample(self.n_draws * EPOCHS_PER_DRAWING, self.rng)
            self._draws = np.split(drawn, EPOCHS_PER_DRAWING, axis=1)
        return self._draws.pop()

    def batches(self, items: IntArray, partners: IntArray, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """Targets and inputs of some items, on the device."""
        for start in range(0, len(items), batch_size):
            batch = items[start : start + batch_size]
            values = [self.targets[batch], *(self.inputs[column] for column in partners[batch].T)]
            yield tuple(torch.as_tensor(value, dtype=torch.float32, device=device) for value in values)


def fit(
    network: Perceptron,
    pairs: Pairs,
    schedule: Schedule,
    device: torch.device,
    *,
    progress: bool,
) -> dict[str, list[float]]:
    """Train in place; the weights of the best epoch are kept. Returns the losses by epoch."""
    order = pairs.rng.permutation(pairs.items)
    n_held_out = max(1, round(schedule.validation_size * len(order)))
    held_out, training = order[:n_held_out], order[n_held_out:]
    held_out_partners = pairs.partners()
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    history: dict[str, list[float]] = {"train_loss": [], "validation_loss": []}
    best_loss, best_epoch, best_weights = np.inf, 0, copy.deepcopy(network.state_dict())
    with bar(schedule.max_epochs, f"predict ({schedule.loss})", unit="epoch", show=progress) as progress_bar:
        for epoch in range(schedule.max_epochs):
            batches = pairs.batches(pairs.rng.permutation(training), pairs.partners(), schedule.batch_size, device)
            history["train_loss"].append(_epoch(network, batches, optimizer.step, optimizer.zero_grad))
            with torch.no_grad():
                batches = pairs.batches(held_out, held_out_partners, schedule.batch_size, device)
                loss = _epoch(network, batches)
            history["validation_loss"].append(loss)
            _require_finite(history, epoch, schedule.learning_rate)
            progress_bar.update()
            progress_bar.set_postfix(validation_loss=f"{loss:.4f}", refresh=False)
            if loss < best_loss:
                best_loss, best_epoch, best_weights = loss, epoch, copy.deepcopy(network.state_dict())
            if epoch - best_epoch >= schedule.patience:
                break
    network.load_state_dict(best_weights)
    network.eval()
    return history


def _require_finite(history: dict[str, list[float]], epoch: int, learning_rate: float) -> None:
    if not np.isfinite([losses[-1] for losses in history.values()]).all():
        msg = (
            f"Training diverged in epoch {epoch + 1}: the losses are {history['train_loss'][-1]:.3g} and (held out) "
            f"{history['validation_loss'][-1]:.3g}. Lower `learning_rate` ({learning_rate:.3g}), or scale the features."
        )
        raise ArithmeticError(msg)


def _epoch(
    network: Perceptron,
    batches: Iterator[Batch],
    step: Callable[[], object] | None = None,
    reset: Callable[[], object] | None = None,
) -> float:
    """Mean loss over the batches; trains where a step is given."""
    network.train(step is not None)
    total, count = 0.0, 0
    for targets, *draws in batches:
        outputs = [network(draw) for draw in draws]
        target = network.scaled(targets)
        loss = squared_error(target, outputs[0]) if len(outputs) == 1 else two_draw_product(target, *outputs)
        if step is not None and reset is not None:
            reset()
            loss.backward()
            step()
        total += float(loss.detach()) * len(targets)
        count += len(targets)
    return total / count
