"""Couplings in the container: written once, read with a check that they still fit the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _features, _keys, _scores
from psalm.core.cost import POSTERIOR, posterior_coordinates
from psalm.core.coupling import Block, Coupling
from psalm.core.matching import find_places
from psalm.core.plan import EntropicPlan, SparsePlan
from psalm.core.refine import Refiner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray, Matrix

WIDE, N_COMPS = 200, 50
"""Features beyond so many are first reduced to so many components."""
PORTION = 64
"""Features put into z-scores at a time."""


def write_coupling(mdata: MuData, key: str, source: str, target: str, mass: sparse.csr_matrix) -> None:
    """Place a (n_source, n_target) CSR into ``obsp``, rows source and columns target."""
    entries = mass.tocoo()
    rows, columns = _access.place(mdata, source)[entries.row], _access.place(mdata, target)[entries.col]
    mdata.obsp[key] = sparse.csr_matrix((entries.data, (rows, columns)), shape=(mdata.n_obs, mdata.n_obs))


def stored_coupling(mdata: MuData, key: str) -> sparse.csr_matrix:
    """The coupling as stored, (n_source, n_target) in each modality's own order."""
    return _entries(mdata, key)[0]


def _entries(mdata: MuData, key: str) -> tuple[sparse.csr_matrix, tuple[IntArray, IntArray]]:
    """The stored coupling with the blocks of source and target, each checked to fit the other."""
    params = _stored(mdata, key)["params"]
    source, target = _same_treatments(mdata, key)
    rows, columns = _access.place(mdata, params["source"]), _access.place(mdata, params["target"])
    mass = sparse.csr_matrix(mdata.obsp[key])[rows][:, columns].tocsr()
    if not np.isfinite(mass.data).all() or (mass.data < 0).any():
        msg = (
            f"The coupling `mdata.obsp[{key!r}]` has entries that are negative or not finite: after matching the names "
            "of cells in the container changed, so that their rows were lost, or the entries were changed. "
            "Run `tl.match` again."
        )
        raise ValueError(msg)
    mass.eliminate_zeros()
    entries = mass.tocoo()
    if (source[entries.row] != target[entries.col]).any():
        raise ValueError(_other_treatments(mdata, key))
    _require_whole(mdata, key, mass, (source, target))
    return mass, (source, target)


def entries_of(mass: sparse.csr_matrix, blocks: FloatArray | IntArray, n_blocks: int) -> IntArray:
    """Entries of each block (n_blocks,) of a coupling whose source cells are in these blocks."""
    rows = np.repeat(blocks, np.diff(mass.indptr))[mass.data > 0]
    return np.bincount(rows.astype(np.int64), minlength=n_blocks)


def _require_whole(mdata: MuData, key: str, mass: sparse.csr_matrix, blocks: tuple[IntArray, IntArray]) -> None:
    """Refuse a coupling that has all cells of a block, and not all entries between them: parts were joined again."""
    stored = _access.run(mdata, key, "tl.match", "match_key")
    if "entries" not in stored:
        return
    table, known = stored["table"], np.asarray(stored["entries"])
    whole = np.ones(len(table), dtype=bool)
    for side, found in zip(("source", "target"), blocks, strict=True):
        whole &= np.bincount(found[found >= 0], minlength=len(table)) == table[f"n_{side}"].to_numpy()
    lacking = whole & (entries_of(mass, blocks[0], len(table)) < known)
    if lacking.any():
        msg = (
            f"The coupling `mdata.obsp[{key!r}]` has lost entries of {_checks.listed(block_names(table)[lacking], 5)}, "
            "as happens where a container was split and its parts were joined again. Run `tl.match` again."
        )
        raise ValueError(msg)


def coupling(mdata: MuData, key: str) -> Coupling:
    """The exact coupling: from potentials where the method has them, from the stored entries otherwise."""
    stored = _stored(mdata, key)
    if stored["params"]["from_potentials"]:  # entries are a view of the plan, and cost more to read than it
        codes, plan = _same_treatments(mdata, key), _potential_plans(mdata, stored, key)
    else:
        mass, codes = _entries(mdata, key)

        def plan(_: int, source: IntArray, target: IntArray) -> SparsePlan:
            return SparsePlan(mass[source][:, target].tocsr())

    places = find_places(*codes)
    blocks = tuple(Block(p.code, p.source, p.target, plan(p.code, p.source, p.target)) for p in places)
    return Coupling(len(codes[0]), len(codes[1]), blocks)


def _stored(mdata: MuData, key: str) -> dict[str, Any]:
    """What `tl.match` wrote into ``uns``; its entries must be there as well."""
    stored = _access.run(mdata, key, "tl.match", "match_key")
    if key not in mdata.obsp:
        msg = f"`mdata.obsp[{key!r}]` does not exist, though `mdata.uns[{key!r}]` does. Run `tl.match` again."
        raise KeyError(msg)
    return stored


def block_names(table: pd.DataFrame) -> pd.Series:
    """How to call each row of a match's table: its treatment, and its stratum where there are strata."""
    names = table["treatment"].astype(str)
    return names + " in " + table["within"].astype(str) if "within" in table else names


def blocks_of(mdata: MuData, name: str, key: str) -> IntArray:
    """Row of each cell's block in the match's table; −1 for cells that were not matched."""
    keys = _keys.MatchKeys(key)
    obs = _access.modality(mdata, name).obs
    if keys.block not in obs:
        column = f"`mdata[{name!r}].obs[{keys.block!r}]`"
        msg = f"{column} does not exist, though the match {key!r} does. Run `tl.match` again."
        raise KeyError(msg)
    return np.asarray(obs[keys.block].astype(float).fillna(-1).astype(int))


def _same_treatments(mdata: MuData, key: str) -> tuple[IntArray, IntArray]:
    """Blocks of source and target; refuses a coupling whose cells have got other treatments since it was made."""
    stored = _access.run(mdata, key, "tl.match", "match_key")
    params, of_block = stored["params"], np.asarray(stored["table"]["treatment"]).astype(str)
    treatments = pd.Index(pd.unique(of_block))
    found = []
    for side in ("source", "target"):
        blocks = blocks_of(mdata, params[side], key)
        now, _ = _access.treatment_codes(mdata, params[side], params["treatment"], treatments)
        matched = blocks >= 0
        unknown = mdata.mod[params[side]].obs[_keys.MatchKeys(key).block].isna().to_numpy()
        relabelled = (now[matched] != treatments.get_indexer(of_block)[blocks[matched]]).any()
        if relabelled or (unknown & (now >= 0)).any():  # the latter: cells that got a treatment since
            raise ValueError(_other_treatments(mdata, key))
        _require_no_more(stored["table"], blocks[matched], side, key)
        found.append(blocks)
    return found[0], found[1]


def _require_no_more(table: pd.DataFrame, blocks: IntArray, side: str, key: str) -> None:
    """Refuse cells that occur more often than when they were matched."""
    now, then = np.bincount(blocks, minlength=len(table)), table[f"n_{side}"].to_numpy()
    if (now > then).any():
        names = block_names(table)[now > then]
        msg = (
            f"The match {key!r} has fewer cells than are here now: cells were added to the container after matching, "
            f"such as copies of others, {int(now.sum())} {side} cells for {int(then.sum())}, in "
            f"{_checks.listed(names, 5)}. Run `tl.match` again."
        )
        raise ValueError(msg)


def _other_treatments(mdata: MuData, key: str) -> str:
    label = _access.run(mdata, key, "tl.match", "match_key")["params"]["treatment"]
    return (
        f"The coupling {key!r} was made for other treatments than the cells now have: labels in "
        f"obs[{label!r}] were changed after matching. Run `tl.propensity` and `tl.match` again."
    )


def _potential_plans(mdata: MuData, stored: dict[str, Any], key: str) -> Any:
    """A function that makes the exact plan of a treatment's block from scores and potentials."""
    params, table = stored["params"], stored["table"]
    propensity_key = params["propensity_key"]
    scored = _scores.run(mdata, propensity_key)
    if scored["fingerprint"] != params["propensity_fingerprint"]:
        msg = (
            f"The scores in obsm[{propensity_key!r}] were computed anew after the coupling {key!r} was made, "
            "so its exact plan cannot be recomputed. Run `tl.match` again."
        )
        raise ValueError(msg)
    names = params["source"], params["target"]
    if (table["cost"] == POSTERIOR).any():
        x, y = posterior(mdata, names, propensity_key)
    else:
        coordinates = _keys.MatchKeys(key).coordinates if params["refined"] else propensity_key
        x, y = (_scores.scores(mdata, name, coordinates) for name in names)
    f, g = (mdata.mod[name].obs[_keys.MatchKeys(key).potential].to_numpy(np.float64) for name in names)
    epsilons = np.asarray(table["epsilon"], dtype=np.float64)

    def plan(treatment: int, source: IntArray, target: IntArray) -> EntropicPlan:
        epsilon = float(epsilons[treatment])
        return EntropicPlan(x[source], y[target], f[source], g[target], epsilon, str(table["cost"].iloc[treatment]))

    return plan


def posterior(mdata: MuData, names: tuple[str, str], propensity_key: str) -> list[FloatArray]:
    """Coordinates of the "posterior" cost, of source and target (n_cells, n_treatments)."""
    stored = _scores.run(mdata, propensity_key)
    return [posterior_of(stored, _scores.scores(mdata, name, propensity_key)) for name in names]


def posterior_of(stored: Mapping[str, Any], scores: FloatArray) -> FloatArray:
    """The same of some cells, by what was stored with their scores."""
    kept = _scores.kept(stored)
    if "shares" not in stored or len(kept.layout.factors) > 1:
        found = "by factors" if len(kept.layout.factors) > 1 else f"with prior {stored['params']['prior']!r}"
        msg = (
            f"The cost 'posterior' needs the probabilities of treatments under one shared prior, but "
            f'the scores were made {found}. Run `tl.propensity` with `prior="shared"` and '
            '`score_on="treatment"`, or pass `cost="euclidean"`.'
        )
        raise ValueError(msg)
    log_prior = np.log(np.asarray(stored["shares"], dtype=np.float64))
    return posterior_coordinates(kept.log_odds(scores), log_prior)


def potentials(coupling: Coupling) -> tuple[FloatArray, FloatArray]:
    """Dual potentials of all source and all target cells; NaN for unmatched cells."""
    source, target = np.full(coupling.n_source, np.nan), np.full(coupling.n_target, np.nan)
    for block in coupling.blocks:
        if isinstance(block.plan, EntropicPlan):
            source[block.source], target[block.target] = block.plan.source_potential, block.plan.target_potential
    return source, target


def has_potentials(coupling: Coupling, scores: list[FloatArray]) -> bool:
    """Whether every plan can be computed anew from potentials and the stored scores."""
    return all(
        isinstance(block.plan, EntropicPlan)
        and np.array_equal(block.plan.source_scores, scores[0][block.source])
        and np.array_equal(block.plan.target_scores, scores[1][block.target])
        for block in coupling.blocks
    )


def write_coordinates(
    mdata: MuData, keys: _keys.MatchKeys, names: tuple[str, str], coordinates: list[FloatArray] | None
) -> None:
    """Place what a refined match measured distances in; drop that of an earlier match under this key."""
    for adata in mdata.mod.values():
        if keys.coordinates in adata.obsm:
            del adata.obsm[keys.coordinates]
    if coordinates is not None:
        for name, values in zip(names, coordinates, strict=True):
            mdata.mod[name].obsm[keys.coordinates] = values


def refined(
    mdata: MuData,
    names: tuple[str, str],
    use_rep: str | Mapping[str, str] | None,
    coupling: Coupling,
    scores: list[FloatArray],
) -> list[FloatArray]:
    """Scores of source and target followed by canonical coordinates, as they are stored."""
    if not coupling.blocks:
        return scores
    found = Refiner()(coupling, (scores[0], scores[1]), features(mdata, names, use_rep))
    return [values.astype(np.float32) for values in found]


def features(
    mdata: MuData, names: tuple[str, str], use_rep: str | Mapping[str, str] | None
) -> tuple[FloatArray, FloatArray]:
    """Dense features of source and target, as components where they are many."""
    first, second = (narrowed(_features.features(mdata, name, use_rep).values) for name in names)
    return first, second


def narrowed(values: Matrix) -> FloatArray:
    """Dense features, as components where they are many."""
    if values.shape[1] <= WIDE:
        return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
    from sklearn.decomposition import TruncatedSVD

    return np.asarray(TruncatedSVD(N_COMPS, random_state=0).fit_transform(values), dtype=np.float64)


def narrowed_width(n_features: int) -> int:
    """How many columns :func:`narrowed` makes of so many."""
    return n_features if n_features <= WIDE else N_COMPS


def compared_in(found: _features.Features) -> FloatArray:
    """Features of the target (n_target, k) as averages are compared in them: z-scores, or a representation as it is."""
    values = found.dense()
    if found.is_representation:
        return values
    scores = np.empty_like(values)
    for start in range(0, values.shape[1], PORTION):  # so that nothing as large as all features exists a third time
        columns = slice(start, start + PORTION)
        spread = values[:, columns].std(axis=0)
        centred = values[:, columns] - values[:, columns].mean(axis=0)
        scores[:, columns] = centred / np.where(spread > 0, spread, 1.0)
    return scores
