"""Logistic regression as classifier of treatment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.classifier import FittedClassifier, OneTreatment, log_shares

if TYPE_CHECKING:
    from psalm.core._types import IntArray, Matrix


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
