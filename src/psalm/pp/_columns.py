"""Columns of the user's, read as text: one label per cell of each modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _obs, _spelling

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import IntArray

JOINER = " : "
Key = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Levels = dict[str, dict[str, str]]  # treatment → factor → level


def by_modality(mdata: MuData, key: Key, argument: str) -> dict[str, list[str]]:
    """Columns of each modality, as many in each."""
    if isinstance(key, Mapping):
        _access.by_modality(mdata, key, argument)
        for name in mdata.mod:
            if name not in key:
                msg = (
                    f"`{argument}` names no column for modality {name!r}. It names {_checks.listed(key)}: add {name!r}."
                )
                raise KeyError(msg)
    given = {name: key[name] if isinstance(key, Mapping) else key for name in mdata.mod}
    columns = {name: _listed(one) for name, one in given.items()}
    for name, listed in columns.items():
        if not listed or len(set(listed)) < len(listed):
            msg = f"`{argument}` for {name!r} is {listed}. Pass one column, or a list of columns, each once."
            raise ValueError(msg)
    if len({len(listed) for listed in columns.values()}) > 1:
        found = ", ".join(f"{name}: {_checks.listed(listed)}" for name, listed in columns.items())
        msg = f"`{argument}` names more columns in one modality than in another: {found}. Pass as many, in one order."
        raise ValueError(msg)
    return columns


def _listed(columns: Any) -> list[str]:
    return list(columns) if pd.api.types.is_list_like(columns) else [columns]


def named(mdata: MuData, key: Key, within: Key | None) -> set[str]:
    """Every column that is read."""
    columns = [*by_modality(mdata, key, "key").values()]
    if within is not None:
        columns += by_modality(mdata, within, "within").values()
    return {column for listed in columns for column in listed}


def read(mdata: MuData, columns: Mapping[str, list[str]], argument: str) -> tuple[dict[str, pd.Series], Levels]:
    """Label of each cell of each modality, NaN where missing; of several columns their combination and its levels."""
    factors = next(iter(columns.values()))
    advice = "Pass one of these, or a mapping from modality to column."
    parts = [
        {name: _obs.find(mdata, name, listed[i], argument, advice=advice).labels() for name, listed in columns.items()}
        for i in range(len(factors))
    ]
    return (parts[0], {}) if len(parts) == 1 else _combined(parts, factors)


def aligned(columns: Mapping[str, pd.Series], *, ascend: bool) -> dict[str, pd.Series]:
    """The columns with the same categories: in the order of the first modality, then sorted.

    With ``ascend``, categories that are all numbers ascend, unless the first modality's are ordered.
    """
    first = next(iter(columns.values())).cat
    rest = {name for column in columns.values() for name in column.cat.categories} - set(first.categories)
    names = [*first.categories, *sorted(rest)]
    numbers = [_spelling.number(name) for name in names]
    if ascend and not first.ordered and None not in numbers:
        names = [name for _number, name in sorted(zip(numbers, names, strict=True))]
    return {name: column.cat.set_categories(names, ordered=False) for name, column in columns.items()}


def joint(mdata: MuData, columns: Mapping[str, pd.Series], what: str) -> pd.Series:
    """Label of each cell of the container; cells of one name must agree."""
    codes = np.full(mdata.n_obs, -1)
    for name, column in columns.items():
        known = np.flatnonzero(column.notna())
        rows, found = mdata.obs_names.get_indexer(column.index[known]), column.cat.codes.to_numpy()[known]
        clash = (codes[rows] >= 0) & (codes[rows] != found)
        if clash.any():
            msg = (
                f"{int(clash.sum())} cells of modality {name!r} have another {what} than the cells of the same name "
                f"in another modality, e.g. {column.index[known][clash][0]!r}. The same name means the same cell: "
                "rename the cells of one modality, or correct the labels."
            )
            raise ValueError(msg)
        codes[rows] = found
    categories = next(iter(columns.values())).cat.categories
    return pd.Series(pd.Categorical.from_codes(codes, categories=categories), index=mdata.obs_names)


def _combined(parts: Sequence[Mapping[str, pd.Series]], factors: Sequence[str]) -> tuple[dict[str, pd.Series], Levels]:
    """Combinations of the columns, in the order of their levels; a cell with any part missing has none."""
    parts = [aligned(columns, ascend=True) for columns in parts]
    categories = [next(iter(columns.values())).cat.categories for columns in parts]
    sizes = [max(len(names), 1) for names in categories]
    flat = {name: _flat([columns[name] for columns in parts], sizes) for name in parts[0]}
    found = np.unique(np.concatenate(list(flat.values())))
    found = found[found >= 0]
    rows = zip(
        *(names[codes] for names, codes in zip(categories, np.unravel_index(found, sizes), strict=True)), strict=True
    )
    levels = [tuple(row) for row in rows]
    names = [JOINER.join(row) for row in levels]
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        msg = f"Different levels give one name: {_checks.listed(twice)}. Rename levels that contain {JOINER!r}."
        raise ValueError(msg)
    columns = {}
    for name, one in flat.items():
        codes = np.where(one < 0, -1, np.searchsorted(found, one))
        columns[name] = pd.Series(pd.Categorical.from_codes(codes, categories=names), parts[0][name].index)
    return columns, {name: dict(zip(factors, row, strict=True)) for name, row in zip(names, levels, strict=True)}


def _flat(columns: Iterable[pd.Series], sizes: Sequence[int]) -> IntArray:
    """One number per combination of levels (n_cells,), −1 where a level is missing."""
    codes = np.column_stack([column.cat.codes.to_numpy() for column in columns]).astype(np.int64)
    combined = np.ravel_multi_index(tuple(np.maximum(codes, 0).T), tuple(sizes))
    return np.where((codes < 0).any(axis=1), -1, combined)
