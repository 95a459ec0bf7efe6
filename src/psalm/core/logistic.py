"""Logistic regression as classifier of treatment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from psalm.core.classifier import FittedClassifier, OneTreatment, log_shares, shares, with_weight

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class LogisticClassifier:
    """Standardised features, multinomial logistic regression with a firm ridge, softly balanced treatments.

    A cell of treatment t weighs ``π_t^-balance`` in training, π_t being the share of t among the training cells, times
    its own weight where weights are given.

    Parameters
    ----------
    C
        Inverse strength of the ridge, as in scikit-learn.
        Firm by default: the score is to locate a cell between treatments, which correlated features do better together
        than the few that separate the treatments best.
    balance
        0: every cell weighs the same; 1: every treatment weighs the same; 0.5: in between.
    max_iter
        Upper bound of solver iterations, up to ``max_logits``.
    max_logits
        Training cells times treatments up to which scikit-learn fits to convergence, with several float64 matrices of
        this size at hand. Beyond, torch minimises the same loss in minibatches, which is faster, needs no such matrix,
        and comes within half a percent of the held-out loss.
    device
        Of the minibatches: "auto" (CUDA where there is one, else CPU), or a torch device.
    standardise
        Give each feature mean zero and variance one first.
    """

    deterministic: ClassVar[bool] = True

    C: float = 0.03
    balance: float = 0.5
    max_iter: int = 1000
    max_logits: int = 20_000_000
    device: str = "auto"
    standardise: bool = True

    def fit(
        self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0, weights: FloatArray | None = None
    ) -> FittedClassifier:
        """Fit on (n_cells, n_features), (n_cells,) and, maybe, weights (n_cells,).

        Up to ``max_logits`` nothing is random.
        """
        features, codes, weights = with_weight(features, codes, weights)
        log_prior = log_shares(codes, n_treatments, weights)
        if (codes == codes[0]).all():
            return FittedClassifier(OneTreatment(codes[:1]), log_prior)
        of_cell = self._weights(codes, n_treatments, weights)
        if len(codes) * n_treatments <= self.max_logits:
            model = self._fit_exactly(features, codes, of_cell)
        else:
            from psalm.core.linear import fit_linear

            model = fit_linear(
                (features, codes, of_cell), 1 / (self.C * len(codes)), self.device, seed, standardise=self.standardise
            )
        return FittedClassifier(model, log_prior, 1 - self.balance)

    def _weights(self, codes: IntArray, n_treatments: int, weights: FloatArray | None) -> FloatArray:
        """Weight of each cell (n_cells,), mean one."""
        found = shares(codes, n_treatments, weights)
        of_treatment = np.power(found, -self.balance, where=found > 0, out=np.zeros_like(found))
        of_treatment /= (of_treatment * found).sum()
        return np.asarray(of_treatment[codes] if weights is None else of_treatment[codes] * weights)

    def _fit_exactly(self, features: Matrix, codes: IntArray, weights: FloatArray) -> Any:
        from scipy import sparse
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=self.C, max_iter=self.max_iter)
        if not self.standardise:
            return regression.fit(features, codes, sample_weight=weights)
        model = make_pipeline(StandardScaler(with_mean=not sparse.issparse(features)), regression)
        return model.fit(features, codes, logisticregression__sample_weight=weights)
