"""Carry labels, numbers and features of the source over to the target's cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _keys, _matches
from psalm.core.rows import Rows
from psalm.core.transfer import Averages, Carried, Labels, Numbers, carry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.core.coupling import Coupling

STEP = "tl.transfer"
PLACES = ("obs", "obsm", "layers")
LABEL, NUMBER, AVERAGE = "label", "number", "average"
OWN = ["target", "into", "slot"]
"""Columns of the table that tell one result from another."""


def transfer(
    mdata: MuData,
    *,
    keys: str | Iterable[str],
    source: str,
    target: str,
    match_key: str = _keys.MATCH,
    key_added: str = _keys.TRANSFER,
) -> pd.DataFrame:
    """Carry what is known of the source's cells over to the target's cells, by the mass between them.

    Uses the exact coupling, a tile at a time, in one pass for all keys. A result is an average over all cells that a
    cell may match, and so is shrunk towards the mean of its treatment; where the match is vague it says the treatment's
    commonest label or mean and nothing of the cell. ``obs[match_key + "_entropy"]`` says how vague a cell's match is.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    keys
        What is carried over: columns of ``obs``, keys of ``obsm`` or of ``layers``, or "X" for the matrix itself.
        Of a name that is in several of them, say which: "obs:name", "obsm:name", "layers:name".
    source
        The modality that has them.
    target
        The modality that receives them.
    match_key
        ``key_added`` of :func:`psalm.tl.match`, made in either direction.
    key_added
        Name of the record in ``uns``. Later calls under the same name add to it.

    Returns
    -------
    The rows of the record that this call wrote: ``source``, ``target``, ``match_key``, ``key``, ``place``, ``kind``,
    ``into``, ``slot``, ``n_cells`` of the target, ``n_without``: those without a result (no mass, or none of it known),
    and ``confidence``: its mean over the others. Writes into ``mdata[target]``, with ``slot`` = ``<key>_from_<source>``
    ("/" replaced by "|", since files do not allow it in names):

    - labels (categorical, text and boolean columns): ``obs[slot]``, a categorical of the source's categories ("False"
      and "True" for booleans): the label with most mass, of equals the first. ``obs[slot + "_confidence"]``: its share
      of the cell's mass among labelled cells; cells without a label take no part.
    - numbers: ``obs[slot]``, their mean by mass over the cells where they are known; ``obs[slot + "_sd"]``, the
      standard deviation of the matched values (what one partner may have, not the error of the mean), both in the
      column's units; ``obs[slot + "_confidence"]``: the share of the cell's mass for which the value is known.
    - ``obsm``: ``obsm[slot]``, float32, averages of the same shape; a DataFrame stays one, with "/" in its column names
      replaced by "|". Images are averaged pixel by pixel, which blurs them.
    - ``layers`` and "X": ``obsm[slot]`` (n_target, n_source_features) float32, averages in the source's units.

    Cells without a result are NaN. Writes ``uns[key_added]``: ``params``, ``table`` (the record of all calls), and
    ``features``: by target and slot, the names of features as they are.

    Raises
    ------
    KeyError
        Unknown modality, match or key.
    TypeError
        Values that are neither labels nor numbers.
    ValueError
        A name that is in several places; values that are infinite, or NaN in arrays; slots that something else wrote;
        a match of other modalities, or one that does not fit the cells any more.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> table = psalm.tl.transfer(mdata, keys=["perturbation", "X"], source="a", target="b")
    >>> table["slot"].tolist(), table["n_without"].tolist()
    (['perturbation_from_a', 'X_from_a'], [0, 0])
    >>> mdata["b"].obsm["X_from_a"].shape
    (300, 40)
    """
    giver, receiver = _access.two_modalities(_access.container(mdata), source, target)
    _access.claim(mdata, key_added, STEP)
    items = [_item(giver, source, key) for key in _asked(keys)]
    _require_free(mdata, key_added, receiver, target, items)
    coupling = _towards(mdata, match_key, source, target)
    found = carry(coupling, [item.carried for item in items])
    table = _table(items, found, source, target, match_key)
    _drop(_record(mdata, key_added), table, receiver)
    for item, values in zip(items, found, strict=True):
        _write(receiver, item, values)
    _write_record(mdata, key_added, table, {target: {i.keys.base: i.names for i in items if i.names is not None}})
    return table


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
        return _slots(self.keys, self.kind)


def _slots(keys: _keys.TransferKeys, kind: str) -> list[tuple[str, str]]:
    """Where a result of this kind goes: slots of ``obs`` in the order of the core's result, or one of ``obsm``."""
    if kind == AVERAGE:
        return [("obsm", keys.base)]
    columns = (keys.base, keys.spread, keys.confidence) if kind == NUMBER else (keys.base, keys.confidence)
    return [("obs", column) for column in columns]


def _slots_of(row: Any) -> list[tuple[str, str]]:
    """The same of a row of the record."""
    return _slots(_keys.TransferKeys(str(row.key), str(row.source)), str(row.kind))


def _asked(keys: str | Iterable[str]) -> list[str]:
    """The keys as a list of different strings."""
    asked = [keys] if isinstance(keys, str) else list(keys)
    if not asked or not all(isinstance(key, str) for key in asked) or len(set(asked)) < len(asked):
        msg = f"`keys={keys!r}` must be a name, or a list of different names, of obs, obsm or layers of the source."
        raise ValueError(msg)
    return asked


def _find(adata: AnnData, source: str, key: str) -> tuple[str, str]:
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
    here = "; ".join(f"in {place}: {_checks.listed(getattr(adata, place))}" for place in PLACES)
    msg = f"`keys`: {key!r} is not in `mdata[{source!r}]`. Found {here}. Pass some of these, or 'X'."
    raise KeyError(msg)


def _item(adata: AnnData, source: str, key: str) -> Item:
    """What is to be carried over under a key."""
    place, name = _find(adata, source, key)
    keys = _keys.TransferKeys(name, source)
    where = f"`mdata[{source!r}]." + ("X`" if place == "X" else f"{place}[{name!r}]`")
    if place == "obs":
        return _of_column(adata.obs[name], keys, where)
    values = adata.X if place == "X" else getattr(adata, place)[name]
    if values is None:
        msg = f"{where} is empty. Pass a key of obs, obsm or layers."
        raise ValueError(msg)
    rows = _rows(values, where)
    names = adata.var_names if place != "obsm" else getattr(values, "columns", None)
    shape = rows.shape[1:]
    return Item(keys, place, AVERAGE, Averages(rows), shape, names=None if names is None else names.astype(str))


def _of_column(column: pd.Series, keys: _keys.TransferKeys, where: str) -> Item:
    """A column of labels or of numbers."""
    if _is_label(column):
        labels = _labels(column)
        return Item(keys, "obs", LABEL, Labels(np.asarray(labels.codes)), categories=labels[:0])
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


def _is_label(column: pd.Series) -> bool:
    """Whether a column holds labels; numbers that are stored as objects could be either."""
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) in ("string", "boolean", "empty", "categorical")
    is_text = isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype)
    return is_text or bool(pd.api.types.is_bool_dtype(column.dtype))


def _labels(column: pd.Series) -> pd.Categorical:
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


def _rows(values: Any, where: str) -> Rows:
    """Finite values that are read some cells at a time."""
    if isinstance(values, pd.DataFrame):
        wrong = [str(name) for name in values if values[name].dtype.kind not in "biuf"]
        if wrong:
            msg = f"{where} has columns that are not numbers: {_checks.listed(wrong, 5)}. Drop or convert them."
            raise TypeError(msg)
        values = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if sparse.issparse(values) and values.format != "csr":
        values = values.tocsr()
    if not hasattr(values, "shape") or not hasattr(values, "dtype") or values.dtype.kind not in "biuf":
        values = _access.numeric(values, where)
    rows = Rows(values, where)
    if rows.in_memory and not np.isfinite(values.data if sparse.issparse(values) else values).all():
        _checks.finite(values, where)
    return rows


def _towards(mdata: MuData, match_key: str, source: str, target: str) -> Coupling:
    """The exact coupling with the target's cells as rows."""
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    ends = str(params["source"]), str(params["target"])
    if set(ends) != {source, target}:
        msg = (
            f"The match {match_key!r} is between {ends[0]!r} and {ends[1]!r}, not between {source!r} and {target!r}. "
            "Pass another `match_key=`, or run `tl.match` for these modalities."
        )
        raise ValueError(msg)
    coupling = _matches.coupling(mdata, match_key)
    if not coupling.blocks:
        msg = f"No treatment of the match {match_key!r} has cells on both sides here: nothing can be carried over."
        raise ValueError(msg)
    return coupling if ends[0] == target else coupling.transpose


def _record(mdata: MuData, key_added: str) -> pd.DataFrame:
    """The table of earlier calls."""
    return mdata.uns[key_added]["table"] if key_added in mdata.uns else pd.DataFrame(columns=OWN)


def _require_free(mdata: MuData, key_added: str, adata: AnnData, target: str, items: Sequence[Item]) -> None:
    """Refuse to write two results to one slot, or over what an earlier call under this name did not write."""
    slots = [slot for item in items for slot in item.slots]
    twice = [slot for slot in dict.fromkeys(slots) if slots.count(slot) > 1]
    if twice:
        names = _checks.listed(f"{room}[{slot}]" for room, slot in twice)
        msg = f"`keys`: several of them would be written to {names}. Pass them in different calls, and copy the first."
        raise ValueError(msg)
    record = _record(mdata, key_added)
    own = {slot for row in record[record["target"].astype(str) == target].itertuples() for slot in _slots_of(row)}
    taken = [slot for slot in slots if slot not in own and slot[1] in getattr(adata, slot[0])]
    if taken:
        names = _checks.listed(f"{room}[{slot}]" for room, slot in taken)
        msg = (
            f"`mdata[{target!r}]` has {names}, which `tl.transfer` did not write under `key_added={key_added!r}` "
            "and which would be lost. Rename or delete them."
        )
        raise ValueError(msg)


def _drop(record: pd.DataFrame, table: pd.DataFrame, adata: AnnData) -> None:
    """Take away earlier results of the same name, all their columns."""
    for row in record[_same(record, table)].itertuples():
        for room, slot in _slots_of(row):
            if slot in getattr(adata, room):
                del getattr(adata, room)[slot]


def _same(record: pd.DataFrame, table: pd.DataFrame) -> Any:
    """Rows of the record that the table replaces."""
    return pd.MultiIndex.from_frame(record[OWN].astype(str)).isin(pd.MultiIndex.from_frame(table[OWN]))


def _write(adata: AnnData, item: Item, values: FloatArray) -> None:
    if item.kind == AVERAGE:
        kept: Any = values.reshape(len(values), *item.shape)
        if item.place == "obsm" and item.names is not None:
            kept = pd.DataFrame(kept, index=adata.obs_names, columns=_access.writable_columns(item.names))
        adata.obsm[item.keys.base] = kept
        return
    for (_, column), found in zip(item.slots, values.T, strict=True):
        adata.obs[column] = found
    if item.categories is not None:
        codes = np.where(np.isnan(values[:, 0]), -1, values[:, 0]).astype(int)
        adata.obs[item.keys.base] = pd.Categorical.from_codes(codes, dtype=item.categories.dtype)


def _table(
    items: Sequence[Item], found: Sequence[FloatArray], source: str, target: str, match_key: str
) -> pd.DataFrame:
    """One row per thing carried over."""
    rows = []
    for item, values in zip(items, found, strict=True):
        missing = np.isnan(values[:, 0]) if values.shape[1] else np.zeros(len(values), dtype=bool)
        confidence = values[~missing, -1] if item.kind != AVERAGE else np.empty(0)
        rows.append(
            {
                "source": source,
                "target": target,
                "match_key": match_key,
                "key": item.keys.key,
                "place": item.place,
                "kind": item.kind,
                "into": item.slots[0][0],
                "slot": item.keys.base,
                "n_cells": len(values),
                "n_without": int(missing.sum()),
                "confidence": float(confidence.mean()) if len(confidence) else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _write_record(mdata: MuData, key_added: str, table: pd.DataFrame, names: dict[str, dict[str, pd.Index]]) -> None:
    """Add to what earlier calls wrote under this name."""
    record = _record(mdata, key_added)
    stored = mdata.uns.get(key_added, {})
    features = {target: dict(slots) for target, slots in stored.get("features", {}).items()}
    for target, slots in names.items():
        known = features.setdefault(target, {})
        for slot in table["slot"][table["into"] == "obsm"]:
            known.pop(slot, None)
        known.update({slot: np.array(found, dtype=object) for slot, found in slots.items()})
    kept = record[~_same(record, table)]
    mdata.uns[key_added] = {
        "params": {"step": STEP},
        "table": pd.concat([kept, table], ignore_index=True) if len(kept) else table.copy(),
        "features": features,
    }
