"""Do the two modalities' scores agree? Within a treatment their distributions are equal if the method's model holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

FEWEST_CELLS = 3
RARE = 0.99
"""Quantile of random splits."""


@dataclass(frozen=True)
class Agreement:
    """Energy distance of two samples, and how large it is for random splits of the same cells.

    This is no test of the method's model. A modality's scores share the errors of its own models, so that the scores of
    two modalities differ by more than a random split does also where the model holds.

    Parameters
    ----------
    share
        Energy distance over twice the mean distance between the samples: 0 for equal distributions, 1 for two points.
        Unbiased, so that it is a little below zero about as often as above where distributions are equal.
    random_split
        The share that all but one in a hundred random splits stay below: how far a few cells alone can take it.
    """

    share: float
    random_split: float


def energy_agreement(
    x: FloatArray, y: FloatArray, rng: np.random.Generator, *, n_splits: int = 199, n_most: int = 200
) -> Agreement:
    """Energy distance of two samples (Székely and Rizzo, 2013) beside that of random splits.

    Parameters
    ----------
    x, y
        (n_cells, n_columns) scores; at least three cells each, else NaN.
    rng
        Draws the splits, and the cells where there are many.
    n_splits
        Random splits into samples of the same sizes.
    n_most
        Cells of each sample that are used.
    """
    if min(len(x), len(y)) < FEWEST_CELLS:
        return Agreement(float("nan"), float("nan"))
    x, y = (a[rng.permutation(len(a))[:n_most]] for a in (x, y))
    distances = cdist(np.vstack([x, y]), np.vstack([x, y]))
    first = np.zeros((len(distances), n_splits + 1))
    for column in range(n_splits + 1):
        chosen = rng.permutation(len(distances))[: len(x)] if column else np.arange(len(x))
        first[chosen, column] = 1
    energy, between = _energies(distances, first, len(x), len(y))
    shares = np.divide(energy, 2 * between, out=np.zeros_like(energy), where=between > 0)
    return Agreement(float(shares[0]), float(np.quantile(shares[1:], RARE)))


def _energies(distances: FloatArray, first: FloatArray, n: int, m: int) -> tuple[FloatArray, FloatArray]:
    """Energy distance without bias, and mean distance between the samples, of each split (columns of ``first``)."""
    to_first = distances @ first
    within_first = (first * to_first).sum(axis=0)
    between = ((1 - first) * to_first).sum(axis=0)
    within_second = distances.sum() - within_first - 2 * between
    mean_between = between / (n * m)
    return 2 * mean_between - within_first / (n * (n - 1)) - within_second / (m * (m - 1)), mean_between


def effective_dimensions(scores: FloatArray, codes: IntArray) -> tuple[float, int]:
    """How many directions the scores of labelled cells vary in.

    Returns
    -------
    The participation ratio ``(Σλ)² / Σλ²`` of the covariance's eigenvalues λ, and how many of them hold 95 % of the
    variance.

    Parameters
    ----------
    scores
        (n_cells, n_columns).
    codes
        (n_cells,) treatment of each cell; cells of −1 take no part.
    """
    values = np.asarray(scores[codes >= 0], dtype=np.float64)
    eigenvalues = np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(values, rowvar=False)))[::-1], 0.0)
    total = eigenvalues.sum()
    if total == 0:
        return 0.0, 0
    return float(total**2 / (eigenvalues**2).sum()), int((eigenvalues.cumsum() < 0.95 * total * (1 - 1e-12)).sum()) + 1
