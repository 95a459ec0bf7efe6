"""Cost of matching two cells: a distance between their score vectors, or how unlikely they share what is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm.core.log_odds import probabilities

if TYPE_CHECKING:
    from psalm.core._types import FloatArray

POSTERIOR = "posterior"
COSTS = ("euclidean", "sqeuclidean", POSTERIOR)
LEAST = 1e-100
"""Probability that no cell is denied, since cells whose kernel underflowed could not be matched at any price."""


def pairwise(source: FloatArray, target: FloatArray, cost: str) -> FloatArray:
    """Cost matrix (n_source, n_target) between rows of scores.

    Parameters
    ----------
    source, target
        (n_source, k) and (n_target, k) centred log-odds; for "posterior" see :func:`posterior_coordinates`.
    cost
        One of ``COSTS``.
    """
    if cost == POSTERIOR:
        return np.asarray(-np.log(source @ target.T))
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(source, target, metric=cost))


def paired(source: FloatArray, target: FloatArray, cost: str) -> FloatArray:
    """Cost (n, k) between cell i of (n, d) scores and each of its own (n, k, d) partners."""
    if cost == POSTERIOR:
        return np.asarray(-np.log(np.einsum("nd,nkd->nk", source, target)))
    squared = ((source[:, None, :].astype(np.float64) - target) ** 2).sum(axis=2)
    return np.asarray(squared if cost == "sqeuclidean" else np.sqrt(squared))


def posterior_coordinates(log_odds: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Coordinates ``π(t | x) / √p(t)``, whose products are the "posterior" kernel ``Σ_t π₁(t|x) π₂(t|y) / p(t)``.

    The kernel is the density of a pair of cells relative to independence, when modalities are independent given the
    treatment; its negative logarithm is the cost, with ε = 1.

    Parameters
    ----------
    log_odds
        (n_cells, n_treatments) centred log-odds.
    log_prior
        (n_treatments,) logarithm of the frequencies that they refer to.
    """
    return np.asarray(np.maximum(probabilities(log_odds), LEAST) * np.exp(-0.5 * log_prior))


def row_tiles(n_rows: int, n_columns: int, memory_bytes: int) -> list[slice]:
    """Slices of rows such that a float64 tile of all columns stays within ``memory_bytes``."""
    height = max(1, memory_bytes // (8 * max(1, n_columns)))
    return [slice(start, min(start + height, n_rows)) for start in range(0, n_rows, height)]
