"""Where arithmetic runs: the processor, or a GPU where there is one and it is worth the way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "torch")
WORTH_A_GPU = 10_000_000
"""Pairs of cells from which "auto" asks for a GPU."""


def choose(device: str, n_pairs: float) -> str:
    """The device that "auto" stands for, or the one named.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", or another name that torch knows.
    n_pairs
        Size of the work.

    Returns
    -------
    "cpu" for compiled code on the processor, else torch's name of a device.

    Raises
    ------
    ValueError
        torch does not have the device.
    """
    if not isinstance(device, str) or device.partition(":")[0] not in DEVICES:
        msg = f"`device={device!r}` is not known. Pass 'auto', 'cpu', or 'cuda' ('cuda:1' for the second GPU)."
        raise ValueError(msg)
    if device == "cpu" or (device == "auto" and n_pairs <= WORTH_A_GPU):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        msg = (
            f'`device={device!r}`, but torch {torch.__version__} finds no CUDA device. Pass "cpu" or "auto", or '
            "install a build of torch for your GPU."
        )
        raise ValueError(msg)
    return device


@contextmanager
def one_torch_thread(*, only: bool = True) -> Iterator[None]:
    """Have torch use one thread inside (where ``only``), and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    if only:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
