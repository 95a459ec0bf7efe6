"""Training of CrossModal's network by Lightning: step, best epoch, checkpoints.

scvi-tools' trainer, logger, progress bar and early stopping are used as they are. Its training plan is not: it logs an
evidence lower bound, which these losses are not.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from psalm.core import files
from psalm.core.losses import Batch, location_loss, spread_loss

if TYPE_CHECKING:
    from psalm.model._network import Network

SECONDS_BETWEEN_CHECKPOINTS = 10.0
FOLDER, CHECKPOINT = "psalm_checkpoints", "interrupted_{process}.ckpt"


class Training(pl.LightningModule):
    """Steps of training and validation.

    Parameters
    ----------
    network
        What is trained.
    learning_rate, weight_decay
        Of AdamW.
    seed
        Of dropout; each epoch is seeded by itself, so that training that goes on from a checkpoint is the same.
    identity
        What a checkpoint must have been made for.
    """

    def __init__(
        self, network: Network, *, learning_rate: float, weight_decay: float, seed: int, identity: dict[str, Any]
    ) -> None:
        super().__init__()
        self.network, self.seed, self.identity = network, seed, identity
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self._totals: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on all parameters; on the processor in one kernel: calls cost more than a small network's step."""
        parameters = list(self.network.parameters())
        on_cpu = all(p.device.type == "cpu" for p in parameters)
        rates = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        return torch.optim.AdamW(parameters, fused=True if on_cpu else None, **rates)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of the mean, plus that of the spread, whose parameters are others."""
        loss, spread = losses(self.network, batch)
        self._add("train_loss_epoch", loss, batch)
        return loss + spread

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss of the mean."""
        self._add("validation_loss", losses(self.network, batch)[0], batch)

    def _add(self, name: str, loss: Tensor, batch: Batch) -> None:
        n_cells = len(batch.target)
        self._totals[name] = self._totals.get(name, 0.0) + loss.detach() * n_cells
        self._counts[name] = self._counts.get(name, 0) + n_cells

    def _report(self, name: str) -> None:
        """Log the mean of an epoch, once: a log at every step costs as much as a small network's step."""
        sums = torch.stack([torch.as_tensor(part.pop(name)).float().cpu() for part in (self._totals, self._counts)])
        if self.trainer.world_size > 1:  # here, where all processes are: a synced log waits for those that read it
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        mean = sums[0] / sums[1]
        if not torch.isfinite(mean):
            msg = (
                f"Training diverged in epoch {self.current_epoch + 1}: {name} is {float(mean):.3g}. "
                f"Lower `learning_rate` ({self.learning_rate:.3g}), or scale the features."
            )
            raise ArithmeticError(msg)
        self.log(name, mean, prog_bar=True)

    def on_train_epoch_start(self) -> None:
        """Seed dropout by the epoch, and by the process."""
        torch.manual_seed(hash((self.seed, self.current_epoch, self.global_rank)) % 2**63)

    def on_train_epoch_end(self) -> None:
        """Log the training loss."""
        self._report("train_loss_epoch")

    def on_validation_epoch_end(self) -> None:
        """Log the held-out loss."""
        self._report("validation_loss")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint was made for."""
        checkpoint["psalm"] = self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse one of other cells, another network or other settings."""
        found = checkpoint.get("psalm", {})
        other = [
            f"{name} {found.get(name)!r} (now {mine!r})"
            for name, mine in self.identity.items()
            if found.get(name) != mine
        ]
        if other:
            msg = (
                f"The checkpoint was made with {', '.join(other)}. Go on with the same model, data and arguments of "
                "`.train()`, or train anew without `ckpt_path`."
            )
            raise ValueError(msg)


def losses(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean loss of the outputs, and of their spread, over cells and features."""
    found = [network(inputs) for inputs in batch.inputs]
    loss = location_loss(network.likelihood, batch, [output for output, _ in found]).mean()
    spread = spread_loss(network.likelihood, batch, *found[0]).mean()
    return loss, spread


class BestEpoch(pl.Callback):
    """Keeps the weights of the epoch whose held-out loss is lowest, and puts them back at the end."""

    def __init__(self) -> None:
        self.loss, self.epoch = float("inf"), -1
        self._weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare, and copy the weights of a better epoch."""
        loss = float(trainer.callback_metrics["validation_loss"])
        if loss < self.loss:
            self.loss, self.epoch = loss, int(trainer.current_epoch)
            self._weights = copy.deepcopy(pl_module.network.state_dict())

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the best weights back."""
        pl_module.network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"loss": self.loss, "epoch": self.epoch, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.loss, self.epoch, self._weights = state_dict["loss"], state_dict["epoch"], state_dict["weights"]


class Checkpoint(pl.Callback):
    """Writes a checkpoint at the end of an epoch, and takes it away once training has ended well.

    Parameters
    ----------
    folder
        Where to; None: nowhere.
    seconds
        Least time between two.
    """

    def __init__(self, folder: Path | None, seconds: float = 0.0) -> None:
        name = CHECKPOINT.format(process=os.getpid())  # others may train in this folder, too
        self.path = None if folder is None else folder / name
        self._seconds, self._last = seconds, time.monotonic()
        self.written = self._failed = False

    @classmethod
    def begin(cls, folder: str | Path | None) -> Checkpoint:
        """One in the folder that the user named, or else, if that can be written to, in the working directory.

        Raises
        ------
        OSError
            The folder that was named cannot be written to.
        """
        if folder is not None:
            files.require_folder("checkpoint_dir", folder)
            return cls(Path(folder))
        try:
            files.require_folder("checkpoint_dir", FOLDER)
        except OSError as reason:
            msg = (
                f"Checkpoints of the training cannot be written to {FOLDER!r} in the working directory "
                f"({_said(reason.__cause__ or reason)}), so that interrupted training starts anew. Name a folder by "
                "`checkpoint=` of `tl.predict` or `checkpoint_dir=` of `.train()`."
            )
            warnings.warn(msg, UserWarning, stacklevel=3)
            return cls(None)
        with contextlib.suppress(OSError):  # something else is there, or another process wants it
            Path(FOLDER).rmdir()
        return cls(Path(FOLDER), SECONDS_BETWEEN_CHECKPOINTS)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write one if it is time; by the clock of the first process, as all must take part."""
        due = not self._failed and self.path is not None and time.monotonic() - self._last >= self._seconds
        if not trainer.strategy.broadcast(due) or self.path is None:
            return
        part = self.path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                part.replace(self.path)
        except (OSError, RuntimeError) as reason:  # torch knows a full disk as a RuntimeError
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            msg = f"No more checkpoints are written to {self.path} ({_said(reason)}). Training goes on without."
            warnings.warn(msg, UserWarning, stacklevel=1)  # not in Lightning's name, whose warnings are hidden
            self._failed = True
        else:
            self.written, self._last = True, time.monotonic()

    def finish(self, trainer: pl.Trainer) -> None:
        """Take the checkpoint away, and its folder if nothing else is there."""
        if self.written and self.path is not None and trainer.is_global_zero:
            with contextlib.suppress(OSError):  # something else is there
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()


def _said(reason: BaseException) -> str:
    """An error in one line."""
    return str(getattr(reason, "strerror", None) or str(reason).partition("\n")[0])
