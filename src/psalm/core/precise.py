"""Float64 where float32 cannot reach the tolerance: measures how far a plan is off, and continues the sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm.core.cost import pairwise, row_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray
    from psalm.core.plan import EntropicPlan

REACHABLE = 3e-7
"""Marginal error that float32 sweeps are asked for at most."""
SMALL_TOLERANCE = 1e-5
SAMPLE = 64
TILE_BYTES = 2**20


def may_matter(tolerance: float, exponent: float) -> bool:
    """Whether float32 could spoil a tenth of the tolerance, for a mean exponent ``C / ε``."""
    return bool(tolerance < 10 * 2.0**-24 * max(exponent, 1.0) ** 1.5)


def rounding_error(plan: EntropicPlan, reference: FloatArray) -> float:
    """Relative difference of row masses in float64 from those that the solver found, mean over evenly spaced rows.

    Parameters
    ----------
    plan
        Of potentials found in float32.
    reference
        (n,) row masses as the solver saw them.
    """
    n = plan.shape[0]
    chosen = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))
    costs = pairwise(plan.source_scores[chosen], plan.target_scores, plan.cost)
    exact = np.exp((plan.source_potential[chosen, None] + plan.target_potential - costs) / plan.epsilon).sum(axis=1)
    return float(np.abs(exact / reference[chosen] - 1).mean())


class Sweeps:
    """One pass over a block in float64: best rows for given columns, and the column masses that they leave."""

    def __init__(self, x: FloatArray, y: FloatArray, cost: str, epsilon: float, memory_mb: float) -> None:
        self.x, self.y, self.cost, self.epsilon = x, y, cost, epsilon
        # a tile is small enough to stay in the processor's cache between the passes over it
        self._slices = row_tiles(len(x), len(y), TILE_BYTES)
        fits = 8 * len(x) * len(y) <= memory_mb * 2**20
        self._kept = pairwise(x, y, cost) / -epsilon if fits else None

    def __call__(self, g: FloatArray, log_a: FloatArray, kappa: float, cap: float) -> tuple[FloatArray, FloatArray]:
        """Row potentials (n,) and column masses (m,) for column potentials (m,), all over ε."""
        f, masses = np.empty(len(self.x)), np.zeros(len(self.y))
        for rows, exponent in self._tiles():
            np.add(exponent, g, out=exponent)
            peak = exponent.max(axis=1, keepdims=True)
            mass = np.exp(np.subtract(exponent, peak, out=exponent), out=exponent)
            f[rows] = log_a[rows] + np.minimum(-kappa * (np.log(mass.sum(axis=1)) + peak[:, 0]), cap)
            masses += np.exp(f[rows] + peak[:, 0]) @ mass
        return f, masses

    def _tiles(self) -> Iterator[tuple[slice, FloatArray]]:
        for rows in self._slices:
            if self._kept is not None:
                yield rows, self._kept[rows].copy()
            else:
                yield rows, pairwise(self.x[rows], self.y, self.cost) / -self.epsilon
