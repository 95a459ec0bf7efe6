"""How good is a match, where the true pairs or the true latents are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _matches, _truth
from psalm.core import metrics

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Block, Coupling

ALL = "all"
RANKS = ("foscttm", "foscttm_source", "foscttm_target", "trace", "lift")


def evaluate(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    truth: str | None = None,
    latent: str | None = None,
    use_rep: str | None = None,
) -> pd.DataFrame:
    """Score a match against known pairs or known latents, on the exact coupling. The truth is used for nothing else.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    truth
        Column in ``obs`` of source and target whose equal values mark the same cell.
        By default cells with the same name are the same.
    latent
        Key in ``obsm`` of source and target with true latents, for simulations with disjoint cells.
        Without ``truth`` and without common names it is all that is scored.
    use_rep
        Features of the target in which the matched average is compared with the true partner: "X" or a layer, which are
        z-scored, or a key of ``obsm``, taken as it is.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.

    Returns
    -------
    A DataFrame, also written to ``mdata.uns[match_key + "_evaluation"]``: one row per matched treatment
    (``scope`` "treatment") and one for all (``scope`` "all", cell-weighted means and pooled R²). Columns:

    - ``n_source``, ``n_target``, ``n_pairs``: matched cells and true pairs scored;
    - ``foscttm``: fraction of the treatment's cells with more mass than the true partner, ties one half, mean of the
      directions ``foscttm_source`` and ``foscttm_target``; 0.5 is chance, 0 perfect, NaN where there is no rival;
    - ``trace``: share of a source cell's mass on its partner; ``lift``: trace × n_target, 1 for a uniform coupling;
    - ``r2``: within-treatment R² of the matched average; 0 is as good as the treatment's mean;
    - ``latent_error``: mean squared latent distance of matched cells ÷ that of a uniform coupling, where ``latent``.

    Raises
    ------
    KeyError
        ``truth`` or ``latent`` is missing in a modality.
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
    if latent is None or truth is not None:
        _truth.require_pairs(partner, names, truth)
    latents = None if latent is None else _latents(mdata, names, latent)
    features = _target_features(mdata, names[1], use_rep) if (partner >= 0).any() else None

    coupling = _matches.coupling(mdata, match_key)
    if not coupling.blocks:
        msg = f"No treatment of the match {match_key!r} has cells on both sides here, so there is nothing to score."
        raise ValueError(msg)
    treatments = _access.run(mdata, match_key, "tl.match", "match_key")["table"]["treatment"].to_numpy()
    table = _table(coupling, partner, features, latents, treatments)
    mdata.uns[_keys.MatchKeys(match_key).evaluation] = table
    return table.copy()


def _latents(mdata: MuData, names: tuple[str, str], key: str) -> tuple[FloatArray, FloatArray]:
    """True latents of source and target, finite and of one dimension."""
    found = []
    for name in names:
        adata = _access.modality(mdata, name)
        if key not in adata.obsm:
            msg = f"`latent={key!r}` is not in `mdata[{name!r}].obsm`. Found: {_checks.listed(adata.obsm)}."
            raise KeyError(msg)
        found.append(_access.features_of(adata, name, key).dense())
    if found[0].shape[1] != found[1].shape[1]:
        msg = (
            f"`latent={key!r}` has {found[0].shape[1]} dimensions in {names[0]!r} "
            f"and {found[1].shape[1]} in {names[1]!r}. True latents must be coordinates of one space."
        )
        raise ValueError(msg)
    return found[0], found[1]


def _target_features(mdata: MuData, target: str, use_rep: str | None) -> FloatArray:
    found = _access.features(mdata, target, use_rep)
    values = found.dense()
    if found.said.startswith("obsm"):
        return values
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _table(
    coupling: Coupling,
    partner: IntArray,
    features: FloatArray | None,
    latents: tuple[FloatArray, ...] | None,
    treatments: Any,
) -> pd.DataFrame:
    ranks = metrics.pair_ranks(coupling, partner)
    errors = None if features is None else metrics.matched_average_errors(coupling, ranks, features)
    latent = None if latents is None else metrics.latent_errors(coupling, *latents)
    rows = []
    of_treatment: dict[str, list[Block]] = {}
    for block in coupling.blocks:
        of_treatment.setdefault(str(treatments[block.treatment]), []).append(block)
    for name, blocks in (*of_treatment.items(), (None, list(coupling.blocks))):
        pairs = np.isin(ranks.treatment, [b.treatment for b in blocks])
        row: dict[str, Any] = {
            "scope": ALL if name is None else "treatment",
            "treatment": name or "",
            "n_source": sum(len(b.source) for b in blocks),
            "n_target": sum(len(b.target) for b in blocks),
            "n_pairs": int(pairs.sum()),
        }
        row |= {column: _mean(getattr(ranks, column)[pairs]) for column in RANKS}
        if errors is not None:
            row["r2"] = metrics.r_squared(
                replace(errors, matched=errors.matched[pairs], treatment_mean=errors.treatment_mean[pairs])
            )
        if latent is not None:
            cells = np.concatenate([b.source for b in blocks])
            row["latent_error"] = float(np.nansum(latent[0][cells]) / np.nansum(latent[1][cells]))
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
