"""Probabilities of treatments as centred log-odds, and what a finite number of cells lets one claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

PSEUDO_COUNT = 0.5
"""What n cells cannot rule out is worth half a cell (Jeffreys' prior)."""

LOWEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities below the resolution of float32 are raised to it, so that a classifier's zero stays finite."""
LOWEST_LOG = float(np.log(LOWEST_PROBABILITY))


def log_sum(values: FloatArray) -> FloatArray:
    """``log Σ exp`` of each row (n_rows,); −inf for rows of −inf."""
    largest = np.maximum(values.max(axis=1), np.finfo(np.float64).min)
    parts = values - largest[:, None]
    with np.errstate(divide="ignore"):
        return np.asarray(largest + np.log(np.exp(parts, out=parts).sum(axis=1)))


def normalised(log_p: FloatArray) -> FloatArray:
    """Log-probabilities whose rows sum to one, from those up to a constant per row, as float64."""
    log_p = np.asarray(log_p, dtype=np.float64)
    return np.asarray(log_p - log_sum(log_p)[:, None])


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Logarithm of probabilities, floored at :data:`LOWEST_PROBABILITY`.

    Parameters
    ----------
    probabilities
        (n_cells, n_treatments), rows sum to one.
    """
    return np.asarray(np.log(np.maximum(probabilities, LOWEST_PROBABILITY)), dtype=np.float64)


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
        How many labelled cells the calibration saw; 2n is what they can support under Jeffreys' prior.
    """
    rows = np.arange(len(log_p))
    best = log_p.argmax(axis=1)
    others = log_p.copy()
    others[rows, best] = -np.inf
    rest = log_sum(others)
    log_odds = -np.logaddexp(rest - log_p[rows, best], -np.log(n_cells / PSEUDO_COUNT))
    others -= (rest + np.logaddexp(0.0, log_odds))[:, None]
    others[rows, best] = -np.logaddexp(0.0, -log_odds)
    return np.asarray(others)


def centre(log_p: FloatArray) -> FloatArray:
    """Centred log-odds (Aitchison's centred log-ratio): each row minus its mean, so that rows sum to zero."""
    return np.asarray(log_p - log_p.mean(axis=1, keepdims=True))


def probabilities(log_odds: FloatArray) -> FloatArray:
    """Probabilities of centred log-odds: the inverse of :func:`centre` after a logarithm."""
    return np.asarray(np.exp(normalised(log_odds)))


def change_prior(log_odds: FloatArray, shift: FloatArray) -> FloatArray:
    """Centred log-odds under other treatment frequencies: ``centre(s_t + shift_t)``.

    Parameters
    ----------
    log_odds
        (n_cells, n_treatments) centred log-odds.
    shift
        (n_treatments,) logarithm of the frequencies wanted less that of the frequencies had.
    """
    return centre(log_odds + shift)


def log_loss(log_p: FloatArray, codes: IntArray) -> float:
    """Mean negative log-likelihood in nats per cell."""
    return float(-log_p[np.arange(len(codes)), codes].mean())
