"""Do the two modalities' scores agree? Within a treatment their distributions are equal if the method's model holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

FEWEST_CELLS = 3


@dataclass(frozen=True)
class Agreement:
    """Energy distance of two samples, and how often a random split of the same cells has one as large.

    Parameters
    ----------
    share
        Energy distance over twice the mean distance between the samples: 0 for equal distributions, 1 for two points.
        Unbiased, so that it is a little below zero about as often as above where distributions are equal.
    p_value
        Share of permutations with at least this distance, the observed one included.
    """

    share: float
    p_value: float


def energy_agreement(
    x: FloatArray, y: FloatArray, rng: np.random.Generator, *, n_permutations: int = 199, n_most: int = 200
) -> Agreement:
    """Two-sample test by the energy distance (Székely and Rizzo, 2013).

    Parameters
    ----------
    x, y
        (n_cells, n_columns) scores; at least three cells each, else NaN.
    rng
        Draws the permutations, and the cells where there are many.
    n_permutations
        The smallest p-value is ``1 / (n_permutations + 1)``.
    n_most
        Cells of each sample that are used.
    """
    if min(len(x), len(y)) < FEWEST_CELLS:
        return Agreement(float("nan"), float("nan"))
    x, y = (a[rng.permutation(len(a))[:n_most]] for a in (x, y))
    distances = cdist(np.vstack([x, y]), np.vstack([x, y]))
    first = np.zeros((len(distances), n_permutations + 1))
    for column in range(n_permutations + 1):
        chosen = rng.permutation(len(distances))[: len(x)] if column else np.arange(len(x))
        first[chosen, column] = 1
    energy, between = _energies(distances, first, len(x), len(y))
    p_value = float((energy >= energy[0] * (1 - 1e-9)).mean())
    share = energy[0] / (2 * between[0]) if between[0] > 0 else 0.0
    return Agreement(float(share), p_value)


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
