"""Trained models with their calibration, and what they say together of cells that none of them has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.batch import adjust
from psalm.core.calibration import as_claimed
from psalm.core.log_odds import cap_certainty, centre

if TYPE_CHECKING:
    from collections.abc import Callable

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
    log_prior
        (n_treatments,) logarithm of the treatment frequencies that its probabilities are to refer to: those of all
        labelled cells, the same for all members. Those of its training cells would tell which cells it has not seen.
    calibration
        Learnt from cells that the model has not seen.
    """

    model: FittedClassifier
    batch_shift: BatchShift | None
    n_labelled: int
    log_prior: FloatArray
    calibration: Calibration = field(default_factory=as_claimed)

    def log_likelihood(self, features: Matrix, batches: IntArray | None) -> FloatArray:
        """What the model says (n_cells, n_treatments)."""
        return self.model.log_likelihood(adjust(features, batches, self.batch_shift))

    def calibrated(self, log_likelihood: FloatArray) -> FloatArray:
        """Calibrated, capped, centred log-odds of what the model said."""
        return centre(cap_certainty(self.calibration(log_likelihood, self.log_prior), self.n_labelled))

    def claimed(self, log_likelihood: FloatArray) -> FloatArray:
        """The same as the classifier claims it: neither calibrated nor capped."""
        return centre(as_claimed()(log_likelihood, self.log_prior))


@dataclass(frozen=True)
class Estimate:
    """What an ensemble says of some cells.

    Parameters
    ----------
    log_odds
        Centred log-odds (n_cells, n_treatments), calibrated and capped.
    noise
        (n_cells,) error variance of ``log_odds``, summed over treatments, by the jackknife: members of one repeat are
        trained without one of its folds each (Shao and Wu, 1989). What the seed does averages out over the members.
        NaN with one repeat.
    error
        (n_cells, n_treatments) one draw of that error, of variance ``noise`` in all and uncorrelated with it: the
        members without a fold of the first half against those without one of the second. NaN as ``noise``.
    """

    log_odds: FloatArray
    noise: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class Ensemble:
    """All models of a cross-fit, for cells that none of them has seen.

    Parameters
    ----------
    members
        One repeat after the other.
    sizes
        Number of members of each repeat.
    left_out
        Share of the labelled cells that a member is not trained on: one fold, and where treatments have no multiple of
        the number of folds up to a cell more of each.
    chance
        Share of the variance between repeats that comes from the classifier's seed.
    """

    members: tuple[Member, ...]
    sizes: tuple[int, ...]
    left_out: float
    chance: float = 0.0

    @property
    def n_treatments(self) -> int:
        """Number of columns of the scores."""
        return self.members[0].model.n_treatments

    @property
    def jackknife(self) -> float:
        """Error variance over the variance of members around what all labelled cells would give: K − 1 for K folds."""
        return (1 - self.left_out) / self.left_out

    def log_odds(self, features: Matrix, batches: IntArray | None = None) -> FloatArray:
        """Mean over the members (n_cells, n_treatments)."""
        return self.estimate(features, batches).log_odds

    def estimate(
        self, features: Matrix, batches: IntArray | None = None, tick: Callable[[], object] = lambda: None
    ) -> Estimate:
        """Mean over the members, and how far it may be off; ``tick`` is called after each member."""
        n_cells, n_members = features.shape[0], len(self.members)
        mean, error = np.zeros((2, n_cells, self.n_treatments))
        squares = np.zeros(n_cells)
        weights = np.concatenate([halves(size) for size in self.sizes]) / np.sqrt(len(self.sizes))
        for member, weight in zip(self.members, weights, strict=True):
            said = member.calibrated(member.log_likelihood(features, batches))
            mean += said / n_members
            squares += (said**2).sum(axis=1) / n_members
            error += weight * said
            tick()
        if len(self.sizes) == 1:
            return Estimate(mean, np.full(n_cells, np.nan), np.full_like(error, np.nan))
        n_folds = max(self.sizes)
        factor = self.jackknife * (1 - self.chance) + self.chance / n_members
        of_error = n_folds / (n_folds - 1) * (1 - self.chance) + self.chance  # folds of a repeat: complements
        noise = np.maximum(squares - (mean**2).sum(axis=1), 0.0) * factor
        return Estimate(mean, noise, error * np.sqrt(factor / of_error))


def halves(n: int) -> FloatArray:
    """Weights (n,) of estimates in the difference of their halves' means, which has the variance of one."""
    first = np.arange(n) < (n + 1) // 2
    sizes = int(first.sum()), max(1, int((~first).sum()))
    weights = np.where(first, 1 / sizes[0], -1 / sizes[1])
    return np.asarray(weights / np.sqrt(1 / sizes[0] + 1 / sizes[1]))
