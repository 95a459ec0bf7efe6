"""Can the propensity scores be trusted? Discrimination, calibration and overlap, all on out-of-fold scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm.core.log_odds import log_loss, probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.propensity import Propensity


def one_vs_rest_auc(p: FloatArray, codes: IntArray) -> FloatArray:
    """Area under the ROC curve of each treatment's probability against all others; 0.5 is chance.

    Probabilities, not centred log-odds: these are relative to a mean that differs between cells.

    Parameters
    ----------
    p
        (n_cells, n_treatments).
    codes
        (n_cells,) in ``range(n_treatments)``.
    """
    from sklearn.metrics import roc_auc_score

    return np.array([roc_auc_score(codes == t, p[:, t]) for t in range(p.shape[1])])


def overlap(p: FloatArray, codes: IntArray) -> FloatArray:
    """Positivity of each treatment: ``mean(p_t (1 − p_t)) / (π_t (1 − π_t))``.

    The share of the treatment's label variance that the cells leave open: 0 where the treatment is told with
    certainty (nothing to match by), 1 where it cannot be told at all.
    """
    share = np.bincount(codes, minlength=p.shape[1]) / len(codes)
    open_variance = (p * (1 - p)).mean(axis=0)
    return np.asarray(open_variance / (share * (1 - share)))


def reliability(p: FloatArray, codes: IntArray, n_bins: int = 10) -> FloatArray:
    """Reliability curve of the most probable treatment, in bins that hold equally many cells.

    Returns
    -------
    (n_bins, 3): mean predicted probability, observed frequency, number of cells.
    """
    best = p.argmax(axis=1)
    predicted = p[np.arange(len(codes)), best]
    bins = np.array_split(np.argsort(predicted, kind="stable"), min(n_bins, len(codes)))
    return np.array([[predicted[b].mean(), (best[b] == codes[b]).mean(), len(b)] for b in bins])


def calibration_error(curve: FloatArray) -> float:
    """Expected calibration error: mean |predicted − observed| over cells (Naeini et al., AAAI 2015)."""
    return float(np.average(np.abs(curve[:, 0] - curve[:, 1]), weights=curve[:, 2]))


def _temperature(scored: Propensity) -> float:
    """Mean temperature over folds and repeats; NaN where the calibration is not a temperature."""
    weights = [getattr(calibration, "weight", np.empty(2)) for calibration in scored.calibrations]
    return float(np.mean([1 / weight if np.ndim(weight) == 0 else np.nan for weight in weights]))


def report(
    name: str, scored: Propensity, code: IntArray, treatments: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All of these on the labelled cells of one modality: a table per treatment, one of calibration, and curves."""
    labelled = code >= 0
    code = code[labelled]
    after = probabilities(scored.log_odds[labelled])
    before = probabilities(scored.uncalibrated[labelled])
    curves = {"before": reliability(before, code), "after": reliability(after, code)}
    table = pd.DataFrame({"modality": name, "treatment": treatments})
    table["n_cells"] = np.bincount(code, minlength=len(treatments))
    table["frequency"] = table["n_cells"] / len(code)
    table["auc"] = one_vs_rest_auc(after, code)
    table["overlap"] = overlap(after, code)
    calibration = pd.DataFrame({"modality": [name], "temperature": _temperature(scored)})
    for when, p in (("before", before), ("after", after)):
        calibration[f"log_loss_{when}"] = log_loss(np.log(p), code)
        calibration[f"calibration_error_{when}"] = calibration_error(curves[when])
    points = pd.concat(
        [
            pd.DataFrame(curve, columns=["predicted", "observed", "n_cells"]).assign(when=when)
            for when, curve in curves.items()
        ]
    ).assign(modality=name)
    return table, calibration, points
