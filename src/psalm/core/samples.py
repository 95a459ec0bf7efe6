"""How far two samples of cells are from being drawn from one distribution. No pairs are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

if TYPE_CHECKING:
    from psalm.core._types import FloatArray

N_MOST = 1000
NEIGHBORS = 5
TINY = 1e-12


def some(values: FloatArray, rng: np.random.Generator, n_most: int = N_MOST) -> FloatArray:
    """At most so many cells, drawn without replacement."""
    return values if len(values) <= n_most else values[rng.permutation(len(values))[:n_most]]


def energy_distance(x: FloatArray, y: FloatArray) -> float:
    """``2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖`` by its U-statistic (Székely and Rizzo, 2013).

    Unbiased, so that samples of one distribution are a little below zero about as often as above. NaN where a sample
    has fewer than two cells.

    Parameters
    ----------
    x, y
        (n_cells, n_features).
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:  # noqa: PLR2004, no distance within one cell
        return float("nan")
    within = cdist(x, x).sum() / (n * (n - 1)) + cdist(y, y).sum() / (m * (m - 1))
    return float(2 * cdist(x, y).mean() - within)


def wasserstein(x: FloatArray, y: FloatArray) -> float:
    """1-Wasserstein distance of each feature's values, the mean over features.

    Parameters
    ----------
    x, y
        (n_cells, n_features).
    """
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(x.T, y.T, strict=True)]))


def kl_divergence(x: FloatArray, y: FloatArray, n_neighbors: int = NEIGHBORS) -> float:
    """KL divergence of the distribution of x from that of y, in nats, by nearest neighbours.

    With ρ the distance of a cell of x to its k-th neighbour in x and η that in y:
    ``d/n · Σ log(η/ρ) + log(m/(n − 1))`` (Wang, Kulkarni and Verdú, 2009). Meant for few features; it may fall below
    zero. NaN where a sample has no k neighbours.

    Parameters
    ----------
    x, y
        (n_cells, n_features).
    n_neighbors
        k.
    """
    n, m = len(x), len(y)
    if n <= n_neighbors or m < n_neighbors:
        return float("nan")
    own = KDTree(x).query(x, n_neighbors + 1)[0][:, -1]
    other = KDTree(y).query(x, [n_neighbors])[0][:, 0]
    ratio = np.log(np.maximum(other, TINY)) - np.log(np.maximum(own, TINY))
    return float(x.shape[1] * ratio.mean() + np.log(m / (n - 1)))
