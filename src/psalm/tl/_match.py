"""Match cells of two modalities within each treatment."""

from __future__ import annotations

import warnings
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _checks, _keys, _matches, _scores
from psalm._blocks import find_blocks
from psalm._progress import bar
from psalm.core.cost import COSTS
from psalm.core.matching import match_within
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from mudata import MuData

    from psalm._blocks import Blocks
    from psalm.core._types import FloatArray
    from psalm.core.coupling import Coupling
    from psalm.core.matching import Matcher, TreatmentMatch

STEP = "tl.match"
METHODS = ("ot", "snn")
VAGUE, MANY_CELLS = 0.98, 10
"""A treatment of at least so many cells with effective matches above this share of them is warned of."""
BYTES_PER_ENTRY = 12  # float64 value and int32 column


def match(
    mdata: MuData,
    *,
    source: str,
    target: str,
    method: str | Matcher = "ot",
    cost: str | None = None,
    epsilon: float | None = None,
    tolerance: float | None = None,
    propensity_key: str = _keys.PROPENSITY,
    min_response: float | None = None,
    refine: bool = False,
    use_rep: str | Mapping[str, str] | None = None,
    obsp_mb: float = 64.0,
    n_jobs: int | None = None,
    progress: bool = True,
    key_added: str = _keys.MATCH,
) -> None:
    """Match every source cell softly with target cells of its own treatment, by the distance of their scores.

    Where :func:`psalm.pp.treatment` was given ``within=``, cells are matched within the treatment and the stratum
    (donor, plate).

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    source, target
        Modalities; rows and columns of the coupling.
    method
        "ot": entropic optimal transport with uniform marginals within each treatment.
        "snn": shared nearest neighbours.
        Or a matcher object such as ``psalm.core.sinkhorn.SinkhornMatcher(epsilon=0.1)``, or your own: a callable from
        two score matrices to a ``psalm.core.matching.Match``.
    cost
        Only for "ot": "euclidean" (default) or "sqeuclidean" distance between centred log-odds.
    epsilon
        Only for "ot": strength of the entropy relative to the mean cost of the treatment's block, 0.2 by default.
        Smaller is sharper, and follows noise in the scores; larger is softer, towards the treatment's mean.
    tolerance
        Only for "ot": largest L1 error of the marginals relative to the block's mass, 1e-3 by default.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    min_response
        Leave out cells that look as if they had not responded to their treatment: those whose
        ``obs[propensity_key + "_response"]`` is below this, e.g. 0.5. Control cells are kept. The table says how many
        were left out. By default none is.
    refine
        Match twice: the second time also by what the features of both modalities agree on in the first match, pooled
        over treatments (canonical correlations within treatments; :class:`psalm.core.refine.Refiner`). It finds
        partners better on most data; where scores say nothing, it makes more of nothing.
    use_rep
        Features to refine by, as in :func:`psalm.tl.propensity`; more than 200 are reduced to 50 components.
    obsp_mb
        Budget of the stored coupling of a soft plan. Where the exact one is larger, a compact view of its largest
        entries is stored, rescaled towards the marginals (rows exactly, columns nearly), and the mass it keeps is
        stated per treatment. What psalm computes from the coupling is exact either way.
        Plans that are not soft, such as those of "snn", are always stored whole.
    n_jobs
        Treatments matched at a time (threads), as in joblib. The coupling does not depend on it.
    progress
        Show a bar for what takes longer than a second.
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes ``mdata.obsp[key_added]``, CSR (n_obs, n_obs), rows source and columns target cells, entries the
    transported mass: a treatment's block sums to the mean of its shares among the matched source and target cells, all
    blocks to 1. Writes ``obs[key_added + "_entropy"]`` of both modalities (nats; NaN for unmatched cells) and, for
    "ot", ``obs[key_added + "_potential"]``: the plan is ``exp((f_i + g_j − C_ij) / ε)``; and ``obs[key_added +
    "_block"]``, the row of the table in which the cell is matched (−1: not matched; NaN: no treatment). Where refined,
    writes ``obsm[key_added + "_coordinates"]``, of which C is the distance: scores, then canonical coordinates. Writes
    ``mdata.uns[key_added]`` with ``params`` and ``table``, one row per treatment (and stratum, in the column
    ``within``): n_source, n_target, cost, epsilon (in units of cost), iterations, marginal_error, converged,
    effective_matches (mean over source cells of exp(entropy)), kept_mass, seconds, and with ``min_response``
    left_out_source and left_out_target.

    Raises
    ------
    KeyError
        Unknown modality, or scores are missing.
    ValueError
        Unknown method or cost, a parameter out of range or of another method, treatments that changed after scoring.

    Warns
    -----
    UserWarning
        Treatments that did not converge, have no cells on one side, or whose match is almost uniform, by name.

    References
    ----------
    Xi, Osea, Xu and Hartford, NeurIPS 2024, section 4. Cuturi, NeurIPS 2013 (entropic optimal transport).

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> bool(mdata.uns["match"]["table"]["converged"].all())
    True
    """
    _access.two_modalities(_access.container(mdata), source, target)
    _access.claim(mdata, key_added, STEP)
    matcher = _matcher(method, {"cost": cost, "epsilon": epsilon, "tolerance": tolerance})
    _checks.positive("obsp_mb", obsp_mb)
    if min_response is not None:
        _checks.positive("min_response", min_response)
    scored = _scores.run(mdata, propensity_key)
    scores = [_scores.scores(mdata, name, propensity_key) for name in (source, target)]
    blocks = find_blocks(mdata, (source, target), propensity_key, min_response)

    with bar(blocks.n_pairs * (2 if refine else 1), "match", unit="pair", show=progress) as progress_bar:

        def matched() -> tuple[Coupling, list[TreatmentMatch]]:
            return match_within(scores[0], scores[1], *blocks.codes, matcher, n_jobs=n_jobs, tick=progress_bar.update)

        coupling, found = matched()
        if refine:
            scores = _matches.refined(mdata, (source, target), use_rep, coupling, scores)
            coupling, found = matched()
    params = {
        "step": STEP,
        "source": source,
        "target": target,
        "method": method if isinstance(method, str) else type(method).__name__,
        "treatment": scored["params"]["treatment"],
        "min_response": "" if min_response is None else float(min_response),
        "propensity_key": propensity_key,
        "propensity_fingerprint": scored["fingerprint"],
        "from_potentials": _matches.has_potentials(coupling, scores),
        "refined": refine,
        "settings": _settings(matcher),
    }
    entropies = coupling.entropies()
    if params["from_potentials"]:
        view, kept = coupling.compact(int(obsp_mb * 2**20 / BYTES_PER_ENTRY))
    else:  # the stored entries are all there is of the plan
        view, kept = coupling.to_csr(), np.ones(len(found))
    table = _table(found, blocks, entropies[0], kept)
    _write(mdata, _keys.MatchKeys(key_added), coupling, entropies, view, {"params": params, "table": table})
    _matches.write_coordinates(mdata, _keys.MatchKeys(key_added), (source, target), scores if refine else None)
    both = np.append((table["n_source"] > 0) & (table["n_target"] > 0), False)  # code −1 takes the last
    for name, codes in zip((source, target), blocks.codes, strict=True):
        labelled = mdata.mod[name].obs[params["treatment"]].notna()
        mdata.mod[name].obs[_keys.MatchKeys(key_added).block] = np.where(
            both[codes], codes, np.where(labelled, -1, np.nan)
        )
    _warn(table)


def _matcher(method: Any, options: dict[str, Any]) -> Matcher:
    """The matcher object behind a name, with the options that were passed."""
    passed = {name: value for name, value in options.items() if value is not None}
    if not isinstance(method, str):
        if not callable(method):
            msg = f"`method` is {type(method).__name__}. Pass one of {_checks.listed(METHODS)} or a matcher object."
            raise TypeError(msg)
        if passed:
            msg = f"`method` is an object, so {_checks.listed(passed)} would be ignored. Set them on the object."
            raise ValueError(msg)
        matcher: Matcher = method
        return matcher
    _checks.one_of("method", method, METHODS)
    if method != "ot":
        if passed:
            msg = f"{_checks.listed(passed)} belong to `method='ot'`, not to {method!r}. Leave them out."
            raise ValueError(msg)
        return SharedNeighborMatcher()
    if "cost" in passed:
        _checks.one_of("cost", passed["cost"], COSTS)
    for name in passed.keys() - {"cost"}:
        _checks.positive(name, passed[name])
    return SinkhornMatcher(**passed)


def _settings(matcher: Any) -> dict[str, Any]:
    """The matcher's fields, as far as files can hold them."""
    fields = asdict(matcher) if is_dataclass(matcher) else {}  # type: ignore[arg-type]
    return {name: value for name, value in fields.items() if isinstance(value, str | int | float)}


def _write(
    mdata: MuData,
    keys: _keys.MatchKeys,
    coupling: Coupling,
    entropies: tuple[FloatArray, FloatArray],
    view: Any,
    result: dict[str, Any],
) -> None:
    params = result["params"]
    potentials = _matches.potentials(coupling) if params["from_potentials"] else (None, None)
    for adata in mdata.mod.values():  # of an earlier match under this key, which is overwritten
        adata.obs = adata.obs.drop(columns=[keys.potential, keys.entropy, keys.block], errors="ignore")
    _matches.write_coupling(mdata, keys.coupling, params["source"], params["target"], view)
    for side, entropy, potential in zip(("source", "target"), entropies, potentials, strict=True):
        obs = mdata.mod[params[side]].obs
        obs[keys.entropy] = entropy
        if potential is not None:
            obs[keys.potential] = potential
    mdata.uns[keys.uns] = result


def _table(found: list[TreatmentMatch], blocks: Blocks, entropy: FloatArray, kept: FloatArray) -> pd.DataFrame:
    """One row per block, matched or not."""
    blank = {"cost": "", "epsilon": np.nan, "iterations": 0, "marginal_error": np.nan, "converged": False}
    table = blocks.table.assign(**blank, effective_matches=np.nan, kept_mass=0.0, seconds=0.0)
    for result, kept_mass in zip(found, kept, strict=True):
        row, outcome = result.block.treatment, result.match
        table.loc[row, "cost"] = getattr(result.block.plan, "cost", "")
        table.loc[row, "epsilon"] = outcome.epsilon
        table.loc[row, "iterations"] = outcome.iterations
        table.loc[row, "marginal_error"] = outcome.marginal_error
        table.loc[row, "converged"] = outcome.converged
        table.loc[row, "effective_matches"] = np.nanmean(np.exp(entropy[result.block.source]))
        table.loc[row, "kept_mass"] = kept_mass
        table.loc[row, "seconds"] = result.seconds
    return table


def _warn(table: pd.DataFrame) -> None:
    """One warning for everything in the table that a user must know."""
    names = _matches.block_names(table)
    empty = (table["n_source"] == 0) | (table["n_target"] == 0)
    stopped = ~table["converged"] & ~empty
    notes = []
    if stopped.any():
        worst = float(table["marginal_error"][stopped].max())
        notes.append(
            f"{int(stopped.sum())} treatments did not converge: {_checks.listed(names[stopped])}; "
            f"largest marginal error {worst:.2g}. Raise `epsilon`, or the object's `max_iterations`"
        )
    if empty.any():
        notes.append(f"{int(empty.sum())} treatments have no cells on one side: {_checks.listed(names[empty])}")
    many = (table[["n_source", "n_target"]] >= MANY_CELLS).all(axis=1)
    vague = many & (table["effective_matches"] > VAGUE * table["n_target"])
    if vague.any():
        notes.append(
            f"In {int(vague.sum())} treatments scores decide almost nothing, and matched averages are treatment means: "
            + _checks.listed(names[vague])
        )
    if notes:
        warnings.warn(". ".join(notes) + ". See `psalm.get.report(mdata)`.", UserWarning, stacklevel=3)
