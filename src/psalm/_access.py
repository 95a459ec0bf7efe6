"""The one door between containers and arrays: finds what a step needs, writes what it found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from psalm import _checks, _keys, _obs, _runs
from psalm.core.counts import counts
from psalm.core.rows import dense

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

    from psalm.core._types import IntArray


N_LOOKED_AT = 200
"""Cells of ``.raw`` that are looked at to tell counts from other values."""


def container(mdata: object) -> MuData:
    """Require a MuData whose modalities are stacked by features and whose cells have unique names."""
    if not isinstance(mdata, MuData):
        msg = (
            f"Got {type(mdata).__name__}, but this needs a MuData with one AnnData per modality. "
            'Build one with `mudata.MuData({"rna": rna, "protein": protein})`.'
        )
        raise TypeError(msg)
    if not mdata.mod:
        msg = 'The container has no modalities. Build one with `mudata.MuData({"rna": rna, "protein": protein})`.'
        raise ValueError(msg)
    if mdata.axis != 0:
        msg = f"`mdata.axis` is {mdata.axis}, but cells must be on axis 0. Build the MuData with `axis=0`."
        raise ValueError(msg)
    for name, adata in mdata.mod.items():
        if isinstance(adata, MuData):
            msg = (
                f"`mdata[{name!r}]` is a MuData itself, and a modality must be an AnnData. Put its modalities "
                f"({_checks.listed(adata.mod)}) beside the others into one MuData."
            )
            raise TypeError(msg)
        _checks.unique_names(adata.obs_names, f"`mdata[{name!r}]`")
        unknown = adata.obs_names.difference(mdata.obs_names)
        if len(unknown):
            raise ValueError(_unknown(mdata, name, unknown))
    return mdata


def _unknown(mdata: MuData, name: str, unknown: pd.Index) -> str:
    """What to say of cells that the container does not know."""
    found = f"{len(unknown)} cells of `mdata[{name!r}]` are not in `mdata.obs_names`, e.g. {unknown[0]!r}: "
    if name in mdata.obsm and int(np.asarray(mdata.obsm[name]).sum()) == mdata.mod[name].n_obs:
        return (
            f"{found}the container knows as many cells of {name!r}, under other names. Give them back their names, and "
            "rename cells in the container, `mdata.obs_names = names`, which keeps all results. Call "
            "`mdata.update()` where the new names are to stay, and run `tl.match` again, since the rows of the stored "
            "coupling may be lost."
        )
    return f"{found}cells were added. Call `mdata.update()`, and run the steps again from `pp.treatment` on."


def modality(mdata: MuData, name: str, argument: str = "modality") -> AnnData:
    """One modality by name."""
    if name not in mdata.mod:
        msg = f"`{argument}={name!r}` is not a modality. Found: {_checks.listed(mdata.mod)}. Pass one of these."
        raise KeyError(msg)
    return mdata.mod[name]


def two_modalities(mdata: MuData, source: str, target: str) -> tuple[AnnData, AnnData]:
    """Source and target, which must differ."""
    pair = modality(mdata, source, "source"), modality(mdata, target, "target")
    if source == target:
        msg = f"`source` and `target` are both {source!r}. Pass two different modalities: {_checks.listed(mdata.mod)}."
        raise ValueError(msg)
    return pair


def by_modality(mdata: MuData, mapping: Mapping[str, Any], argument: str) -> None:
    """Require that the keys of a mapping are modalities."""
    unknown = [name for name in mapping if name not in mdata.mod]
    if unknown:
        msg = (
            f"`{argument}` names {_checks.listed(unknown)}, which are not modalities. "
            f"Found: {_checks.listed(mdata.mod)}. Correct the names."
        )
        raise KeyError(msg)


def layers(adata: AnnData) -> list[str]:
    """Names of the layers; anndata 0.13 lists X among them, as None."""
    return [key for key in adata.layers if key is not None]


def feature_slots(adata: AnnData) -> str:
    """Where one AnnData has features, for messages, those in ``.raw`` included, which no step reads."""
    found = f"Found in obsm: {_checks.listed(adata.obsm)}; in layers: {_checks.listed(layers(adata))}"
    return f"{found}; {'no X' if adata.X is None else 'and X'}.{from_raw(adata)}"


def from_raw(adata: AnnData) -> str:
    """What ``.raw`` holds and how to use it, as sentences that follow others; nothing where there is none."""
    if adata.raw is None:
        return ""
    names = adata.raw.var_names
    what = "counts" if counts(dense(adata.raw.X[:N_LOOKED_AT])) else "values that are no counts,"
    if names.is_unique and adata.var_names.isin(names).all():
        how = "`adata.layers['raw'] = adata.raw[:, adata.var_names].X`, and pass 'raw'"
    else:
        how = "build the MuData with `adata.raw.to_adata()` in its place"
    return (
        f" `adata.raw`, with `adata` for this modality, holds {what} of {len(names)} features, and no step reads it. "
        f"To use them: {how}."
    )


def treatment_codes(
    mdata: MuData, name: str, key: str, treatments: pd.Index | None = None
) -> tuple[IntArray, pd.Index]:
    """Code of each cell's treatment (−1 for none) and the treatments in code order."""
    modality(mdata, name)
    advice = "Run `pp.treatment` first, or pass the name it was given as `key_added`."
    labels = _obs.find(mdata, name, key, "treatment", joint=False, advice=advice).labels()
    treatments = labels.cat.categories if treatments is None else treatments
    return codes_of(labels, treatments), treatments


def codes_of(column: pd.Series, treatments: pd.Index) -> IntArray:
    """Position of each label among the treatments; −1 where it is missing or not one of them."""
    labels = _obs.labels(column, f"`obs[{column.name!r}]`").cat
    positions = np.append(treatments.get_indexer(labels.categories), -1)  # code −1 takes the last
    return np.asarray(positions[labels.codes.to_numpy()])


def shared_labels(mdata: MuData, names: Sequence[str], column: str, argument: str) -> tuple[list[IntArray], pd.Index]:
    """Codes of a column of ``obs`` of several modalities in common labels, −1 where missing, and the labels."""
    columns = [_obs.find(mdata, name, column, argument).labels() for name in names]
    values = pd.Index(sorted({value for labels in columns for value in labels.cat.categories}))
    return [codes_of(labels, values) for labels in columns], values


def fingerprint(*arrays: Any) -> str:
    """Short digest of arrays, to tell whether a later step still fits an earlier one."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def run(mdata: MuData, key: str, step: str, argument: str) -> dict[str, Any]:
    """What an earlier step wrote to ``uns``, once it is known to be of these cells."""
    if not is_run(mdata, key, step):
        lost = (
            f" The cells hold results under this name, but their record was lost, {_runs.JOINED}: "
            "copy it from the container in which they were made, or run the step again."
        )
        msg = f"`{argument}={key!r}`: there is no result of `{step}` in `mdata.uns[{key!r}]`. Run `{step}` first."
        raise KeyError(msg + lost if _runs.noted(mdata.mod, key) else msg)
    stored = dict(mdata.uns[key])
    _runs.require(mdata.mod, key, stored.get("run"), step)
    return stored


def is_run(mdata: MuData, key: str, step: str) -> bool:
    """Whether a step wrote ``uns[key]``."""
    stored = mdata.uns.get(key)
    params = stored.get("params") if isinstance(stored, Mapping) else None
    return isinstance(params, Mapping) and params.get("step") == step


def claim(mdata: MuData, key: str, step: str) -> None:
    """Require that a step may write to ``uns[key]``: the name can be saved, and is free or the step's own."""
    _checks.slot_name(key)
    if key == _keys.REPRESENTATION:
        msg = f"`key_added={key!r}` is where `pp.represent` writes, and would be taken for features. Pass another name."
        raise ValueError(msg)
    if key in mdata.uns and not is_run(mdata, key, step):
        msg = (
            f"`key_added={key!r}`: `mdata.uns[{key!r}]` exists, was not written by `{step}`, and would be lost. "
            "Pass another `key_added=`."
        )
        raise ValueError(msg)


def identity(cells: Iterable[AnnData], *arrays: Any) -> str:
    """What a run is known by: a digest of what it found, and of the names of the cells that it was found of."""
    return fingerprint(*arrays, *("\n".join(adata.obs_names).encode() for adata in cells))


def claim_slots(step: str, slots: Iterable[tuple[str, Mapping[Any, Any], str]]) -> None:
    """Require that slots are free: what the message calls the place, the place, and the name in it."""
    for said, place_of, name in slots:
        if name in place_of:
            msg = (
                f"`{said}[{name!r}]` exists, was not written by `{step}`, and would be lost. Pass another "
                "`key_added=`, or rename or delete it."
            )
            raise ValueError(msg)


def writable_columns(names: pd.Index) -> pd.Index:
    """Feature names that h5mu and zarr can store as columns: without "/", and each once."""
    plain = pd.Index([str(name).replace("/", "|") for name in names])
    counts = pd.Series(plain).groupby(plain).cumcount().to_numpy()
    return pd.Index([f"{name}-{count}" if count else name for name, count in zip(plain, counts, strict=True)])


def place(mdata: MuData, name: str) -> IntArray:
    """Row of each of a modality's cells in the container."""
    return np.asarray(mdata.obs_names.get_indexer(modality(mdata, name).obs_names))
