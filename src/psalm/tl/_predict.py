"""Predict the target modality for every source cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _checks, _estimate, _keys, _obs, _runs
from psalm._calls import recorded
from psalm._lightning import require_accelerator

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

    from psalm.model import CrossModal

STEP = "tl.predict"


@recorded
def predict(
    mdata: MuData,
    *,
    source: str,
    target: str,
    match_key: str = _keys.MATCH,
    loss: str = "auto",
    likelihood: str = "auto",
    use_rep: str | None = None,
    target_rep: str | None = None,
    max_epochs: int = 200,
    use_treatment: bool = True,
    coverage: float | None = None,
    accelerator: str = "auto",
    rng: int | np.random.Generator | None = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    key_added: str | None = None,
) -> CrossModal:
    """Train a network on the match and predict the target's features for every source cell, matched or not.

    The short call over :class:`psalm.model.CrossModal`; use that for the network's size and the course of training.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    source, target
        Modality to predict from, and modality to predict.
    match_key
        ``key_added`` of :func:`psalm.tl.match`, in either direction.
    loss
        "barycentric" (regression on the exact matched average), "mse" (a partner drawn anew each epoch), "unbiased"
        (the paper's projected loss from two draws), or "auto": "barycentric" where the likelihood allows it.
    likelihood
        Of the target's features: "gaussian", "poisson", "nb", "bernoulli", or "auto", by what the values are.
    use_rep, target_rep
        Features of source and target: "X", a key of ``obsm`` or of ``layers``.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.
    max_epochs
        Most passes over the cells; training stops early once the held-out loss stops falling.
    use_treatment
        Predict cells whose treatment is known around the mean that the target measured for it, as
        :meth:`psalm.model.CrossModal.predict` says; where held-out cells are predicted better by features alone, these
        are used, and ``params`` says so. With False, differences between treatments are what the source's features say.
    coverage
        Also write predictive intervals that hold a cell's true value with this probability, such as 0.9.
    accelerator
        As Lightning takes it: "auto" (the GPU where there is one), "cpu", "gpu".
    rng
        Seed or generator.
    checkpoint
        Folder that keeps the last epoch of training while it runs, made where it is missing. By default
        "psalm_checkpoints" in the working directory, every ten seconds; where that cannot be written to, a warning says
        so, and nothing is kept. The error of an interrupted call says how
        :meth:`psalm.model.CrossModal.train` goes on from there.
    progress
        Show a bar.
    key_added
        Name of the slots that are written, by default ``f"{target}_predicted"``.

    Returns
    -------
    The trained model. Writes ``mdata[source].obsm[key_added]``, a DataFrame (n_source, n_features) in the units of the
    target's features: for an ``X_psalm`` of kind "protein" or of few "features", z-scores by feature name; for a wider
    one, principal components; counts are those of a cell of median size. Name a layer in ``target_rep`` to get its
    units, such as log-normalised proteins. With ``coverage``, also ``obsm[key_added + "_lower"]`` and ``"_upper"``.
    Columns are feature names, "/" replaced by "|" and repeated names numbered, since files allow neither;
    :func:`psalm.get.predicted` has the names as they are.

    Writes ``obs[key_added + "_run"]`` of the source, by which predictions of different runs are told apart where
    containers are joined, and ``mdata.uns[key_added]``: ``params`` (with the loss and likelihood that were
    chosen), ``features`` and ``table``, the held-out losses per treatment
    (:meth:`psalm.model.CrossModal.get_held_out`), and ``means``: ``treatments``, and (n_treatments, n_features)
    ``measured`` in target cells and ``predicted`` for source cells;
    with ``coverage`` also
    ``coverage``, the share of held-out cells that the intervals of each feature cover
    (:meth:`psalm.model.CrossModal.get_coverage`).

    Raises
    ------
    KeyError
        Unknown modality, match or representation.
    MemoryError
        The predictions would not fit into the memory that is free.
    ValueError
        Unknown loss or likelihood, a device that is not there, ``uns[key_added]`` is something else, or a coupling that
        does not fit the cells any more.
    OSError
        ``checkpoint`` cannot be written to; found before anything is computed.

    Warns
    -----
    UserWarning
        Held-out cells are predicted no better than by the mean of their treatment; or checkpoints cannot be written.

    References
    ----------
    Xi, Osea, Xu and Hartford, NeurIPS 2024, section 4.2.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=20, progress=False)
    >>> mdata["a"].obsm["b_predicted"].shape
    (300, 30)
    """
    from psalm.model import CrossModal

    name = key_added or _keys.predicted(target)
    _access.claim(_access.container(mdata), name, STEP)
    giver = _access.modality(mdata, source, "source")
    if not _access.is_run(mdata, name, STEP) and not (name in giver.obsm and _keys.run(name) in giver.obs):
        where = f"mdata[{source!r}]"
        slots = [(f"{where}.obsm", giver.obsm, name), (f"{where}.obs", giver.obs, _keys.run(name))]
        _access.claim_slots(STEP, slots)
    if coverage is not None:
        _checks.share("coverage", coverage, "0.9, or None")
    require_accelerator(accelerator)
    _checks.folder("checkpoint", checkpoint)
    model = CrossModal(
        mdata,
        source=source,
        target=target,
        match_key=match_key,
        use_rep=use_rep,
        target_rep=target_rep,
        likelihood=likelihood,
    )
    _require_memory(mdata, model, 1 if coverage is None else 3)
    model.train(max_epochs, loss=loss, accelerator=accelerator, rng=rng, progress=progress, checkpoint_dir=checkpoint)
    found = {name: model.predict(use_treatment=use_treatment)}
    if coverage is not None:
        found[_keys.lower(name)], found[_keys.upper(name)] = model.get_intervals(
            coverage=coverage, use_treatment=use_treatment
        )
    _write(mdata, name, model, found, coverage, use_treatment=use_treatment)
    return model


def _require_memory(mdata: MuData, model: CrossModal, n_tables: int) -> None:
    """Predictions are dense: refuse what does not fit before training. Each exists twice, as made and as kept."""
    n_cells, n_features = mdata.mod[model.setup.source].n_obs, len(model.setup.output_names)
    change = "Predict fewer features (`target_rep=`), such as those of `pp.represent`, or pass fewer cells."
    _estimate.require("tl.predict", {"predictions, which are dense": 2.0 * 4 * n_tables * n_cells * n_features}, change)


def _write(
    mdata: MuData,
    name: str,
    model: CrossModal,
    found: dict[str, pd.DataFrame],
    coverage: float | None,
    *,
    use_treatment: bool,
) -> None:
    obsm, setup = mdata.mod[model.setup.source].obsm, model.setup
    for slot in (_keys.lower(name), _keys.upper(name)):  # of an earlier call under this name
        if name in mdata.uns and slot in obsm:
            del obsm[slot]
    for slot, values in found.items():
        obsm[slot] = values.set_axis(_access.writable_columns(values.columns), axis=1)
    adata = mdata.mod[setup.source]
    run = _access.identity([adata], found[name].to_numpy())
    _runs.note(adata, name, run)
    params: dict[str, Any] = {
        "step": STEP,
        "source": setup.source,
        "target": setup.target,
        "match_key": setup.match_key,
    }
    params |= {"use_rep": setup.use_rep, "target_rep": setup.target_rep, "loss": model.loss}
    params |= {"likelihood": setup.likelihood, "best_epoch": model.best_epoch}
    params["use_treatment"] = use_treatment and model.uses_treatment
    if coverage is not None:
        params["coverage"] = coverage
    mdata.uns[name] = {
        "params": params,
        "features": np.array(setup.output_names, dtype=object),
        "table": model.get_held_out().reset_index(),
        "means": _means(mdata, model, found[name]),
        "run": run,
    }
    if coverage is not None:
        mdata.uns[name]["coverage"] = model.get_coverage(coverage, use_treatment=use_treatment).reset_index(
            names="feature"
        )


def _means(mdata: MuData, model: CrossModal, predicted: pd.DataFrame) -> dict[str, Any]:
    """Means of each treatment that was trained on: measured in target cells, and predicted for source cells."""
    measured, setup = model.get_treatment_means(), model.setup
    labels = _obs.find(mdata, setup.source, setup.treatment, "treatment", joint=False).labels()
    known = labels.notna().to_numpy()  # a treatment may be called "nan"
    means = predicted[known].groupby(labels[known].astype(str).to_numpy()).mean()
    return {
        "treatments": np.array(measured.index, dtype=object),
        "measured": measured.to_numpy(),
        "predicted": means.loc[measured.index].to_numpy(),
    }
