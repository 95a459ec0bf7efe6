"""Classifiers of treatment: the named ones, and the rules that any other must follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from psalm.core.log_odds import log_probabilities

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class LogisticClassifier:
    """Standardised features, multinomial logistic regression with a firm ridge, softly balanced treatments.

    A cell of treatment t weighs ``π_t^-balance`` in training, π_t being the share of t among the training cells.

    Parameters
    ----------
    C
        Inverse strength of the ridge, as in scikit-learn.
        Firm by default: the score is to locate a cell between treatments, which correlated features do better together
        than the few that separate the treatments best.
    balance
        0: every cell weighs the same; 1: every treatment weighs the same; 0.5: in between.
    max_iter
        Upper bound of solver iterations.
    """

    C: float = 0.03
    balance: float = 0.5
    max_iter: int = 1000

    def fit(self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0) -> FittedClassifier:
        """Fit on (n_cells, n_features) and (n_cells,); nothing is random."""
        from scipy import sparse
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        shares = np.bincount(codes, minlength=n_treatments) / len(codes)
        if (shares > 0).sum() == 1:
            return FittedClassifier(OneTreatment(codes[:1]), log_shares(codes, n_treatments))
        weights = np.power(shares, -self.balance, where=shares > 0, out=np.zeros_like(shares))
        weights /= (weights * shares).sum()
        model = make_pipeline(
            StandardScaler(with_mean=not sparse.issparse(features)),
            LogisticRegression(C=self.C, max_iter=self.max_iter),
        )
        model.fit(features, codes, logisticregression__sample_weight=weights[codes])
        return FittedClassifier(model, log_shares(codes, n_treatments), 1 - self.balance)


@dataclass(frozen=True)
class EstimatorClassifier:
    """Any scikit-learn classifier with ``predict_proba``; cloned for every fold, fitted as it is.

    Parameters
    ----------
    estimator
        Never fitted itself.
    """

    estimator: Any

    def fit(self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0) -> FittedClassifier:
        """Fit a clone on (n_cells, n_features) and (n_cells,); a ``random_state`` of None becomes ``seed``."""
        from sklearn.base import clone

        model = clone(self.estimator)
        free = [name for name, value in model.get_params().items() if name.endswith("random_state") and value is None]
        model.set_params(**dict.fromkeys(free, seed))
        if len(np.unique(codes)) == 1:
            model = OneTreatment(codes[:1])
        else:
            model.fit(features, codes)
        return FittedClassifier(model, log_shares(codes, n_treatments))


@dataclass(frozen=True)
class OneTreatment:
    """What can be learnt from cells of a single treatment: that there is no other."""

    classes_: IntArray  # (1,)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, 1) ones."""
        return np.ones((features.shape[0], 1))


class Classifier(Protocol):
    """A way to learn the treatment from features."""

    def fit(self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0) -> FittedClassifier:
        """Fit on (n_cells, n_features) and (n_cells,)."""
        ...


def by_name(name: str) -> Classifier:
    """The classifier behind a name of :data:`CLASSIFIERS`."""
    if name == "mlp":
        from psalm.core.mlp import PerceptronClassifier

        return PerceptronClassifier()
    return LogisticClassifier()


CLASSIFIERS = ("logistic", "mlp")


def log_shares(codes: IntArray, n_treatments: int) -> FloatArray:
    """Logarithm of each treatment's share (n_treatments,); 0 for a treatment without cells, which has no prior."""
    shares = np.bincount(codes, minlength=n_treatments) / len(codes)
    return np.log(shares, where=shares > 0, out=np.zeros_like(shares))


@dataclass(frozen=True)
class FittedClassifier:
    """A fitted model, and the treatment frequencies that it was trained on.

    Parameters
    ----------
    model
        Has ``classes_`` and ``predict_proba``.
    log_prior
        (n_treatments,) logarithm of the shares among the training cells.
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
        found = np.zeros((features.shape[0], self.n_treatments))
        found[:, np.asarray(self.model.classes_, dtype=int)] = self.model.predict_proba(features)
        return log_probabilities(found) - self.prior_power * self.log_prior
