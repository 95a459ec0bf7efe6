"""Any scikit-learn classifier as classifier of treatment."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.classifier import FittedClassifier, OneTreatment, log_shares

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix


@dataclass(frozen=True)
class EstimatorClassifier:
    """Any scikit-learn classifier with ``predict_proba``; cloned for every fold, fitted as it is.

    Pipelines and skorch networks are such classifiers. A network gets float32 features, and learns of all treatments.

    Parameters
    ----------
    estimator
        Never fitted itself.
    """

    estimator: Any

    def fit(
        self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0, weights: FloatArray | None = None
    ) -> FittedClassifier:
        """Fit a clone on (n_cells, n_features) and (n_cells,); a ``random_state`` of None becomes ``seed``.

        Weights (n_cells,) are passed as ``sample_weight``.

        Raises
        ------
        TypeError
            There are weights, and the estimator takes none.
        """
        from sklearn.base import clone

        log_prior = log_shares(codes, n_treatments, weights)
        options = {} if weights is None else {weight_name(self.estimator): weights}
        model = clone(self.estimator)
        free = [name for name, value in model.get_params().items() if name.endswith("random_state") and value is None]
        model.set_params(**dict.fromkeys(free, seed))
        if (codes == codes[0]).all():
            return FittedClassifier(OneTreatment(codes[:1]), log_prior)
        if is_network(model):
            model = SinglePrecision(_with_classes(model, n_treatments))
        with _seeded(seed) if isinstance(model, SinglePrecision) else nullcontext():
            model.fit(features, np.asarray(codes, dtype=np.int64), **options)
        return FittedClassifier(model, log_prior)


@dataclass(frozen=True)
class SinglePrecision:
    """A classifier that takes float32 only, as torch networks do."""

    model: Any

    def fit(self, features: Matrix, codes: IntArray, **options: Any) -> Any:
        """Fit the model."""
        return self.model.fit(features.astype(np.float32), codes, **options)

    @property
    def classes_(self) -> IntArray:
        """The model's."""
        return np.asarray(self.model.classes_)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, n_classes) probabilities."""
        with _seeded(0):  # a data loader draws from torch's stream even where nothing is random
            return np.asarray(self.model.predict_proba(features.astype(np.float32)), dtype=np.float64)


def last_step(estimator: Any) -> tuple[str, Any]:
    """Prefix of the parameters of what classifies, and what classifies: a pipeline's end, or the estimator itself."""
    from sklearn.pipeline import Pipeline

    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def weight_name(estimator: Any) -> str:
    """By what name the estimator's ``fit`` takes the weights of the cells.

    Raises
    ------
    TypeError
        It takes none.
    """
    from sklearn.utils.validation import has_fit_parameter

    prefix, last = last_step(estimator)
    if not has_fit_parameter(last, "sample_weight"):
        msg = (
            f"Training cells have weights, because batches differ in their treatments, but {type(last).__name__} takes "
            "no `sample_weight` in `fit`. Pass a classifier that does ('logistic', 'mlp', 'image', most of "
            "scikit-learn), or leave the batches out."
        )
        raise TypeError(msg)
    return f"{prefix}sample_weight"


def is_network(estimator: Any) -> bool:
    """Whether it is a skorch network, or a pipeline that ends in one. Does not load skorch: a network has."""
    skorch = sys.modules.get("skorch")
    return skorch is not None and isinstance(last_step(estimator)[1], skorch.NeuralNet)


def _with_classes(estimator: Any, n_treatments: int) -> Any:
    """The network has an output for every treatment, also for those that training lacks."""
    prefix, last = last_step(estimator)
    if last.classes is not None:
        return estimator
    return estimator.set_params(**{f"{prefix}classes": np.arange(n_treatments)})


def _seeded(seed: int) -> AbstractContextManager[None]:
    from psalm.core.minibatch import reproducible

    return reproducible(seed)
