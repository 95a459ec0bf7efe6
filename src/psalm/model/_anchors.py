"""Predictions of cells whose treatment is known: around what the target measured for that treatment.

A network that sees a cell's source features guesses its treatment with them, and where it guesses wrong the mean of the
treatment predicts better. With η the network's output, η̄_t that of its mean prediction for the matched source cells of
treatment t, and μ_t that of the measured mean of t's target cells, the output of a cell of t becomes
``μ_t + b (η − η̄_t)``. b is chosen on held-out cells between 0 (the treatment's mean) and 1, as the smallest whose loss
is within one standard error of the least (Breiman, Friedman, Olshen and Stone, 1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from psalm.core.losses import Batch, location_loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray
    from psalm.model._batches import Batches
    from psalm.model._network import Network

FEWEST_CELLS = 5
"""Treatments with fewer target cells have no mean to speak of: their cells are predicted by features alone."""
SLOPES = tuple(np.round(np.linspace(0, 1, 11), 1).tolist())


@dataclass(frozen=True)
class Anchors:
    """What outputs of cells with known treatment are moved to.

    Parameters
    ----------
    treatments
        Names, in code order.
    predicted, measured
        (n_treatments, n_outputs) outputs of the mean prediction and of the measured mean.
    slope
        b.
    known
        Which of the treatments are used; by default all.
    """

    treatments: tuple[str, ...]
    predicted: Tensor
    measured: Tensor
    slope: float = 1.0
    known: tuple[bool, ...] | None = None

    def __call__(self, output: Tensor, codes: Tensor, slope: float | None = None) -> Tensor:
        """Moved outputs (n_cells, n_outputs); those of code −1, and of treatments that are not used, stay."""
        b = self.slope if slope is None else slope
        if self.known is not None:
            codes = torch.where(torch.tensor([*self.known, False], device=codes.device)[codes], codes, -1)
        predicted, measured = (values.to(output.device)[codes] for values in (self.predicted, self.measured))
        return torch.where((codes >= 0)[:, None], measured + b * (output - predicted), output)


def used(codes: IntArray, known: tuple[bool, ...]) -> IntArray:
    """Codes of treatments that are used; −1 for others."""
    return np.where(np.append(known, False)[codes], codes, -1)  # code −1 takes the last


def anchors_of(network: Network, data: Batches, treatments: list[str]) -> Anchors:
    """Anchors with slope one."""
    total, count = torch.zeros_like(torch.as_tensor(data.pairs.means, dtype=torch.float64)), None
    device = network.location.weight.device
    total = total.to(device)
    count = torch.zeros(len(total), 1, dtype=torch.float64, device=device)
    for cells, inputs in data.matched_source():
        with torch.no_grad():
            expected = network.expected(network(inputs)[0]).double()
        codes = torch.as_tensor(data.pairs.source_treatment[cells], device=device)
        total.index_add_(0, codes, expected)
        count.index_add_(0, codes, torch.ones_like(codes, dtype=torch.float64)[:, None])
    measured = torch.as_tensor(data.pairs.means, device=device)
    mean = torch.where(count > 0, total / count.clamp(min=1), measured.double()).float()
    first, second = (network.likelihood.output_of(values).detach() for values in (mean, measured))
    known = tuple(bool(count >= FEWEST_CELLS) for count in data.pairs.counts)
    return Anchors(tuple(treatments), first, second, known=known)


@dataclass(frozen=True)
class HeldOutLosses:
    """Of held-out cells, means over features.

    Parameters
    ----------
    treatment
        (n_cells,) code.
    network
        (n_cells,) of the network's output.
    moved
        (n_cells, n_slopes) of the outputs moved with each of :data:`SLOPES`; the first is the treatment's mean.
    """

    treatment: IntArray
    network: FloatArray
    moved: FloatArray

    @property
    def slope(self) -> int:
        """Which slope is chosen."""
        return chosen(self.moved)

    def crossed(self, rng: np.random.Generator) -> FloatArray:
        """(n_cells,) loss of moved outputs, with the slope that the other half of the cells chooses."""
        half = rng.permutation(len(self.moved)) % 2
        found = np.empty(len(self.moved))
        for side in (0, 1):
            found[half == side] = self.moved[half == side, chosen(self.moved[half != side])]
        return found


def chosen(losses: FloatArray) -> int:
    """First column whose mean is within one standard error of the least; the first where there are no two rows."""
    if len(losses) < 2:  # noqa: PLR2004, no standard error
        return 0
    excess = losses - losses[:, [int(np.argmin(losses.mean(axis=0)))]]
    error = excess.std(axis=0, ddof=1) / np.sqrt(len(losses))
    return int(np.argmax(excess.mean(axis=0) <= error))


def held_out_losses(network: Network, data: Batches, anchors: Anchors) -> HeldOutLosses:
    """Losses of the held-out cells."""
    parts = list(_losses(network, data, anchors))
    treatment, by_network, moved = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return HeldOutLosses(treatment, by_network, moved)


def _losses(network: Network, data: Batches, anchors: Anchors) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    def loss(batch: Batch, outputs: list[Tensor]) -> Tensor:
        return location_loss(network.likelihood, batch, outputs).mean(dim=1).double()

    for batch in data.pass_over(data.held_out, training=False):
        with torch.no_grad():
            outputs = [network(inputs)[0] for inputs in batch.inputs]
            moved = [loss(batch, [anchors(output, batch.treatment, b) for output in outputs]) for b in SLOPES]
            yield batch.treatment, loss(batch, outputs), torch.stack(moved, dim=1)
