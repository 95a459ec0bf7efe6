"""Calibration of a classifier's log-probabilities on cells it has not seen: a choice is an object, one formula each.

``fit`` takes out-of-fold log-likelihoods l (n_cells, n_treatments), the treatment of each cell, and the logarithm o of
the treatment frequencies, (n_treatments,) or one row per cell. The result maps l and o to calibrated, normalised
log-probabilities. Only the likelihood is calibrated: frequencies are known, and come back as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from psalm.core.log_odds import PSEUDO_COUNT, log_probabilities, log_sum, normalised

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray

TEMPERATURE_RANGE = (0.02, 50.0)
WEIGHT_RANGE = (1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0])


def smoothed_labels(codes: IntArray, n_treatments: int) -> FloatArray:
    """One-hot labels in which half a cell's worth of mass is spread over all treatments by their frequency.

    Where a classifier is right in every cell, plain likelihood would make it infinitely certain (Platt, 1999).
    Half a cell is Jeffreys' pseudo-count, the same as in :func:`psalm.core.log_odds.cap_certainty`.

    Parameters
    ----------
    codes
        (n_cells,) treatment of each cell.
    n_treatments
        Number of columns.
    """
    labels = np.eye(n_treatments)[codes]
    return np.asarray((len(codes) * labels + PSEUDO_COUNT * labels.mean(axis=0)) / (len(codes) + PSEUDO_COUNT))


def _mean_of_labels(values: FloatArray, codes: IntArray) -> float:
    """Mean over cells of what :func:`smoothed_labels` expect of values (n_cells, n_treatments) or (n_treatments,)."""
    rows = np.broadcast_to(values, (len(codes), values.shape[-1]))
    frequencies = np.bincount(codes, minlength=rows.shape[1]) / len(codes)
    own, any_ = rows[np.arange(len(codes)), codes].mean(), (rows @ frequencies).mean()
    return float((len(codes) * own + PSEUDO_COUNT * any_) / (len(codes) + PSEUDO_COUNT))


class Calibration(Protocol):
    """A fitted calibration."""

    def __call__(self, log_l: FloatArray, log_prior: FloatArray) -> FloatArray:
        """Calibrated log-probabilities (n_rows, n_treatments)."""
        ...


class Calibrator(Protocol):
    """A way to calibrate.

    ``shared`` says whether one calibration, learnt from all cells, serves all folds of a cross-fit. It does where it is
    a single number: one that all cells share tells no cell's treatment, while one for each fold, learnt from all
    others, is low where the fold's own cells happen to be classified well. Calibrations with more parameters fit the
    cells that they are learnt from, and are learnt from other cells than they serve.
    """

    shared: ClassVar[bool]

    def fit(self, log_l: FloatArray, codes: IntArray, log_prior: FloatArray) -> Calibration:
        """Learn from out-of-fold cells."""
        ...


@dataclass(frozen=True)
class VectorCalibration:
    """``log softmax(w_t l_t + b_t + o_t)``; a temperature T is the case w = 1/T, b = 0."""

    weight: FloatArray  # (n_treatments,) or ()
    bias: FloatArray

    def __call__(self, log_l: FloatArray, log_prior: FloatArray) -> FloatArray:
        """Calibrated log-probabilities (n_rows, n_treatments)."""
        return normalised(log_l * self.weight + (self.bias + log_prior))


def as_claimed() -> VectorCalibration:
    """No change besides the log_prior: what the classifier claims."""
    return VectorCalibration(np.array(1.0), np.array(0.0))


@dataclass(frozen=True)
class NoCalibrator:
    """Take the classifier at its word."""

    shared: ClassVar[bool] = True

    def fit(self, log_l: FloatArray, codes: IntArray, log_prior: FloatArray) -> VectorCalibration:
        """Learn nothing."""
        return as_claimed()


@dataclass(frozen=True)
class TemperatureCalibrator:
    """One temperature by maximum likelihood of smoothed labels: ``log softmax(l / T + o)`` (Guo et al., ICML 2017)."""

    shared: ClassVar[bool] = True

    def fit(self, log_l: FloatArray, codes: IntArray, log_prior: FloatArray) -> VectorCalibration:
        """Find T."""
        from scipy.optimize import minimize_scalar

        expected = [_mean_of_labels(values, codes) for values in (log_l, log_prior)]  # of what is not normalised

        def negative_log_likelihood(log_temperature: float) -> float:
            weight = np.exp(-log_temperature)
            return float(log_sum(log_l * weight + log_prior).mean() - weight * expected[0] - expected[1])

        found = minimize_scalar(negative_log_likelihood, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
        return VectorCalibration(np.exp(-float(found.x)), np.array(0.0))


@dataclass(frozen=True)
class VectorCalibrator:
    """A weight and a bias per treatment: ``log softmax(w_t l_t + b_t + o_t)`` (vector scaling, Guo et al.).

    Parameters
    ----------
    ridge
        Strength of the pull towards one weight for all and no bias, in cells; small treatments move little.
    """

    shared: ClassVar[bool] = False

    ridge: float = 1.0

    def fit(self, log_l: FloatArray, codes: IntArray, log_prior: FloatArray) -> VectorCalibration:
        """Find w and b by maximum penalised likelihood, starting from the best temperature."""
        from scipy.optimize import minimize

        n_treatments = log_l.shape[1]
        start = TemperatureCalibrator().fit(log_l, codes, log_prior).weight
        labels = smoothed_labels(codes, n_treatments)

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            weight, bias = flat.reshape(2, n_treatments)
            calibrated = VectorCalibration(weight, bias)(log_l, log_prior)
            residual = np.exp(calibrated) - labels
            pull = np.stack([weight - start, bias]) * self.ridge
            value = -(labels * calibrated).sum() + (pull**2).sum() / (2 * self.ridge)
            return value, (np.stack([(residual * log_l).sum(axis=0), residual.sum(axis=0)]) + pull).ravel()

        first = np.concatenate([np.full(n_treatments, start), np.zeros(n_treatments)])
        # a negative weight would turn chance into evidence: where models that have seen a cell are wrong of its like,
        # it makes them right of the cell
        bounds = [WEIGHT_RANGE] * n_treatments + [(None, None)] * n_treatments
        found = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds)
        weight, bias = found.x.reshape(2, n_treatments)
        return VectorCalibration(weight, bias)


@dataclass(frozen=True)
class IsotonicCalibration:
    """One monotone curve per treatment, then normalised."""

    curves: tuple[Any, ...]

    def __call__(self, log_l: FloatArray, log_prior: FloatArray) -> FloatArray:
        """Calibrated log-probabilities (n_rows, n_treatments)."""
        claimed = np.exp(normalised(log_l + log_prior))
        mapped = np.column_stack([curve.predict(column) for curve, column in zip(self.curves, claimed.T, strict=True)])
        return normalised(log_probabilities(mapped))


@dataclass(frozen=True)
class IsotonicCalibrator:
    """Isotonic regression of "is it this treatment" on its probability, one against the rest (scikit-learn).

    Flexible, but it makes steps: cells on one step get the same probability, which matching within a treatment cannot
    tell apart. Observed frequencies are kept within ``[1/(2n), 1 − 1/(2n)]``.
    """

    shared: ClassVar[bool] = False

    def fit(self, log_l: FloatArray, codes: IntArray, log_prior: FloatArray) -> IsotonicCalibration:
        """Fit the curves."""
        from sklearn.isotonic import IsotonicRegression

        claimed, least = np.exp(normalised(log_l + log_prior)), 0.5 / len(codes)
        return IsotonicCalibration(
            tuple(
                IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(column, codes == t)
                for t, column in enumerate(claimed.T)
            )
        )


CALIBRATORS: dict[str, type[TemperatureCalibrator | VectorCalibrator | IsotonicCalibrator | NoCalibrator]] = {
    "temperature": TemperatureCalibrator,
    "vector": VectorCalibrator,
    "isotonic": IsotonicCalibrator,
    "none": NoCalibrator,
}
