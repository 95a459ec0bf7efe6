"""Match cells of two modalities within each treatment."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _checks, _keys, _matched, _matches, _obs, _scores
from psalm._blocks import find_blocks
from psalm._calls import recorded
from psalm._estimate import needs, require_memory
from psalm._progress import bar
from psalm._recipe import Recipe
from psalm.core.cost import POSTERIOR
from psalm.core.device import choose
from psalm.core.epsilon import AUTO
from psalm.core.methods import as_matcher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

    from psalm._blocks import Blocks
    from psalm.core._types import FloatArray
    from psalm.core.matcher import Matcher
    from psalm.core.matching import TreatmentMatch

STEP = "tl.match"
RAISE = "raise"
ON_ERROR = (RAISE, "warn")
AUTOMATIC = ("ot", "unbalanced", "partial")
"""Methods whose ε is chosen for each treatment."""


@recorded
def match(
    mdata: MuData,
    *,
    source: str,
    target: str,
    method: str | Matcher = "ot",
    cost: str | None = None,
    epsilon: float | str = AUTO,
    epsilon_absolute: float | None = None,
    tolerance: float | None = None,
    mass: str | Mapping[str, str] | None = None,
    propensity_key: str = _keys.PROPENSITY,
    min_response: float | None = None,
    refine: int = 0,
    use_rep: str | Mapping[str, str] | None = None,
    obsp_mb: float = 64.0,
    device: str = "auto",
    n_jobs: int | None = None,
    on_error: str = "raise",
    checkpoint: str | Path | None = None,
    dry_run: bool = False,
    progress: bool = True,
    key_added: str = _keys.MATCH,
    **options: Any,
) -> pd.DataFrame | None:
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
        - "ot": entropic optimal transport, every cell's mass in full.
        - "unbalanced": the same with marginals that may give (``relaxation=``), where a treatment's cells differ
          between modalities. Cells without a partner near transport less: see ``obs[key_added + "_mass"]``.
        - "partial": the same with a share of the mass only (``fraction=``), that which costs least.
        - "exact": optimal transport without entropy, certified; a cell has one or a few partners.
        - "snn": shared nearest neighbours (``n_neighbors=``, ``hubness=``).
        - "fgw": fused Gromov–Wasserstein: scores, and distances between features within each modality (``alpha=``).
        - "nearest", "mutual": nearest neighbours, mutual nearest neighbours; baselines.

        Or a matcher object such as ``psalm.core.sinkhorn.SinkhornMatcher(epsilon=0.1)``, or your own: a callable from
        two ``psalm.core.matcher.Side`` (``.scores``, ``.mass``, and ``.features`` if it has an attribute
        ``needs_features = True``) to a ``psalm.core.matcher.Match``.
    cost
        "euclidean" (default) or "sqeuclidean" distance between centred log-odds; for methods with an entropy also
        "posterior", ``−log Σ_t π₁(t|x) π₂(t|y) / p(t)``, which needs no ε and time in cells, not in pairs.
    epsilon
        Strength of the entropy relative to the mean cost of the treatment's block. Smaller is sharper, and follows
        noise in the scores; larger is softer, towards the treatment's mean. "auto" chooses it for each treatment from
        the noise of its scores and from how alike they are spread in both modalities (:mod:`psalm.core.epsilon`); 0.2
        where the noise is not known, after ``n_repeats=1``.
    epsilon_absolute
        Strength of the entropy in units of cost, instead of ``epsilon``.
    tolerance
        Largest L1 error of the marginals relative to the block's mass, 1e-3 by default.
    mass
        Column of ``obs`` of both modalities (or by modality), or of ``mdata``, with a positive weight for each cell. By
        default all cells of a treatment weigh the same.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    min_response
        Leave out cells that look as if they had not responded to their treatment: those whose
        ``obs[propensity_key + "_response"]`` is below this, e.g. 0.5. Control cells are kept. The table says how many
        were left out. By default none is.
    refine
        Rounds. In each, match again, also by what the features of both modalities agree on in the match before,
        pooled over treatments (canonical correlations within treatments; :class:`psalm.core.refine.Refiner`). It finds
        partners better on most data; where scores say nothing, it makes more of nothing.
    use_rep
        Features to refine by, and those of "fgw", as in :func:`psalm.tl.propensity`; more than 200 are reduced to 50
        components.
    obsp_mb
        Budget of the stored coupling of a soft plan. Where the exact one is larger, a compact view of its largest
        entries is stored, rescaled towards the marginals (rows exactly, columns nearly), and the mass it keeps is
        stated per treatment. What psalm computes from the coupling is exact either way.
        Plans that are not soft, such as those of "snn", are always stored whole.
    device
        For methods with an entropy: "cpu", "cuda", or "auto": the GPU where torch finds one and there are more than ten
        million pairs. ``params`` says which it was.
    n_jobs
        Threads; by default one per core. Where ``joblib.parallel_config`` names another backend (dask), jobs on it.
        The coupling does not depend on it.
    on_error
        Where the method fails in a treatment (memory, numbers): "raise" its error, with a note that names the
        treatment, or "warn", keep the others, and say in the table's column ``error`` what happened. Cells of a
        treatment that failed are not matched, and its mass is missing from the coupling.
    checkpoint
        Folder in which finished treatments are kept. The same call on the same cells finds them there and goes on where
        it was interrupted. Files are not removed; they hold no cells, only plans.
    dry_run
        Match nothing but a sample of the largest treatment, write nothing, and return what the match would need.
    progress
        Show a bar for what takes longer than a second.
    key_added
        Name of the slots that are written.
    options
        Further fields of the method's matcher, such as ``fraction=0.8`` for "partial".

    Returns
    -------
    None; with ``dry_run`` a DataFrame with a row per treatment, and a last one for all: n_source, n_target, pairs,
    solver (how it would be run), seconds (of one round, in the last row of all rounds; measured on a sample and scaled
    by its work) and peak_gb (counted from the sizes; beside the data; NaN for a matcher of yours that has no ``need``).

    Writes ``mdata.obsp[key_added]``, CSR (n_obs, n_obs), rows source and columns target cells, entries the
    transported mass: a treatment's block sums to the mean of its shares among the matched source and target cells, all
    blocks to 1, or to the share of the mass that the method transports.

    Writes ``obs`` of both modalities: ``[key_added + "_entropy"]`` (nats) and ``[key_added + "_mass"]`` (mass that a
    cell transports, relative to its own), both NaN for unmatched cells; ``[key_added + "_block"]``, the row of the
    table in which the cell is matched (−1: not matched; NaN: no treatment); ``[key_added + "_run"]``, by which cells of
    different matches are told apart where containers are joined; and for methods with an entropy
    ``[key_added + "_potential"]``, in units of cost: the plan is ``exp((f_i + g_j − C_ij) / ε)``. Where refined, writes
    ``obsm[key_added + "_coordinates"]``, of which C is the distance: scores, then canonical coordinates.

    Writes ``mdata.uns[key_added]`` with ``params`` and ``table``, one row per treatment (and stratum, in the column
    ``within``): n_source, n_target, cost, epsilon (in units of cost), epsilon_relative (to the mean cost), iterations,
    marginal_error, converged, effective_matches (mean over source cells of exp(entropy)), unmatched_source and
    unmatched_target (cells that transport less than a tenth of their mass), kept_mass and view_r2 (what the
    stored view kept of the plan's mass, and R² of its matched averages of scores against the plan's), seconds, error
    ("" where there was none), and with ``min_response`` left_out_source and left_out_target. Nothing is written before
    all is done: where it is interrupted, the container is as it was.

    Raises
    ------
    KeyError
        Unknown modality, or scores are missing.
    ValueError
        Unknown method or cost, an option out of range or of another method, treatments that changed after scoring,
        masses that are not positive.
    TypeError
        With ``checkpoint``, a matcher whose settings or plans cannot be kept.
    MemoryError
        The match would need more memory than is free.

    Warns
    -----
    UserWarning
        Treatments that did not converge, have no cells on one side or cells without a partner, or whose match is
        almost uniform, by name.

    References
    ----------
    Xi, Osea, Xu and Hartford, NeurIPS 2024, section 4. Cuturi, NeurIPS 2013 (entropic optimal transport).
    Each matcher in ``psalm.core`` names its own source.

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
    names = source, target
    _access.two_modalities(_access.container(mdata), *names)
    _access.claim(mdata, key_added, STEP)
    _claim_slots(mdata, names, key_added)
    _checks.jobs(n_jobs)
    if not dry_run:
        _checks.folder("checkpoint", checkpoint)
    passed = {"cost": cost, "epsilon_absolute": epsilon_absolute, "tolerance": tolerance}
    by_name = isinstance(method, str) and method in AUTOMATIC
    if epsilon != AUTO or (by_name and cost != POSTERIOR and epsilon_absolute is None):
        passed["epsilon"] = epsilon
    matcher = as_matcher(method, {name: value for name, value in passed.items() if value is not None} | options)
    _checks.positive("obsp_mb", obsp_mb)
    _checks.one_of("on_error", on_error, ON_ERROR)
    if min_response is not None:
        _checks.share("min_response", min_response, "0.5")
    _require_refinable(refine, cost)
    if use_rep is not None and not refine and not getattr(matcher, "needs_features", False):
        msg = f"`use_rep={use_rep!r}` would be ignored: {type(matcher).__name__} goes by scores alone. Leave it out."
        raise ValueError(msg)
    scored = _scores.run(mdata, propensity_key)
    blocks = find_blocks(mdata, names, propensity_key, min_response)
    matcher = _on_device(matcher, device, blocks.n_pairs)
    scores = [_scores.scores(mdata, name, propensity_key) for name in names]
    recipe = Recipe.make(
        mdata,
        names,
        matcher,
        blocks.codes,
        mass=mass,
        propensity_key=propensity_key,
        refine=int(refine),
        use_rep=use_rep,
    )
    needed = needs(recipe, scores, blocks, obsp_mb, n_jobs, timed=dry_run)
    if dry_run:
        return needed
    require_memory(needed, method if isinstance(method, str) else type(method).__name__)
    with bar(blocks.n_pairs * (1 + refine), "match", unit="pair", show=progress) as progress_bar:
        n_blocks = int((blocks.table["n_source"] * blocks.table["n_target"] > 0).sum())
        seen = _Seen(progress_bar, n_blocks * (1 + refine))
        failures = _matched.Failures(blocks.table, stop=on_error == RAISE)
        options = {"n_jobs": n_jobs, "tick": progress_bar.update, "report": seen, "failed": failures}
        coupling, found, scores = recipe(scores, checkpoint=checkpoint, **options)
    params = {
        "step": STEP,
        "source": source,
        "target": target,
        "method": method if isinstance(method, str) else type(method).__name__,
        "treatment": scored["params"]["treatment"],
        "min_response": "" if min_response is None else float(min_response),
        "mass": "" if mass is None else mass if isinstance(mass, str) else dict(mass),
        "propensity_key": propensity_key,
        "propensity_fingerprint": scored["fingerprint"],
        "from_potentials": _matches.has_potentials(coupling, scores),
        "refined": int(refine),
        "use_rep": "" if use_rep is None else use_rep if isinstance(use_rep, str) else dict(use_rep),
        "settings": _settings(matcher),
    }
    keys, spread = _keys.MatchKeys(key_added), coupling.spread()
    view = _matched.view_of(coupling, scores[1], soft=bool(params["from_potentials"]), obsp_mb=obsp_mb)
    relative = _matched.shares(found, spread)
    table = _matched.table(found, blocks, spread, relative, view).assign(error=failures.messages)
    columns = {
        keys.entropy: (spread.source_entropy, spread.target_entropy),
        keys.mass: relative,
        keys.block: _block_column(mdata, names, params["treatment"], blocks, table),
    }
    _matched.write(mdata, keys, coupling, columns, view, {"params": params, "table": table})
    _matches.write_coordinates(mdata, keys, names, scores if refine else None)
    _matched.warn(table)
    return None


def _claim_slots(mdata: MuData, names: tuple[str, str], key_added: str) -> None:
    """Columns of a match in another container stand together; one that stands alone is the user's."""
    if _access.is_run(mdata, key_added, STEP):
        return
    keys = _keys.MatchKeys(key_added)
    slots: list[tuple[str, Any, str]] = [("mdata.obsp", mdata.obsp, keys.coupling)]
    for name in names:
        obs = mdata.mod[name].obs
        if not {keys.entropy, keys.mass, keys.block} <= set(obs):
            slots += [(f"mdata[{name!r}].obs", obs, column) for column in keys.columns]
    _access.claim_slots(STEP, slots)


class _Seen:
    """Says beside the bar how many treatments are matched, in every round, and how many did not converge."""

    def __init__(self, progress_bar: Any, n_blocks: int) -> None:
        self.bar, self.n_blocks, self.done, self.stopped = progress_bar, n_blocks, 0, 0

    def __call__(self, found: list[TreatmentMatch]) -> None:
        self.done += len(found)
        self.stopped += sum(not result.match.converged for result in found)
        self.bar.set_postfix(matched=f"{self.done}/{self.n_blocks}", not_converged=self.stopped, refresh=False)


def _require_refinable(refine: int, cost: str | None) -> None:
    if not isinstance(refine, bool):
        _checks.whole_number("refine", refine, least=0)
    if refine and cost == POSTERIOR:
        msg = "`refine` adds coordinates to scores, and `cost='posterior'` has none to add to. Leave one of them out."
        raise ValueError(msg)


def _on_device(matcher: Matcher, device: str, n_pairs: int) -> Matcher:
    """The matcher with its device decided, for matchers that have one."""
    named: str | None = getattr(matcher, "device", None)
    if named is None:
        if device not in {"auto", "cpu"}:
            msg = f"`device={device!r}` would be ignored: {type(matcher).__name__} runs on the processor. Leave it out."
            raise ValueError(msg)
        return matcher
    chosen: Any = matcher
    found: Matcher = replace(chosen, device=choose(device if device != "auto" else named, n_pairs))
    return found


def _settings(matcher: Any) -> dict[str, Any]:
    """The matcher's fields, as far as files can hold them."""
    fields = asdict(matcher) if is_dataclass(matcher) else {}  # type: ignore[arg-type]
    kept = {name: value for name, value in fields.items() if isinstance(value, str | int | float | tuple)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _block_column(
    mdata: MuData, names: tuple[str, str], treatment: str, blocks: Blocks, table: pd.DataFrame
) -> tuple[FloatArray, FloatArray]:
    """Row of the table in which each cell is matched; −1: not matched; NaN: no treatment."""
    matched = (table["n_source"] > 0) & (table["n_target"] > 0) & (table["error"] == "")
    both = np.append(matched, False)  # code −1 takes the last
    labels = (_obs.find(mdata, name, treatment, "treatment", joint=False).values for name in names)
    first, second = (
        np.where(both[codes], codes, np.where(column.notna(), -1, np.nan))
        for column, codes in zip(labels, blocks.codes, strict=True)
    )
    return first, second
