"""Classifiers of treatment: the named ones, and the rules that any other must follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.calibration import log_probabilities

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class LogisticClassifier:
    """Standardised features, multinomial logistic regression with a firm ridge, softly balanced treatments.

    A cell of treatment t weighs ``π_t^-balance`` in training, π_t being the share of t among the training cells;
    the log-odds get ``balance · log π_t`` back (see :func:`psalm.core.calibration.fit_temperature`), so that
    probabilities refer to the observed frequencies.

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
            return FittedClassifier(OneTreatment(codes[:1]), np.zeros(n_treatments), n_treatments)
        weights = np.power(shares, -self.balance, where=shares > 0, out=np.zeros_like(shares))
        weights /= (weights * shares).sum()
        model = make_pipeline(
            StandardScaler(with_mean=not sparse.issparse(features)),
            LogisticRegression(C=self.C, max_iter=self.max_iter),
        )
        model.fit(features, codes, logisticregression__sample_weight=weights[codes])
        offset = self.balance * np.log(shares, where=shares > 0, out=np.zeros_like(shares))
        return FittedClassifier(model, offset, n_treatments)


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
        return FittedClassifier(model, np.zeros(n_treatments), n_treatments)


@dataclass(frozen=True)
class OneTreatment:
    """What can be learnt from cells of a single treatment: that there is no other."""

    classes_: IntArray  # (1,)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, 1) ones."""
        return np.ones((features.shape[0], 1))


Classifier = LogisticClassifier | EstimatorClassifier

CLASSIFIERS = {"logistic": LogisticClassifier}


@dataclass(frozen=True)
class FittedClassifier:
    """A fitted model and what must be added to its log-odds to restore the observed treatment frequencies."""

    model: Any
    offset: FloatArray  # (n_treatments,)
    n_treatments: int

    def log_probabilities(self, features: Matrix) -> FloatArray:
        """(n_cells, n_treatments); a treatment that the model never saw gets the lowest probability there is."""
        found = np.zeros((features.shape[0], self.n_treatments))
        found[:, np.asarray(self.model.classes_, dtype=int)] = self.model.predict_proba(features)
        return log_probabilities(found)
