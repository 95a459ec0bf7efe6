"""A low-dimensional representation of one modality, through the libraries made for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm import _access, _checks, _features, _keys, _runs
from psalm._calls import recorded
from psalm.pp._spaces import FITS, TRANSFORMS, fit_scvi, project

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import Matrix
    from psalm.pp._spaces import Space

LARGEST, LARGEST_COUNT = 1e19, 1e30
KINDS = ("rna", "scvi", "protein", "atac", "features")


@recorded
def represent(
    mdata: MuData,
    modality: str,
    *,
    kind: str,
    n_comps: int = 50,
    layer: str | None = None,
    reference: MuData | None = None,
    max_epochs: int | None = None,
    progress: bool = True,
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
        "scvi": counts; the embedding of a scVI model of the same 2,000 variable genes, through scvi-tools.
        "atac": counts of peaks; each cell normalised to 10,000, log1p, each peak times its inverse document frequency,
        truncated SVD without its first component, which is depth (latent semantic indexing).
        "protein": counts; log1p, centred per cell (centred log-ratio), each protein scaled to unit variance.
        "features": anything else, such as components, topics or image features; each scaled to unit variance, and PCA
        where there are more than ``n_comps``; sparse input stays sparse.
    n_comps
        Number of components, or dimensions of the embedding; fewer where the modality has fewer cells or features.
    layer
        Layer to read instead of ``X``.
    reference
        Container in which this modality was represented before: its genes, scales and components are used, so that new
        cells get coordinates in the same space, for models and scores that were trained there.
    max_epochs
        Only for "scvi": passes over the cells; by default as many as scvi-tools finds fit.
    progress
        Only for "scvi": show its bar.
    rng
        Seed or generator of the PCA, or of the model.

    Returns
    -------
    None. Writes ``mdata[modality].obsm["X_psalm"]`` (n_cells, ≤ max(n_comps, n_proteins)) float32, and what it takes to
    place other cells in the same space to ``mdata[modality].uns["X_psalm"]``; ``obs["X_psalm_run"]`` says which space
    each cell is in, so that cells of two spaces are told apart where they are joined.

    Raises
    ------
    KeyError
        Unknown modality or layer.
    ValueError
        Unknown kind or an argument of another kind, values that are NaN or infinite, negative or fractional values
        where counts are needed, or no feature that varies; a reference that does not fit.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.represent(mdata, "a", kind="features", n_comps=10)
    >>> mdata["a"].obsm["X_psalm"].shape
    (300, 10)
    """
    adata = _access.modality(_access.container(mdata), modality)
    _checks.one_of("kind", kind, KINDS)
    _checks.whole_number("n_comps", n_comps, least=1)
    if max_epochs is not None:
        _checks.whole_number("max_epochs", max_epochs, least=1)
        if kind != "scvi" or reference is not None:
            msg = f"`max_epochs={max_epochs}` is for training with `kind='scvi'`. Leave it out."
            raise ValueError(msg)
    _refuse_loss(adata, modality)
    found = _features.layer_of(adata, modality, layer)
    values, where = found.values, f"`mdata[{modality!r}].{found.said}`"
    _require_range(values, kind, where)
    if kind != "features":
        _require_counts(values, kind, where, adata)
    if reference is None:
        _require_variation(values, kind, where)
        seed = int(_checks.generator(rng).integers(2**31))
        if kind == "scvi":
            space = fit_scvi(values, adata.var_names, n_comps, max_epochs, seed, progress=progress)
        else:
            space = FITS[kind](TRANSFORMS[kind](values), adata.var_names, n_comps, seed)
    else:
        space = _space_of(_access.modality(_access.container(reference), modality), adata, modality, kind)
    if kind != "features":
        _warn_of_empty(values, where)
    representation = project(TRANSFORMS[kind](values), space)
    adata.obsm[_keys.REPRESENTATION] = representation.astype(np.float32)
    adata.uns[_keys.REPRESENTATION] = space
    _runs.note(adata, _keys.REPRESENTATION, space["fingerprint"])


def _refuse_loss(adata: AnnData, modality: str) -> None:
    key = _keys.REPRESENTATION
    if key in adata.obsm and not isinstance(adata.uns.get(key), Mapping) and _keys.run(key) not in adata.obs:
        msg = (
            f"`mdata[{modality!r}].obsm[{key!r}]` was not written by `pp.represent`, and would be overwritten. "
            f"Rename it, or delete it: `del mdata[{modality!r}].obsm[{key!r}]`."
        )
        raise ValueError(msg)


def _require_range(values: Matrix, kind: str, where: str) -> None:
    """Refuse what float32 cannot hold: squares of features, counts before they are scaled."""
    most = LARGEST if kind == "features" else LARGEST_COUNT
    data = values.data if sparse.issparse(values) else values
    if data.size and max(data.max(), -data.min()) > most:
        msg = f"{where} has values beyond ±{most:.0e}, which float32 cannot hold. Divide them by a constant."
        raise ValueError(msg)


def _require_counts(values: Matrix, kind: str, where: str, adata: AnnData) -> None:
    data = values.data if sparse.issparse(values) else values
    if data.size and (data.min() < 0 or not np.array_equal(data, np.round(data))):
        layers = _access.layers(adata)
        msg = (
            f"`kind={kind!r}` needs counts, but {where} has negative or fractional values (minimum {data.min():.4g}). "
            f"Pass `layer=` with the raw counts{f' (layers: {_checks.listed(layers)})' if layers else ''}, or "
            f'`kind="features"` for values that are already transformed.{_access.from_raw(adata)}'
        )
        raise ValueError(msg)


def _warn_of_empty(values: Matrix, where: str) -> None:
    n_empty = int((np.asarray(values.sum(axis=1)).ravel() == 0).sum())
    if n_empty:
        msg = f"{n_empty} cells of {where} have no counts at all: they stand together at one point. Leave them out."
        warnings.warn(msg, UserWarning, stacklevel=4)


def _require_variation(values: Matrix, kind: str, where: str) -> None:
    """Refuse what no representation can be made of."""
    least = {"features": 1, "atac": 3}.get(kind, 2)
    if min(values.shape) < least:
        msg = f"`kind={kind!r}` needs {least} features and cells or more, but {where} has shape {values.shape}. " + (
            'Pass `kind="features"` for a single feature.' if kind != "features" else "Pass cells with features."
        )
        raise ValueError(msg)
    low, high = values.min(axis=0), values.max(axis=0)
    varies = (high != low).nnz if sparse.issparse(high) else int((np.asarray(high) != np.asarray(low)).sum())
    if varies == 0:
        msg = f"No feature of {where} varies between cells, so there is nothing to represent."
        raise ValueError(msg)


def _space_of(fitted: AnnData, adata: AnnData, modality: str, kind: str) -> Space:
    """The space that the reference was represented in, once it fits these cells."""
    space = fitted.uns.get(_keys.REPRESENTATION)
    known = isinstance(space, Mapping) and {"kind", "fingerprint"} <= space.keys()  # else merged from several
    if not known or space["kind"] != kind:
        found = "no representation" if not known else f"one of kind {space['kind']!r}"
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
