"""How good is a match, where the true pairs or the true latents are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _estimate, _features, _keys, _matched, _matches, _truth
from psalm._calls import recorded
from psalm._truth_scores import Truth, scored

if TYPE_CHECKING:
    from mudata import MuData

    from psalm._truth_scores import Scored
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.bootstrap import Estimate
    from psalm.core.coupling import Coupling

ALL = "all"
FIRST = ("foscttm", "foscttm_source", "foscttm_target", "foscttm_features", "recall", "recall_chance", "trace", "lift")
"""Columns in this order; the others follow."""


@recorded
def evaluate(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    truth: str | None = None,
    latent: str | None = None,
    labels: str | None = None,
    use_rep: str | None = None,
    k: int = 10,
    n_bootstrap: int = 200,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Score a match against known pairs or known latents, on the exact coupling. The truth is used for nothing else.

    Where neither is known, :func:`psalm.tl.diagnose` says what can be said.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    truth
        Column in ``obs`` of source and target, or of ``mdata``, whose equal values mark the same cell.
        By default cells with the same name are the same.
    latent
        Key in ``obsm`` of source and target with true latents, for simulations with disjoint cells.
        Without ``truth`` and without common names, latents and labels are all that is scored.
    labels
        Column in ``obs`` of source and target, or of ``mdata``, finer than the treatment, that the match shall
        transfer.
    use_rep
        Features of the target in which the matched average is compared with the true partner: "X" or a layer, which are
        z-scored, or a key of ``obsm``, taken as it is.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.
    k
        Of ``recall``.
    n_bootstrap
        Samples of cells, drawn with replacement within each treatment, that intervals are taken from; 0 for none.
    rng
        Seed or generator of these.

    Returns
    -------
    A DataFrame, also written to ``mdata.uns[match_key + "_evaluation"]``: one row per treatment of the match
    (``scope`` "treatment"; NaN where none of its cells is scored) and one for all (``scope`` "all": means over cells,
    R² with sums pooled). Each metric is followed by ``_lower`` and ``_upper``, its 95 % bootstrap interval over cells;
    it says how far the metric depends on which cells were measured, the match being given (of R² it is too narrow in
    treatments of fewer than some 30 pairs). Columns:

    - ``n_source``, ``n_target``, ``n_pairs``: matched cells and true pairs scored; ``n_treatments`` with such pairs;
    - ``foscttm``: fraction of the treatment's cells with more mass than the true partner, ties one half, mean of the
      directions ``foscttm_source`` and ``foscttm_target``; 0.5 is chance, 0 perfect, NaN where there is no rival;
    - ``foscttm_features``: the same by distance between matched average and features, in one space for all methods;
    - ``recall``: share of true partners among the k target cells with most mass; ``recall_chance``: by chance;
    - ``trace``: share of a source cell's mass on its partner; ``lift``: trace × n_target, 1 for a uniform coupling;
    - ``r2``: within-treatment R² of the matched average; 0 is as good as the mean of the treatment's target cells,
      with and without a known partner; ``r2_total``: against the mean over all treatments, which the treatments alone
      may explain;
    - ``latent_error``: mean squared latent distance of matched cells ÷ that of a uniform coupling, where ``latent``;
    - ``label_accuracy``: source cells whose label has most mass among their matches; ``label_chance``: whose label is
      the most frequent one in the treatment, where ``labels``.

    Raises
    ------
    KeyError
        ``truth`` or ``latent`` is missing in a modality.
    MemoryError
        It would not fit into the memory that is free.
    ValueError
        There are no true pairs, or values of ``truth`` occur twice.

    References
    ----------
    Liu et al., WABI 2019 (FOSCTTM). Ties count one half, so that a collapsed match scores 0.5.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> table = psalm.tl.evaluate(mdata, latent="latent")
    >>> bool(table["latent_error"].iloc[-1] < 1)
    True
    """
    _access.container(mdata)
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    names = params["source"], params["target"]
    partner = _truth.partners(mdata, *names, truth)
    if (latent is None and labels is None) or truth is not None:
        _truth.require_pairs(partner, names, truth)
    key = _keys.MatchKeys(match_key).evaluation
    if key in mdata.uns and not _matched.is_evaluation(mdata.uns[key]):
        msg = f"`mdata.uns[{key!r}]` was not written by `tl.evaluate` and would be lost. Rename it."
        raise ValueError(msg)
    _checks.whole_number("k", k, least=1)
    _checks.whole_number("n_bootstrap", n_bootstrap, least=0)
    paired = bool((partner >= 0).any())
    if use_rep is not None and not paired:
        msg = f"`use_rep={use_rep!r}` would be ignored: no true pairs are known to compare features of. Leave it out."
        raise ValueError(msg)
    known = Truth(
        partner,
        _compared(mdata, names[1], use_rep) if paired else None,
        None if latent is None else _latents(mdata, names, latent),
        None if labels is None else _labels(mdata, names, labels),
        k,
    )
    coupling = _matches.coupling(mdata, match_key)
    if not coupling.blocks:
        msg = f"No treatment of the match {match_key!r} has cells on both sides here, so there is nothing to score."
        raise ValueError(msg)
    stored = _access.run(mdata, match_key, "tl.match", "match_key")["table"]["treatment"].astype(str)
    table = _table(coupling, scored(coupling, known), stored.to_list(), _checks.generator(rng), n_bootstrap)
    mdata.uns[key] = table
    return table.copy()


def _compared(mdata: MuData, target: str, use_rep: str | None) -> FloatArray:
    """Features that averages are compared in, refused where they do not fit."""
    found = _features.features(mdata, target, use_rep)
    change = "Pass `use_rep=` with fewer features, or evaluate a sample of the cells: `part = mdata[keep].copy()`."
    _estimate.require("tl.evaluate", _estimate.of_compared(found), change)
    return _matches.compared_in(found)


def _latents(mdata: MuData, names: tuple[str, str], key: str) -> tuple[FloatArray, FloatArray]:
    """True latents of source and target, finite and of one dimension."""
    found = []
    for name in names:
        adata = _access.modality(mdata, name)
        if key not in adata.obsm:
            msg = f"`latent={key!r}` is not in `mdata[{name!r}].obsm`. {_access.feature_slots(adata)}"
            raise KeyError(msg)
        found.append(_features.features_of(adata, name, key).dense())
    if found[0].shape[1] != found[1].shape[1]:
        msg = (
            f"`latent={key!r}` has {found[0].shape[1]} dimensions in {names[0]!r} "
            f"and {found[1].shape[1]} in {names[1]!r}. True latents must be coordinates of one space."
        )
        raise ValueError(msg)
    return found[0], found[1]


def _labels(mdata: MuData, names: tuple[str, str], column: str) -> tuple[IntArray, IntArray, int]:
    (source, target), values = _access.shared_labels(mdata, names, column, "labels")
    return source, target, len(values)


def _table(
    coupling: Coupling, found: list[Scored], names: list[str], rng: np.random.Generator, n_bootstrap: int
) -> pd.DataFrame:
    """A row per treatment of the match, and one for all."""
    treatments = list(dict.fromkeys(names))
    groups = {block.treatment: treatments.index(names[block.treatment]) for block in coupling.blocks}
    sizes = np.zeros((2, len(treatments)), dtype=int)
    for block in coupling.blocks:
        sizes[:, groups[block.treatment]] += len(block.source), len(block.target)
    n_pairs = np.bincount([groups[code] for code in found[0].block.tolist()], minlength=len(treatments)).astype(int)
    table = pd.DataFrame({"scope": "treatment", "treatment": treatments})
    table.loc[len(table)] = [ALL, ""]
    for name, counts in (("n_source", sizes[0]), ("n_target", sizes[1]), ("n_pairs", n_pairs)):
        table[name] = np.append(counts, counts.sum())
    table["n_treatments"] = np.append((n_pairs > 0).astype(int), (n_pairs > 0).sum())
    estimates: dict[str, list[Estimate]] = {}
    for part in found:
        estimates |= part.estimates(groups, len(treatments), rng, n_bootstrap)
    for name in [*(n for n in FIRST if n in estimates), *(n for n in estimates if n not in FIRST)]:
        ends = ("value", "lower", "upper") if n_bootstrap and not name.endswith("_chance") else ("value",)
        for end in ends:
            column = name if end == "value" else f"{name}_{end}"
            table[column] = [getattr(estimate, end) for estimate in estimates[name]]
    return table
