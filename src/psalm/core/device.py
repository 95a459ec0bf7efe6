"""Where arithmetic runs: on the CPU, or on a GPU where there is one and the work is large enough."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
THROUGH_TORCH = "torch:"
"""Before the name of a device: have torch compute there, even on the CPU."""
WORTH_A_GPU = 10_000_000
"""Pairs of cells from which "auto" asks for a GPU."""


def require(device: object, argument: str = "device") -> None:
    """Refuse a device that torch does not have, before anything is computed there.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", "cuda:1", "mps" or "xpu".
    argument
        What the user called it: "device", or "PerceptronClassifier(device=)".

    Raises
    ------
    ValueError
        It is not known, or it is not there.
    """
    said = f"`{argument[:-1]}{device!r})`" if argument.endswith("=)") else f"`{argument}={device!r}`"
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in DEVICES or (colon and (kind == "auto" or not number.isdecimal())):
        msg = f"{said} is not known. Pass 'auto', 'cpu', or 'cuda' ('cuda:1' for the second GPU)."
        raise ValueError(msg)
    if kind in {"auto", "cpu"}:
        return
    there = count(kind)
    if int(number or 0) >= there:
        import torch

        found = f"{there or 'no'} {kind.upper()} device{'s' if there > 1 else ''}"
        msg = (
            f"{said}, but torch {torch.__version__} finds {found} here. Pass 'cpu' or 'auto', or "
            "install a build of torch for your GPU."
        )
        raise ValueError(msg)


def count(kind: str) -> int:
    """How many devices of a kind ("cuda", "mps", "xpu") torch finds."""
    import torch

    if kind == "mps":
        return int(torch.backends.mps.is_available())
    found: Any = getattr(torch, kind)
    return int(found.device_count()) if found.is_available() else 0


def or_cpu(device: str) -> str:
    """The device where it is there, else the CPU: a trained model may be read on another machine."""
    try:
        require(device)
    except ValueError:
        return "cpu"
    return resolved(device)


def resolved(device: str) -> str:
    """The device, "auto" being a CUDA device where there is one."""
    return device if device != "auto" else "cuda" if count("cuda") else "cpu"


def choose(device: str, n_pairs: float) -> str:
    """The device that a match runs on.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", or another name that torch knows; after "torch:", torch computes there.
    n_pairs
        Size of the work.

    Returns
    -------
    "cpu" for compiled code on the CPU, else the name of a device, which torch computes on.

    Raises
    ------
    ValueError
        torch does not have the device, or it has no float64.
    """
    in_torch = isinstance(device, str) and device.startswith(THROUGH_TORCH)
    named = device.removeprefix(THROUGH_TORCH) if in_torch else device
    require(named)
    if named.startswith("mps"):
        msg = f"`device={device!r}` has no float64, which matching needs. Pass 'cpu' or 'auto'."
        raise ValueError(msg)
    if in_torch:
        return f"{THROUGH_TORCH}{resolved(named)}"
    if named == "auto" and n_pairs <= WORTH_A_GPU:
        return "cpu"
    return str(resolved(named))


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
