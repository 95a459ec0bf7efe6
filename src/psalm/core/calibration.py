"""From a classifier's probabilities to calibrated, centred log-odds.

Three steps, each one formula, on rows of log-probabilities over the treatments:

1. temperature: ``log softmax(l / T + o)``, with the scalar T fitted by maximum likelihood and the offset o restoring
   the treatment frequencies when the classifier was trained on re-weighted cells (Guo et al., ICML 2017);
2. certainty cap: the odds of the most probable treatment against the rest are not trusted beyond ``2n``, what
   n cells can support under Jeffreys' prior; the ranking of all other treatments is untouched;
3. centring: ``log p − mean_t log p`` (Aitchison's centred log-ratio), so that rows sum to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax, logsumexp

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

LOWEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities below the resolution of float32 are raised to it, so that a classifier's zero stays finite."""

TEMPERATURE_RANGE = (0.02, 50.0)


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Logarithm of probabilities, floored at :data:`LOWEST_PROBABILITY`.

    Parameters
    ----------
    probabilities
        (n_cells, n_treatments), rows sum to one.
    """
    return np.asarray(np.log(np.maximum(probabilities, LOWEST_PROBABILITY)), dtype=np.float64)


def fit_temperature(log_p: FloatArray, codes: IntArray, offset: FloatArray) -> float:
    """Temperature T that maximises the likelihood of the labels under ``softmax(log_p / T + offset)``.

    Parameters
    ----------
    log_p
        (n_cells, n_treatments) out-of-fold log-probabilities.
    codes
        (n_cells,) the treatment of each cell.
    offset
        Added to the log-odds after division by T; broadcast against ``log_p``.
    """
    from scipy.optimize import minimize_scalar

    def negative_log_likelihood(log_temperature: float) -> float:
        return log_loss(apply_temperature(log_p, np.exp(log_temperature), offset), codes)

    found = minimize_scalar(negative_log_likelihood, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(log_p: FloatArray, temperature: float, offset: FloatArray) -> FloatArray:
    """``log softmax(log_p / T + offset)``, row by row."""
    return np.asarray(log_softmax(log_p / temperature + offset, axis=1))


def cap_certainty(log_p: FloatArray, n_cells: int) -> FloatArray:
    """Limit the odds of each row's most probable treatment against all others to ``2 n_cells``, smoothly.

    With odds r the result has odds ``1 / (1/r + 1/(2n))``. A linear classifier extrapolates: it claims odds of a
    million to one from a thousand cells, and two modalities claim them differently. The conditional probabilities of
    the other treatments given that it is not the first are kept.

    Parameters
    ----------
    log_p
        (n_rows, n_treatments) normalised log-probabilities.
    n_cells
        How many labelled cells the calibration saw.
    """
    rows = np.arange(len(log_p))
    best = log_p.argmax(axis=1)
    others = log_p.copy()
    others[rows, best] = -np.inf
    rest = logsumexp(others, axis=1)
    log_odds = -np.logaddexp(rest - log_p[rows, best], -np.log(2.0 * n_cells))
    capped = others - (rest + np.logaddexp(0.0, log_odds))[:, None]
    capped[rows, best] = -np.logaddexp(0.0, -log_odds)
    return np.asarray(capped)


def centre(log_p: FloatArray) -> FloatArray:
    """Centred log-odds: each row minus its mean, so that rows sum to zero."""
    return np.asarray(log_p - log_p.mean(axis=1, keepdims=True))


def probabilities(log_odds: FloatArray) -> FloatArray:
    """Probabilities of centred log-odds: the inverse of :func:`centre` after a logarithm."""
    return np.asarray(np.exp(log_softmax(np.asarray(log_odds, dtype=np.float64), axis=1)))


def log_loss(log_p: FloatArray, codes: IntArray) -> float:
    """Mean negative log-likelihood in nats per cell."""
    return float(-log_p[np.arange(len(codes)), codes].mean())
