"""A low-dimensional representation of one modality, through the libraries made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from psalm import _access, _checks, _keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray, Matrix

Space = dict[str, Any]
KINDS = ("rna", "protein", "atac", "features")
N_TOP_GENES = 2000
TARGET_SUM = 1e4


def represent(
    mdata: MuData,
    modality: str,
    *,
    kind: str,
    n_comps: int = 50,
    layer: str | None = None,
    reference: MuData | None = None,
    rng: int | np.random.Generator | None = 0,
) -> None:
    """Represent the cells of one modality by a few dozen numbers on comparable scales.

    Parameters
    ----------
    mdata
        One AnnData per modality.
    modality
        Which one.
    kind
        "rna": counts; each cell normalised to 10,000, log1p, 2,000 variable genes where there are more, PCA.
        "atac": counts of peaks; each cell normalised to 10,000, log1p, each peak times its inverse document frequency,
        truncated SVD without its first component, which is depth (latent semantic indexing).
        "protein": counts; log1p, centred per cell (centred log-ratio), each protein scaled to unit variance.
        "features": anything else, such as components, topics or image features; each scaled to unit variance, and PCA
        where there are more than ``n_comps``; sparse input stays sparse.
    n_comps
        Number of principal components; fewer where the modality has fewer cells or features.
    layer
        Layer to read instead of ``X``.
    reference
        Container in which this modality was represented before: its genes, scales and components are used, so that new
        cells get coordinates in the same space, for models and scores that were trained there.
    rng
        Seed or generator of the PCA.

    Returns
    -------
    None. Writes ``mdata[modality].obsm["X_psalm"]`` (n_cells, ≤ max(n_comps, n_proteins)) float32, and what it takes to
    place other cells in the same space to ``mdata[modality].uns["X_psalm"]``.

    Raises
    ------
    KeyError
        Unknown modality or layer.
    ValueError
        Unknown kind, values that are NaN or infinite, negative or fractional values where counts are needed, or no
        feature that varies; a reference that does not fit.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300, n_treatments=3)
    >>> psalm.pp.represent(mdata, "a", kind="features", n_comps=10)
    >>> mdata["a"].obsm["X_psalm"].shape
    (300, 10)
    """
    adata = _access.modality(_access.container(mdata), modality)
    _checks.one_of("kind", kind, KINDS)
    _checks.whole_number("n_comps", n_comps, least=1)
    values = _values(adata, modality, layer)
    if kind != "features":
        _require_counts(values, kind, f"`mdata[{modality!r}].{_said(layer)}`")
    if reference is None:
        _require_variation(values, kind, f"`mdata[{modality!r}].{_said(layer)}`")
        seed = int(np.random.default_rng(rng).integers(2**31))
        space = FITS[kind](TRANSFORMS[kind](values), adata.var_names, n_comps, seed)
    else:
        space = _space_of(_access.modality(_access.container(reference), modality), adata, modality, kind)
    representation = _project(TRANSFORMS[kind](values), space)
    adata.obsm[_keys.REPRESENTATION] = representation.astype(np.float32)
    adata.uns[_keys.REPRESENTATION] = space


def _said(layer: str | None) -> str:
    return "X" if layer is None else f"layers[{layer!r}]"


def _values(adata: AnnData, modality: str, layer: str | None) -> Matrix:
    if layer is not None and layer not in adata.layers:
        msg = f"`layer={layer!r}` is not in `mdata[{modality!r}].layers`. Found: {_checks.listed(adata.layers)}."
        raise KeyError(msg)
    stored = adata.X if layer is None else adata.layers[layer]
    where = f"`mdata[{modality!r}].{_said(layer)}`"
    if stored is None:
        msg = f"{where} is empty. Pass `layer=` with one of: {_checks.listed(adata.layers)}."
        raise ValueError(msg)
    values = _access.numeric(stored, where)
    _checks.finite(values, where)
    return values


def _require_counts(values: Matrix, kind: str, where: str) -> None:
    data = values.data if sparse.issparse(values) else values
    if data.size and (data.min() < 0 or not np.array_equal(data, np.round(data))):
        msg = (
            f"`kind={kind!r}` needs counts, but {where} has negative or fractional values (minimum {data.min():.4g}). "
            'Pass `layer=` with the raw counts, or `kind="features"` for values that are already transformed.'
        )
        raise ValueError(msg)


def _require_variation(values: Matrix, kind: str, where: str) -> None:
    """Refuse what no representation can be made of."""
    least = {"features": 1, "atac": 3}.get(kind, 2)
    if min(values.shape) < least:
        msg = (
            f"`kind={kind!r}` needs {least} features and cells or more, but {where} has shape {values.shape}. "
            'Pass `kind="features"` for a single feature.'
        )
        raise ValueError(msg)
    low, high = values.min(axis=0), values.max(axis=0)
    varies = (high != low).nnz if sparse.issparse(high) else int((np.asarray(high) != np.asarray(low)).sum())
    if varies == 0:
        msg = f"No feature of {where} varies between cells, so there is nothing to represent."
        raise ValueError(msg)


def _log_normalised(counts: Matrix) -> Matrix:
    """Each cell scaled to 10,000 counts, then log1p."""
    import scanpy as sc

    cells = AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(cells, target_sum=TARGET_SUM)
    sc.pp.log1p(cells)
    normalised: Matrix = cells.X
    return normalised


def _centred_log(counts: Matrix) -> FloatArray:
    """log1p, then each cell minus its mean over proteins."""
    logged = np.log1p(counts.toarray() if sparse.issparse(counts) else counts)
    return np.asarray(logged - logged.mean(axis=1, keepdims=True))


def _fit_rna(values: Matrix, names: pd.Index, n_comps: int, rng: int) -> Space:
    import scanpy as sc

    cells, chosen = AnnData(values), np.arange(values.shape[1])
    if cells.n_vars > N_TOP_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=N_TOP_GENES)
        chosen = np.flatnonzero(cells.var["highly_variable"])
        cells = cells[:, chosen].copy()
    sc.pp.pca(cells, n_comps=min(n_comps, min(cells.shape) - 1), random_state=rng)
    mean = np.asarray(cells.X.mean(axis=0)).ravel()
    return _space("rna", names, mean, np.ones_like(mean), cells.varm["PCs"], chosen)


def _fit_protein(values: Matrix, names: pd.Index, n_comps: int, rng: int) -> Space:
    return _space("protein", names, *_moments(values))


def _fit_features(values: Matrix, names: pd.Index, n_comps: int, rng: int) -> Space:
    from sklearn.decomposition import PCA, TruncatedSVD

    mean, scale = _moments(values)
    if values.shape[1] <= n_comps:
        return _space("features", names, mean, scale)
    n_kept = min(n_comps, min(values.shape) - 1)
    if sparse.issparse(values):  # not centred, so that it stays sparse
        svd = TruncatedSVD(n_kept, random_state=rng).fit(values @ sparse.diags(1 / scale))
        return _space("features", names, np.zeros_like(mean), scale, svd.components_.T)
    # exact: with a randomised solver the last components, and the scores, change with the seed
    pca = PCA(n_kept, svd_solver="arpack", random_state=rng).fit((values - mean) / scale)
    return _space("features", names, mean, scale, pca.components_.T)


def _fit_atac(values: Matrix, names: pd.Index, n_comps: int, rng: int) -> Space:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    weight = TfidfTransformer(norm=None).fit(sparse.csr_matrix(values)).idf_
    weighted = sparse.csr_matrix(values) @ sparse.diags(weight)
    n_kept = min(n_comps, min(values.shape) - 2)
    svd = TruncatedSVD(n_kept + 1, algorithm="arpack", random_state=rng).fit(weighted)
    return _space("atac", names, np.zeros(values.shape[1]), 1 / weight, svd.components_[1:].T)


def _moments(values: Matrix) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature; a constant feature keeps scale one."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=not sparse.issparse(values)).fit(values)
    mean = np.zeros(values.shape[1]) if sparse.issparse(values) else scaler.mean_
    return np.asarray(mean), np.asarray(scaler.scale_)


def _space(
    kind: str,
    names: pd.Index,
    mean: FloatArray,
    scale: FloatArray,
    loadings: FloatArray | None = None,
    chosen: IntArray | None = None,
) -> Space:
    """What is needed to place other cells in the same coordinates, in types that files can hold.

    Features are found by position, since names of genes may occur twice.
    """
    chosen = np.arange(len(names)) if chosen is None else chosen
    features = names[chosen].to_numpy(dtype=object)
    columns = features if loadings is None else np.array([f"PC{i + 1}" for i in range(loadings.shape[1])], dtype=object)
    arrays = {"positions": chosen, "mean": np.asarray(mean, np.float64), "scale": np.asarray(scale, np.float64)}
    if loadings is not None:
        arrays["loadings"] = np.asarray(loadings, np.float64)
    digest = _access.fingerprint(*arrays.values(), "\n".join(features).encode())
    return {"kind": kind, "features": features, "columns": columns, "fingerprint": digest, **arrays}


def _project(values: Matrix, space: Space) -> FloatArray:
    """Coordinates (n_cells, n_columns) of transformed values."""
    chosen = values[:, space["positions"]] if len(space["positions"]) < values.shape[1] else values
    mean, scale = space["mean"], space["scale"]
    loadings = space.get("loadings")
    if loadings is None:
        dense = chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)
        return np.asarray((dense - mean) / scale)
    scaled = loadings / scale[:, None]
    return np.asarray(np.asarray(chosen @ scaled) - mean @ scaled)


def _space_of(fitted: AnnData, adata: AnnData, modality: str, kind: str) -> Space:
    """The space that the reference was represented in, once it fits these cells."""
    space = fitted.uns.get(_keys.REPRESENTATION)
    if space is None or space["kind"] != kind:
        found = "no representation" if space is None else f"one of kind {space['kind']!r}"
        msg = (
            f"`reference` has {found} of {modality!r}, and kind {kind!r} was asked for. Run `pp.represent` on it first."
        )
        raise ValueError(msg)
    if not fitted.var_names.equals(adata.var_names):
        msg = (
            f"`reference` has {fitted.n_vars} features of {modality!r} and these cells have {adata.n_vars}, "
            "or the same in another order. Bring them into its order, e.g. `new[:, reference.var_names]`."
        )
        raise ValueError(msg)
    return dict(space)


TRANSFORMS: dict[str, Callable[[Matrix], Matrix]] = {
    "rna": _log_normalised,
    "protein": _centred_log,
    "atac": _log_normalised,
    "features": lambda values: values,
}
FITS = {"rna": _fit_rna, "protein": _fit_protein, "atac": _fit_atac, "features": _fit_features}
