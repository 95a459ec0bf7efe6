"""What :func:`psalm.tl.transfer` carries over: a key of an AnnData, read into what the core can average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _features, _keys, _matrix, _obs
from psalm.core.transfer import Averages, Labels, Numbers

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core.transfer import Carried

PLACES = ("obs", "obsm", "layers")
OBJECTS_OF_LABELS = ("string", "bytes", "boolean", "empty", "categorical")
"""Kinds of objects that are labels; numbers beside text could be either."""
LABEL, NUMBER, AVERAGE = "label", "number", "average"


@dataclass(frozen=True)
class Item:
    """One thing to be carried over.

    Parameters
    ----------
    keys
        Slots of the result.
    place
        "obs", "obsm", "layers" or "X".
    kind
        "label", "number" or "average".
    carried
        Its values, as the core takes them.
    shape
        Of one cell's values.
    categories
        An empty categorical with the labels.
    names
        Of features, where they have names.
    """

    keys: _keys.TransferKeys
    place: str
    kind: str
    carried: Carried
    shape: tuple[int, ...] = ()
    categories: pd.Categorical | None = None
    names: pd.Index | None = None

    @property
    def slots(self) -> list[tuple[str, str]]:
        """Everything that is written."""
        return slots(self.keys, self.kind)


def slots(keys: _keys.TransferKeys, kind: str) -> list[tuple[str, str]]:
    """Where a result of this kind goes: slots of ``obs`` in the order of the core's result, or one of ``obsm``."""
    if kind == AVERAGE:
        return [("obsm", keys.base)]
    columns = (keys.base, keys.spread, keys.confidence) if kind == NUMBER else (keys.base, keys.confidence)
    return [("obs", column) for column in columns]


def slots_of(row: Any) -> list[tuple[str, str]]:
    """The same of a row of the record."""
    return slots(_keys.TransferKeys(str(row.key), str(row.source)), str(row.kind))


def find(mdata: MuData, source: str, key: str) -> tuple[str, str]:
    """Where a key is, and its name there; what the modality does not have may be a column of the container."""
    adata = mdata.mod[source]
    if key == "X":
        return "X", "X"
    place, _, name = key.partition(":")
    if place in PLACES and name:
        found = [place] if name in getattr(adata, place) or (place == "obs" and name in mdata.obs) else []
    else:
        name = key
        found = [place for place in PLACES if key in getattr(adata, place)] or ["obs"] * (key in mdata.obs)
    if len(found) == 1:
        return found[0], name
    if found:
        msg = (
            f"`keys`: {key!r} is in {' and in '.join(f'`{place}`' for place in found)} of `mdata[{source!r}]`. "
            f"Say which: {_checks.listed(f'{place}:{key}' for place in found)}."
        )
        raise ValueError(msg)
    here = f"in obs: {_obs.found(mdata, source)}. {_access.feature_slots(adata)}"
    meant = _obs.meant(mdata, source, name)
    msg = f"`keys`: {key!r} is not in `mdata[{source!r}]`. Found {here} {meant}Pass some of these, or 'X'."
    raise KeyError(msg)


def item(mdata: MuData, source: str, key: str) -> Item:
    """What is to be carried over under a key."""
    place, name = find(mdata, source, key)
    adata = mdata.mod[source]
    keys = _keys.TransferKeys(name, source)
    where = f"`mdata[{source!r}]." + ("X`" if place == "X" else f"{place}[{name!r}]`")
    if place == "obs":
        return of_column(_obs.find(mdata, source, name, "keys"), keys)
    values = adata.X if place == "X" else getattr(adata, place)[name]
    if place == "obsm":
        _features.require_own(adata, source, name)
    if values is None:
        msg = f"{where} is empty. Pass a key of obs, obsm or layers. {_access.feature_slots(adata)}"
        raise ValueError(msg)
    names = adata.var_names if place != "obsm" else getattr(values, "columns", None)
    found = _matrix.rows_of(values, where, names, adata.obs_names)
    kept = None if names is None else pd.Index([str(name) for name in names])
    return Item(keys, place, AVERAGE, Averages(found), found.shape[1:], names=kept)


def of_column(column: _obs.Column, keys: _keys.TransferKeys) -> Item:
    """A column of labels or of numbers."""
    if is_label(column.values):
        found = labels(column)
        return Item(keys, "obs", LABEL, Labels(np.asarray(found.codes)), categories=found[:0])
    if column.values.dtype.kind not in "iuf":
        column.labels()  # refuses lists in words of its own
        kind = pd.api.types.infer_dtype(column.values, skipna=True)
        msg = (
            f"{column.said} is of type {column.values.dtype} and holds {kind} values: "
            'neither labels nor numbers. Convert it, with `.astype("category")` or `.astype(float)`.'
        )
        raise TypeError(msg)
    values = column.numbers()
    if np.isinf(values).any():
        n_infinite = int(np.isinf(values).sum())
        msg = f"{column.said} has {n_infinite} infinite values. Replace them, by NaN where they are unknown."
        raise ValueError(msg)
    return Item(keys, "obs", NUMBER, Numbers(values))


def is_label(column: pd.Series) -> bool:
    """Whether a column holds labels; numbers that are stored as objects could be either."""
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) in OBJECTS_OF_LABELS
    is_text = isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype)
    return is_text or bool(pd.api.types.is_bool_dtype(column.dtype))


def labels(column: _obs.Column) -> pd.Categorical:
    """Labels with categories that files can store: numbers as they are, all else as strings."""
    values = column.values
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.categories.dtype.kind in "iuf":
        return pd.Categorical(values)
    return pd.Categorical(column.labels(unused=True))
