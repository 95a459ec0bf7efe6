"""Which cells are matched with which: the blocks of a coupling, found from treatments, strata and responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _keys, _obs, _scores

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import BoolArray, IntArray


@dataclass(frozen=True)
class Blocks:
    """The blocks of a match.

    Parameters
    ----------
    codes
        Of source and target: row of each cell's block in the table, −1 for cells that take no part.
    table
        One row per treatment, or per treatment and stratum: treatment, (within,) n_source, n_target, and where cells
        were left out how many.
    """

    codes: tuple[IntArray, IntArray]
    table: pd.DataFrame

    @property
    def n_pairs(self) -> int:
        """Pairs of cells within blocks."""
        return int((self.table["n_source"] * self.table["n_target"]).sum())


def find_blocks(mdata: MuData, names: tuple[str, str], propensity_key: str, min_response: float | None) -> Blocks:
    """Blocks of source and target, whose treatments must be those that were scored."""
    stored = _scores.run(mdata, propensity_key)
    treatment, treatments = stored["params"]["treatment"], pd.Index(_scores.kept(stored).treatments)
    codes = [_scored_codes(mdata, name, treatment, treatments, propensity_key) for name in names]
    rows, found = _with_strata(mdata, names, treatment, treatments, codes)
    responds = [_responds(mdata, name, propensity_key, min_response) for name in names]
    kept = [np.where(keep, code, -1) for code, keep in zip(found, responds, strict=True)]
    for side, code in zip(("source", "target"), kept, strict=True):
        rows[f"n_{side}"] = np.bincount(code[code >= 0], minlength=len(rows))
    if min_response is not None:
        for side, code in zip(("source", "target"), found, strict=True):
            rows[f"left_out_{side}"] = np.bincount(code[code >= 0], minlength=len(rows)) - rows[f"n_{side}"]
    return Blocks((kept[0], kept[1]), rows)


def _with_strata(
    mdata: MuData, names: tuple[str, str], treatment: str, treatments: pd.Index, codes: list[IntArray]
) -> tuple[pd.DataFrame, list[IntArray]]:
    """Rows of the table, and the row of each cell; treatments alone where there are no strata."""
    column = _keys.within(treatment)
    if column not in mdata.uns or not all(column in mdata.mod[name].obs for name in names):  # not of pp.treatment
        return pd.DataFrame({"treatment": treatments.to_numpy(dtype=object)}), codes
    strata = [mdata.mod[name].obs[_keys.within(treatment)].astype(object) for name in names]
    frames = [
        pd.DataFrame({"treatment": code, "within": stratum.to_numpy()})
        for code, stratum in zip(codes, strata, strict=True)
    ]
    known = [frame[(frame["treatment"] >= 0) & frame["within"].notna()] for frame in frames]
    rows = pd.concat(known).astype({"within": str}).drop_duplicates().sort_values(["treatment", "within"])
    index = pd.MultiIndex.from_frame(rows)
    found = []
    for frame, part in zip(frames, known, strict=True):
        block = np.full(len(frame), -1)
        block[part.index] = index.get_indexer(pd.MultiIndex.from_frame(part.astype({"within": str})))
        found.append(block)
    table = rows.reset_index(drop=True)
    table["treatment"] = treatments.to_numpy(dtype=object)[table["treatment"]]
    return table, found


def _responds(mdata: MuData, name: str, propensity_key: str, least: float | None) -> BoolArray:
    """Whether each cell takes part, by its response; cells without one (controls) do."""
    obs = _access.modality(mdata, name).obs
    if least is None:
        return np.ones(len(obs), dtype=bool)
    keys = _keys.PropensityKeys(propensity_key)
    if keys.response not in obs:
        column = f"`mdata[{name!r}].obs[{keys.response!r}]`"
        msg = f"`min_response` needs {column}, which is not there. Run `tl.propensity` again."
        raise KeyError(msg)
    return np.asarray(~(obs[keys.response].to_numpy(dtype=np.float64) < least))


def _scored_codes(mdata: MuData, name: str, treatment: str, treatments: pd.Index, propensity_key: str) -> IntArray:
    """Treatment of each cell, which must be the one it had when it was scored; cells may have lost theirs since."""
    codes, _ = _access.treatment_codes(mdata, name, treatment, treatments)
    obs = _access.modality(mdata, name).obs
    keys = _keys.PropensityKeys(propensity_key)
    if keys.treatment not in obs:
        column = f"`mdata[{name!r}].obs[{keys.treatment!r}]`"
        msg = f"{column} is missing, so labels cannot be checked. Run `tl.propensity` again."
        raise KeyError(msg)
    scored = _access.codes_of(obs[keys.treatment], treatments)
    labelled = _obs.find(mdata, name, treatment, "treatment", joint=False).values.notna().to_numpy()
    changed = int((labelled & ((codes != scored) | (codes < 0))).sum())
    if changed:
        msg = (
            f"{changed} cells of `mdata[{name!r}]` have another treatment in obs[{treatment!r}] than when "
            "they were scored. Run `tl.propensity` again."
        )
        raise ValueError(msg)
    return codes
