"""Strata, such as donors, inside which cells may be matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _checks, _spelling
from psalm.pp import _columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from psalm.core._types import IntArray
    from psalm.pp._columns import Key

COUNTS = ["treatment", "stratum", "modality", "cells"]


def read(mdata: MuData, within: Key) -> dict[str, pd.Series]:
    """Stratum of each cell of each modality, with the same categories."""
    columns, _levels = _columns.read(mdata, _columns.by_modality(mdata, within, "within"), "within")
    columns = _columns.aligned(columns, ascend=True)
    _columns.joint(mdata, columns, "stratum")
    return columns


def count(treatments: Mapping[str, pd.Series], strata: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Cells of each treatment and stratum that occur together, in each modality; one row for each."""
    first, stratum = (next(iter(columns.values())).cat.categories for columns in (treatments, strata))
    sizes = len(first), len(stratum)
    cells = np.stack([_cells(column, strata[name], sizes) for name, column in treatments.items()], axis=2)
    i, j = np.nonzero(cells.any(axis=2))
    names = list(treatments)
    return pd.DataFrame(
        {
            "treatment": np.repeat(np.asarray(first, dtype=object)[i], len(names)),
            "stratum": np.repeat(np.asarray(stratum, dtype=object)[j], len(names)),
            "modality": np.array(names * len(i), dtype=object),
            "cells": cells[i, j].ravel(),
        },
        columns=COUNTS,
    )


def _cells(treatments: pd.Series, strata: pd.Series, sizes: tuple[int, int]) -> IntArray:
    """Number of cells (n_treatments, n_strata)."""
    codes = np.column_stack([column.cat.codes.to_numpy() for column in (treatments, strata)]).astype(np.int64)
    codes = codes[(codes >= 0).all(axis=1)]
    return np.bincount(np.ravel_multi_index(tuple(codes.T), sizes), minlength=sizes[0] * sizes[1]).reshape(sizes)


def one_sided(counts: pd.DataFrame) -> pd.DataFrame:
    """Treatment × stratum pairs without cells in some modality, as (treatment, stratum) × modality."""
    wide = counts.pivot_table("cells", ["treatment", "stratum"], "modality", sort=False)
    lacking = (wide == 0).any(axis=1)
    if lacking.all():
        shown = [f"{treatment!r} in {stratum!r}" for treatment, stratum in wide.index[:12]]
        msg = (
            "No treatment has cells of all modalities in one stratum of `within`. Each of these "
            f"{len(wide)} pairs is missing in a modality: {', '.join(shown)}{', …' if len(wide) > len(shown) else ''}. "
            f"Check the spelling of strata: {_checks.listed(counts['stratum'].unique())}. {_alike(counts)}"
            "Or leave out `within`."
        )
        raise ValueError(msg)
    return wide[lacking]


def _alike(counts: pd.DataFrame) -> str:
    """Strata that are perhaps the same, in words; nothing where there are none."""
    groups = _spelling.alike(counts["stratum"].astype(str))
    return f"Spelled alike, so perhaps the same: {'; '.join(map(_spelling.shown, groups))}. " if groups else ""


def sentence(lacking: pd.DataFrame, limit: int = 12) -> str:
    """What will not be matched for want of cells in its stratum."""
    shown = [
        f"{treatment!r} in {stratum!r} " + "/".join(str(int(n)) for n in row)
        for (treatment, stratum), row in zip(lacking.index[:limit], lacking.to_numpy(), strict=False)
    ]
    more = f"; and {len(lacking) - limit} more" if len(lacking) > limit else ""
    cells = ", ".join(f"{int(n)} in {name}" for name, n in lacking.sum().items() if n)
    return (
        "These cells keep their treatment, but have none to be matched with inside their stratum, so `tl.match` leaves "
        f"them unmatched: {cells}. "
        f"{len(lacking)} pairs of treatment and stratum lack cells in a modality ({'/'.join(lacking.columns)}): "
        + "; ".join(shown)
        + more
        + ". Pass a coarser `within` to match them."
    )
