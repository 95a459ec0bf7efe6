"""Scores of all cells of one modality in the form in which they are kept, some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from psalm.core.diagnostics import Tallies
from psalm.core.log_odds import change_prior
from psalm.core.propensity import CHUNK_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.compression import Basis
    from psalm.core.ensemble import Ensemble
    from psalm.core.layout import Layout
    from psalm.core.propensity import Propensity


@dataclass(frozen=True)
class Reference:
    """What a response is measured against.

    Parameters
    ----------
    log_prior
        (n_treatments,) log-frequencies that log-odds refer to: :meth:`psalm.core.layout.Layout.log_prior`.
    control
        Position of the control among the treatments, if there is one.
    """

    log_prior: FloatArray
    control: int | None


class Scores:
    """Scores of one modality as they are kept, filled some rows at a time.

    Parameters
    ----------
    layout
        What the columns of log-odds are.
    basis
        Keep coordinates in it instead of log-odds.
    reference
        For responses.
    codes
        (n_cells,) treatment of each cell, −1 for none.
    """

    def __init__(self, layout: Layout, basis: Basis | None, reference: Reference, codes: IntArray) -> None:
        width = layout.n_columns if basis is None else len(basis.loadings)
        self.layout, self.basis, self.reference, self.codes = layout, basis, reference, codes
        self.values = np.empty((len(codes), width), dtype=np.float32)
        self.own, self.response, self.noise = np.full((3, len(codes)), np.nan)
        self.error: FloatArray | None = None

    def fill(
        self, cells: IntArray, log_odds: FloatArray, noise: FloatArray | None = None, error: FloatArray | None = None
    ) -> None:
        """Keep log-odds (n_rows, n_columns) of some cells, their own probability and response, their noise and error.

        Errors that are nowhere known are not kept.
        """
        if noise is not None:
            self.noise[cells] = noise
        if error is not None and not np.isnan(error).all():
            if self.error is None:
                self.error = np.full_like(self.values, np.nan)
            kept = error if self.basis is None else self.basis.turn(error)
            self.error[cells] = kept
            squares, all_squares = (kept**2).sum(axis=1), (error**2).sum(axis=1)
            share = np.divide(squares, all_squares, out=np.ones(len(cells)), where=all_squares > 0)
            self.noise[cells] *= share  # noise is that of the scores as they are kept, as epsilon compares it
        self.values[cells] = log_odds if self.basis is None else self.basis.compress(log_odds)
        self.own[cells], self.response[cells] = own_and_response(
            self.layout, log_odds, self.codes[cells], self.reference
        )

    def even_error(self) -> None:
        """Scale the draw of the error so that its squares add up to the noise.

        For where all cells share one draw, whose size is a matter of chance.
        """
        if self.error is None:
            return
        squares = float(np.einsum("ij,ij->", self.error, self.error, dtype=np.float64))
        if squares > 0:
            self.error *= np.sqrt(self.noise.sum() / squares)


def log_shares_of_levels(layout: Layout, shares: FloatArray) -> FloatArray:
    """Log-frequency of each column's level (n_columns,), from the frequencies of treatments."""
    return np.concatenate(
        [np.log(np.bincount(f.of_treatment, weights=shares, minlength=len(f.levels))) for f in layout.factors]
    )


def shifted(layout: Layout, parts: Sequence[FloatArray], shift: FloatArray) -> FloatArray:
    """Log-odds of all factors side by side (n_cells, n_columns), moved to another prior.

    Parameters
    ----------
    layout
        The factors.
    parts
        Per factor, centred log-odds (n_cells, n_levels).
    shift
        (n_columns,) see :func:`psalm.core.log_odds.change_prior`.
    """
    return np.hstack([change_prior(part, shift[columns]) for part, columns in zip(parts, layout.columns, strict=True)])


def sample(
    layout: Layout, parts: Sequence[Propensity], shift: FloatArray, n_cells: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Log-odds of some random cells, to find a basis from, and which cells."""
    n_all = len(parts[0].codes)
    cells = np.sort(rng.choice(n_all, min(n_cells, n_all), replace=False))
    return shifted(layout, [part.rows(cells).log_odds for part in parts], shift), cells


def score_all(
    parts: Sequence[Propensity],
    shift: FloatArray,
    scores: Scores,
    tick: Callable[[int], object] = lambda _: None,
) -> tuple[Tallies, ...]:
    """Score and tally every cell.

    Parameters
    ----------
    parts
        Per factor, the cross-fit.
    shift
        (n_columns,) to the prior wanted.
    scores
        Filled in place.
    tick
        Called with the number of cells of each finished portion.

    Returns
    -------
    What was counted, per factor, before the prior was changed.
    """
    tallies = tuple(Tallies.of(part.n_treatments) for part in parts)
    widest = max(parts, key=lambda part: part.n_treatments)
    for cells in widest.chunks():
        rows = [part.rows(cells) for part in parts]
        for part, row, tally in zip(parts, rows, tallies, strict=True):
            tally.after.add(row.log_odds, part.codes[cells])
            tally.before.add(row.uncalibrated, part.codes[cells])
        noise, error = np.sum([row.noise for row in rows], axis=0), np.hstack([row.error for row in rows])
        scores.fill(cells, shifted(scores.layout, [row.log_odds for row in rows], shift), noise, error)
        tick(len(cells))
    return tallies


def score_new(
    ensembles: Sequence[Ensemble],
    features: Matrix,
    batches: IntArray | None,
    shift: FloatArray,
    scores: Scores,
    progress: Callable[[int], AbstractContextManager[Callable[[], object]]],
) -> None:
    """Score cells that no model has seen.

    Parameters
    ----------
    ensembles
        Per factor.
    features, batches
        (n_cells, n_features); batch of each cell as numbered in training, or None.
    shift
        (n_columns,) to the prior wanted.
    scores
        Filled in place.
    progress
        Opened with how often a model will score a portion of the cells; what it gives is called after each.
    """
    n_cells = features.shape[0]
    size = max(1, CHUNK_ENTRIES // scores.layout.n_columns)
    portions = [np.arange(start, min(start + size, n_cells)) for start in range(0, n_cells, size)]
    with progress(len(portions) * sum(len(ensemble.members) for ensemble in ensembles)) as tick:
        for cells in portions:
            batch = None if batches is None else batches[cells]
            parts = [ensemble.estimate(features[cells], batch, tick) for ensemble in ensembles]
            noise, error = np.sum([part.noise for part in parts], axis=0), np.hstack([part.error for part in parts])
            scores.fill(cells, shifted(scores.layout, [part.log_odds for part in parts], shift), noise, error)
    scores.even_error()


def own_and_response(
    layout: Layout, log_odds: FloatArray, codes: IntArray, reference: Reference
) -> tuple[FloatArray, FloatArray]:
    """Probability of the own treatment, and of having responded to it; NaN for cells without a treatment.

    The response compares the cell's treatment with the control (without a control: with all other treatments) at even
    prior odds: 0.5 says that the cell looks as much like the one as like the other. NaN for control cells.

    Parameters
    ----------
    layout
        The factors.
    log_odds
        (n_cells, n_columns).
    codes
        (n_cells,) treatment of each cell, −1 for none.
    reference
        Prior and control.
    """
    own, response = np.full((2, len(codes)), np.nan)
    labelled = np.flatnonzero(codes >= 0)
    found, treatments = log_odds[labelled], codes[labelled]
    log_p, log_prior, control = layout.log_probability(found, treatments), reference.log_prior, reference.control
    own[labelled] = np.exp(log_p)
    if control is None:
        evidence = _logit(log_p) - _logit(log_prior[treatments])
    else:
        against = layout.log_probability(found, np.full(len(labelled), control))
        evidence = log_p - log_prior[treatments] - (against - log_prior[control])
        evidence[treatments == control] = np.nan
    response[labelled] = expit(evidence)
    return own, response


def _logit(log_p: FloatArray) -> FloatArray:
    """Log-odds of log-probabilities, which may be zero by rounding."""
    return np.asarray(log_p - np.log(-np.expm1(np.minimum(log_p, -1e-15))))
