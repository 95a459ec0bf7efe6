"""What can be said of a match where no true pair is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _estimate, _features, _keys, _matches, _truth_free
from psalm._calls import recorded
from psalm._progress import bar
from psalm.core.verdicts import SIGNIFICANT, Outcome, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mudata import MuData

    from psalm._truth_free import Check, Evidence, Missing
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.permutation import Statistic

SCORE_BYTES = 32.0
"""Memory for each score of each cell: eight float32, as measured with 60,000 cells and 100 columns."""
AVERAGE_BYTES = 48.0
"""Memory for each feature of each source cell: six float64 at most, as measured with 40,000 cells and 200 features."""
STEP = "tl.diagnose"
WITHIN_NULL = (0.025, 0.975)
NOTHING = "no treatment has three such cells among which it varies."


@recorded
def diagnose(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    labels: str | None = None,
    links: Mapping[str, str] | None = None,
    use_rep: str | None = None,
    link_rep: Mapping[str, str] | None = None,
    n_permutations: int = 199,
    rng: int | np.random.Generator | None = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Ask a match whether it can be trusted, without any known pair.

    Every check is a number beside its distribution under chance: the cells of the source shuffled within their
    treatment, the scores being given. With many treatments, one in twenty has p ≤ 0.05 by chance alone.

    - "reliability": share of the variance of scores within treatments that is not error of estimation, that of the less
      reliable modality. Below 0.2 nothing is concluded from the next three.
    - "score agreement": two estimates of the scores with independent errors; partners by the one, correlation of the
      scores of cell and partners in the other, within treatments.
    - "stability": the match made twice, by each estimate; correlation of the matched averages. What is not stable is
      noise.
    - "expected R²": of the matched averages within treatments, for true partners that are not among the target cells,
      if scores mean the same in both modalities (:mod:`psalm.core.truth_free` has the formula). Far below zero,
      treatment means are better than matched averages. It leans low, as both matches are made by scores with twice
      their error; soft matches on data with known pairs were from .1 below the truth to .04 above. There it ranks
      matches as the truth does (``benchmarks/accuracy/truth_free.py``).
    - "hubness": effective number of partners, one drawn for each source cell, over the number that chance gives.
      Below one, some target cells take more than their share.
    - "labels": mass that joins equal labels, for a label finer than the treatment that both modalities know and the
      match was not told.
    - "links": correlation of features that should agree (a gene and its protein) between the source's measurement and
      the matched average of the target's, within treatments.

    None of these can tell a mistake that is stable. Where each modality has its own, reproducible variation within
    treatments and it looks to the classifiers like that between treatments, cells are matched by it, everything above
    looks well, and the truth is worse than a guess. That scores mean the same in both modalities is an assumption of
    the method; labels and links that fail speak against it, and that they pass does not prove it.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`. The first four checks need scores of two repeats or
        more, and all but the first of these a method named in :func:`psalm.tl.match`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    labels
        Column in ``obs`` of source and target, or of ``mdata``.
    links
        From features of the source to features of the target.
    use_rep
        Features of the target in which matched averages are compared: "X" or a layer, which are z-scored, or a key of
        ``obsm``, taken as it is. By default ``obsm["X_psalm"]`` where it exists, else ``X``. More than 200 are reduced
        to 50 components.
    link_rep
        Where linked features are, by modality: "X" (the default), a layer or a key of ``obsm``.
    n_permutations
        The smallest p-value is ``1 / (n_permutations + 1)``.
    rng
        Seed or generator.
    progress
        Show a bar over checks for what takes longer than a second.

    Returns
    -------
    DataFrame with a row per check over all treatments: ``check``, ``value``, ``null`` (mean under chance), ``p_value``,
    ``n_treatments``, ``n_significant`` (treatments with p ≤ 0.05) and ``verdict``, one sentence that says what the
    number means. A check that could not be made says why. Writes ``mdata.uns[match_key + "_diagnosis"]``: ``params``,
    ``verdicts`` (this table) and ``table``, a row per check and treatment (and one with an empty name for all):
    ``check``, ``treatment``, ``n_cells``, ``value``, ``null``, ``null_lower``, ``null_upper`` (95 % of the null),
    ``p_value``. Where treatments are matched within strata, their strata are taken together.

    Raises
    ------
    KeyError
        Unknown match, column of labels, representation or linked features.
    MemoryError
        It would not fit into the memory that is free.
    ValueError
        The match does not fit the cells any more, or has no treatment with cells on both sides.

    References
    ----------
    Leiner, Duan, Wasserman and Ramdas, *Data Fission*, JASA 2023 (two estimates from one). The rest is ours.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> verdicts = psalm.tl.diagnose(mdata, progress=False)
    >>> list(verdicts["check"])
    ['reliability', 'score agreement', 'stability', 'expected R²', 'hubness']
    >>> bool(verdicts["value"][1] > 0)
    True
    """
    _access.container(mdata)
    _checks.whole_number("n_permutations", n_permutations, least=1)
    if link_rep is not None and not links:
        msg = f"`link_rep={link_rep!r}` would be ignored, as `links` names no features. Pass `links=`, or leave it out."
        raise ValueError(msg)
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    _access.claim(mdata, _keys.MatchKeys(match_key).diagnosis, STEP)
    features = _matches.narrowed(_compared(mdata, params, use_rep))
    coupling = _matches.coupling(mdata, match_key)
    if not coupling.blocks:
        msg = f"No treatment of the match {match_key!r} has cells on both sides here, so there is nothing to check."
        raise ValueError(msg)
    generator = _checks.generator(rng)
    evidence = _truth_free.Evidence(mdata, match_key, coupling, features, generator, n_permutations)
    groups = _groups(mdata, match_key, evidence)
    rows, found = [], []
    with bar(5 + (labels is not None) + (links is not None), "checks", unit="check", show=progress) as progress_bar:
        for check in _all(evidence, labels, links, link_rep):
            part, verdict = _done(check, groups)
            rows += part
            found.append(verdict)
            progress_bar.update()
    verdicts = pd.DataFrame(found)
    mdata.uns[_keys.MatchKeys(match_key).diagnosis] = {
        "params": {"step": STEP, "match_key": match_key, "labels": labels or "", "n_permutations": n_permutations},
        "table": pd.DataFrame(rows),
        "verdicts": verdicts,
    }
    return verdicts.copy()


def _compared(mdata: MuData, params: Mapping[str, Any], use_rep: str | None) -> FloatArray:
    """Features that averages are compared in, refused where they or the scores do not fit."""
    names = [mdata.mod[str(params[side])] for side in ("source", "target")]
    key = str(params["propensity_key"])
    entries = sum(float(np.prod(adata.obsm[key].shape)) for adata in names if key in adata.obsm)
    found = _features.features(mdata, str(params["target"]), use_rep)
    width = _matches.narrowed_width(found.values.shape[1])
    needed = {
        "scores and their errors": SCORE_BYTES * entries,
        "matched averages": AVERAGE_BYTES * len(names[0]) * width,
    }
    change = (
        "Pass `use_rep=` with fewer features, or match and diagnose a sample of the cells: `part = mdata[keep].copy()`."
    )
    _estimate.require(STEP, needed | _estimate.of_compared(found), change)
    return _matches.compared_in(found)


def _all(
    evidence: Evidence, labels: str | None, links: Mapping[str, str] | None, link_rep: Mapping[str, str] | None
) -> Iterator[Check | Missing]:
    yield from _truth_free.from_scores(evidence)
    yield from _truth_free.of_hubs(evidence)
    if labels is not None:
        yield from _truth_free.of_labels(evidence, labels)
    if links:
        if link_rep is not None:
            _access.by_modality(evidence.mdata, link_rep, "link_rep")
        first, second = ((link_rep or {}).get(name, "X") for name in evidence.names)
        yield from _truth_free.of_links(evidence, links, (first, second))


def _groups(mdata: MuData, key: str, evidence: Evidence) -> dict[str, IntArray]:
    """Positions of the blocks of each treatment."""
    names = _access.run(mdata, key, "tl.match", "match_key")["table"]["treatment"].astype(str).to_numpy()
    treatments = np.array([names[block.treatment] for block in evidence.coupling.blocks])
    return {name: np.flatnonzero(treatments == name) for name in dict.fromkeys(treatments.tolist())}


def _done(check: Check | Missing, groups: dict[str, IntArray]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table and the row of verdicts."""
    if isinstance(check, _truth_free.Missing):
        row = {"value": np.nan, "null": np.nan, "p_value": np.nan, "n_treatments": 0, "n_significant": 0}
        return [], {"check": check.name, **row, "verdict": unknown(check.why)}
    every = np.sort(np.concatenate(list(groups.values())))
    parts = {} if check.alone else groups
    tested = {name: check.of(blocks) for name, blocks in parts.items()} | {"": check.of(every)}
    if np.isnan(tested[""].value):
        return _done(_truth_free.Missing(check.name, NOTHING), groups)
    rows = [_row(check.name, name, found) for name, found in tested.items()]
    values = [row["p_value"] for row in rows if row["treatment"] and not np.isnan(row["p_value"])]
    last = rows[-1]
    n_significant = int(sum(p <= SIGNIFICANT for p in values))
    outcome = Outcome(last["value"], last["null"], last["p_value"], len(values), n_significant)
    verdict = {name: last[name] for name in ("check", "value", "null", "p_value")}
    verdict |= {"n_treatments": outcome.n_treatments, "n_significant": n_significant, "verdict": check.say(outcome)}
    return rows, verdict


def _row(check: str, treatment: str, found: Statistic) -> dict[str, Any]:
    known = not np.isnan(found.value) and not np.isnan(found.null).any()
    lower, upper = np.quantile(found.null, WITHIN_NULL) if known else (np.nan, np.nan)
    return {
        "check": check,
        "treatment": treatment,
        "n_cells": found.n_cells,
        "value": found.value,
        "null": float(found.null.mean()),
        "null_lower": float(lower),
        "null_upper": float(upper),
        "p_value": found.p_value,
    }
