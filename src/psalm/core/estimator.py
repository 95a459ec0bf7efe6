"""Any scikit-learn classifier as classifier of treatment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.classifier import FittedClassifier, OneTreatment, log_shares

if TYPE_CHECKING:
    from psalm.core._types import IntArray, Matrix


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
