"""Which run made what a cell holds, noted beside it in ``obs``.

The record of a run is in ``uns``, which knows nothing of single cells: where containers are joined (``anndata.concat``,
``mudata.concat``), results of several runs come to stand in one slot, with the record of one of them, or of none. The
note goes wherever the cell goes, so a subset fits its record, and a union with cells of another run does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _keys, _obs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

JOINED = "as happens where containers are joined (`anndata.concat`, `mudata.concat`)"
AGAIN = "Run the step that wrote it again, on the cells that are here now."
REPRESENT_AGAIN = (
    "Run `pp.represent` on all of these cells, or place them in one space before they are joined: "
    "`pp.represent(new, ..., reference=first)`."
)


def note(adata: AnnData, key: str, run: str) -> None:
    """Note the run that what is stored under a key came from."""
    adata.obs[_keys.run(key)] = pd.Categorical.from_codes(np.zeros(adata.n_obs, dtype=int), [run])


def noted(modalities: Mapping[str, AnnData], key: str) -> bool:
    """Whether any modality has notes of runs for this key."""
    return any(_keys.run(key) in adata.obs for adata in modalities.values())


def require_one(modalities: Mapping[str, AnnData], key: str, again: str = AGAIN) -> str | None:
    """The one run that what is stored under a key is of, in all these modalities; None where nothing is noted."""
    found: dict[str, int] = {}
    for name, adata in modalities.items():
        if _keys.run(key) not in adata.obs:
            continue
        runs = adata.obs[_keys.run(key)]
        if runs.isna().any():
            msg = (
                f"{int(runs.isna().sum())} of the {adata.n_obs} cells of `mdata[{name!r}]` have no result under "
                f"{key!r}, and the others have: cells were added since, {JOINED}. {again}"
            )
            raise ValueError(msg)
        for run, count in runs.astype(str).value_counts().items():
            found[str(run)] = found.get(str(run), 0) + int(count)
    if len(found) > 1:
        sizes = ", ".join(str(count) for count in found.values())
        msg = (
            f"What is stored under {key!r} in {_named(modalities)} is of {len(found)} different runs (cells of each: "
            f"{sizes}), {JOINED}. Numbers of different runs cannot be compared. {again}"
        )
        raise ValueError(msg)
    return next(iter(found), None)


def require(modalities: Mapping[str, AnnData], key: str, run: str | None, step: str) -> None:
    """Require that what modalities hold under a key is of the run whose record is in ``uns``."""
    again = f"Run `{step}` again on the cells that are here now."
    found = require_one(modalities, key, again)
    if found is not None and found != run:
        msg = (
            f"The cells of {_named(modalities)} hold results under {key!r} of another run than the record in "
            f"`mdata.uns[{key!r}]`, which is that of other cells or has lost parts, {JOINED}. "
            f"Copy the record from the container in which they were made, or run `{step}` again."
        )
        raise ValueError(msg)
    for name, adata in modalities.items():
        if run is not None and _keys.run(key) not in adata.obs and _has_result(adata, key, step):
            msg = (
                f"`mdata[{name!r}].obs[{_keys.run(key)!r}]` is not there, so it cannot be told whether the results "
                f"under {key!r} are of these cells: it is lost where they are joined with others. {again}"
            )
            raise ValueError(msg)


def require_representation(adata: AnnData, name: str, *, asked: bool) -> None:
    """Require a representation in one space; unless it was ``asked`` for by name, the one that is on record."""
    key = _keys.REPRESENTATION
    where, space = f"`mdata[{name!r}].obsm[{key!r}]`", adata.uns.get(key)
    recorded = str(space["fingerprint"]) if isinstance(space, Mapping) and "fingerprint" in space else None
    found = require_one({name: adata}, key, REPRESENT_AGAIN)
    if recorded is None and not asked:
        msg = (
            f"{where} has no record in `mdata[{name!r}].uns[{key!r}]`: it was not written by `pp.represent`, or the "
            f"record was lost, {JOINED}. Run `pp.represent` on these cells, copy the record from the container in "
            f"which they were represented, or pass `use_rep={key!r}` to take it as it is."
        )
        raise ValueError(msg)
    if recorded is not None and found != recorded:
        msg = (
            f"{where} is not in the space whose record is in `mdata[{name!r}].uns[{key!r}]`, or this cannot be told, "
            f"{JOINED}. {REPRESENT_AGAIN}"
        )
        raise ValueError(msg)


def require_counted(mdata: MuData, treatment: str) -> None:
    """Require that the table of :func:`psalm.pp.treatment`, where there is one, counts all cells that are here."""
    table = mdata.uns.get(treatment)
    if not isinstance(table, pd.DataFrame) or "status" not in table:
        return
    for name in mdata.mod:
        labels = _obs.get(mdata, name, treatment, joint=False)
        if name not in table or labels is None:
            continue
        known, n_cells = int(table[name][table["status"] == "kept"].sum()), int(labels.values.notna().sum())
        if n_cells > known:
            msg = (
                f"`mdata[{name!r}].obs[{treatment!r}]` labels {n_cells} cells, and the table of `pp.treatment` in "
                f"`mdata.uns[{treatment!r}]` counts {known}: cells or labels were added since, {JOINED}. "
                "Run `pp.treatment` again."
            )
            raise ValueError(msg)


def _has_result(adata: AnnData, key: str, step: str) -> bool:
    return _keys.MatchKeys(key).block in adata.obs if step == "tl.match" else key in adata.obsm


def _named(modalities: Mapping[str, AnnData]) -> str:
    return " and ".join(f"`mdata[{name!r}]`" for name in modalities)
