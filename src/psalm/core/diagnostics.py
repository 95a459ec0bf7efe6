"""Can the propensity scores be trusted? Discrimination, calibration and overlap, all on out-of-fold scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray


def one_vs_rest_auc(log_odds: FloatArray, codes: IntArray) -> FloatArray:
    """Area under the ROC curve of each treatment against all others; 0.5 is chance.

    Parameters
    ----------
    log_odds
        (n_cells, n_treatments).
    codes
        (n_cells,) in ``range(n_treatments)``.
    """
    from sklearn.metrics import roc_auc_score

    return np.array([roc_auc_score(codes == t, log_odds[:, t]) for t in range(log_odds.shape[1])])


def overlap(probabilities: FloatArray, codes: IntArray) -> FloatArray:
    """Positivity of each treatment: ``mean(p_t (1 − p_t)) / (π_t (1 − π_t))``.

    The share of the treatment's label variance that the cells leave open: 0 where the treatment is told with
    certainty (nothing to match by), 1 where it cannot be told at all.
    """
    share = np.bincount(codes, minlength=probabilities.shape[1]) / len(codes)
    open_variance = (probabilities * (1 - probabilities)).mean(axis=0)
    return np.asarray(open_variance / (share * (1 - share)))


def reliability(probabilities: FloatArray, codes: IntArray, n_bins: int = 10) -> FloatArray:
    """Reliability curve of the most probable treatment, in bins that hold equally many cells.

    Returns
    -------
    (n_bins, 3): mean predicted probability, observed frequency, number of cells.
    """
    best = probabilities.argmax(axis=1)
    predicted = probabilities[np.arange(len(codes)), best]
    bins = np.array_split(np.argsort(predicted, kind="stable"), min(n_bins, len(codes)))
    return np.array([[predicted[b].mean(), (best[b] == codes[b]).mean(), len(b)] for b in bins])


def calibration_error(curve: FloatArray) -> float:
    """Expected calibration error: mean |predicted − observed| over cells (Naeini et al., AAAI 2015)."""
    return float(np.average(np.abs(curve[:, 0] - curve[:, 1]), weights=curve[:, 2]))
