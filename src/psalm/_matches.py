"""Couplings in the container: written once, read with a check that they still fit the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _keys
from psalm.core.coupling import Block, Coupling, SparsePlan

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import IntArray


def write_coupling(mdata: MuData, key: str, source: str, target: str, mass: sparse.csr_matrix) -> None:
    """Place a (n_source, n_target) CSR into ``obsp``, rows source and columns target."""
    entries = mass.tocoo()
    rows, columns = _access.place(mdata, source)[entries.row], _access.place(mdata, target)[entries.col]
    mdata.obsp[key] = sparse.csr_matrix((entries.data, (rows, columns)), shape=(mdata.n_obs, mdata.n_obs))


def stored_coupling(mdata: MuData, key: str) -> sparse.csr_matrix:
    """The coupling as stored, (n_source, n_target) in each modality's own order."""
    params = _access.run(mdata, key, "tl.match", "match_key")["params"]
    if key not in mdata.obsp:
        msg = f"`mdata.obsp[{key!r}]` does not exist, though `mdata.uns[{key!r}]` does. Run `tl.match` again."
        raise KeyError(msg)
    rows, columns = _access.place(mdata, params["source"]), _access.place(mdata, params["target"])
    mass = sparse.csr_matrix(mdata.obsp[key])[rows][:, columns].tocsr()
    if not np.isfinite(mass.data).all() or (mass.data < 0).any():
        msg = (
            f"The coupling `mdata.obsp[{key!r}]` has entries that are negative or not finite: cells were added to the "
            "container after matching, or the entries were changed. Run `tl.propensity` and `tl.match` again."
        )
        raise ValueError(msg)
    mass.eliminate_zeros()
    _same_treatments(mdata, key, mass)
    return mass


def coupling(mdata: MuData, key: str) -> Coupling:
    """The exact coupling: from potentials where the method has them, from the stored entries otherwise."""
    mass = stored_coupling(mdata, key)
    stored = _access.run(mdata, key, "tl.match", "match_key")
    codes = _matched_codes(mdata, stored)
    places = [tuple(np.flatnonzero(side == t) for side in codes) for t in range(len(stored["table"]))]
    plan = _potential_plans(mdata, stored, key) if stored["params"]["from_potentials"] else None
    blocks = tuple(
        Block(
            t, source, target, SparsePlan(mass[source][:, target].tocsr()) if plan is None else plan(t, source, target)
        )
        for t, (source, target) in enumerate(places)
        if len(source) and len(target)
    )
    return Coupling(mass.shape[0], mass.shape[1], blocks)


def _matched_codes(mdata: MuData, stored: dict[str, Any]) -> tuple[IntArray, IntArray]:
    """Treatment of source and target cells, as positions in the match's table."""
    params = stored["params"]
    treatments = pd.Index(np.asarray(stored["table"]["treatment"]).astype(str))
    source, target = (
        _access.treatment_codes(mdata, params[side], params["treatment"], treatments)[0]
        for side in ("source", "target")
    )
    return source, target


def _same_treatments(mdata: MuData, key: str, mass: sparse.csr_matrix) -> None:
    """Refuse a coupling whose cells have got other treatments since it was made."""
    stored = _access.run(mdata, key, "tl.match", "match_key")
    source, target = _matched_codes(mdata, stored)
    entries, table, params = mass.tocoo(), stored["table"], stored["params"]
    changed = (source[entries.row] != target[entries.col]).any() or (source[entries.row] < 0).any()
    for side, codes in (("source", source), ("target", target)):
        counts = np.bincount(codes[codes >= 0], minlength=len(table))
        changed |= bool((counts > np.asarray(table[f"n_{side}"])).any())
        if params["from_potentials"]:
            matched = mdata.mod[params[side]].obs[_keys.MatchKeys(key).potential].notna().to_numpy()
            both = np.asarray((table["n_source"] > 0) & (table["n_target"] > 0))
            changed |= bool((~matched & (codes >= 0) & both[codes]).any())
    if changed:
        msg = (
            f"The coupling {key!r} was made for other treatments than the cells now have: labels in "
            f"obs[{params['treatment']!r}] were changed after matching. Run `tl.propensity` and `tl.match` again."
        )
        raise ValueError(msg)


def _potential_plans(mdata: MuData, stored: dict[str, Any], key: str) -> Any:
    """A function that makes the exact plan of a treatment's block from scores and potentials."""
    from psalm.core.sinkhorn import EntropicPlan

    params, table = stored["params"], stored["table"]
    propensity_key = params["propensity_key"]
    scored = _access.run(mdata, propensity_key, "tl.propensity", "propensity_key")
    if scored["fingerprint"] != params["propensity_fingerprint"]:
        msg = (
            f"The scores in obsm[{propensity_key!r}] were computed anew after the coupling {key!r} was made, "
            "so its exact plan cannot be recomputed. Run `tl.match` again."
        )
        raise ValueError(msg)
    names = params["source"], params["target"]
    x, y = (_access.scores(mdata, name, propensity_key).astype(np.float64) for name in names)
    f, g = (mdata.mod[name].obs[_keys.MatchKeys(key).potential].to_numpy(np.float64) for name in names)
    epsilons = np.asarray(table["epsilon"], dtype=np.float64)

    def plan(treatment: int, source: IntArray, target: IntArray) -> EntropicPlan:
        epsilon = float(epsilons[treatment])
        return EntropicPlan(x[source], y[target], f[source], g[target], epsilon, str(table["cost"].iloc[treatment]))

    return plan
