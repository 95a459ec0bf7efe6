"""The one door between containers and arrays: finds what a step needs, writes what it found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from psalm import _checks, _keys
from psalm.core.coupling import Block, Coupling, SparsePlan

if TYPE_CHECKING:
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
    if mdata.axis != 0:
        msg = f"`mdata.axis` is {mdata.axis}, but cells must be on axis 0. Build the MuData with `axis=0`."
        raise ValueError(msg)
    for name, adata in mdata.mod.items():
        _checks.unique_names(adata.obs_names, f"`mdata[{name!r}]`")
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
    """

    values: Matrix
    names: pd.Index
    key: str
    said: str

    def dense(self) -> FloatArray:
        """The values as a dense float64 array."""
        return np.asarray(self.values.toarray() if sparse.issparse(self.values) else self.values, dtype=np.float64)


def features(mdata: MuData, name: str, use_rep: str | Mapping[str, str] | None = None) -> Features:
    """Features of a modality: what ``use_rep`` names, else ``obsm["X_psalm"]`` where it exists, else X.

    ``use_rep`` is "X", a key of ``obsm`` or a key of ``layers``; one for all modalities or a mapping by modality.
    """
    key = use_rep.get(name) if isinstance(use_rep, Mapping) else use_rep
    return features_of(modality(mdata, name), name, key)


def features_of(adata: AnnData, name: str, key: str | None) -> Features:
    """Features of one AnnData, which messages call ``name``."""
    if key is None:
        key = _keys.REPRESENTATION if _keys.REPRESENTATION in adata.obsm else "X"
    if key == "X":
        values, said, names = adata.X, "X", adata.var_names
    elif key in adata.obsm:
        values, said, names = adata.obsm[key], f"obsm[{key!r}]", _component_names(adata.obsm[key], name)
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
    where = f"`mdata[{name!r}].{said}`"
    array = numeric(values, where)
    _checks.finite(array, where)
    return Features(array, names, key, said)


def numeric(values: Any, where: str) -> Matrix:
    """A float matrix, dense or CSR, of anything that AnnData stores as a matrix in memory."""
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    if sparse.issparse(values):
        return sparse.csr_matrix(values, dtype=np.float64)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{where} is of type {type(values).__name__} and cannot be read as numbers. Pass a numeric matrix."
        raise TypeError(msg) from error
    if array.ndim != 2:  # noqa: PLR2004, a matrix
        msg = f"{where} has shape {array.shape}, but features must be a matrix of cells × features."
        raise ValueError(msg)
    return array


def _component_names(values: Any, name: str) -> pd.Index:
    if isinstance(values, pd.DataFrame):
        return values.columns.astype(str)
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
    labels = adata.obs[key]
    if treatments is None:
        treatments = pd.Index(labels.astype("category").cat.categories)
    return np.asarray(treatments.get_indexer(labels)), treatments


def fingerprint(*arrays: Any) -> str:
    """Short digest of arrays, to tell whether a later step still fits an earlier one."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def run(mdata: MuData, key: str, step: str, argument: str) -> dict[str, Any]:
    """What an earlier step wrote to ``uns``."""
    if key not in mdata.uns or not isinstance(mdata.uns[key], Mapping) or "params" not in mdata.uns[key]:
        msg = f"`{argument}={key!r}`: there is no such result in `mdata.uns`. Run `{step}` first."
        raise KeyError(msg)
    return dict(mdata.uns[key])


def scores(mdata: MuData, name: str, key: str) -> FloatArray:
    """Propensity scores of one modality (n_cells, n_treatments), as they are stored."""
    adata = modality(mdata, name)
    if key not in adata.obsm:
        msg = f"`mdata[{name!r}].obsm[{key!r}]` does not exist. Run `tl.propensity` first."
        raise KeyError(msg)
    values = np.asarray(adata.obsm[key])
    _checks.finite(values, f"`mdata[{name!r}].obsm[{key!r}]`")
    return values


def place(mdata: MuData, name: str) -> IntArray:
    """Row of each of a modality's cells in the container."""
    return np.asarray(mdata.obs_names.get_indexer(modality(mdata, name).obs_names))


def write_coupling(mdata: MuData, key: str, source: str, target: str, mass: sparse.csr_matrix) -> None:
    """Place a (n_source, n_target) CSR into ``obsp``, rows source and columns target."""
    entries = mass.tocoo()
    rows, columns = place(mdata, source)[entries.row], place(mdata, target)[entries.col]
    mdata.obsp[key] = sparse.csr_matrix((entries.data, (rows, columns)), shape=(mdata.n_obs, mdata.n_obs))


def stored_coupling(mdata: MuData, key: str) -> sparse.csr_matrix:
    """The coupling as stored, (n_source, n_target) in each modality's own order."""
    params = run(mdata, key, "tl.match", "match_key")["params"]
    if key not in mdata.obsp:
        msg = f"`mdata.obsp[{key!r}]` does not exist, though `mdata.uns[{key!r}]` does. Run `tl.match` again."
        raise KeyError(msg)
    rows, columns = place(mdata, params["source"]), place(mdata, params["target"])
    mass = sparse.csr_matrix(mdata.obsp[key])[rows][:, columns].tocsr()
    if not np.isfinite(mass.data).all() or (mass.data < 0).any():
        msg = (
            f"The coupling `mdata.obsp[{key!r}]` has entries that are negative or not finite: cells were added to the "
            "container after matching, or the entries were changed. Run `tl.propensity` and `tl.match` again."
        )
        raise ValueError(msg)
    mass.eliminate_zeros()
    return mass


def coupling(mdata: MuData, key: str) -> Coupling:
    """The exact coupling: from potentials where the method has them, from the stored entries otherwise."""
    stored = run(mdata, key, "tl.match", "match_key")
    params, mass = stored["params"], stored_coupling(mdata, key)
    names = params["source"], params["target"]
    treatments = pd.Index(np.asarray(stored["table"]["treatment"]).astype(str))
    codes = [treatment_codes(mdata, name, params["treatment"], treatments)[0] for name in names]
    _same_treatment(mass, codes[0], codes[1], key)
    places = [tuple(np.flatnonzero(side == t) for side in codes) for t in range(len(treatments))]
    plan = _potential_plans(mdata, stored, key) if params["from_potentials"] else None
    blocks = tuple(
        Block(
            t, source, target, SparsePlan(mass[source][:, target].tocsr()) if plan is None else plan(t, source, target)
        )
        for t, (source, target) in enumerate(places)
        if len(source) and len(target)
    )
    return Coupling(mass.shape[0], mass.shape[1], blocks)


def _same_treatment(mass: sparse.csr_matrix, source: IntArray, target: IntArray, key: str) -> None:
    """Refuse a coupling that joins cells of different treatments: labels have changed since it was made."""
    entries = mass.tocoo()
    if (source[entries.row] != target[entries.col]).any() or (source[entries.row] < 0).any():
        msg = (
            f"The coupling `mdata.obsp[{key!r}]` joins cells that no longer have the same treatment: treatments were "
            "changed after matching. Run `tl.propensity` and `tl.match` again."
        )
        raise ValueError(msg)


def _potential_plans(mdata: MuData, stored: dict[str, Any], key: str) -> Any:
    """A function that makes the exact plan of a treatment's block from scores and potentials."""
    from psalm.core.sinkhorn import EntropicPlan

    params, table = stored["params"], stored["table"]
    propensity_key = params["propensity_key"]
    scored = run(mdata, propensity_key, "tl.propensity", "propensity_key")
    if scored["fingerprint"] != params["propensity_fingerprint"]:
        msg = (
            f"The scores in obsm[{propensity_key!r}] were computed anew after the coupling {key!r} was made, "
            "so its exact plan cannot be recomputed. Run `tl.match` again."
        )
        raise ValueError(msg)
    names = params["source"], params["target"]
    x, y = (scores(mdata, name, propensity_key).astype(np.float64) for name in names)
    f, g = (mdata.mod[name].obs[_keys.MatchKeys(key).potential].to_numpy(np.float64) for name in names)
    epsilons = np.asarray(table["epsilon"], dtype=np.float64)

    def plan(treatment: int, source: IntArray, target: IntArray) -> EntropicPlan:
        epsilon = float(epsilons[treatment])
        return EntropicPlan(x[source], y[target], f[source], g[target], epsilon, str(params["cost"]))

    return plan
