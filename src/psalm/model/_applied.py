"""A trained network on cells that are read some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from psalm import _access, _checks, _keys, _obs
from psalm.model._anchors import used

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.rows import Rows
    from psalm.model._anchors import Anchors
    from psalm.model._network import Network
    from psalm.model._setup import Setup

    Function = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    """From inputs and codes of treatments, both of n_cells, to values of n_cells."""
    Move = Callable[[Tensor], Tensor]
    """From outputs to outputs."""

N_PASSES = 20
"""Passes with dropout, whose spread is the uncertainty of the network."""


def treatment_codes(adata: AnnData, setup: Setup, anchors: Anchors, *, use: bool) -> IntArray:
    """Code of each cell's treatment; −1 where it is not to be used, not known, or has no measured mean to go by.

    Cells that the match left out, as those which did not respond to their treatment, are not taken for cells of it.
    """
    labels = _obs.get(adata, setup.source, setup.treatment) if use else None
    if labels is None:
        return np.full(adata.n_obs, -1)
    codes = _access.codes_of(labels.values, pd.Index(anchors.treatments))
    if anchors.known is not None:
        codes = used(codes, anchors.known)
    keys = _keys.MatchKeys(setup.match_key)
    left_out = (adata.obs[keys.block] == -1).to_numpy() if keys.block in adata.obs else np.zeros(len(codes), dtype=bool)
    return np.where(left_out, -1, codes)


def by_portion(function: Function, inputs: Rows, codes: IntArray, device: torch.device, size: int) -> list[FloatArray]:
    """What a function gives for all cells."""
    _checks.whole_number("batch_size", size, least=1)
    found: list[FloatArray] = []
    for start in range(0, max(1, inputs.shape[0]), size):
        cells = slice(start, min(start + size, inputs.shape[0]))
        given = torch.from_numpy(inputs.take(cells)).to(device), torch.as_tensor(codes[cells], device=device)
        values = [value.float().cpu().numpy() for value in function(*given)]
        if not found:
            found = [np.empty((inputs.shape[0], value.shape[1]), np.float32) for value in values]
        for whole, value in zip(found, values, strict=True):
            whole[cells] = value
    return found


def predict(network: Network, inputs: Tensor, seed: int | None = None, move: Move | None = None) -> tuple[Tensor, ...]:
    """Mean of the target's features and, with a seed, the standard deviation around it, both (n_cells, n_features).

    ``move`` is applied to outputs.

    The deviation joins what the second head says the features vary by, given the inputs, and the variance of the mean
    over passes with dropout.
    """
    network.eval()
    with torch.no_grad():
        output, log_variance = network(inputs)
        mean = network.expected(output if move is None else move(output))
        if seed is None:
            return (mean,)
        variance = _dropout_variance(network, inputs, mean, seed, move)
        return mean, (network.spread(log_variance) ** 2 + variance).sqrt()


def _dropout_variance(network: Network, inputs: Tensor, mean: Tensor, seed: int, move: Move | None) -> Tensor:
    """Variance of the mean over passes with dropout."""
    shift, squares = torch.zeros_like(mean), torch.zeros_like(mean)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        torch.manual_seed(seed)
        network.train()
        for _ in range(N_PASSES):
            output = network(inputs)[0]
            step = network.expected(output if move is None else move(output)) - mean
            shift, squares = shift + step, squares + step**2
        network.eval()
    found: Tensor = (squares / N_PASSES - (shift / N_PASSES) ** 2).clamp(min=0.0)
    return found
