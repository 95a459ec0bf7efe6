"""Predictive intervals calibrated on cells that a model was not trained on.

Split conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, 2018) with residuals relative to a predicted
standard deviation: with q the ⌈(n + 1)·c⌉-th smallest of n calibration residuals ``|y − μ| / s``, the interval μ ± q·s
covers a new y with probability c or more, whatever the model, if that cell and those of calibration are exchangeable.
This holds for each feature by its own residuals, from n = c / (1 − c) cells on. Residuals of other features are no
further cells: they differ in spread, and those of one cell go together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray


@dataclass(frozen=True)
class Residuals:
    """Absolute residuals relative to the predicted standard deviation, of held-out cells.

    Parameters
    ----------
    calibration, test
        (n_cells, n_features) of the cells that quantiles are taken from, and of those on which coverage is counted.
    """

    calibration: FloatArray
    test: FloatArray

    def quantile(self, coverage: float) -> FloatArray:
        """(n_features,) half-width of the intervals in standard deviations.

        Raises
        ------
        ValueError
            There are too few cells for intervals of this coverage.
        """
        if isinstance(coverage, bool) or not isinstance(coverage, float | int) or not 0 < coverage < 1:
            msg = f"`coverage={coverage!r}` must be a number between 0 and 1, such as 0.9."
            raise ValueError(msg)
        n_cells = len(self.calibration)
        place = _up((n_cells + 1) * coverage)
        if place > n_cells:
            msg = (
                f"Intervals of coverage {coverage:g} need {_up(coverage / (1 - coverage))} held-out cells to be "
                f"calibrated on, and there are {n_cells}. Ask for a smaller coverage, or train with a larger "
                "`validation_size`."
            )
            raise ValueError(msg)
        return np.asarray(np.sort(self.calibration, axis=0)[place - 1])

    def coverage(self, coverage: float) -> FloatArray:
        """(n_features,) share of the test cells that the intervals cover."""
        return np.asarray((self.test <= self.quantile(coverage)).mean(axis=0))


def _up(value: float) -> int:
    """The next whole number, not counting what rounding adds."""
    return int(np.ceil(round(value, 6)))
