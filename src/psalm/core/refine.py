"""What the matched cells' features agree on, as further coordinates to match by: canonical correlations of a plan.

A first match by scores relates the features of both modalities within treatments. Pooled over all treatments, this
relation is known far better than any single treatment's, and two cells of one treatment can be compared by it.
Source of the idea: MaxFuse (Chen, Zhu et al., Nature Biotechnology 2024), which starts from features that both
modalities share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling


@dataclass(frozen=True)
class Refiner:
    """Add canonical coordinates of a coupling to the scores.

    With x and y the features less their treatment's mean, S their covariances over the matched cells and G the
    coupling, ``(S_x + λ)^-½ (Σ_ij G_ij x_i y_jᵀ) (S_y + λ)^-½ = U diag(c) Vᵀ`` has the canonical correlations c.
    A cell's coordinates are ``√(c_k / c_1) · u_kᵀ (S_x + λ)^-½ x``.

    Parameters
    ----------
    weight
        Standard deviation of the coordinates within a treatment, relative to that of the scores.
    ridge
        λ, relative to the mean variance of a feature.
    """

    weight: float = 0.5
    ridge: float = 0.3

    def __call__(
        self, coupling: Coupling, scores: tuple[FloatArray, FloatArray], features: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Scores followed by coordinates, for all cells of source and target; unmatched cells get coordinates 0.

        Parameters
        ----------
        coupling
            The first match.
        scores, features
            Of source and target, (n_cells, n_treatments) and (n_cells, n_features).
        """
        places = [[(b.source, b.target)[side] for b in coupling.blocks] for side in (0, 1)]
        x, y = (_within(values, place) for values, place in zip(features, places, strict=True))
        to_x, to_y = (self._whitener(values, place) for values, place in zip((x, y), places, strict=True))
        left, correlations, right = np.linalg.svd(to_x @ _cross_covariance(coupling, x, y) @ to_y, full_matrices=False)
        strength = np.sqrt(correlations / (correlations[0] or 1.0))
        coordinates = x @ to_x @ left * strength, y @ to_y @ right.T * strength
        for block in coupling.blocks:
            cells = block.source, block.target
            spread = sum(s[c].var(axis=0).sum() for s, c in zip(scores, cells, strict=True))
            found = sum(z[c].var(axis=0).sum() for z, c in zip(coordinates, cells, strict=True))
            for z, c in zip(coordinates, cells, strict=True):
                z[c] *= self.weight * np.sqrt(spread / found) if found > 0 else 0.0
        first, second = (np.hstack([s, z]) for s, z in zip(scores, coordinates, strict=True))
        return first, second

    def _whitener(self, values: FloatArray, places: list[IntArray]) -> FloatArray:
        """``(S + λ)^-½`` of the matched cells."""
        cells = values[np.concatenate(places)]
        variances, axes = np.linalg.eigh(cells.T @ cells / len(cells))
        loaded = np.maximum(variances, 0.0) + self.ridge * variances.mean()
        return np.asarray((axes / np.sqrt(np.where(loaded > 0, loaded, 1.0))) @ axes.T)


def _within(values: FloatArray, places: list[IntArray]) -> FloatArray:
    """Values less the mean of their treatment's matched cells; 0 for cells that are not matched."""
    centred = np.zeros(values.shape)
    for cells in places:
        centred[cells] = values[cells] - values[cells].mean(axis=0)
    return centred


def _cross_covariance(coupling: Coupling, x: FloatArray, y: FloatArray) -> FloatArray:
    """``Σ_ij G_ij x_i y_jᵀ``."""
    total = np.zeros((x.shape[1], y.shape[1]))
    for tile in coupling.tiles():
        total += x[tile.source].T @ (tile.mass @ y[tile.target])
    return total
