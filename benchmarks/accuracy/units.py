"""A table that is made unit by unit, kept in a file, and gone on with where it was left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Unit = dict[str, Any]


def resumed(units: list[Unit], run: Callable[[Unit], list[Unit]], file: Path | None) -> pd.DataFrame:
    """Rows of all units. Those that the file has are not run again; the others are written as they come.

    Parameters
    ----------
    units
        The columns that name each piece of work; all have the same.
    run
        Makes the rows of one unit, without these columns.
    file
        CSV, or None to keep nothing.
    """
    names = list(units[0])
    found = pd.read_csv(file).to_dict("records") if file is not None and file.exists() else []
    done = {label(row, names) for row in found}
    progress = tqdm([unit for unit in units if label(unit, names) not in done], unit="unit")
    for unit in progress:
        progress.set_postfix_str(", ".join(map(str, unit.values())))
        found += [unit | row for row in run(unit)]
        if file is not None:
            write(pd.DataFrame(found), file)
    wanted = {label(unit, names) for unit in units}
    return pd.DataFrame([row for row in found if label(row, names) in wanted])


def label(row: Unit, names: list[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in names)


def write(table: pd.DataFrame, file: Path) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    table.to_csv(part, index=False)
    part.replace(file)
