"""Predict treatments that the model has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _truth
from psalm._calls import recorded
from psalm._left_out import Trainer, material, one_group
from psalm._lightning import require_accelerator
from psalm._progress import bar
from psalm.core.held_out import feature_scores, pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from psalm._left_out import Scored

STEP = "tl.holdout"
ALL = "all"


@recorded
def holdout(
    mdata: MuData,
    *,
    source: str,
    target: str,
    treatments: Sequence[str] | None = None,
    n_groups: int = 5,
    match_key: str = _keys.MATCH,
    loss: str = "auto",
    likelihood: str = "auto",
    use_rep: str | None = None,
    target_rep: str | None = None,
    max_epochs: int = 200,
    truth: str | None = None,
    accelerator: str = "auto",
    rng: int | np.random.Generator | None = 0,
    progress: bool = True,
    key_added: str = _keys.HOLDOUT,
) -> pd.DataFrame:
    """Leave treatments out of training, predict their cells, and compare with what was measured and with baselines.

    The out-of-distribution protocol of the paper. The match of a treatment does not depend on other treatments, so
    leaving out its block leaves it out of training. The propensity scores, in which all blocks were matched, were
    fitted with the labels of all treatments within each modality; where they shall not, leave the treatments out from
    :func:`psalm.pp.treatment` on, and predict their cells with :class:`psalm.model.CrossModal`.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    source, target
        Modality to predict from, and modality to predict.
    treatments
        Those to leave out, all at once. By default each is left out once, in ``n_groups`` groups drawn at random.
    n_groups
        So many models are trained.
    match_key, loss, likelihood, use_rep, target_rep, max_epochs, accelerator
        As :func:`psalm.tl.predict` takes them.
    truth
        Column in ``obs`` of source and target whose equal values mark the same cell, for paired data; by default cells
        of the same name. Where pairs are known, they are scored, and a model trained on them is a baseline.
    rng
        Seed or generator.
    progress
        Show a bar over groups for what takes longer than a second.
    key_added
        Name of the slot in ``uns``.

    Returns
    -------
    DataFrame, also in ``mdata.uns[key_added]["table"]``: a row per left-out treatment and predictor, and rows "all"
    with means weighted by source cells (R² of pairs: pooled). Features are in units of their standard deviation over
    the training cells.

    ``predictor``:

    - "model": trained on the match, without the treatment;
    - "treatment mean": the measured mean of the left-out treatment, which no model has seen;
    - "random match": a random target cell of the treatment for each source cell;
    - "matched average": that of the treatment's own match;
    - "model on true pairs": the same network, same training treatments, true pairs instead of the match.

    ``n_source``, ``n_target``: cells. Without pairs: ``r2_mean`` and ``pearson_mean`` of the treatment's mean profile
    (relative to the mean of the training cells), ``energy_distance``, ``wasserstein`` (mean over features),
    ``kl_divergence`` (by nearest neighbours in ten components), all between predicted and measured cells
    (:mod:`psalm.core.samples` names the estimators). The latter three compare spreads, too: an average, which every
    regression predicts, is less spread than cells are, and a random match is a perfect sample. With pairs: ``r2``
    (against the mean of the training cells), ``r2_within`` (against the mean of all measured cells of the treatment),
    ``pearson`` (mean over features, over cells).

    Also writes ``mdata.uns[key_added]["features"]``, a row per predictor and feature of the target, over all left-out
    treatments: ``pearson_means`` of predicted and measured means over treatments, and with pairs ``pearson`` and ``r2``
    over cells.

    Raises
    ------
    KeyError
        Unknown modality, match or representation.
    ValueError
        Unknown treatments, fewer than two treatments, or as :class:`psalm.model.CrossModal`.

    References
    ----------
    Xi, Osea, Xu and Hartford, NeurIPS 2024, section 5.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> table = psalm.tl.holdout(mdata, source="a", target="b", treatments=["t1"], max_epochs=5, progress=False)
    >>> list(table["predictor"][:4])
    ['model', 'treatment mean', 'random match', 'matched average']
    """
    from psalm.model import CrossModal
    from psalm.model._fit import Schedule

    _checks.whole_number("max_epochs", max_epochs, least=1)
    require_accelerator(accelerator)
    _access.claim(_access.container(mdata), key_added, STEP)
    model = CrossModal(
        mdata,
        source=source,
        target=target,
        match_key=match_key,
        use_rep=use_rep,
        target_rep=target_rep,
        likelihood=likelihood,
    )
    partner = _truth.partners(mdata, source, target, truth)
    if truth is not None:
        _truth.require_pairs(partner, (source, target), truth)
    generator = _checks.generator(rng)
    data = material(mdata, model, partner)
    groups = _groups(treatments, data.names, n_groups, generator)
    trainer = Trainer(mdata, model, Schedule(max_epochs=max_epochs, accelerator=accelerator), loss)
    found = []
    with bar(len(groups), "held-out treatments", unit="group", show=progress) as progress_bar:
        for group in groups:
            found += one_group(trainer, data, group, generator)
            progress_bar.update()
    table = _summary(found)
    params = {"step": STEP, "source": source, "target": target, "match_key": match_key, "loss": loss}
    params |= {"likelihood": model.likelihood, "use_rep": model.setup.use_rep, "target_rep": model.setup.target_rep}
    features = _by_feature(found, model.setup.output_names)
    mdata.uns[key_added] = {"params": params, "table": table, "features": features}
    return table.copy()


def _groups(given: Sequence[str] | None, names: list[str], n_groups: int, rng: np.random.Generator) -> list[list[str]]:
    """Treatments that are left out together."""
    _checks.whole_number("n_groups", n_groups, least=2)
    if len(names) < 2:  # noqa: PLR2004, one to leave out and one to learn from
        msg = f"{len(names)} treatments are matched: {_checks.listed(names)}. Leaving one out needs two or more."
        raise ValueError(msg)
    if ALL in names:
        msg = f"A treatment is named {ALL!r}, as the rows over all treatments are. Rename it, e.g. by `mapping=`."
        raise ValueError(msg)
    if given is None:
        return [list(group) for group in np.array_split(rng.permutation(names), min(n_groups, len(names)))]
    group = [given] if isinstance(given, str) else [str(name) for name in given]
    unknown = [name for name in group if name not in names]
    if unknown or not group or set(group) == set(names):
        msg = (
            f"`treatments={group}` must be some of those that are matched, and leave others to learn from. "
            f"Found: {_checks.listed(names)}. Pass fewer of these."
        )
        raise ValueError(msg)
    return [group]


def _summary(found: list[Scored]) -> pd.DataFrame:
    """All rows, and one per predictor over all treatments."""
    table = pd.DataFrame([row for row, _, _ in found])
    scores = [name for name in table if name not in {"treatment", "predictor", "n_source", "n_target"}]
    last = []
    for predictor, part in table.groupby("predictor", sort=False):
        row: dict[str, Any] = {"treatment": ALL, "predictor": predictor}
        row |= {"n_source": int(part["n_source"].sum()), "n_target": int(part["n_target"].sum())}
        for name in scores:
            known = part[name].notna()
            row[name] = float(np.average(part[name][known], weights=part["n_source"][known])) if known.any() else np.nan
        sums = [s for r, _, s in found if r["predictor"] == predictor and s is not None]
        last.append(row | (pooled(sums) if sums else {}))
    return pd.concat([table, pd.DataFrame(last)], ignore_index=True)


def _by_feature(found: list[Scored], names: list[str]) -> pd.DataFrame:
    """A row per predictor and feature, over all treatments."""
    parts = []
    for predictor in dict.fromkeys(row["predictor"] for row, _, _ in found):
        scores = feature_scores([features for row, features, _ in found if row["predictor"] == predictor])
        parts.append(pd.DataFrame({"predictor": predictor, "feature": names} | scores))
    return pd.concat(parts, ignore_index=True)
