"""What CrossModal reads from a container: features as rows, the coupling to train on, size factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _cells, _checks, _features, _matches
from psalm.core.counts import counts
from psalm.core.image_shape import N_MATRIX_AXES, image_shape
from psalm.core.likelihoods import LIKELIHOODS, suited
from psalm.core.losses import LOSSES
from psalm.model._setup import Setup

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.core.coupling import Coupling
    from psalm.core.rows import Rows

AUTO = "auto"
N_LOOKED_AT = 2000
"""Cells that are looked at to tell counts from other values."""
MOST_AVERAGES = 2 * 2**30
"""Bytes that matched averages may take for "barycentric" to be chosen."""


def setup_of(
    mdata: MuData,
    *,
    source: str,
    target: str,
    match_key: str,
    use_rep: str | None,
    target_rep: str | None,
    likelihood: str,
    n_hidden: int,
    n_layers: int,
    dropout: float,
) -> Setup:
    """Check what a model is asked to predict, and look at the values for what they are."""
    pair = _access.two_modalities(mdata, source, target)
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    if {source, target} != {params["source"], params["target"]}:
        msg = (
            f"The match {match_key!r} joins {params['source']!r} and {params['target']!r}, not {source!r} and "
            f"{target!r}. Pass `match_key=` of a match between them, or run `tl.match`."
        )
        raise ValueError(msg)
    inputs, found = _features.stream_of(pair[0], source, use_rep)
    targets, wanted = _features.stream_of(pair[1], target, target_rep)
    if len(inputs.shape) != N_MATRIX_AXES:
        image_shape(inputs.shape, said=inputs.said)
    if len(targets.shape) != N_MATRIX_AXES:
        msg = (
            f"{targets.said} has shape {targets.shape}; what is predicted is a matrix of cells × features. Pass "
            "`target_rep=` with features of the images, or make pixels columns: `images.reshape(len(images), -1)`."
        )
        raise ValueError(msg)
    _checks.one_of("likelihood", likelihood, (AUTO, *LIKELIHOODS))
    seen = _some(targets)
    _allow(likelihood, seen, targets.said, pair[1])
    return Setup(
        source=source,
        target=target,
        match_key=match_key,
        treatment=str(params["treatment"]),
        use_rep=found.key,
        space=found.space,
        input_names=list(found.names.astype(str)),
        input_shape=inputs.shape[1:],
        target_rep=wanted.key,
        output_names=list(wanted.names.astype(str)),
        log_counts=len(inputs.shape) == N_MATRIX_AXES and _are_counts(_some(inputs)),
        likelihood=suited(seen) if likelihood == AUTO else likelihood,
        n_hidden=n_hidden,
        n_layers=n_layers,
        dropout=dropout,
    )


def _some(rows: Rows) -> FloatArray:
    """Evenly spaced cells."""
    n_cells = rows.shape[0]
    return rows.take(np.unique(np.linspace(0, max(n_cells - 1, 0), min(n_cells, N_LOOKED_AT)).astype(int)))


def _are_counts(values: FloatArray) -> bool:
    """Counts, but not features that are there or not, of which a logarithm says nothing more."""
    return counts(values) and bool(np.max(values) > 1)


def _allow(likelihood: str, values: FloatArray, said: str, adata: AnnData) -> None:
    """Refuse values that a likelihood gives no probability."""
    if likelihood in {"poisson", "nb"} and (values < 0).any():
        msg = f"`likelihood={likelihood!r}` is for counts, and {said} has negative values. Pass 'gaussian' or 'auto'."
        raise ValueError(msg + _access.from_raw(adata))
    if likelihood == "bernoulli" and ((values < 0) | (values > 1)).any():
        msg = f"`likelihood='bernoulli'` is for values from 0 to 1, and {said} has others. Pass 'auto'."
        raise ValueError(msg)


def input_rows(adata: AnnData, setup: Setup) -> Rows:
    """Features of source cells, those that the model was made for."""
    rows, found = _features.stream_of(adata, setup.source, setup.use_rep)
    _features.same_space(found, setup.input_names, setup.space, setup.source)
    if rows.shape[1:] != tuple(setup.input_shape):
        msg = f"{rows.said} has {rows.shape[1:]} values a cell, and the model takes {setup.input_shape}. Pass the same."
        raise ValueError(msg)
    return rows


def target_rows(mdata: MuData, setup: Setup) -> Rows:
    """Features of target cells."""
    return _features.stream_of(_access.modality(mdata, setup.target), setup.target, setup.target_rep)[0]


def coupling_of(mdata: MuData, setup: Setup, exclude: Collection[str]) -> tuple[Coupling, list[str]]:
    """Blocks to train on, from source to target, and the treatment of each."""
    run = _access.run(mdata, setup.match_key, "tl.match", "match_key")
    coupling = _matches.coupling(mdata, setup.match_key)
    table: pd.DataFrame = run["table"]
    names = table["treatment"].astype(str).to_numpy()
    left_out = {exclude} if isinstance(exclude, str) else {str(name) for name in exclude}
    unknown = sorted(left_out - set(names))
    if unknown:
        found = _checks.listed(dict.fromkeys(names))
        msg = f"`exclude` names {_checks.listed(unknown)}, which are not matched. Found: {found}. Correct the names."
        raise ValueError(msg)
    if run["params"]["source"] != setup.source:
        coupling = coupling.transpose
    blocks = tuple(block for block in coupling.blocks if names[block.treatment] not in left_out)
    if not blocks:
        msg = "No matched treatment is left to train on. Exclude fewer, or match more."
        raise ValueError(msg)
    kept = type(coupling)(coupling.n_source, coupling.n_target, blocks)
    return kept, [str(names[block.treatment]) for block in blocks]


def loss_of(loss: str, setup: Setup, coupling: Coupling) -> str:
    """The loss that is meant, if the likelihood allows it."""
    _checks.one_of("loss", loss, (AUTO, *LOSSES))
    likelihood = LIKELIHOODS[setup.likelihood]
    if loss == AUTO:
        n_bytes = 8 * coupling.n_source * len(setup.output_names)
        return "barycentric" if likelihood.linear and n_bytes <= MOST_AVERAGES else "mse"
    if loss == "unbiased" and setup.likelihood != "gaussian":
        msg = f"`loss='unbiased'` is about squares, and the likelihood is {setup.likelihood!r}. Pass 'mse'."
        raise ValueError(msg)
    if loss == "barycentric" and not likelihood.linear:
        msg = f"`loss='barycentric'`: the likelihood {setup.likelihood!r} needs more than averages. Pass 'mse'."
        raise ValueError(msg)
    return loss


def sizes_of(targets: Rows, coupling: Coupling, setup: Setup) -> FloatArray:
    """Size factor of every target cell: for counts its total over the median of matched cells, else 1."""
    size = np.ones(targets.shape[0])
    if not LIKELIHOODS[setup.likelihood].sized:
        return size
    for rows in targets.chunks():
        size[rows] = targets.take(rows).sum(axis=1, dtype=np.float64)
    matched = np.concatenate([block.target for block in coupling.blocks])
    empty = int((size[matched] <= 0).sum())
    if empty:
        msg = (
            f"{empty} matched cells of {setup.target!r} have no counts, so they have no size. "
            "Remove them before matching, or pass `likelihood='gaussian'`."
        )
        raise ValueError(msg)
    return np.asarray(size / np.median(size[matched]))


def masses_of(mdata: MuData, setup: Setup) -> FloatArray | None:
    """Weight of every target cell, where the match was told any."""
    params = _access.run(mdata, setup.match_key, "tl.match", "match_key")["params"]
    codes = _matches.blocks_of(mdata, setup.target, setup.match_key)
    return _cells.masses(mdata, setup.target, params["mass"] or None, codes)
