"""How well cells of a treatment are predicted that a model never saw, beside what could be said without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.samples import energy_distance, kl_divergence, some, wasserstein

if TYPE_CHECKING:
    from psalm.core._types import FloatArray

N_COMPONENTS = 10


@dataclass(frozen=True)
class Space:
    """The space that predictions are compared in, from the target cells of the training treatments.

    Parameters
    ----------
    mean, scale
        (n_features,); a constant feature has scale one.
    components
        (n_features, at most 10) principal axes of standardised training cells, for the KL divergence.
    """

    mean: FloatArray
    scale: FloatArray
    components: FloatArray

    @classmethod
    def of(cls, cells: FloatArray) -> Space:
        """Of training cells (n_cells, n_features)."""
        from sklearn.decomposition import PCA

        mean, scale = cells.mean(axis=0), cells.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        n_components = min(N_COMPONENTS, *cells.shape)
        found = PCA(n_components, random_state=0).fit((cells - mean) / scale)
        return cls(mean, scale, found.components_.T)

    def __call__(self, cells: FloatArray) -> FloatArray:
        """Standardised cells."""
        return np.asarray((cells - self.mean) / self.scale, dtype=np.float64)


@dataclass(frozen=True)
class Sums:
    """Squared errors of one treatment's cells, to be pooled.

    Parameters
    ----------
    error
        Of the prediction.
    total
        Of the mean of the training cells.
    within
        Of the mean of the treatment's measured cells.
    """

    error: float
    total: float
    within: float


@dataclass(frozen=True)
class Features:
    """What scores of single features over all treatments are counted from, for one treatment and one predictor.

    Parameters
    ----------
    means
        (2, n_features) means of predicted and of measured cells, in standard units.
    moments
        (6, n_features) over pairs: n, x̄, ȳ, Σ(x − x̄)², Σ(y − ȳ)², Σ(x − x̄)(y − ȳ) with x predicted and y true; zeros
        without pairs.
    """

    means: FloatArray
    moments: FloatArray

    @classmethod
    def of(cls, predicted: FloatArray, measured: FloatArray, pairs: tuple[FloatArray, FloatArray] | None) -> Features:
        """Of predicted (n_source, n_features) and measured cells (n_target, n_features), and pairs of both if known."""
        means = np.stack([predicted.mean(axis=0), measured.mean(axis=0)])
        moments = np.zeros((6, means.shape[1]))
        if pairs is not None:
            centres = [values.mean(axis=0) for values in pairs]
            x, y = (values - centre for values, centre in zip(pairs, centres, strict=True))
            n_pairs = np.full(means.shape[1], float(len(x)))
            moments = np.stack([n_pairs, *centres, *(values.sum(axis=0) for values in (x**2, y**2, x * y))])
        return cls(means, moments)


def feature_scores(found: list[Features]) -> dict[str, FloatArray]:
    """Scores of every feature (n_features,) over the left-out treatments.

    Returns
    -------
    ``pearson_means``: correlation, over treatments, of predicted and measured means (NaN below three treatments);
    ``pearson``: over all cells with a known partner; ``r2``: over the same, against the mean of the training cells.
    """
    means, n = np.stack([f.means for f in found], axis=2), len(found)
    predicted, measured = means
    n_pairs, x, y, xx, yy, xy = np.stack([f.moments for f in found], axis=1)
    count = n_pairs.sum(axis=0)
    x_around, y_around = (values - (n_pairs * values).sum(axis=0) / np.maximum(count, 1) for values in (x, y))
    between = [(n_pairs * product).sum(axis=0) for product in (x_around * y_around, x_around**2, y_around**2)]
    centred = [one.sum(axis=0) + other for one, other in zip((xy, xx, yy), between, strict=True)]
    error, total = (xx - 2 * xy + yy + n_pairs * (x - y) ** 2).sum(axis=0), (yy + n_pairs * y**2).sum(axis=0)
    over_means = _correlations(predicted.T, measured.T) if n > 2 else np.full(len(predicted), np.nan)  # noqa: PLR2004
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "pearson_means": over_means,
            "pearson": np.where(count > 0, _correlation(*centred), np.nan),
            "r2": np.where(count > 0, 1 - error / total, np.nan),
        }


def _correlations(x: FloatArray, y: FloatArray) -> FloatArray:
    """Of the columns of x with those of y; 0 where x is constant, NaN where y is."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return _correlation((x * y).sum(axis=0), (x**2).sum(axis=0), (y**2).sum(axis=0))


def _correlation(product: FloatArray, square_x: FloatArray, square_y: FloatArray) -> FloatArray:
    norm = np.sqrt(np.maximum(square_x, 0) * np.maximum(square_y, 0))
    found = np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)
    return np.where(square_y > 0, found, np.nan)


def distribution_scores(
    predicted: FloatArray, measured: FloatArray, space: Space, rng: np.random.Generator
) -> dict[str, float]:
    """Scores of predicted against measured cells of one treatment, without pairs.

    Parameters
    ----------
    predicted, measured
        (n_source, n_features), (n_target, n_features) in standard units.
    space
        Where they are compared; the mean of its training cells is 0.
    rng
        Chooses a thousand cells of each where there are more.

    Returns
    -------
    ``r2_mean``: R² of the mean profile, ``1 − ‖mean ŷ − mean y‖² / ‖mean y‖²``, 0 for the mean of all training cells;
    ``pearson_mean``: correlation over features of the two mean profiles; ``energy_distance``, ``wasserstein``,
    ``kl_divergence`` (of measured from predicted cells, in the first ten components; estimators in
    :mod:`psalm.core.samples`).
    """
    profile, truth = predicted.mean(axis=0), measured.mean(axis=0)
    x, y = some(predicted, rng), some(measured, rng)
    return {
        "r2_mean": 1 - float(((profile - truth) ** 2).sum() / (truth**2).sum()),
        "pearson_mean": _pearson(profile[:, None], truth[:, None]),
        "energy_distance": energy_distance(x, y),
        "wasserstein": wasserstein(x, y),
        "kl_divergence": kl_divergence(y @ space.components, x @ space.components),
    }


def pair_scores(predicted: FloatArray, truth: FloatArray, treatment_mean: FloatArray) -> tuple[dict[str, float], Sums]:
    """Scores of predicted cells against their true partners, both (n_pairs, n_features) in standard units.

    Parameters
    ----------
    predicted, truth
        Of the cells whose partner is known.
    treatment_mean
        (n_features,) mean of all measured cells of the treatment, with and without a known partner.

    Returns
    -------
    ``r2``: against the mean of the training cells; ``r2_within``: against ``treatment_mean``; ``pearson``: mean
    over features of the correlation over cells, 0 where a prediction is constant. And the sums to pool.
    """
    error, total = float(((truth - predicted) ** 2).sum()), float((truth**2).sum())
    within = float(((truth - treatment_mean) ** 2).sum())
    scores = {"r2": _ratio(error, total), "r2_within": _ratio(error, within), "pearson": _pearson(predicted, truth)}
    return scores, Sums(error, total, within)


def pooled(sums: list[Sums]) -> dict[str, float]:
    """R² over treatments, sums pooled."""
    error, total, within = (sum(getattr(s, name) for s in sums) for name in ("error", "total", "within"))
    return {"r2": _ratio(error, total), "r2_within": _ratio(error, within)}


def _ratio(error: float, total: float) -> float:
    return 1 - error / total if total > 0 else float("nan")


def _pearson(x: FloatArray, y: FloatArray) -> float:
    """Mean over columns of the correlation down the rows; 0 where x is constant, left out where y is."""
    found = _correlations(x, y)
    return float(np.nanmean(found)) if (~np.isnan(found)).any() else float("nan")
