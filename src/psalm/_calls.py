"""A record of the steps that wrote to a container, with what it takes to repeat them."""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Mapping
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from mudata import MuData

from psalm import _keys
from psalm._arguments import kinds_of, require

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ("step", "call", "repeatable", "versions")
PACKAGES = {"psalm": "scpsalm"} | {
    name: name for name in ("numpy", "scipy", "scikit-learn", "torch", "anndata", "mudata")
}
"""Name in the record, and in the package index, of what results depend on."""
PLAIN = (bool, int, float, str, type(None))
RNG, DRY_RUN = "rng", "dry_run"

P = ParamSpec("P")
R = TypeVar("R")


def recorded(step: Callable[P, R]) -> Callable[P, R]:
    """Record each call of a step in the container that is its first argument, once it has finished.

    Arguments of other types than the signature names are refused before.
    """
    signature = inspect.signature(step)
    kinds = kinds_of(signature)
    name = f"{step.__module__.split('.')[1]}.{step.__name__}"

    @wraps(step)
    def and_record(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        require(kinds, given.arguments)
        data = args[0] if args else kwargs.get(next(iter(signature.parameters)))
        if not isinstance(data, MuData):
            return step(*args, **kwargs)
        known = record(data)
        result = step(*args, **kwargs)
        given.apply_defaults()
        if not given.arguments.get(DRY_RUN, False):
            data.uns[_keys.CALLS] = pd.concat([known, row(name, signature, dict(given.arguments))], ignore_index=True)
        return result

    return and_record


def row(name: str, signature: inspect.Signature, given: dict[str, Any]) -> pd.DataFrame:
    """One call: as one would write it, with all defaults, and whether that repeats it."""
    first, *_ = signature.parameters
    given.pop(first)
    for key, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            given |= given.pop(key, {})
    written = ", ".join([first, *(f"{key}={as_text(value)}" for key, value in given.items())])
    repeatable = all(is_plain(value) for value in given.values()) and given.get(RNG, 0) is not None
    values = (name, f"psalm.{name}({written})", str(repeatable), json.dumps(versions()))
    return pd.DataFrame([values], columns=list(COLUMNS))


def record(mdata: MuData) -> pd.DataFrame:
    """The calls so far, oldest first.

    Raises
    ------
    ValueError
        The slot holds something else.
    """
    stored = mdata.uns.get(_keys.CALLS)
    if stored is None:
        return pd.DataFrame(columns=list(COLUMNS))
    if not isinstance(stored, pd.DataFrame) or tuple(stored.columns) != COLUMNS:
        msg = f"`mdata.uns[{_keys.CALLS!r}]` is an entry of yours, where psalm records its calls. Rename it."
        raise ValueError(msg)
    return stored


def versions() -> dict[str, str]:
    """Of Python, and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(package) for name, package in PACKAGES.items()}}


def as_text(value: Any) -> str:
    """An argument as one writes it in Python, as far as it can be."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_text(key)}: {as_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_text, value)) + "]"
    if isinstance(value, tuple):
        return "(" + "".join(f"{as_text(one)}, " for one in value) + ")"
    return _one_as_text(value.item() if isinstance(value, np.generic) else value)


def _one_as_text(value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, float) and not np.isfinite(value):
        return f"float('{value}')"
    return repr(value) if isinstance(value, PLAIN) else f"<{type(value).__name__}>"


def is_plain(value: Any) -> bool:
    """Whether a value can be written in Python."""
    if isinstance(value, Mapping):
        return all(is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return all(is_plain(one) for one in value)
    return isinstance(value, (*PLAIN, Path, np.bool_, np.number, np.str_))
