"""What :func:`psalm.tl.transfer` carries over: a key of an AnnData, read into what the core can average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _matrix
from psalm.core.transfer import Averages, Labels, Numbers

if TYPE_CHECKING:
    from anndata import AnnData

    from psalm.core.transfer import Carried

PLACES = ("obs", "obsm", "layers")
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


def find(adata: AnnData, source: str, key: str) -> tuple[str, str]:
    """Where a key is, and its name there."""
    if key == "X":
        return "X", "X"
    place, _, name = key.partition(":")
    if place in PLACES and name:
        found = [place] if name in getattr(adata, place) else []
    else:
        name = key
        found = [place for place in PLACES if key in getattr(adata, place)]
    if len(found) == 1:
        return found[0], name
    if found:
        msg = (
            f"`keys`: {key!r} is in {' and in '.join(f'`{place}`' for place in found)} of `mdata[{source!r}]`. "
            f"Say which: {_checks.listed(f'{place}:{key}' for place in found)}."
        )
        raise ValueError(msg)
    msg = (
        f"`keys`: {key!r} is not in `mdata[{source!r}]`. Found in obs: {_checks.listed(adata.obs)}. "
        f"{_access.feature_slots(adata)} Pass some of these, or 'X'."
    )
    raise KeyError(msg)


def item(adata: AnnData, source: str, key: str) -> Item:
    """What is to be carried over under a key."""
    place, name = find(adata, source, key)
    keys = _keys.TransferKeys(name, source)
    where = f"`mdata[{source!r}]." + ("X`" if place == "X" else f"{place}[{name!r}]`")
    if place == "obs":
        return of_column(adata.obs[name], keys, where)
    values = adata.X if place == "X" else getattr(adata, place)[name]
    if values is None:
        msg = f"{where} is empty. Pass a key of obs, obsm or layers. {_access.feature_slots(adata)}"
        raise ValueError(msg)
    names = adata.var_names if place != "obsm" else getattr(values, "columns", None)
    found = _matrix.rows_of(values, where, names, adata.obs_names)
    kept = None if names is None else pd.Index([str(name) for name in names])
    return Item(keys, place, AVERAGE, Averages(found), found.shape[1:], names=kept)


def of_column(column: pd.Series, keys: _keys.TransferKeys, where: str) -> Item:
    """A column of labels or of numbers."""
    if is_label(column):
        found = labels(column)
        return Item(keys, "obs", LABEL, Labels(np.asarray(found.codes)), categories=found[:0])
    if column.dtype.kind not in "iuf":
        msg = (
            f"{where} is of type {column.dtype} and holds {pd.api.types.infer_dtype(column, skipna=True)} values: "
            'neither labels nor numbers. Convert it, with `.astype("category")` or `.astype(float)`.'
        )
        raise TypeError(msg)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        msg = f"{where} has {int(np.isinf(values).sum())} infinite values. Replace them, by NaN where they are unknown."
        raise ValueError(msg)
    return Item(keys, "obs", NUMBER, Numbers(values))


def is_label(column: pd.Series) -> bool:
    """Whether a column holds labels; numbers that are stored as objects could be either."""
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) in ("string", "boolean", "empty", "categorical")
    is_text = isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype)
    return is_text or bool(pd.api.types.is_bool_dtype(column.dtype))


def labels(column: pd.Series) -> pd.Categorical:
    """Labels with categories that files can store: numbers as they are, all else as strings."""
    found = column.astype("category").cat
    categories = found.categories
    if categories.dtype.kind in "iuf":
        return pd.Categorical.from_codes(found.codes, categories, ordered=found.ordered)
    texts = pd.Index([str(category) for category in categories])
    if not texts.is_unique:
        twice = _checks.listed(texts[texts.duplicated()].unique(), 5)
        msg = f"obs[{column.name!r}] has labels that only their type tells apart: {twice}. Make them all strings."
        raise ValueError(msg)
    return pd.Categorical.from_codes(found.codes, texts, ordered=found.ordered)
