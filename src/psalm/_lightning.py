"""scvi-tools and Lightning kept quiet and seeded, with every global stream put back."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGERS = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed", "scvi")
AUTO, CPU, GPU = "auto", "cpu", "gpu"
GPUS = ("cuda", "mps")


def require_accelerator(accelerator: object, devices: Any = AUTO) -> None:
    """Refuse, before any work, an accelerator that Lightning does not know or does not find, and devices beyond it.

    Parameters
    ----------
    accelerator, devices
        As Lightning takes them.

    Raises
    ------
    ValueError
        Says what there is.
    """
    if accelerator in (AUTO, CPU):
        return
    from lightning.pytorch.accelerators import AcceleratorRegistry

    known = {str(name): entry["accelerator"] for name, entry in AcceleratorRegistry.items()}
    if accelerator != GPU and accelerator not in known:
        names = ", ".join(map(repr, dict.fromkeys((AUTO, CPU, GPU, *known))))
        msg = f"`accelerator={accelerator!r}` is not known. Pass one of {names}."
        raise ValueError(msg)
    kinds = [known[name] for name in (GPUS if accelerator == GPU else (accelerator,)) if name in known]
    there = max((kind.auto_device_count() for kind in kinds if kind.is_available()), default=0)
    if not there:
        msg = f"`accelerator={accelerator!r}` is not there: no such device is found here. Pass 'cpu' or 'auto'."
        raise ValueError(msg)
    wanted = max(devices) + 1 if isinstance(devices, list) and devices else devices
    if isinstance(wanted, int) and wanted > there:
        msg = f"`devices={devices!r}`, but of accelerator {accelerator!r} there are {there} here. Ask for fewer."
        raise ValueError(msg)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the notes and warnings of scvi-tools and Lightning: what they advise on is not the user's to choose."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("lightning", "scvi"):
            warnings.filterwarnings("ignore", module=module)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what scvi-tools and torch draw from, keep them quiet, and put everything back."""
    import torch

    stream = np.random.get_state()  # noqa: NPY002, scvi-tools draws from this stream
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(stream)  # noqa: NPY002
