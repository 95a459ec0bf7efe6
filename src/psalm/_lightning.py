"""scvi-tools and Lightning kept quiet and seeded, with every global stream put back."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGERS = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed", "scvi")


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

    with quiet():
        import scvi

        before, stream = scvi.settings.seed, np.random.get_state()  # noqa: NPY002, scvi-tools draws from this stream
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            scvi.settings._seed = seed
            try:
                yield
            finally:
                scvi.settings._seed = before
                np.random.set_state(stream)  # noqa: NPY002
