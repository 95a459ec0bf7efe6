"""Classifiers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psalm.core import device, files
from psalm.core.estimator import EstimatorClassifier, is_network, last_step
from psalm.core.kernel import KernelClassifier
from psalm.core.logistic import LogisticClassifier

if TYPE_CHECKING:
    from psalm.core.classifier import Classifier

CLASSIFIERS = ("kernel", "logistic", "mlp", "image")
DEFAULT = "kernel"


def as_classifier(choice: Any, *, equal_scales: bool = False) -> Classifier:
    """The classifier behind a name, around a scikit-learn estimator, or the object itself where it is one of psalm's.

    Parameters
    ----------
    choice
        One of :data:`CLASSIFIERS`, an estimator with ``predict_proba``, or an object of :mod:`psalm.core`.
    equal_scales
        Features are in units of their own, which "kernel" must bring to one scale.

    Raises
    ------
    ValueError
        Unknown name.
    TypeError
        The object predicts no probabilities, or is a class.
    """
    if isinstance(choice, str):
        return _by_name(choice, equal_scales=equal_scales)
    if isinstance(choice, type):
        msg = f"`classifier` is the class {choice.__name__}. Pass an object of it: `{choice.__name__}(…)`."
        raise TypeError(msg)
    if type(choice).__module__.startswith("psalm.core."):
        found: Classifier = choice
        return found
    if not (hasattr(choice, "predict_proba") and hasattr(choice, "fit")):
        msg = (
            f"`classifier` is {type(choice).__name__}, which has no `fit` and `predict_proba`. Pass one of "
            f"{', '.join(map(repr, CLASSIFIERS))} or a scikit-learn classifier that predicts probabilities (wrap "
            "others in `sklearn.calibration.CalibratedClassifierCV`)."
        )
        raise TypeError(msg)
    return EstimatorClassifier(choice)


def require_device(choice: Any) -> None:
    """Refuse a classifier of psalm's, or a network of skorch's, whose device is not there, before it is trained.

    Raises
    ------
    ValueError
        Says which devices there are.
    """
    if is_network(choice):
        found = last_step(choice)[1].device
        if found is not None:
            device.require(str(found), f"{type(choice).__name__}(device=)")
    elif type(choice).__module__.startswith("psalm.core.") and hasattr(choice, "device"):
        device.require(choice.device, f"{type(choice).__name__}(device=)")


def require_writable(choice: Any) -> None:
    """Refuse a classifier whose models could not be written to a file, before they are trained.

    Raises
    ------
    TypeError
        Says why.
    """
    if is_network(choice):
        msg = (
            "Files of models hold no networks of other packages, as reading these would run code from the file. Use "
            '"mlp" or "image", or score new cells in the same session.'
        )
        raise TypeError(msg)
    files.require_writable(choice)


def _by_name(name: str, *, equal_scales: bool) -> Classifier:
    if name == "kernel":
        return KernelClassifier(equal_scales=equal_scales)
    if name == "logistic":
        return LogisticClassifier()
    if name == "mlp":
        from psalm.core.mlp import PerceptronClassifier

        return PerceptronClassifier()
    if name == "image":
        from psalm.core.image import ImageClassifier

        return ImageClassifier()
    msg = f"`classifier={name!r}` is not known. Pass one of {', '.join(map(repr, CLASSIFIERS))}."
    raise ValueError(msg)
