"""The one reader of columns of ``obs``: finds a column, and reads it as labels or as numbers."""

from __future__ import annotations

import datetime as dt
import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from psalm import _checks, _keys, _spelling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray

LARGEST_WHOLE = 1e22
"""Up to here the digits of a whole number in double precision are those it was written with."""
OBJECTS_OF_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")


@dataclass(frozen=True)
class Column:
    """A column of ``obs``.

    Parameters
    ----------
    values
        Of each of the modality's cells.
    said
        How messages call the column.
    """

    values: pd.Series
    said: str

    def labels(self, *, unused: bool = False) -> pd.Series:
        """As a categorical of text, as :func:`labels` makes it."""
        return labels(self.values, self.said, unused=unused)

    @property
    def is_number(self) -> bool:
        """Whether the values are real numbers, in whatever type they are stored."""
        values = self.values.cat.categories if isinstance(self.values.dtype, pd.CategoricalDtype) else self.values
        if values.dtype == object:
            return pd.api.types.infer_dtype(values, skipna=True) in OBJECTS_OF_NUMBERS
        return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values)

    def numbers(self) -> FloatArray:
        """As numbers (n_cells,), NaN where missing; ``is_number`` must hold."""
        values = self.values
        if isinstance(values.dtype, pd.CategoricalDtype):
            of_category = pd.Series(values.cat.categories).to_numpy(dtype=np.float64, na_value=np.nan)
            return np.asarray(np.append(of_category, np.nan)[values.cat.codes.to_numpy()])  # code −1 takes the last
        if values.dtype == object:
            values = values.where(values.notna(), np.nan).astype(np.float64)
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def find(
    data: MuData | AnnData,
    name: str,
    key: str,
    argument: str,
    *,
    joint: bool = True,
    advice: str = "Pass one of these.",
) -> Column:
    """A column of a modality's cells: of the modality's ``obs`` or else, with ``joint``, of the container's."""
    found = get(data, name, key, joint=joint)
    return _refuse_unknown(data, name, key, argument, joint=joint, advice=advice) if found is None else found


def get(data: MuData | AnnData, name: str, key: str, *, joint: bool = True) -> Column | None:
    """The same, None where there is no such column."""
    tables = _tables(data, name)
    for said, obs in list(tables.items())[: 2 if joint else 1]:
        if key in obs:
            column = single(obs, key, said)
            cells = next(iter(tables.values())).index
            return Column(column if obs.index is cells else column.loc[cells], f"`{said}[{key!r}]`")
    return None


def found(data: MuData | AnnData, name: str) -> str:
    """The columns of a modality's ``obs``, and those that only the container's has, for messages."""
    own, *joint = _tables(data, name).values()
    adata = data.mod[name] if hasattr(data, "mod") else data
    notes = {_keys.run(str(slot)) for slot in (*adata.obsm, *own)}  # psalm's own, of no use to who asks
    own = [column for column in own if column not in notes]
    copies = {f"{other}:{column}" for other, adata in getattr(data, "mod", {}).items() for column in adata.obs}
    more = [column for obs in joint for column in obs if column not in copies and column not in own]
    return _checks.listed(own) + (f"; in `mdata.obs`: {_checks.listed(more)}" if more else "")


def meant(data: MuData | AnnData, name: str, key: str) -> str:
    """A sentence on the columns that are spelled like a name that is not there; nothing where there are none."""
    there = dict.fromkeys(str(column) for obs in _tables(data, name).values() for column in obs)
    similar = [column for column in there if _spelling.same(_bare(column, data), _bare(str(key), data))]
    return f"Perhaps you mean {_spelling.shown(similar)}. " if similar else ""


def single(obs: pd.DataFrame, key: str, said: str) -> pd.Series:
    """The column of a name, which may be there once only."""
    place = obs.columns.get_loc(key)
    if not isinstance(place, int):
        count = int((obs.columns == key).sum())
        msg = (
            f"`{said}` has {count} columns named {key!r}, so it is not clear which is meant. Rename them, or keep the "
            f"first of each name: `{said} = {said}.loc[:, ~{said}.columns.duplicated()]`."
        )
        raise ValueError(msg)
    column: pd.Series = obs.iloc[:, place]
    return column


def labels(values: pd.Series, said: str, *, unused: bool = False) -> pd.Series:
    """A column as a categorical of text, without unused categories unless these are asked for; ordered where it was.

    Equal texts are one label, such as those of 1, 1.0 and "1". Categories keep their order; else numbers ascend and
    come before text.
    """
    values = values.sparse.to_dense() if isinstance(values.dtype, pd.SparseDtype) else values
    codes, found, ordered = _distinct(values, said, unused=unused)
    _refuse_lists(found, said)
    names = _texts(found, said)
    if values.dtype == object:
        order = sorted(range(len(found)), key=lambda place: _rank(found[place], names[place]))
        names = [names[place] for place in order]
        codes = np.append(np.argsort(np.array(order, dtype=int)), -1)[codes]  # code −1 takes the last
    return _categorical(codes, names, values.index, ordered=ordered)


def relabelled(column: pd.Series, new: Iterable[str | None]) -> pd.Series:
    """The categorical with a new name for each of its categories, None for none; equal names become one."""
    return _categorical(column.cat.codes.to_numpy(), list(new), column.index, ordered=bool(column.cat.ordered))


def text(label: object) -> str:
    """A label as text: of a number, the shortest that its type tells from others, whole numbers without a point.

    So .1 is "0.1" in every precision, and 1.0, which a missing value makes of 1, is "1". Text is brought to Unicode's
    composed form, since the two forms of "é" are one text.
    """
    if isinstance(label, str):
        return _spelling.composed(str(label))
    if isinstance(label, bytes):
        return _spelling.composed(label.decode())
    if isinstance(label, bool | np.bool_) or not isinstance(label, numbers.Number | Decimal):
        return _spelling.composed(str(_day(label)))
    if isinstance(label, numbers.Integral):
        return str(int(label))
    if isinstance(label, numbers.Complex) and not isinstance(label, numbers.Real):
        return str(label)
    narrow = isinstance(label, np.floating) and not isinstance(label, np.longdouble)
    number = float(str(label)) if narrow else float(label)  # type: ignore[arg-type]  # Decimal is no SupportsFloat
    return str(int(number)) if number.is_integer() and abs(number) <= LARGEST_WHOLE else repr(number)


def scalars(values: Any) -> list[Any]:
    """The values as a list, numbers in the precision that they are stored with; pandas would give Python's own."""
    own = getattr(values, "dtype", None)
    own = getattr(own, "numpy_dtype", own)
    if isinstance(own, np.dtype) and own.kind in "iuf" and not pd.isna(values).any():
        return list(np.asarray(values, dtype=own))
    return list(values)


def _tables(data: MuData | AnnData, name: str) -> dict[str, pd.DataFrame]:
    """Where columns are looked for, by how messages call it."""
    if not hasattr(data, "mod"):
        return {"data.obs": data.obs}
    return {f"mdata[{name!r}].obs": data.mod[name].obs, "mdata.obs": data.obs}


def _refuse_unknown(
    data: MuData | AnnData, name: str, key: str, argument: str, *, joint: bool, advice: str
) -> NoReturn:
    """Say where a column was looked for, and what is there."""
    first, *rest = _tables(data, name)
    where = f"is neither in `{first}` nor in `mdata.obs`" if joint and rest else f"is not in `{first}`"
    msg = f"`{argument}={key!r}` {where}. Found: {found(data, name)}. {meant(data, name, key)}{advice}"
    raise KeyError(msg)


def _bare(column: str, data: MuData | AnnData) -> str:
    """The name without the modality that MuData puts before it: "dose" of "rna:dose"."""
    modality, _, rest = column.partition(":")
    return rest if modality in getattr(data, "mod", ()) else column


def _distinct(values: pd.Series, said: str, *, unused: bool) -> tuple[IntArray, list[Any], bool]:
    """Code of each cell, −1 where missing, the distinct values, and whether they are an ordered categorical."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, everything = values.cat.codes.to_numpy(), scalars(values.cat.categories)
        used = np.arange(len(everything)) if unused else np.unique(codes[codes >= 0])
        codes = np.where(codes < 0, -1, np.searchsorted(used, codes))
        return codes, [everything[code] for code in used], bool(values.cat.ordered)
    if values.dtype == object:
        return *_distinct_objects(values, said), False
    plain = isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufc"
    try:
        codes, uniques = pd.factorize(values.to_numpy() if plain else values.array, sort=True)
    except NotImplementedError:  # types of pyarrow that it cannot compare, such as lists
        return *_distinct_objects(values.astype(object), said), False
    return codes, scalars(uniques), False


def _distinct_objects(values: pd.Series, said: str) -> tuple[IntArray, list[Any]]:
    """Code of each cell, −1 where missing, and the distinct values: equal ones of two types, as 1 and True, are two."""
    known, cells = values.notna().to_numpy(), values.to_numpy(dtype=object)
    numbered: dict[tuple[type, Any], int] = {}
    codes = np.full(len(cells), -1)
    try:
        codes[known] = [numbered.setdefault((type(value), value), len(numbered)) for value in cells[known]]
    except TypeError:  # not hashable
        _refuse_lists(cells[known], said)
        raise
    return codes, [value for _, value in numbered]


def _rank(value: Any, name: str) -> tuple[bool, float, str]:
    """Numbers ascend and come before text."""
    is_number = _is_number(value)
    return not is_number, float(value) if is_number else 0.0, name


def _is_number(value: object) -> bool:
    return (
        not isinstance(value, str)
        and isinstance(value, numbers.Real | Decimal)
        and not isinstance(value, bool | np.bool_)
    )


def _refuse_lists(found: Iterable[object], said: str) -> None:
    """Require one value in each cell."""
    for value in found:
        if pd.api.types.is_list_like(value):
            msg = (
                f"{said} has cells that hold several values (a {type(value).__name__}), such as {value!r}, and a label "
                'is one value. Join them, as `.map("+".join)` does with lists of text, and pass `separator="+"` where '
                "`pp.treatment` is to read the parts."
            )
            raise TypeError(msg)


def _texts(found: list[Any], said: str) -> list[str]:
    """Labels as text. Beside numbers, the text of one of them is that number: tables read in chunks mix the two."""
    try:
        texts = [text(value) for value in found]
    except UnicodeDecodeError as error:
        msg = f"{said} holds bytes that are not UTF-8. Decode them by their own encoding, as `.str.decode(...)` does."
        raise ValueError(msg) from error
    of_number: dict[float | None, str] = {
        float(name): name for value, name in zip(found, texts, strict=True) if _is_number(value)
    }
    if not of_number:
        return texts
    return [
        name if _is_number(value) else of_number.get(_spelling.number(name), name)
        for value, name in zip(found, texts, strict=True)
    ]


def _day(label: object) -> object:
    """A time as pandas has it; of midnight the day, as which it is written in tables."""
    if isinstance(label, np.timedelta64):
        return pd.Timedelta(label)
    if isinstance(label, np.datetime64 | dt.datetime):
        time = pd.Timestamp(label)
        return time.date() if time.tz is None and time == time.normalize() else time
    return label


def _categorical(codes: IntArray, names: list[Any], index: pd.Index, *, ordered: bool) -> pd.Series:
    """A categorical of names, None for none; equal names are one."""
    place = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    positions = np.array([*(-1 if name is None else place[name] for name in names), -1])  # code −1 takes the last
    return pd.Series(pd.Categorical.from_codes(positions[codes], categories=list(place), ordered=ordered), index)
