"""From pairs to a trained network, and what held-out cells say of it."""

from __future__ import annotations

import signal
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from psalm._lightning import seeded
from psalm.core.conformal import Residuals
from psalm.core.device import one_torch_thread
from psalm.core.minibatch import moments
from psalm.core.rows import LARGEST_CHUNK
from psalm.model._anchors import SLOPES, anchors_of, held_out_losses
from psalm.model._applied import predict
from psalm.model._batches import Batches
from psalm.model._training import BestEpoch, Checkpoint, Training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psalm.core._types import FloatArray, IntArray
    from psalm.model._anchors import Anchors, HeldOutLosses
    from psalm.model._network import Network
    from psalm.model._pairs import Pairs
    from psalm.model._setup import Setup

MOST_RESIDUALS = 4000
"""Held-out cells that intervals are calibrated and tested on, at most."""
SMALL_STEP = 5e7
"""Weights × cells of a batch up to which a step is faster on one thread."""


@dataclass(frozen=True)
class Schedule:
    """How to train; fields as :meth:`psalm.model.CrossModal.train` describes them."""

    max_epochs: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    validation_size: float = 0.1
    early_stopping: bool = True
    early_stopping_patience: int = 20
    accelerator: str = "auto"
    devices: Any = "auto"
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))
    ckpt_path: str | Path | None = None
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What training found.

    Parameters
    ----------
    history
        Losses by epoch, as scvi-tools keeps them: a DataFrame for each.
    best_epoch
        Epoch whose weights were kept.
    held_out
        One row per treatment and one for all: n_cells, and losses from features alone, with the treatment, and of the
        treatment's mean.
    residuals, residuals_known
        Of held-out cells against a partner drawn from the match: from features alone, and with the treatment.
    anchors
        Where predictions of cells with known treatment are moved to.
    device
        Where it was trained.
    """

    history: dict[str, pd.DataFrame]
    best_epoch: int
    held_out: pd.DataFrame
    residuals: Residuals
    residuals_known: Residuals
    anchors: Anchors
    device: str


def prepare(network: Network, pairs: Pairs, source: IntArray, target: IntArray) -> None:
    """Take means and scales of the features of some source and target cells, read in portions."""
    network.standardise(torch.from_numpy(pairs.inputs.take(cells)) for cells in _portions(source))
    targets = (pairs.targets.take(cells).astype(np.float64) / pairs.size[cells][:, None] for cells in _portions(target))
    network.likelihood.fit(*(torch.as_tensor(values, dtype=torch.float32) for values in moments(targets)))


def _portions(cells: IntArray) -> Iterator[IntArray]:
    return (cells[start : start + LARGEST_CHUNK] for start in range(0, len(cells), LARGEST_CHUNK))


def fit(
    network: Network, pairs: Pairs, schedule: Schedule, seed: int, treatments: list[str], *, progress: bool
) -> Fitted:
    """Train in place.

    Raises
    ------
    ArithmeticError
        The loss is not finite.
    KeyboardInterrupt
        Training was interrupted; the message says where the checkpoint is.
    """
    data = Batches(pairs, schedule.validation_size, schedule.batch_size)
    identity = {"loss": pairs.loss, "n_cells": len(pairs.items), "seed": pairs.seed}
    identity |= {"parameters": sum(p.numel() for p in network.parameters()), "batch_size": schedule.batch_size}
    training = Training(
        network,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        seed=seed,
        identity=identity,
    )
    best = BestEpoch()
    with seeded(seed), one_torch_thread(only=_is_small(network, schedule.batch_size)):
        trainer = _train(training, data, schedule, best, progress=progress)
        device = torch.device(trainer.strategy.root_device)
        network.to(device).eval()
        data.trainer = None
        data.place(device)
        history = _history(trainer)
        anchors = anchors_of(network, data, treatments)
        losses = held_out_losses(network, data, anchors)
        table = held_out_table(losses, treatments, np.random.default_rng([seed, 4]))
        anchors = _settled(anchors, table, SLOPES[losses.slope])
        residuals = held_out_residuals(network, data, anchors, seed)
    return Fitted(history, best.epoch, table, *residuals, anchors, str(device))


def _is_small(network: Network, batch_size: int) -> bool:
    """Whether more threads would mostly wait for work in a step, and on a busy machine for each other."""
    convolves = any(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    return not convolves and batch_size * sum(weights.numel() for weights in network.parameters()) <= SMALL_STEP


def _hardware(schedule: Schedule) -> dict[str, Any]:
    """What "auto" means: one NVIDIA device where there is one, else the CPU.

    Lightning by itself would take all devices, and Apple's, for which torch has not every operation.
    """
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "accelerator": accelerator if schedule.accelerator == "auto" else schedule.accelerator,
        "devices": 1 if schedule.devices == "auto" else schedule.devices,
    }


def _train(training: Training, data: Batches, schedule: Schedule, best: BestEpoch, *, progress: bool) -> Any:
    """Run scvi-tools' trainer."""
    from lightning.pytorch.callbacks import EarlyStopping
    from scvi.train import Trainer

    checkpoint = schedule.checkpoint
    options: dict[str, Any] = {"use_distributed_sampler": False} | schedule.trainer
    if checkpoint.path is not None:
        options = {"default_root_dir": str(checkpoint.path.parent)} | options
    callbacks = options.pop("callbacks", [])
    options["callbacks"] = [best, checkpoint, *(callbacks if isinstance(callbacks, list) else [callbacks])]
    stopping: dict[str, Any] = {"monitor": "validation_loss", "patience": schedule.early_stopping_patience}
    if schedule.early_stopping and not progress:  # scvi-tools' own prints why it stopped
        options["callbacks"].append(EarlyStopping(**stopping, min_delta=0.0))
    trainer = Trainer(
        **_hardware(schedule),
        max_epochs=schedule.max_epochs,
        check_val_every_n_epoch=1,
        early_stopping=schedule.early_stopping and progress,
        **{f"early_stopping_{name}": value for name, value in stopping.items()},
        enable_progress_bar=progress,
        **options,
    )
    with _interrupts(checkpoint):
        trainer.fit(training, data, ckpt_path=schedule.ckpt_path)
    checkpoint.finish(trainer)
    return trainer


def _history(trainer: Any) -> dict[str, pd.DataFrame]:
    """Losses by epoch; only the first process logs them."""
    found = {}
    if trainer.is_global_zero:
        found = {name: table.astype(float) for name, table in trainer.logger.history.items()}
    shared: dict[str, pd.DataFrame] = trainer.strategy.broadcast(found)
    return shared


@contextmanager
def _interrupts(checkpoint: Checkpoint) -> Iterator[None]:
    """Let Ctrl-C be what it is: Lightning would leave the interpreter, and ignore every Ctrl-C from then on."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as stopped:
        raise KeyboardInterrupt(_where(checkpoint)) from stopped
    except BaseException as error:
        if checkpoint.written:
            error.add_note(_where(checkpoint))
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


def _where(checkpoint: Checkpoint) -> str:
    if not checkpoint.written:
        return "Training was interrupted before its first checkpoint."
    path = str(checkpoint.path)
    return f"Training was interrupted. Go on with the same arguments and `.train(..., ckpt_path={path!r})`."


def held_out_table(losses: HeldOutLosses, treatments: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Mean losses of held-out cells, per treatment and in all."""
    values = pd.DataFrame(
        {
            "treatment": np.array(treatments, dtype=object)[losses.treatment],
            "n_cells": 1,
            "loss": losses.network,
            "loss_with_treatment": losses.crossed(rng),
            "treatment_mean_loss": losses.moved[:, 0],
        }
    )
    kinds = dict.fromkeys(("loss", "loss_with_treatment", "treatment_mean_loss"), "mean") | {"n_cells": "sum"}
    table = values.groupby("treatment", sort=True).agg(kinds)
    table.loc["all"] = values.agg(kinds)
    return table[["n_cells", "loss", "loss_with_treatment", "treatment_mean_loss"]].astype({"n_cells": int})


def _settled(anchors: Anchors, table: pd.DataFrame, slope: float) -> Anchors:
    """With the slope; without deviations where means do as well, not used at all where features alone do best."""
    if no_better(table):
        return replace(anchors, slope=0.0)
    if table.loc["all", "loss"] < table.loc["all", "loss_with_treatment"]:
        return replace(anchors, slope=slope, known=(False,) * len(anchors.treatments))
    return replace(anchors, slope=slope)


def no_better(held_out: pd.DataFrame) -> bool:
    """Whether the mean of the treatment does as well, with and without the treatment known."""
    found: pd.Series = held_out.loc["all"]
    return bool(min(found["loss_with_treatment"], found["loss"]) >= found["treatment_mean_loss"])


def warn_if_useless(held_out: pd.DataFrame, setup: Setup) -> None:
    """Say so where the mean of the treatment does as well."""
    if not no_better(held_out):
        return
    loss, mean = held_out.loc["all", ["loss_with_treatment", "treatment_mean_loss"]]
    msg = (
        f"Held-out cells are predicted no better than by the mean of their treatment (loss {loss:.4g}, mean "
        f"{mean:.4g}, {int(held_out.loc['all', 'n_cells'])} cells): {setup.source!r} says nothing of {setup.target!r} "
        "that the treatment does not, or too little to be learned from this match. Cells of known treatment are "
        "predicted by its mean. Look at `psalm.get.report(mdata)` and `tl.evaluate`."
    )
    warnings.warn(msg, UserWarning, stacklevel=3)


def held_out_residuals(network: Network, data: Batches, anchors: Anchors, seed: int) -> tuple[Residuals, Residuals]:
    """|y − μ| / s of held-out cells, y that of one partner drawn from the match; half calibrate, half test.

    The first are of predictions from features alone, the second of those moved by the treatment.
    """
    rng = np.random.default_rng([seed, 3])
    cells = rng.permutation(data.held_out)[:MOST_RESIDUALS]
    found: tuple[list[FloatArray], list[FloatArray]] = [], []
    for portion in _portions(cells):
        batch = data.drawn(portion, rng)
        for part, move in zip(found, (None, partial(anchors, codes=batch.treatment)), strict=True):
            mean, spread = predict(network, batch.inputs[0], seed, move)
            part.append(((batch.target / batch.size - mean).abs() / spread).cpu().numpy().astype(np.float32))
    first, second = (np.concatenate(part) for part in found)
    return Residuals(first[::2], first[1::2]), Residuals(second[::2], second[1::2])
