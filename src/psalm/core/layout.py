"""What the columns of a score matrix are: the levels of one or more factors, each with probabilities of its own.

Most designs have one factor, the treatment. In a factorial design (drug and dose, pairs of knockouts) each factor has
a classifier of its own, and a treatment is one level of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.log_odds import normalised

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray


@dataclass(frozen=True)
class Factor:
    """Something that treatments differ in.

    Parameters
    ----------
    name
        "" where the treatment itself is the only factor.
    levels
        Names of its levels, the columns of its scores.
    of_treatment
        (n_treatments,) level of each treatment.
    """

    name: str
    levels: tuple[str, ...]
    of_treatment: IntArray

    def codes(self, treatments: IntArray) -> IntArray:
        """Level of each cell, given its treatment; −1 stays −1."""
        return np.asarray(np.append(self.of_treatment, -1)[treatments])


@dataclass(frozen=True)
class Layout:
    """The columns of a score matrix, factor after factor."""

    factors: tuple[Factor, ...]

    @property
    def n_columns(self) -> int:
        """Width of the scores."""
        return sum(len(factor.levels) for factor in self.factors)

    @property
    def names(self) -> list[str]:
        """Name of each column: the treatment, or ``factor=level``."""
        return [f"{f.name}={level}" if f.name else level for f in self.factors for level in f.levels]

    @property
    def columns(self) -> list[slice]:
        """The columns of each factor."""
        ends = np.cumsum([len(factor.levels) for factor in self.factors]).tolist()
        return [slice(end - len(factor.levels), end) for factor, end in zip(self.factors, ends, strict=True)]

    def log_probability(self, log_odds: FloatArray, treatments: IntArray) -> FloatArray:
        """Log-probability of one treatment per cell (n_cells,): the product over factors of its level's probability.

        Parameters
        ----------
        log_odds
            (n_cells, n_columns), each factor's columns up to a constant per cell.
        treatments
            (n_cells,) which treatment.
        """
        total, rows = np.zeros(len(log_odds)), np.arange(len(log_odds))
        for factor, columns in zip(self.factors, self.columns, strict=True):
            log_p = normalised(log_odds[:, columns])
            total += log_p[rows, factor.of_treatment[treatments]]
        return total

    def log_prior(self, shares: FloatArray) -> FloatArray:
        """What :meth:`log_probability` would be of every treatment if cells said nothing (n_treatments,).

        Parameters
        ----------
        shares
            (n_treatments,) frequencies that the scores refer to.
        """
        total = np.zeros(len(shares))
        for factor in self.factors:
            of_level = np.bincount(factor.of_treatment, weights=shares, minlength=len(factor.levels))
            total += np.log(of_level)[factor.of_treatment]
        return total


def one_factor(treatments: tuple[str, ...]) -> Layout:
    """The layout in which every treatment is a level."""
    return Layout((Factor("", treatments, np.arange(len(treatments))),))
