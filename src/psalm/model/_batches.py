"""Batches for Lightning: from tensors that are held on the device where they fit, else read for every step.

scvi-tools' own data splitter reads one AnnData whose rows are the cells of a step. A step here joins rows of two
objects through the coupling, so that this is a data module of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from psalm.core.losses import Batch
from psalm.core.rows import LARGEST_CHUNK, Rows, shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import IntArray
    from psalm.model._pairs import Pairs

HELD_BYTES = 2**30
"""Dense float32 features up to this size are held as tensors; on a GPU, up to half of its free memory."""
RUN, WINDOW = 32, 256
"""Neighbouring cells, and runs of them, that a file is read in."""


class Feed:
    """Rows as tensors on a device.

    Parameters
    ----------
    rows
        Where they come from.
    device
        Where they go to.
    """

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self._rows, self._device = rows, device
        self.held: Tensor | None = None
        if rows.in_memory and rows.dense_bytes <= _budget(device):
            self.held = torch.as_tensor(rows.everything(), device=device)

    def __call__(self, positions: IntArray) -> Tensor:
        """Some rows, in the order asked for."""
        if self.held is not None:
            return self.held.index_select(0, torch.as_tensor(positions, dtype=torch.int64, device=self._device))
        return torch.from_numpy(self._rows.take(positions)).to(self._device)


def _budget(device: torch.device) -> int:
    if device.type != "cuda":
        return HELD_BYTES
    return int(torch.cuda.mem_get_info(device)[0]) // 2


@dataclass
class Loader:
    """One pass over some cells; what Lightning iterates over, anew each epoch.

    Parameters
    ----------
    module
        Owner, which knows the epoch and the process.
    items
        Positions of cells.
    training
        Whether to shuffle, and to draw partners anew.
    """

    module: Batches
    items: IntArray
    training: bool

    def __len__(self) -> int:
        n_batches = -(-len(self.items) // self.module.batch_size)
        return n_batches // self.module.world if n_batches >= self.module.world else 1

    def __iter__(self) -> Iterator[Batch]:
        return self.module.pass_over(self.items, training=self.training)


class Batches(pl.LightningDataModule):
    """Batches of training cells and of held-out cells.

    Parameters
    ----------
    pairs
        What to train on.
    validation_size
        Share of the items that is held out.
    batch_size
        Items of a step.
    """

    def __init__(self, pairs: Pairs, validation_size: float, batch_size: int) -> None:
        super().__init__()
        self.pairs, self.batch_size = pairs, batch_size
        order = np.random.default_rng([pairs.seed, 0]).permutation(pairs.items)
        n_held_out = max(1, round(validation_size * len(order)))
        self.held_out, self.training_items = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        self._feeds: dict[str, Callable[[IntArray], Tensor]] = {}
        self._device: torch.device | None = None

    @property
    def world(self) -> int:
        """Processes that share an epoch."""
        return int(self.trainer.world_size) if self.trainer is not None else 1

    def setup(self, stage: str | None = None) -> None:
        """Hold features on the device where they fit."""
        assert self.trainer is not None
        self.place(self.trainer.strategy.root_device)

    def place(self, device: torch.device) -> None:
        """Hold features on a device where they fit, once."""
        if self._device == device:
            return
        self._feeds, self._device = {}, device
        pairs, averages = self.pairs, self.pairs.averages
        rows = {"inputs": pairs.inputs, "targets": pairs.targets}
        if averages is not None:
            rows = {"inputs": pairs.inputs, "targets": Rows(averages.mean), "variance": Rows(averages.variance)}
            size = averages.size
        else:
            size = pairs.size
        self._feeds = {name: Feed(values, device) for name, values in rows.items()}
        if (np.asarray(size)[np.isfinite(size)] == 1).all():  # not counts: nothing to look up for every step
            self._feeds["size"] = lambda _: torch.ones(1, 1, device=device)
        else:
            self._feeds["size"] = Feed(Rows(np.asarray(size, np.float32)[:, None]), device)
        self._treatment = torch.as_tensor(pairs.treatment, device=device)

    def train_dataloader(self) -> Loader:
        """Training cells, in another order each epoch."""
        return Loader(self, self.training_items, training=True)

    def val_dataloader(self) -> Loader:
        """Held-out cells, always the same, with the same partners."""
        return Loader(self, self.held_out, training=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing to do: batches are made on the device."""
        return batch

    def pass_over(self, items: IntArray, *, training: bool) -> Iterator[Batch]:
        """Batches of one epoch, of this process."""
        pairs = self.pairs
        epoch = int(self.trainer.current_epoch) if training and self.trainer is not None else -1
        order = items
        if training:
            streamed = not (pairs.inputs.in_memory and pairs.targets.in_memory)
            rng = np.random.default_rng([pairs.seed, 2, epoch])
            order = shuffled(items, rng, run=RUN if streamed else 1, window=WINDOW)
        partners = pairs.partners(epoch)
        starts = range(0, len(order), self.batch_size)
        rank, world = (int(self.trainer.global_rank), self.world) if self.trainer is not None else (0, 1)
        mine = starts if len(starts) < world else starts[rank : len(starts) // world * world : world]
        for start in mine:
            yield self.batch(order[start : start + self.batch_size], partners, told=not training)

    def batch(self, cells: IntArray, partners: IntArray | None, *, told: bool) -> Batch:
        """A step's tensors; only if ``told`` with the treatments."""
        feeds, drawn = self._feeds, [] if partners is None else list(partners[cells].T)
        inputs, target = [cells], cells
        if self.pairs.loss == "unbiased":
            inputs = drawn
        elif drawn:
            target = drawn[0]
        values = feeds["targets"](target)
        variance = feeds["variance"](target) if "variance" in feeds else values[:, :0]
        known = cells if told else cells[:0]
        treatment = self._treatment[torch.as_tensor(known, device=self._treatment.device)]
        return Batch(
            tuple(feeds["inputs"](column) for column in inputs), values, feeds["size"](target), variance, treatment
        )

    def matched_source(self) -> Iterator[tuple[IntArray, Tensor]]:
        """Source cells with a treatment, and their inputs, in portions."""
        cells = np.flatnonzero(self.pairs.source_treatment >= 0)
        for start in range(0, len(cells), LARGEST_CHUNK):
            portion = cells[start : start + LARGEST_CHUNK]
            yield portion, self._feeds["inputs"](portion)

    def drawn(self, cells: IntArray, rng: np.random.Generator) -> Batch:
        """Held-out cells with one partner each, drawn from the match, whatever the loss."""
        pairs, device = self.pairs, self._treatment.device
        partner = pairs.sampler.draw(cells, 1, rng)[:, 0]
        source, target = (partner, cells) if pairs.loss == "unbiased" else (cells, partner)
        values = torch.from_numpy(pairs.targets.take(target)).to(device)
        size = torch.as_tensor(np.asarray(pairs.size[target], np.float32)[:, None], device=device)
        treatment = self._treatment[torch.as_tensor(cells, device=device)]
        return Batch((self._feeds["inputs"](source),), values, size, values[:, :0], treatment)
