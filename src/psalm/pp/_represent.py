"""A low-dimensional representation of one modality, through the libraries made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from scipy import sparse

from psalm import _access, _checks, _keys

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray, Matrix

KINDS = ("rna", "protein", "features")
N_TOP_GENES = 2000
TARGET_SUM = 1e4


def represent(
    mdata: MuData,
    modality: str,
    *,
    kind: str,
    n_comps: int = 50,
    layer: str | None = None,
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
        "protein": counts; log1p, centred per cell (centred log-ratio), each protein scaled to unit variance.
        "features": anything else, such as components, topics or image features; each scaled to unit variance, and PCA
        where there are more than ``n_comps``; sparse input stays sparse.
    n_comps
        Number of principal components; fewer where the modality has fewer cells or features.
    layer
        Layer to read instead of ``X``.
    rng
        Seed or generator of the PCA.

    Returns
    -------
    None. Writes ``mdata[modality].obsm["X_psalm"]`` (n_cells, ≤ max(n_comps, n_proteins)) float32.

    Raises
    ------
    KeyError
        Unknown modality or layer.
    ValueError
        Unknown kind, values that are NaN or infinite, negative or fractional values where counts are needed, or no
        feature that varies.

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
    if kind in ("rna", "protein"):
        _require_counts(values, kind, f"`mdata[{modality!r}].{_said(layer)}`")
    _require_variation(values, kind, f"`mdata[{modality!r}].{_said(layer)}`")
    steps = {"rna": _rna, "protein": _protein, "features": _features}
    seed = int(np.random.default_rng(rng).integers(2**31))
    adata.obsm[_keys.REPRESENTATION] = np.asarray(steps[kind](values, n_comps, seed), dtype=np.float32)


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
    least = 1 if kind == "features" else 2
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


def _rna(values: Matrix, n_comps: int, rng: int) -> FloatArray:
    import scanpy as sc

    cells = AnnData(values.astype(np.float32))
    sc.pp.normalize_total(cells, target_sum=TARGET_SUM)
    sc.pp.log1p(cells)
    if cells.n_vars > N_TOP_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=N_TOP_GENES)
        cells = cells[:, cells.var["highly_variable"]].copy()
    sc.pp.pca(cells, n_comps=min(n_comps, min(cells.shape) - 1), random_state=rng)
    return np.asarray(cells.obsm["X_pca"])


def _protein(values: Matrix, n_comps: int, rng: int) -> FloatArray:
    from sklearn.preprocessing import StandardScaler

    logged = np.log1p(values.toarray() if sparse.issparse(values) else values)
    return np.asarray(StandardScaler().fit_transform(logged - logged.mean(axis=1, keepdims=True)))


def _features(values: Matrix, n_comps: int, rng: int) -> FloatArray:
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.preprocessing import StandardScaler

    is_sparse = sparse.issparse(values)
    scaled = StandardScaler(with_mean=not is_sparse).fit_transform(values)
    n_kept = min(n_comps, min(values.shape) - 1)
    if values.shape[1] <= n_comps:
        return np.asarray(scaled.toarray() if is_sparse else scaled)
    if is_sparse:
        return np.asarray(TruncatedSVD(n_kept, random_state=rng).fit_transform(scaled))
    # exact: with a randomised solver the last components, and the scores, change with the seed
    return np.asarray(PCA(n_kept, svd_solver="arpack", random_state=rng).fit_transform(scaled))
