"""Trained models with their calibration, and what they say together of cells that none of them has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.batch import adjust
from psalm.core.calibration import as_claimed
from psalm.core.log_odds import cap_certainty, centre

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.batch import BatchShift
    from psalm.core.calibration import Calibration
    from psalm.core.classifier import FittedClassifier


@dataclass(frozen=True)
class Member:
    """One model with what is done before and after it.

    Parameters
    ----------
    model
        Gives log-likelihoods.
    batch_shift
        What is taken from the features of each batch; None without batches.
    n_labelled
        How many cells the calibration rests on, for the certainty cap.
    calibration
        Learnt from cells that the model has not seen.
    """

    model: FittedClassifier
    batch_shift: BatchShift | None
    n_labelled: int
    calibration: Calibration = field(default_factory=as_claimed)

    def log_likelihood(self, features: Matrix, batches: IntArray | None) -> FloatArray:
        """What the model says (n_cells, n_treatments)."""
        return self.model.log_likelihood(adjust(features, batches, self.batch_shift))

    def calibrated(self, log_likelihood: FloatArray) -> FloatArray:
        """Calibrated, capped, centred log-odds of what the model said."""
        return centre(cap_certainty(self.calibration(log_likelihood, self.model.log_prior), self.n_labelled))

    def claimed(self, log_likelihood: FloatArray) -> FloatArray:
        """The same as the classifier claims it: neither calibrated nor capped."""
        return centre(as_claimed()(log_likelihood, self.model.log_prior))


@dataclass(frozen=True)
class Ensemble:
    """All models of a cross-fit, for cells that none of them has seen."""

    members: tuple[Member, ...]

    @property
    def n_treatments(self) -> int:
        """Number of columns of the scores."""
        return self.members[0].model.n_treatments

    def log_odds(self, features: Matrix, batches: IntArray | None = None) -> FloatArray:
        """Mean over the members (n_cells, n_treatments)."""
        total = np.zeros((features.shape[0], self.n_treatments))
        for member in self.members:
            total += member.calibrated(member.log_likelihood(features, batches))
        return total / len(self.members)
