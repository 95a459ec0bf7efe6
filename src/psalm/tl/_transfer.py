"""Carry labels, numbers and features of the source over to the target's cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _carried, _checks, _estimate, _keys, _matches
from psalm._calls import recorded
from psalm.core.transfer import carry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.core.coupling import Coupling

STEP = "tl.transfer"
OWN = ["target", "into", "slot"]
"""Columns of the table that tell one result from another."""


@recorded
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
        What the source does not have may be a column of ``mdata.obs``.
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
    The rows of the record that this call wrote, with ``source``, ``target``, ``match_key``, ``key``, ``place``,
    ``kind``, ``into``, ``slot``, ``n_cells`` of the target, ``n_without``: those without a result (no mass, or none of
    it known), and ``confidence``: its mean over the others.
    Writes into ``mdata[target]``, with ``slot`` = ``<key>_from_<source>`` ("/" replaced by "|", as files do not allow
    it in names):

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
    MemoryError
        The results would not fit into the memory that is free.
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
    _, receiver = _access.two_modalities(_access.container(mdata), source, target)
    _access.claim(mdata, key_added, STEP)
    items = [_carried.item(mdata, source, key) for key in _asked(keys)]
    _require_free(mdata, key_added, receiver, target, items)
    _require_memory(items, receiver.n_obs)
    coupling = _towards(mdata, match_key, source, target)
    found = carry(coupling, [item.carried for item in items])
    table = _table(items, found, source, target, match_key)
    _drop(_record(mdata, key_added), table, receiver)
    for item, values in zip(items, found, strict=True):
        _write(receiver, item, values)
    _write_record(mdata, key_added, table, {target: {i.keys.base: i.names for i in items if i.names is not None}})
    return table


def _require_memory(items: list[_carried.Item], n_receivers: int) -> None:
    """Results are dense: refuse those that do not fit. Each exists twice, as it is made and as it is kept."""
    needed = {
        f"{item.keys.key!r}": 2.0 * np.dtype(item.carried.dtype).itemsize * n_receivers * item.carried.width
        for item in items
    }
    change = "Results are dense. Carry over fewer features, such as those of `pp.represent`, or for fewer cells."
    _estimate.require("tl.transfer", needed, change)


def _asked(keys: str | Iterable[str]) -> list[str]:
    """The keys as a list of different strings."""
    asked = [keys] if isinstance(keys, str) else list(keys)
    if not asked or not all(isinstance(key, str) for key in asked) or len(set(asked)) < len(asked):
        msg = f"`keys={keys!r}` must be a name, or a list of different names, of obs, obsm or layers of the source."
        raise ValueError(msg)
    return asked


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


def _require_free(mdata: MuData, key_added: str, adata: AnnData, target: str, items: Sequence[_carried.Item]) -> None:
    """Refuse to write two results to one slot, or over what an earlier call under this name did not write."""
    slots = [slot for item in items for slot in item.slots]
    twice = [slot for slot in dict.fromkeys(slots) if slots.count(slot) > 1]
    if twice:
        names = _checks.listed(f"{room}[{slot}]" for room, slot in twice)
        msg = f"`keys`: several of them would be written to {names}. Pass them in different calls, and copy the first."
        raise ValueError(msg)
    record = _record(mdata, key_added)
    own = {
        slot for row in record[record["target"].astype(str) == target].itertuples() for slot in _carried.slots_of(row)
    }
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
        for room, slot in _carried.slots_of(row):
            if slot in getattr(adata, room):
                del getattr(adata, room)[slot]


def _same(record: pd.DataFrame, table: pd.DataFrame) -> Any:
    """Rows of the record that the table replaces."""
    return pd.MultiIndex.from_frame(record[OWN].astype(str)).isin(pd.MultiIndex.from_frame(table[OWN]))


def _write(adata: AnnData, item: _carried.Item, values: FloatArray) -> None:
    if item.kind == _carried.AVERAGE:
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
    items: Sequence[_carried.Item], found: Sequence[FloatArray], source: str, target: str, match_key: str
) -> pd.DataFrame:
    """One row per thing carried over."""
    rows = []
    for item, values in zip(items, found, strict=True):
        missing = np.isnan(values[:, 0]) if values.shape[1] else np.zeros(len(values), dtype=bool)
        confidence = values[~missing, -1] if item.kind != _carried.AVERAGE else np.empty(0)
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
