"""The experiment's design as the container holds it: treatments, factors, control, donors, batches and strata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _obs, _runs
from psalm.core.layout import Factor, Layout, one_factor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from psalm.core._types import IntArray


def treatment_codes(mdata: MuData, treatment: str) -> tuple[dict[str, IntArray], pd.Index]:
    """Treatment codes of all modalities in one order; they must have the same treatments."""
    _runs.require_counted(mdata, treatment)
    present = {name: _access.treatment_codes(mdata, name, treatment)[1] for name in mdata.mod}
    treatments = next(iter(present.values()))
    for name, found in present.items():
        missing = treatments.symmetric_difference(found)
        if len(missing):
            msg = (
                f"The modalities do not have the same treatments in obs[{treatment!r}]: {_checks.listed(missing)} "
                f"are in {next(iter(present))!r} or {name!r}, not in both. Run `pp.treatment` again on these cells."
            )
            raise ValueError(msg)
    if len(treatments) < 2:  # noqa: PLR2004, nothing to tell apart
        msg = (
            f"There are {len(treatments)} treatments in obs[{treatment!r}], and two are needed. "
            "Run `pp.treatment` on a column with more treatments."
        )
        raise ValueError(msg)
    return {name: _access.treatment_codes(mdata, name, treatment, treatments)[0] for name in mdata.mod}, treatments


def layout(mdata: MuData, treatment: str, treatments: pd.Index, score_on: str) -> Layout:
    """The columns of scores: treatments, or the levels of the factors that :func:`psalm.pp.treatment` found."""
    if score_on == "treatment":
        return one_factor(tuple(treatments))
    table = mdata.uns.get(_keys.factors(treatment))
    if not isinstance(table, pd.DataFrame):
        msg = (
            f"`score_on='factors'`: there are no factors in `mdata.uns[{_keys.factors(treatment)!r}]`. Run "
            "`pp.treatment` with several columns or with `separator=` first."
        )
        raise KeyError(msg)
    wide = table.astype(str).pivot_table(
        index="treatment", columns="factor", values="level", aggfunc="first", sort=False
    )
    missing = treatments.difference(wide.index)
    if len(missing):
        msg = f"`uns[{_keys.factors(treatment)!r}]` does not know {_checks.listed(missing)}. Run `pp.treatment` again."
        raise ValueError(msg)
    factors = []
    for name in wide.columns:
        of_treatment, levels = pd.factorize(wide.loc[list(treatments), name])
        if len(levels) > 1:  # a factor that does not vary tells nothing
            factors.append(Factor(str(name), tuple(levels), of_treatment))
    if not factors:
        msg = (
            "`score_on='factors'`: no factor has more than one level among these treatments. Use "
            "`score_on='treatment'`, or keep treatments that differ in a factor."
        )
        raise ValueError(msg)
    return Layout(tuple(factors))


def control(mdata: MuData, treatment: str, treatments: pd.Index) -> int | None:
    """Position of the control among the treatments, if one was named."""
    table = mdata.uns.get(treatment)
    if not isinstance(table, pd.DataFrame) or "control" not in table:
        return None
    names = table.index[table["control"].astype(bool)].astype(str)
    found = treatments.get_indexer(names)
    return int(found[0]) if len(found) and found[0] >= 0 else None


def groups(
    mdata: MuData, name: str, column: str | None, codes: IntArray, treatments: pd.Index, n_folds: int
) -> IntArray | None:
    """Group of each cell as a number; groups must let every treatment be learnt without any one of them."""
    if column is None:
        return None
    numbers, _ = column_codes(mdata, name, column, codes, "groups")
    labelled = codes >= 0
    pairs = pd.DataFrame({"group": numbers[labelled], "treatment": codes[labelled]}).drop_duplicates()
    per_treatment = pairs["treatment"].value_counts()
    single = treatments[np.sort(per_treatment.index[per_treatment == 1])]
    n_groups = pairs["group"].nunique()
    if len(single) or n_groups < n_folds:
        alone = (
            f", and {len(single)} treatments that occur in one group only: {_checks.listed(single)}. Such a treatment "
            "cannot be told from its group"
        )
        msg = (
            f"`groups={column!r}` has {n_groups} groups in {name!r} for {n_folds} folds{alone if len(single) else ''}. "
            f"Pass `n_folds=` up to the number of groups{', or leave these treatments out' if len(single) else ''}."
        )
        raise ValueError(msg)
    return numbers


def batches(mdata: MuData, name: str, column: str | None, codes: IntArray) -> tuple[IntArray | None, list[str]]:
    """Batch of each cell as a number, and the batches' names; one batch alone is none."""
    if column is None:
        return None, []
    numbers, names = column_codes(mdata, name, column, codes, "batch_key", everywhere=True)
    unknown = np.setdiff1d(np.arange(len(names)), numbers[codes >= 0])
    if len(unknown):
        msg = (
            f"Batches {_checks.listed(np.array(names)[unknown])} of `mdata[{name!r}]` have no cell with a treatment, "
            "so their shift cannot be learnt. Leave out their cells, or merge them with another batch."
        )
        raise ValueError(msg)
    return (numbers, names) if len(names) > 1 else (None, names)


def check_held_out(batch: Mapping[str, IntArray | None], grouped: Mapping[str, IntArray | None]) -> None:
    """Batches must not be held out whole: what is unseen cannot be adjusted for."""
    for name, numbers in batch.items():
        group = grouped[name]
        if numbers is None or group is None:
            continue
        spread = pd.DataFrame({"batch": numbers, "group": group}).drop_duplicates()["batch"].value_counts()
        if (spread == 1).any():
            msg = (
                f"`groups=` holds out whole batches of `batch_key=` in {name!r}: {int((spread == 1).sum())} batches "
                "lie in one group each, and the shift of a batch that a model has not seen is unknown. Pass one of "
                "the two: `groups=` asks how scores carry over to new donors, `batch_key=` takes their shift away."
            )
            raise ValueError(msg)


def column_codes(
    mdata: MuData, name: str, column: str, codes: IntArray, argument: str, *, everywhere: bool = False
) -> tuple[IntArray, list[str]]:
    """A column of ``obs`` as numbers, and its values; no labelled cell (or none at all) may lack one."""
    read = _obs.find(mdata, name, column, argument)
    numbers, found = pd.factorize(read.labels())
    lacking = (numbers < 0) & (everywhere | (codes >= 0))
    if lacking.any():
        msg = (
            f"{int(lacking.sum())} cells of `mdata[{name!r}]` have no value in {read.said}. "
            "Give each cell one, or leave these cells out."
        )
        raise ValueError(msg)
    return np.asarray(numbers), list(found)
