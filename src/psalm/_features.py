"""Features of a modality, wherever they are, as what the core takes: checked, and never skipped or filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _keys
from psalm.core.rows import Rows

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray, Matrix


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
        _access.by_modality(mdata, use_rep, "use_rep")
    key = use_rep.get(name) if isinstance(use_rep, Mapping) else use_rep
    return features_of(_access.modality(mdata, name), name, key, tensors=tensors)


def features_of(adata: AnnData, name: str, key: str | None, *, tensors: bool = False) -> Features:
    """Features of one AnnData, which messages call ``name``."""
    values, found = _find(adata, name, key)
    where = f"`mdata[{name!r}].{found.said}`"
    array = tensor(values) if tensors and np.ndim(values) > 2 else numeric(values, where)  # noqa: PLR2004, images
    _require_features(array.shape, where)
    _checks.finite(array, where)
    return replace(found, values=array)


def stream_of(adata: AnnData, name: str, key: str | None) -> tuple[Rows, Features]:
    """Features of one AnnData to be read some rows at a time, and what is known of them; their ``values`` are empty."""
    values, found = _find(adata, name, key)
    where = f"`mdata[{name!r}].{found.said}`"
    rows = rows_of(values, where)
    _require_features(rows.shape, where)
    return rows, found


def rows_of(values: Any, where: str) -> Rows:
    """Numbers that are read some rows at a time.

    Nothing is copied or converted but CSC matrices. Values in memory are checked, those in a file as they are read.
    """
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    _checks.plain_numbers(values, where)
    if sparse.issparse(values) and values.format != "csr":
        values = values.tocsr()
    if not hasattr(values, "shape") or not hasattr(values, "dtype") or values.dtype.kind not in "biuf":
        values = numeric(values, where)
    rows = Rows(values, where)
    if rows.in_memory:
        _checks.finite(values, where)
        _checks.fits_float32(values, where)
    return rows


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
