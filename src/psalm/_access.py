"""The one door between containers and arrays: finds what a step needs, writes what it found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from psalm import _checks, _keys
from psalm.core.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

    from psalm.core._types import FloatArray, IntArray, Matrix


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
        _checks.unique_names(adata.obs_names, f"`mdata[{name!r}]`")
        unknown = adata.obs_names.difference(mdata.obs_names)
        if len(unknown):
            msg = (
                f"{len(unknown)} cells of `mdata[{name!r}]` are not in `mdata.obs_names`, e.g. {unknown[0]!r}: "
                "cells were added or renamed. Call `mdata.update()`, and run the steps again from `pp.treatment` on."
            )
            raise ValueError(msg)
    return mdata


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


@dataclass(frozen=True)
class Features:
    """Features of one modality.

    Parameters
    ----------
    values
        (n_cells, n_features), dense or CSR, finite.
    names
        Name of each feature.
    key, said
        What to ask for to get them again, e.g. "X_psalm", and where that is, e.g. ``"obsm['X_psalm']"``.
    space
        Fingerprint of the space that :func:`psalm.pp.represent` fitted; "" for features as they are.
    """

    values: Matrix
    names: pd.Index
    key: str
    said: str
    space: str

    def dense(self) -> FloatArray:
        """The values as a dense float64 array."""
        return np.asarray(self.values.toarray() if sparse.issparse(self.values) else self.values, dtype=np.float64)


def features(
    mdata: MuData, name: str, use_rep: str | Mapping[str, str] | None = None, *, tensors: bool = False
) -> Features:
    """Features of a modality: what ``use_rep`` names, else ``obsm["X_psalm"]`` where it exists, else X.

    ``use_rep`` is "X", a key of ``obsm`` or a key of ``layers``; one for all modalities or a mapping by modality.
    With ``tensors``, arrays of more than two dimensions (images) are taken, too.
    """
    if isinstance(use_rep, Mapping):
        by_modality(mdata, use_rep, "use_rep")
    key = use_rep.get(name) if isinstance(use_rep, Mapping) else use_rep
    return features_of(modality(mdata, name), name, key, tensors=tensors)


def by_modality(mdata: MuData, mapping: Mapping[str, Any], argument: str) -> None:
    """Require that the keys of a mapping are modalities."""
    unknown = [name for name in mapping if name not in mdata.mod]
    if unknown:
        msg = (
            f"`{argument}` names {_checks.listed(unknown)}, which are not modalities. "
            f"Found: {_checks.listed(mdata.mod)}. Correct the names."
        )
        raise KeyError(msg)


def features_of(adata: AnnData, name: str, key: str | None, *, tensors: bool = False) -> Features:
    """Features of one AnnData, which messages call ``name``."""
    values, found = _find(adata, name, key)
    where = f"`mdata[{name!r}].{found.said}`"
    array = tensor(values) if tensors and np.ndim(values) > 2 else numeric(values, where)  # noqa: PLR2004, images
    _require_features(array.shape, where)
    _checks.finite(array, where)
    return replace(found, values=array)


def stream_of(adata: AnnData, name: str, key: str | None) -> tuple[Rows, Features]:
    """Features of one AnnData to be read some rows at a time, and what is known of them; their ``values`` are empty.

    Nothing is copied or converted but CSC matrices. Values in memory are checked, those in a file as they are read.
    """
    values, found = _find(adata, name, key)
    where = f"`mdata[{name!r}].{found.said}`"
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    if sparse.issparse(values) and values.format != "csr":
        values = values.tocsr()
    if not hasattr(values, "shape") or not hasattr(values, "dtype") or values.dtype.kind not in "biuf":
        values = numeric(values, where)
    _checks.plain_numbers(values, where)
    _require_features(values.shape, where)
    rows = Rows(values, where)
    if rows.in_memory and not np.isfinite(values.data if sparse.issparse(values) else values).all():
        _checks.finite(values, where)
    if rows.in_memory:
        _checks.fits_float32(values, where)
    return rows, found


def _require_features(shape: tuple[int, ...], where: str) -> None:
    if 0 in shape[1:]:
        msg = f"{where} has shape {shape}: no features. Pass `use_rep=` with features, or run `pp.represent`."
        raise ValueError(msg)


def _find(adata: AnnData, name: str, key: str | None) -> tuple[Any, Features]:
    """What is stored under a key, as it is, and what is known of it."""
    if key is None:
        key = _keys.REPRESENTATION if _keys.REPRESENTATION in adata.obsm else "X"
    if key == "X":
        values, said, names = adata.X, "X", adata.var_names
    elif key in adata.obsm and key in adata.layers:
        msg = f"`use_rep={key!r}` is in `mdata[{name!r}].obsm` and in its `layers`. Rename one of them."
        raise ValueError(msg)
    elif key in adata.obsm:
        values, said, names = adata.obsm[key], f"obsm[{key!r}]", _component_names(adata, key, name)
    elif key in adata.layers:
        values, said, names = adata.layers[key], f"layers[{key!r}]", adata.var_names
    else:
        msg = (
            f"`use_rep={key!r}` is neither in `mdata[{name!r}].obsm` nor in its `layers`. "
            f"Found in obsm: {_checks.listed(adata.obsm)}; in layers: {_checks.listed(adata.layers)}. "
            "Pass one of these or 'X', or run `pp.represent` first."
        )
        raise KeyError(msg)
    if values is None:
        msg = f"`mdata[{name!r}].X` is empty. Pass `use_rep=` with a key of its obsm or layers."
        raise ValueError(msg)
    space = str(_space(adata, key).get("fingerprint", "")) if key in adata.obsm else ""
    return values, Features(np.empty((0, 0)), names, key, said, space)


def same_space(found: Features, names: list[str], space: str, name: str) -> None:
    """Require the features, and the space, that a model was trained on."""
    if found.space != space:
        msg = (
            f"The features of {name!r} in {found.said} are coordinates in another space than those of training: a "
            "representation fitted on other cells. Represent new cells by "
            f"`pp.represent(new, {name!r}, kind=..., reference=mdata)`, with the container of training."
        )
        raise ValueError(msg)
    if list(found.names.astype(str)) != names:
        msg = (
            f"The model takes {len(names)} features of {name!r}: {_checks.listed(names, 3)}, and these cells have "
            f"{len(found.names)}: {_checks.listed(found.names, 3)}. Pass the same features in the same order."
        )
        raise ValueError(msg)


def tensor(values: Any) -> Any:
    """Images as they are stored, whole numbers included: (n_cells, channels, height, width)."""
    _checks.plain_numbers(values, "The array of images")
    return np.asarray(values)


def numeric(values: Any, where: str) -> Matrix:
    """A float matrix, dense or CSR, of anything that AnnData stores as a matrix in memory."""
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    _checks.plain_numbers(values, where)
    if sparse.issparse(values):
        return sparse.csr_matrix(values, dtype=np.float64)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = (
            f"{where} is of type {type(values).__name__} and cannot be read as numbers. Pass a numeric matrix; "
            "load a backed object first with `.to_memory()`."
        )
        raise TypeError(msg) from error
    if array.ndim != 2:  # noqa: PLR2004, a matrix
        msg = (
            f"{where} has shape {array.shape}, but features must be a matrix of cells × features. "
            'Images, cells × channels × height × width, are for `tl.propensity(classifier="image")`.'
        )
        raise ValueError(msg)
    return array


def _space(adata: AnnData, key: str) -> Mapping[str, Any]:
    """What :func:`psalm.pp.represent` wrote of its space, where this key is its representation."""
    space = adata.uns.get(key) if key == _keys.REPRESENTATION else None
    if not isinstance(space, Mapping) or "columns" not in space:
        return {}
    return space if len(space["columns"]) == adata.obsm[key].shape[1] else {}


def _component_names(adata: AnnData, key: str, name: str) -> pd.Index:
    values, space = adata.obsm[key], _space(adata, key)
    if isinstance(values, pd.DataFrame):
        return values.columns.astype(str)
    if np.ndim(values) > 2:  # noqa: PLR2004, images
        size = "×".join(str(length) for length in values.shape[2:])
        return pd.Index([f"{name}_{position}_{size}" for position in range(values.shape[1])])
    if "loadings" in space:
        return pd.Index([f"{name}_{column}" for column in space["columns"]])
    if space:
        return pd.Index(space["columns"])
    return pd.Index([f"{name}_{position}" for position in range(values.shape[1])])


def treatment_codes(
    mdata: MuData, name: str, key: str, treatments: pd.Index | None = None
) -> tuple[IntArray, pd.Index]:
    """Code of each cell's treatment (−1 for none) and the treatments in code order."""
    adata = modality(mdata, name)
    if key not in adata.obs:
        msg = (
            f"`treatment={key!r}` is not in `mdata[{name!r}].obs`. Found: {_checks.listed(adata.obs)}. "
            "Run `pp.treatment` first, or pass the name it was given as `key_added`."
        )
        raise KeyError(msg)
    if treatments is None:
        labels = adata.obs[key].astype("category").cat
        treatments = labels.categories.astype(str)[np.unique(labels.codes[labels.codes >= 0])]
        if not treatments.is_unique:
            msg = (
                f"`mdata[{name!r}].obs[{key!r}]` has labels that read alike as text: "
                f"{_checks.listed(treatments[treatments.duplicated()], 5)}. Give each treatment one name."
            )
            raise ValueError(msg)
    return codes_of(adata.obs[key], treatments), treatments


def codes_of(column: pd.Series, treatments: pd.Index) -> IntArray:
    """Position of each label among the treatments; −1 where it is missing or not one of them."""
    labels = column.astype("category").cat
    positions = np.append(treatments.get_indexer(labels.categories.astype(str)), -1)  # code −1 takes the last
    return np.asarray(positions[labels.codes.to_numpy()])


def shared_labels(
    tables: Sequence[pd.DataFrame], names: Sequence[str], column: str, argument: str
) -> tuple[list[IntArray], pd.Index]:
    """Codes of a column of ``obs`` of several modalities in common labels, −1 where missing, and the labels."""
    for name, obs in zip(names, tables, strict=True):
        if column not in obs:
            msg = (
                f"`{argument}={column!r}` is not in `mdata[{name!r}].obs`. Found: {_checks.listed(obs)}. "
                "Pass one of these."
            )
            raise KeyError(msg)
    values = pd.Index(sorted({str(value) for obs in tables for value in obs[column].dropna().unique()}))
    return [codes_of(obs[column], values) for obs in tables], values


def fingerprint(*arrays: Any) -> str:
    """Short digest of arrays, to tell whether a later step still fits an earlier one."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def run(mdata: MuData, key: str, step: str, argument: str) -> dict[str, Any]:
    """What an earlier step wrote to ``uns``."""
    if not _is_run(mdata, key, step):
        msg = f"`{argument}={key!r}`: there is no result of `{step}` in `mdata.uns[{key!r}]`. Run `{step}` first."
        raise KeyError(msg)
    return dict(mdata.uns[key])


def _is_run(mdata: MuData, key: str, step: str) -> bool:
    stored = mdata.uns.get(key)
    params = stored.get("params") if isinstance(stored, Mapping) else None
    return isinstance(params, Mapping) and params.get("step") == step


def claim(mdata: MuData, key: str, step: str) -> None:
    """Require that a step may write to ``uns[key]``: the name can be saved, and is free or the step's own."""
    _checks.slot_name(key)
    if key == _keys.REPRESENTATION:
        msg = f"`key_added={key!r}` is where `pp.represent` writes, and would be taken for features. Pass another name."
        raise ValueError(msg)
    if key in mdata.uns and not _is_run(mdata, key, step):
        msg = (
            f"`key_added={key!r}`: `mdata.uns[{key!r}]` exists, was not written by `{step}`, and would be lost. "
            "Pass another `key_added=`."
        )
        raise ValueError(msg)


def claim_slots(mdata: MuData, key: str, step: str, slots: Iterable[tuple[str, Mapping[Any, Any], str]]) -> None:
    """Require that slots are free, or that the step's own earlier run under this name wrote them.

    Parameters
    ----------
    mdata, key, step
        As for :func:`claim`.
    slots
        What the message calls the place, the place, and the name in it.
    """
    if _is_run(mdata, key, step):
        return
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
