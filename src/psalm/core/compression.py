"""Many treatments: scores as coordinates in an orthogonal basis, in which distances between cells are kept.

A classifier of thousands of treatments on a few dozen features moves the log-odds in little more than a few dozen
directions, so most of the matrix of cells and treatments says nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

N_PAIRS = 20_000


@dataclass(frozen=True)
class Basis:
    """Coordinates z of log-odds s: ``z = (s − offset) loadingsᵀ``, and back ``s ≈ z loadings + offset``.

    Parameters
    ----------
    loadings
        (n_components, n_columns), rows orthonormal.
    offset
        (n_columns,).
    distance_error
        Root mean square of (distance of coordinates − distance of log-odds) over that of the distances of log-odds,
        between cells of a treatment that took no part in finding the basis.
    log_odds_error
        The same of log-odds read back, relative to their spread around the offset. Small directions count here that
        hardly change a distance, so it is the larger of the two.
    """

    loadings: FloatArray
    offset: FloatArray
    distance_error: float
    log_odds_error: float

    def compress(self, log_odds: FloatArray) -> FloatArray:
        """Coordinates (n_cells, n_components)."""
        return np.asarray((log_odds - self.offset) @ self.loadings.T)

    def turn(self, differences: FloatArray) -> FloatArray:
        """Differences of coordinates (n_cells, n_components), of differences of log-odds."""
        return np.asarray(differences @ self.loadings.T)

    def expand(self, coordinates: FloatArray) -> FloatArray:
        """Log-odds (n_cells, n_columns)."""
        return np.asarray(coordinates @ self.loadings + self.offset)


def find_basis(log_odds: FloatArray, codes: IntArray, tolerance: float, n_most: int, rng: np.random.Generator) -> Basis:
    """Principal components of a sample of cells of all modalities, as few as keep distances to the tolerance.

    Parameters
    ----------
    log_odds
        (n_cells, n_columns) of the sample.
    codes
        (n_cells,) treatment of each cell; −1 for none.
    tolerance
        Largest distance error.
    n_most
        Largest number of components, also where the tolerance asks for more.
    rng
        Splits the sample: components from one half, errors from the other.
    """
    from sklearn.decomposition import PCA

    order = rng.permutation(len(log_odds))
    learning, checking = np.array_split(order, 2)
    n_most = min(n_most, len(learning), log_odds.shape[1])
    pca = PCA(n_most, svd_solver="randomized", random_state=int(rng.integers(2**31))).fit(log_odds[learning])
    first, second = _pairs(codes[checking], rng)
    difference = log_odds[checking[first]] - log_odds[checking[second]]
    exact = np.sqrt((difference**2).sum(axis=1))
    kept = np.sqrt(((difference @ pca.components_.T) ** 2).cumsum(axis=1))
    errors = np.sqrt(((kept - exact[:, None]) ** 2).mean(axis=0) / (exact**2).mean())
    fine = np.flatnonzero(errors <= tolerance)
    n_components = int(fine[0]) + 1 if len(fine) else n_most
    loadings = pca.components_[:n_components]
    around = log_odds[checking] - pca.mean_
    lost = 1 - ((around @ loadings.T) ** 2).sum() / (around**2).sum()
    return Basis(loadings, pca.mean_, float(errors[n_components - 1]), float(np.sqrt(max(lost, 0.0))))


def _pairs(codes: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Pairs of different cells of the same treatment; of any treatment where there are none."""
    order = np.lexsort((rng.random(len(codes)), codes))
    same = np.flatnonzero((codes[order][:-1] == codes[order][1:]) & (codes[order][:-1] >= 0))
    if not len(same):
        order, same = rng.permutation(len(codes)), np.arange(len(codes) - 1)
    same = rng.permutation(same)[:N_PAIRS]
    return order[same], order[same + 1]
