"""Features of a modality, wherever they are, as what the core takes: checked, and never skipped or filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _keys, _runs
from psalm._matrix import n_axes, numeric, rows_of, tensor
from psalm.core.image_shape import N_MATRIX_AXES
from psalm.core.rows import Rows

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray, Matrix
    from psalm.core.rows import Rows

X, OBSM, LAYERS = "X", "obsm", "layers"


@dataclass(frozen=True)
class Features:
    """Features of one modality.

    Parameters
    ----------
    values
        (n_cells, n_features), dense or CSR, finite.
    names
        Name of each feature.
    key, place
        What to ask for to get them again, e.g. "X_psalm", and where that is: "X", "obsm" or "layers".
    space
        Fingerprint of the space that :func:`psalm.pp.represent` fitted; "" for features as they are.
    """

    values: Matrix
    names: pd.Index
    key: str
    place: str
    space: str

    @property
    def said(self) -> str:
        """Where they are, for messages and records, e.g. ``"obsm['X_psalm']"``."""
        return X if self.place == X else f"{self.place}[{self.key!r}]"

    @property
    def is_representation(self) -> bool:
        """Whether they were made to be compared as they are; X and layers hold features each in its own unit."""
        return self.place == OBSM

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
        _access.by_modality(mdata, use_rep, "use_rep")
    key = use_rep.get(name) if isinstance(use_rep, Mapping) else use_rep
    return features_of(_access.modality(mdata, name), name, key, tensors=tensors)


def features_of(adata: AnnData, name: str, key: str | None, *, tensors: bool = False) -> Features:
    """Features of one AnnData, which messages call ``name``."""
    values, found = _find(adata, name, key)
    return replace(found, values=_read(values, found, adata, name, tensors=tensors))


def layer_of(adata: AnnData, name: str, layer: str | None) -> Features:
    """A layer of one AnnData, or its X."""
    if layer is not None and layer not in adata.layers:
        msg = f"`layer={layer!r}` is not in `mdata[{name!r}].layers`. {_access.feature_slots(adata)}"
        raise KeyError(msg)
    values = adata.X if layer is None else adata.layers[layer]
    found = Features(np.empty((0, 0)), adata.var_names, layer or X, X if layer is None else LAYERS, "")
    _require_stored(values, found, adata, name, "layer")
    return replace(found, values=_read(values, found, adata, name))


def stream_of(adata: AnnData, name: str, key: str | None) -> tuple[Rows, Features]:
    """Features of one AnnData to be read some rows at a time, and what is known of them; their ``values`` are empty."""
    values, found = _find(adata, name, key)
    where = f"`mdata[{name!r}].{found.said}`"
    rows = rows_of(values, where, found.names, adata.obs_names)
    _require_features(rows.shape, where)
    return rows, found


def _read(values: Any, found: Features, adata: AnnData, name: str, *, tensors: bool = False) -> Matrix:
    """Finite values, in memory."""
    where = f"`mdata[{name!r}].{found.said}`"
    array: Matrix = (tensor if tensors and n_axes(values) > N_MATRIX_AXES else numeric)(values, where)
    _require_features(array.shape, where)
    _checks.finite(array, where, found.names, adata.obs_names)
    return array


def _require_features(shape: tuple[int, ...], where: str) -> None:
    if 0 in shape[1:]:
        msg = f"{where} has shape {shape}: no features. Pass `use_rep=` with features, or run `pp.represent`."
        raise ValueError(msg)


def _require_stored(values: Any, found: Features, adata: AnnData, name: str, argument: str) -> None:
    if values is None:
        msg = f"`mdata[{name!r}].X` is empty. Pass `{argument}=`. {_access.feature_slots(adata)}"
        raise ValueError(msg)


def _find(adata: AnnData, name: str, key: str | None) -> tuple[Any, Features]:
    """What is stored under a key, as it is, and what is known of it."""
    asked = key is not None
    if key is None:
        key = _keys.REPRESENTATION if _keys.REPRESENTATION in adata.obsm else X
    if key in adata.obsm:
        require_own(adata, name, key, asked=asked)
    values: Any
    if key == X:
        values, place, names = adata.X, X, adata.var_names
    elif key in adata.obsm and key in adata.layers:
        msg = f"`use_rep={key!r}` is in `mdata[{name!r}].obsm` and in its `layers`. Rename one of them."
        raise ValueError(msg)
    elif key in adata.obsm:
        values, place, names = adata.obsm[key], OBSM, _component_names(adata, key, name)
    elif key in adata.layers:
        values, place, names = adata.layers[key], LAYERS, adata.var_names
    else:
        msg = (
            f"`use_rep={key!r}` is neither in `mdata[{name!r}].obsm` nor in its `layers`. "
            f"{_access.feature_slots(adata)} Pass one of these, or run `pp.represent` first."
        )
        raise KeyError(msg)
    space = str(_space(adata, key).get("fingerprint", "")) if place == OBSM else ""
    found = Features(np.empty((0, 0)), names, key, place, space)
    _require_stored(values, found, adata, name, "use_rep")
    return values, found


def require_own(adata: AnnData, name: str, key: str, *, asked: bool = True) -> None:
    """Require that coordinates in ``obsm``, where psalm made them, are of one run, and of one space."""
    if key == _keys.REPRESENTATION:
        _runs.require_representation(adata, name, asked=asked)
    else:
        _runs.require_one({name: adata}, key)


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


def _space(adata: AnnData, key: str) -> Mapping[str, Any]:
    """What :func:`psalm.pp.represent` wrote of its space, where this key is its representation."""
    space = adata.uns.get(key) if key == _keys.REPRESENTATION else None
    if not isinstance(space, Mapping) or "columns" not in space:
        return {}
    return space if len(space["columns"]) == adata.obsm[key].shape[1] else {}


def _component_names(adata: AnnData, key: str, name: str) -> pd.Index:
    values, space = adata.obsm[key], _space(adata, key)
    if hasattr(values, "columns"):  # a data frame, in memory or lazy
        return pd.Index([str(column) for column in values.columns])
    if n_axes(values) > N_MATRIX_AXES:  # images
        size = "×".join(str(length) for length in values.shape[2:])
        return pd.Index([f"{name}_{position}_{size}" for position in range(values.shape[1])])
    if "loadings" in space:
        return pd.Index([f"{name}_{column}" for column in space["columns"]])
    if space:
        return pd.Index(space["columns"])
    return pd.Index([f"{name}_{position}" for position in range(values.shape[1])])
