"""Spaces that cells are represented in: fitted on some cells, so that others can be placed in the same coordinates."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from psalm import _access
from psalm._scanpy import scanpy

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from psalm.core._types import FloatArray, IntArray, Matrix

Space = dict[str, Any]
N_TOP_GENES = 2000
TARGET_SUM = 1e4


def _log_normalised(counts: Matrix) -> Matrix:
    """Each cell scaled to 10,000 counts, then log1p."""
    sc = scanpy()

    cells = AnnData(counts.astype(np.float32))
    with warnings.catch_warnings():  # `pp.represent` says it, with the modality and what to do
        warnings.filterwarnings("ignore", "Some cells have zero counts", UserWarning)
        sc.pp.normalize_total(cells, target_sum=TARGET_SUM)
    sc.pp.log1p(cells)
    normalised: Matrix = cells.X
    return normalised


def _centred_log(counts: Matrix) -> FloatArray:
    """log1p, then each cell minus its mean over proteins."""
    logged = np.log1p(counts.toarray() if sparse.issparse(counts) else counts)
    return np.asarray(logged - logged.mean(axis=1, keepdims=True))


def _fit_rna(values: Matrix, names: pd.Index, n_comps: int, rng: int) -> Space:
    sc = scanpy()

    chosen = _variable_genes(values)
    cells = AnnData(values[:, chosen] if len(chosen) < values.shape[1] else values)
    sc.pp.pca(cells, n_comps=min(n_comps, min(cells.shape) - 1), random_state=rng)
    mean = np.asarray(cells.X.mean(axis=0)).ravel()
    return _space("rna", names, mean, np.ones_like(mean), cells.varm["PCs"], chosen)


def _variable_genes(normalised: Matrix) -> IntArray:
    """Positions of the 2,000 most variable genes, or of all where there are no more."""
    sc = scanpy()

    if normalised.shape[1] <= N_TOP_GENES:
        return np.arange(normalised.shape[1])
    cells = AnnData(normalised)
    sc.pp.highly_variable_genes(cells, n_top_genes=N_TOP_GENES)
    return np.flatnonzero(cells.var["highly_variable"])


def fit_scvi(
    counts: Matrix, names: pd.Index, n_comps: int, max_epochs: int | None, rng: int, *, progress: bool
) -> Space:
    from psalm.pp import _scvi

    chosen = _variable_genes(_log_normalised(counts))
    weights = _scvi.fit(counts[:, chosen], n_comps, max_epochs, rng, progress=progress)
    features = names[chosen].to_numpy(dtype=object)
    digest = _access.fingerprint(*weights.values(), chosen, "\n".join(features).encode())
    columns = np.array([f"scVI{i + 1}" for i in range(n_comps)], dtype=object)
    found = {"kind": "scvi", "features": features, "columns": columns, "fingerprint": digest, "positions": chosen}
    return {**found, "weights": weights}


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


def project(values: Matrix, space: Space) -> FloatArray:
    """Coordinates (n_cells, n_columns) of transformed values."""
    chosen = values[:, space["positions"]] if len(space["positions"]) < values.shape[1] else values
    if space["kind"] == "scvi":
        from psalm.pp import _scvi

        return _scvi.embed(chosen, len(space["columns"]), space["weights"])
    mean, scale = space["mean"], space["scale"]
    loadings = space.get("loadings")
    if loadings is None:
        dense = chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)
        return np.asarray((dense - mean) / scale)
    scaled = loadings / scale[:, None]
    return np.asarray(np.asarray(chosen @ scaled) - mean @ scaled)


TRANSFORMS: dict[str, Callable[[Matrix], Matrix]] = {
    "rna": _log_normalised,
    "protein": _centred_log,
    "atac": _log_normalised,
    "scvi": lambda values: values,
    "features": lambda values: values,
}
FITS = {"rna": _fit_rna, "protein": _fit_protein, "atac": _fit_atac, "features": _fit_features}
