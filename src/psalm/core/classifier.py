"""What a classifier of treatment is, and what one fitted gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from psalm.core.log_odds import LOWEST_LOG, PSEUDO_COUNT, log_probabilities

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class OneTreatment:
    """What can be learnt from cells of a single treatment: that there is no other."""

    classes_: IntArray  # (1,)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, 1) ones."""
        return np.ones((features.shape[0], 1))


class Classifier(Protocol):
    """A way to learn the treatment from features.

    One whose models do not depend on the seed may say so by an attribute ``deterministic``, which is true; of others
    one model is trained twice.
    """

    def fit(
        self,
        features: Matrix,
        codes: IntArray,
        n_treatments: int,
        seed: int = 0,
        weights: FloatArray | None = None,
    ) -> FittedClassifier:
        """Fit.

        Parameters
        ----------
        features
            (n_cells, n_features).
        codes
            (n_cells,) treatment of each cell.
        n_treatments
            How many treatments there are; training may lack some.
        seed
            Of whatever is random.
        weights
            (n_cells,) how much each cell counts: not negative, mean one. All the same by default.
        """
        ...


def with_weight(
    features: Matrix, codes: IntArray, weights: FloatArray | None
) -> tuple[Matrix, IntArray, FloatArray | None]:
    """The cells whose weight is above zero: one that counts nothing is as good as absent, and so is its treatment."""
    if weights is None or (weights > 0).all():
        return features, codes, weights
    kept = np.flatnonzero(weights > 0)
    return features[kept], codes[kept], weights[kept] / weights[kept].mean()


def shares(codes: IntArray, n_treatments: int, weights: FloatArray | None = None) -> FloatArray:
    """Share of each treatment (n_treatments,) among the cells, or of the cells' weights where these are given."""
    counts = np.bincount(codes, weights=weights, minlength=n_treatments)
    return np.asarray(counts / (len(codes) if weights is None else weights.sum()))


def log_shares(codes: IntArray, n_treatments: int, weights: FloatArray | None = None) -> FloatArray:
    """Logarithm of :func:`shares` (n_treatments,); a treatment without cells counts as half a cell."""
    found = shares(codes, n_treatments, weights)
    return np.asarray(np.log(np.where(found > 0, found, PSEUDO_COUNT / len(codes))))


@dataclass(frozen=True)
class FittedClassifier:
    """A fitted model, and the treatment frequencies that it was trained on.

    Parameters
    ----------
    model
        Has ``classes_`` and ``predict_proba``.
    log_prior
        (n_treatments,) logarithm of the shares among the training cells, or of their weights where they had any.
    prior_power
        The model's probabilities refer to frequencies ``π_t^prior_power``: 1 unless cells were re-weighted.
    """

    model: Any
    log_prior: FloatArray
    prior_power: float = 1.0

    @property
    def n_treatments(self) -> int:
        """Number of treatments."""
        return len(self.log_prior)

    def log_likelihood(self, features: Matrix) -> FloatArray:
        """(n_cells, n_treatments) ``log p(t | x) − log π_t`` up to a constant per cell.

        A treatment that the model never saw gets the lowest probability there is.
        """
        p = np.asarray(self.model.predict_proba(features), dtype=np.float64)
        if p.size and not p.min() >= 0:  # NaN too
            msg = (
                f"{type(self.model).__name__}.predict_proba gave values below 0 or NaN, which are no probabilities. "
                "Wrap it in `sklearn.calibration.CalibratedClassifierCV`, or pass another classifier."
            )
            raise ValueError(msg)
        said = log_probabilities(p)
        seen = np.asarray(self.model.classes_, dtype=int)
        if len(seen) < self.n_treatments:
            found = np.full((len(said), self.n_treatments), LOWEST_LOG)
            found[:, seen] = said
            said = found
        said -= self.prior_power * self.log_prior
        return said
