"""Treatment of each cell: its label, translated, split into parts, with controls pooled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from psalm import _checks, _obs, _spelling
from psalm.pp import _columns

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.pp._columns import Key, Levels

CONTROL = "control"
PRESENT, ABSENT = "present", "absent"
FACTORS = ["treatment", "factor", "level"]
Control: TypeAlias = Hashable | Iterable[Hashable]
Translation: TypeAlias = "Mapping[Any, Any] | pd.Series | Callable[[str], Any]"
Parts = dict[str, tuple[str, ...] | None]  # label → its parts after mapping, None where mapped to nothing


@dataclass(frozen=True)
class Labels:
    """Treatment of each cell of each modality.

    Parameters
    ----------
    columns
        Categorical of each modality, with the same categories; NaN for no treatment.
    n_to_nothing
        Cells of each modality whose label is mapped to nothing.
    control
        The treatment that is the negative control.
    levels
        What each treatment is made of; empty without factors.
    """

    columns: dict[str, pd.Series]
    n_to_nothing: dict[str, int]
    control: str | None
    levels: Levels

    def factors(self, kept: Iterable[str]) -> pd.DataFrame | None:
        """One row per treatment and factor, for some treatments; None without factors."""
        if not self.levels:
            return None
        levels = {name: self.levels[name] for name in kept}
        factors = dict.fromkeys(factor for one in levels.values() for factor in one)
        rows = [(name, factor, one.get(factor, ABSENT)) for name, one in levels.items() for factor in factors]
        return pd.DataFrame(rows, columns=FACTORS, dtype=object)


def read(
    mdata: MuData, key: Key, *, mapping: Translation | None, control: Control | None, separator: str | None
) -> Labels:
    """Treatment of each cell."""
    columns = _columns.by_modality(mdata, key, "key")
    _check(columns, mapping, separator)
    raw, levels = _columns.read(mdata, columns, "key")
    parts = _parts(raw, mapping, separator)
    controls, pooled = _controls(control, parts, separator)
    new = {label: _name(found, controls, pooled, separator) for label, found in parts.items()}
    named = {name: _obs.relabelled(column, map(new.get, column.cat.categories)) for name, column in raw.items()}
    return Labels(
        columns=_columns.aligned(named, ascend=mapping is not None),
        n_to_nothing={name: int((named[name].isna() & column.notna()).sum()) for name, column in raw.items()},
        control=pooled,
        levels=_present(parts, new, controls) if separator else _merged(levels, new),
    )


def _check(columns: Mapping[str, list[str]], mapping: Translation | None, separator: str | None) -> None:
    """Require arguments that fit together."""
    listed = next(iter(columns.values()))
    for argument, value in (("mapping", mapping), ("separator", separator)):
        if value is not None and len(listed) > 1:
            msg = (
                f"`{argument}` applies to the labels of one column, and `key` names {_checks.listed(listed)}. "
                "Translate the columns first, or pass one column."
            )
            raise ValueError(msg)
    if not (mapping is None or isinstance(mapping, Mapping | pd.Series) or callable(mapping)):
        msg = (
            f"`mapping` is of type {type(mapping).__name__}. "
            "Pass a mapping or a Series from label to treatment, or a function of a label."
        )
        raise TypeError(msg)
    if separator is not None and (not isinstance(separator, str) or not separator):
        msg = f"`separator={separator!r}` must be a non-empty string, such as '+'."
        raise ValueError(msg)


def _parts(columns: Mapping[str, pd.Series], mapping: Translation | None, separator: str | None) -> Parts:
    """Parts of each label, sorted and each once."""
    held = _table(mapping) if isinstance(mapping, Mapping | pd.Series) else {}
    labels = {name: column.cat.categories for name, column in columns.items()}
    units = {
        label: [label] if label in held else _split(label, separator) for found in labels.values() for label in found
    }
    if mapping is None:
        table: dict[str, str | None] = {}
    elif isinstance(mapping, Mapping | pd.Series):
        for name, found in labels.items():
            _refuse_unknown(name, {unit for label in found for unit in units[label]}, held, separator)
        table = held
    else:
        table = _called(mapping, dict.fromkeys(unit for found in units.values() for unit in found))
    return {label: _translated(found, table, separator) for label, found in units.items()}


def _split(label: str, separator: str | None) -> list[str]:
    """Parts of a combination."""
    if separator is None:
        return [label]
    parts = [part.strip() for part in label.split(separator)]
    if not all(parts):
        msg = (
            f"The label {label!r} has an empty part where it is split at `separator={separator!r}`. Correct the label."
        )
        raise ValueError(msg)
    return parts


def _table(mapping: Mapping[Any, Any] | pd.Series) -> dict[str, str | None]:
    """The mapping as text."""
    table: dict[str, str | None] = {}
    for label, value in _pairs(mapping):
        if _is_missing(label):
            msg = "`mapping` has a missing value as a label. Cells without label have no treatment: fill the column."
            raise ValueError(msg)
        treatment, name = _treatment(label, value), _obs.text(label)
        if table.setdefault(name, treatment) != treatment:
            msg = f"`mapping` maps {name!r} to both {table[name]!r} and {treatment!r}. Give each label once."
            raise ValueError(msg)
    return table


def _pairs(mapping: Mapping[Any, Any] | pd.Series) -> Iterable[tuple[Any, Any]]:
    """Labels and treatments, numbers in the precision that they are stored with."""
    if isinstance(mapping, pd.Series):
        return zip(_obs.scalars(mapping.index), _obs.scalars(mapping), strict=True)
    return mapping.items()


def _called(function: Callable[[str], Any], labels: Iterable[str]) -> dict[str, str | None]:
    """What the function answers for each label."""
    table = {}
    for label in labels:
        try:
            value = function(label)
        except Exception as error:
            error.add_note(f"`mapping` was called with the label {label!r}.")
            raise
        table[label] = _treatment(label, value)
    return table


def _treatment(label: object, value: object) -> str | None:
    if pd.api.types.is_list_like(value):
        msg = f"`mapping` gives a {type(value).__name__} for {str(label)!r}. Give one treatment, or None."
        raise TypeError(msg)
    return None if _is_missing(value) else _obs.text(value)


def _is_missing(value: object) -> bool:
    return not pd.api.types.is_list_like(value) and bool(pd.isna(value))


def _refuse_unknown(name: str, found: set[str], table: Mapping[str, str | None], separator: str | None) -> None:
    """Require that a modality's labels are labels of the mapping, or treatments already."""
    treatments = {part for value in table.values() if value is not None for part in _split(value, separator)}
    passing = {label for label in found if label not in table}
    unknown = sorted(passing - treatments)
    if unknown:
        msg = (
            f"`mapping` does not hold {len(unknown)} labels of modality {name!r}: {_checks.listed(unknown)}. It holds "
            f"{_checks.listed(table)}, and leads to {_checks.listed(sorted(treatments))}. "
            f"{_spelling.suggestion(unknown, table)}"
            "Add these labels, or map them to None to leave their cells without treatment."
        )
        raise ValueError(msg)
    unclear = sorted(label for label in found & treatments if table.get(label, label) != label)
    if passing and unclear:
        msg = (
            f"In modality {name!r}, {_checks.listed(sorted(passing))} are treatments of `mapping` already, but "
            f"{_checks.listed(unclear)} are both treatments and labels that it maps to others. "
            "Rename labels so that they are one or the other."
        )
        raise ValueError(msg)


def _translated(units: Iterable[str], table: Mapping[str, str | None], separator: str | None) -> tuple[str, ...] | None:
    values = [table.get(unit, unit) for unit in units]
    if any(value is None for value in values):
        return None
    return tuple(sorted({part for value in values if value is not None for part in _split(value, separator)}))


def _controls(control: Control | None, parts: Parts, separator: str | None) -> tuple[frozenset[str], str | None]:
    """Labels of controls, and the one name that they get."""
    if control is None:
        return frozenset(), None
    given = _obs.scalars(control) if isinstance(control, Iterable) and pd.api.types.is_list_like(control) else [control]
    names = list(dict.fromkeys(_obs.text(name) for name in given))
    known = dict.fromkeys(part for found in parts.values() if found is not None for part in found)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = "the parts of the labels" if separator else "the treatments"
        msg = (
            f"`control` names {_checks.listed(unknown)}, which no modality has. "
            f"Found as {what}, after `mapping`: {_checks.listed(known)}. {_spelling.suggestion(unknown, known)}"
            "Pass one or several of these, or None."
        )
        raise ValueError(msg)
    if len(names) > 1 and CONTROL in known and CONTROL not in names:
        msg = (
            f"The {len(names)} labels of `control` would be pooled as {CONTROL!r}, which is the label of another "
            "treatment. Add it to `control`, or map it to another name."
        )
        raise ValueError(msg)
    return frozenset(names), names[0] if len(names) == 1 else CONTROL


def _name(
    parts: tuple[str, ...] | None, controls: frozenset[str], pooled: str | None, separator: str | None
) -> str | None:
    """Name of a treatment; controls drop out of combinations."""
    if parts is None:
        return None
    active = [part for part in parts if part not in controls]
    return (separator or "").join(active) if active else pooled


def _present(parts: Parts, new: Mapping[str, str | None], controls: frozenset[str]) -> Levels:
    """Parts of each treatment, as levels."""
    return {
        name: {part: PRESENT for part in parts[label] or () if part not in controls}
        for label, name in new.items()
        if name is not None
    }


def _merged(levels: Levels, new: Mapping[str, str | None]) -> Levels:
    """Levels of the treatments; of pooled controls, those that they share."""
    merged: Levels = {}
    for label, found in levels.items():
        one = merged.setdefault(str(new[label]), dict(found))
        for factor, level in found.items():
            if one[factor] != level:
                one[factor] = CONTROL
    return merged
