"""Predict the target modality for every source cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psalm import _access, _checks, _keys
from psalm.model._cross_modal import CrossModal

if TYPE_CHECKING:
    import numpy as np
    from mudata import MuData


def predict(
    mdata: MuData,
    *,
    source: str,
    target: str,
    match_key: str = _keys.MATCH,
    loss: str = "barycentric",
    use_rep: str | None = None,
    target_rep: str | None = None,
    max_epochs: int = 200,
    device: str = "auto",
    rng: int | np.random.Generator | None = 0,
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
        "barycentric" (regression on the exact matched average), "mse" (one draw of a partner per step) or "unbiased"
        (the paper's projected loss from two draws).
    use_rep, target_rep
        Features of source and target: "X", a key of ``obsm`` or of ``layers``.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.
    max_epochs
        Most passes over the cells; training stops early once the held-out loss stops falling.
    device
        "auto" (CUDA where there is one, else CPU), or a torch device.
    rng
        Seed or generator.
    progress
        Show a bar for what takes longer than a second.
    key_added
        Name of the slot that is written, by default ``f"{target}_predicted"``.

    Returns
    -------
    The trained model. Writes ``mdata[source].obsm[key_added]``, a DataFrame (n_source, n_features) in the units of the
    target's features: for an ``X_psalm`` of kind "protein" or of few "features", z-scores by feature name; for a wider
    one, principal components. Name a layer in ``target_rep`` to get its units, such as log-normalised proteins.
    Columns are feature names, "/" replaced by "|" and repeated names numbered, since files allow neither;
    ``model.predict()`` has the names as they are.

    Raises
    ------
    KeyError
        Unknown modality, match or representation.
    ValueError
        Unknown loss, or a coupling that does not fit the cells any more.

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
    >>> model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=2, progress=False)
    >>> mdata["a"].obsm["b_predicted"].shape
    (300, 30)
    """
    name = key_added or _keys.predicted(target)
    _checks.slot_name(name)
    model = CrossModal(mdata, source=source, target=target, match_key=match_key, use_rep=use_rep, target_rep=target_rep)
    model.train(loss=loss, max_epochs=max_epochs, device=device, rng=rng, progress=progress)
    predicted = model.predict()
    predicted.columns = _access.writable_columns(predicted.columns)
    mdata.mod[source].obsm[name] = predicted
    return model
