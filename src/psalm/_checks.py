"""Checks of what the user passed. Every message says what came, what is allowed and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from psalm.core import files
from psalm.core.missing import account, is_finite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


def listed(names: Iterable[object], limit: int = 12) -> str:
    """Quoted names, shortened."""
    shown = [repr(str(name)) for name in names]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return (", ".join(shown[:limit]) or "none") + more


def one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Require one of a few names."""
    if value not in allowed:
        msg = f"`{name}={value!r}` is not known. Pass one of {listed(allowed)}."
        raise ValueError(msg)


def slot_name(value: object) -> None:
    """Require a name under which results can be stored and saved."""
    if not isinstance(value, str) or not value or "/" in value:
        msg = f"`key_added={value!r}` must be a non-empty string without '/', which files use to separate groups."
        raise ValueError(msg)


def whole_number(name: str, value: object, *, least: int) -> None:
    """Require an integer that is not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        msg = f"`{name}={value!r}` must be a whole number, {least} or more."
        raise ValueError(msg)


def positive(name: str, value: object) -> None:
    """Require a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not (0 < value < np.inf):
        msg = f"`{name}={value!r}` must be a finite number above zero."
        raise ValueError(msg)


def share(name: str, value: object, example: str) -> None:
    """Require a number between zero and one, neither included."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not (0 < value < 1):
        msg = f"`{name}={value!r}` must be a number between 0 and 1, such as {example}."
        raise ValueError(msg)


def jobs(value: object) -> None:
    """Require a number of jobs as joblib takes it."""
    if value is None or (isinstance(value, int | np.integer) and not isinstance(value, bool) and value != 0):
        return
    msg = f"`n_jobs={value!r}` must be a whole number other than 0 (-1 for all cores), or None."
    raise ValueError(msg)


def folder(name: str, value: str | Path | None) -> None:
    """Require a folder that can be written to, and make it where it is missing; or None."""
    if value is None:
        return
    if str(value) and not Path(value).is_file():
        files.require_folder(name, value)
        return
    what = "is a file" if str(value) else "is no name"
    msg = f"`{name}={str(value)!r}` {what}. Pass a folder, which is made where it does not exist."
    raise ValueError(msg)


def file(name: str, value: str | Path | None) -> None:
    """Require the name of a file that can be written, or None."""
    if value is None:
        return
    if Path(value).is_dir():
        msg = f"`{name}={str(value)!r}` is a folder. Pass the name of a file in it."
        raise ValueError(msg)
    files.require_file(name, value)


def generator(value: Any) -> np.random.Generator:
    """The generator that ``rng`` asks for."""
    if isinstance(value, np.random.Generator):
        return value
    if value is None or (isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0):
        return np.random.default_rng(value)
    msg = f"`rng={value!r}` must be a whole number, 0 or more, a `numpy.random.Generator`, or None."
    raise ValueError(msg)


def plain_numbers(values: Any, where: str) -> None:
    """Require values that are numbers and none of which are masked."""
    if np.ma.is_masked(values):
        n_hidden = int(np.ma.getmaskarray(values).sum())
        msg = (
            f"{where} is a masked array, {n_hidden} of whose values are hidden, and they would "
            "be read nevertheless. Fill them, e.g. with `.filled(0)`, or drop these cells or features."
        )
        raise ValueError(msg)
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind not in "biufO":
        msg = f"{where} is of type {values.dtype}, which is no real number. Pass a numeric matrix."
        raise TypeError(msg)


def finite(values: Any, where: str, features: Sequence[Any] | None = None, cells: Sequence[Any] | None = None) -> None:
    """Require values without NaN and infinity; the message names features and cells where it is given their names."""
    if not is_finite(values):
        msg = (
            f"{where} has {account(values, features, cells)} "
            "Values must be finite: impute or remove them, or drop the cells, and run again."
        )
        raise ValueError(msg)


def fits_float32(values: Any, where: str) -> None:
    """Require numbers that do not become infinite in single precision."""
    data = values.data if sparse.issparse(values) else np.asarray(values)
    if data.dtype.kind != "f":
        return
    largest = float(max(data.max(), -data.min())) if data.size else 0.0
    if largest > float(np.finfo(np.float32).max):
        msg = f"{where} has values as large as {largest:.3g}, which float32 cannot hold. Divide them by a constant."
        raise ValueError(msg)


def unique_names(names: Any, where: str) -> None:
    """Require cell names that occur once."""
    if names.is_unique:
        return
    twice = names[names.duplicated()].unique()
    msg = (
        f"{where} has {len(twice)} cell names that occur more than once: {listed(twice, 5)}. "
        "Cells are found by name: make names unique with `obs_names_make_unique()` and build the MuData again."
    )
    raise ValueError(msg)
