"""Ratios of sums over cells, by treatment and over all, with bootstrap intervals over cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psalm.core._types import FloatArray, IntArray

WEIGHTS = 2**22
"""Bootstrap weights drawn at a time."""
ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Ratio:
    """A metric: the sum of one number per cell over the sum of another.

    Parameters
    ----------
    top, bottom
        (n_cells,); cells with NaN in ``top`` take no part.
    complement
        The metric is one minus the ratio.
    """

    top: FloatArray
    bottom: FloatArray
    complement: bool = False

    @property
    def columns(self) -> FloatArray:
        """(n_cells, 2), zeros for cells that take no part."""
        known = ~np.isnan(self.top)
        return np.column_stack([np.where(known, self.top, 0.0), np.where(known, self.bottom, 0.0)])

    def of(self, sums: FloatArray) -> FloatArray:
        """The metric of sums (..., 2); NaN where the lower one is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
        return np.asarray(1 - ratio if self.complement else ratio)


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Parameters
    ----------
    value
        NaN where no cell is scored.
    lower, upper
        95 % bootstrap interval; NaN without resampling, and of a single cell.
    """

    value: float
    lower: float
    upper: float


def estimate(
    ratios: Mapping[str, Ratio], groups: IntArray, n_groups: int, rng: np.random.Generator, n_draws: int
) -> dict[str, list[Estimate]]:
    """Every metric of every group, and last of all groups together.

    Cells are drawn with replacement within their group, the same cells for all metrics.

    Parameters
    ----------
    ratios
        Of the same cells.
    groups
        (n_cells,) number of each cell's group.
    n_groups
        How many.
    rng
        Draws the cells.
    n_draws
        Bootstrap samples; 0 for none.
    """
    columns = np.hstack([ratio.columns for ratio in ratios.values()]) if ratios else np.empty((len(groups), 0))
    sums, drawn = np.zeros((n_groups + 1, columns.shape[1])), np.zeros((n_groups + 1, n_draws, columns.shape[1]))
    sizes = np.bincount(groups, minlength=n_groups)
    for group in range(n_groups):
        own = columns[groups == group]
        sums[group], drawn[group] = own.sum(axis=0), _resampled(own, rng, n_draws)
    sums[-1], drawn[-1] = sums[:-1].sum(axis=0), drawn[:-1].sum(axis=0)
    sizes = np.append(sizes, np.max(sizes, initial=0))
    found: dict[str, list[Estimate]] = {}
    for place, (name, ratio) in enumerate(ratios.items()):
        here = slice(2 * place, 2 * place + 2)
        values, samples = ratio.of(sums[:, here]), ratio.of(drawn[:, :, here])
        found[name] = [
            _interval(v, s, enough=bool(size > 1)) for v, s, size in zip(values, samples, sizes, strict=True)
        ]
    return found


def _resampled(values: FloatArray, rng: np.random.Generator, n_draws: int) -> FloatArray:
    """Sums over cells drawn with replacement (n_draws, k).

    n − 1 of n cells are drawn and count n / (n − 1) times (Rao and Wu, JASA 1988): drawing n would make the variance
    of small treatments too small.
    """
    n_cells = len(values)
    found = np.zeros((n_draws, values.shape[1]))
    if not n_cells:
        return found
    step = max(1, WEIGHTS // n_cells)
    for start in range(0, n_draws, step):
        part = found[start : start + step]
        part[:] = rng.multinomial(max(1, n_cells - 1), np.full(n_cells, 1 / n_cells), size=len(part)) @ values
    return found * (n_cells / max(1, n_cells - 1))


def _interval(value: float, samples: FloatArray, *, enough: bool) -> Estimate:
    known = samples[~np.isnan(samples)]
    if not enough or not len(known) or np.isnan(value):
        return Estimate(float(value), float("nan"), float("nan"))
    lower, upper = np.quantile(known, ENDS)
    return Estimate(float(value), float(lower), float(upper))
