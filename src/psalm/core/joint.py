"""Scores of all modalities, in one space: the same columns, the same prior, and where compressed the same basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.compression import find_basis
from psalm.core.scoring import Reference, Scores, log_shares_of_levels, sample, score_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.compression import Basis
    from psalm.core.cross_fit import CrossFit
    from psalm.core.diagnostics import Tallies
    from psalm.core.layout import Layout
    from psalm.core.propensity import Propensity

    Progress = Callable[[int, str, str], AbstractContextManager[Callable[[int], object]]]

BASIS_ENTRIES = 2**23
"""Log-odds of each modality that a basis is learnt from at most."""


@dataclass(frozen=True)
class Cells:
    """The cells of one modality, and how to score them.

    Parameters
    ----------
    features
        (n_cells, n_features), dense or CSR; for some classifiers an array of more dimensions.
    codes
        (n_cells,) treatment of each cell, −1 for none.
    groups, batches
        (n_cells,) or None: see :class:`psalm.core.cross_fit.CrossFit`.
    cross_fit
        How.
    """

    features: Matrix
    codes: IntArray
    groups: IntArray | None
    batches: IntArray | None
    cross_fit: CrossFit


@dataclass(frozen=True)
class Space:
    """What scores of all modalities have in common.

    Parameters
    ----------
    layout
        What the columns of log-odds are.
    control
        Position of the control among the treatments, if there is one.
    shares
        Per modality, the treatment frequencies (n_treatments,) that its log-odds are to refer to.
    compress_above, distance_error
        Number of columns above which scores are compressed, and how far.
    """

    layout: Layout
    control: int | None
    shares: Mapping[str, FloatArray]
    compress_above: int
    distance_error: float

    def reference(self, name: str) -> Reference:
        """What responses of a modality are measured against."""
        return Reference(self.layout.log_prior(self.shares[name]), self.control)


@dataclass(frozen=True)
class Joint:
    """Scores of all modalities.

    Parameters
    ----------
    codes
        Per modality, (n_cells,) treatment of each cell.
    parts
        Per modality and factor, the cross-fit.
    shifts
        Per modality, what its log-odds were moved by (n_columns,).
    basis
        Of the coordinates, where scores are compressed.
    scores
        Per modality, as they are kept.
    tallies
        Per modality and factor, what was counted.
    """

    codes: Mapping[str, IntArray]
    parts: Mapping[str, list[Propensity]]
    shifts: Mapping[str, FloatArray]
    basis: Basis | None
    scores: Mapping[str, Scores]
    tallies: Mapping[str, tuple[Tallies, ...]]


def frequencies(codes: IntArray, n_treatments: int) -> FloatArray:
    """Share of each treatment among the cells that have one (n_treatments,)."""
    counts = np.bincount(codes[codes >= 0], minlength=n_treatments)
    return np.asarray(counts / counts.sum())


def score_jointly(
    cells: Mapping[str, Cells], space: Space, rng: np.random.Generator, *, n_jobs: int | None, progress: Progress
) -> Joint:
    """Cross-fit every modality with folds of its own, then score every cell.

    Parameters
    ----------
    cells
        Per modality.
    space
        What scores have in common.
    rng
        Source of folds and samples.
    n_jobs
        Folds trained at a time.
    progress
        Opens a bar, given its length, name and unit.
    """
    streams = dict(zip(cells, rng.spawn(len(cells)), strict=True))
    parts = {
        name: _cross_fit(name, modality, space.layout, streams[name], n_jobs=n_jobs, progress=progress)
        for name, modality in cells.items()
    }
    shifts = {
        name: log_shares_of_levels(space.layout, space.shares[name])
        - log_shares_of_levels(space.layout, frequencies(modality.codes, len(space.shares[name])))
        for name, modality in cells.items()
    }
    basis = None
    if space.layout.n_columns > space.compress_above:
        basis = _common_basis(cells, space, parts, shifts, rng)
    codes = {name: modality.codes for name, modality in cells.items()}
    scores = {name: Scores(space.layout, basis, space.reference(name), code) for name, code in codes.items()}
    tallies = {}
    for name, found in parts.items():
        with progress(len(codes[name]), f"scores of {name}", "cell") as tick:
            tallies[name] = score_all(found, shifts[name], scores[name], tick)
    return Joint(codes, parts, shifts, basis, scores, tallies)


def _cross_fit(
    name: str, cells: Cells, layout: Layout, rng: np.random.Generator, *, n_jobs: int | None, progress: Progress
) -> list[Propensity]:
    """One cross-fit per factor; a single factor has the modality's stream for itself."""
    fit, factors = cells.cross_fit, layout.factors
    streams = [rng] if len(factors) == 1 else rng.spawn(len(factors))
    with progress(fit.n_models * len(factors), f"propensity of {name}", "model") as tick:
        return [
            fit(
                cells.features,
                factor.codes(cells.codes),
                len(factor.levels),
                stream,
                groups=cells.groups,
                batches=cells.batches,
                n_jobs=n_jobs,
                tick=lambda: tick(1),
            )
            for factor, stream in zip(factors, streams, strict=True)
        ]


def _common_basis(
    cells: Mapping[str, Cells],
    space: Space,
    parts: Mapping[str, list[Propensity]],
    shifts: Mapping[str, FloatArray],
    rng: np.random.Generator,
) -> Basis:
    """A basis for all modalities, from as many cells of each as fit a portion."""
    n_cells = max(100, BASIS_ENTRIES // space.layout.n_columns)
    samples, codes = [], []
    for name, found in parts.items():
        log_odds, chosen = sample(space.layout, found, shifts[name], n_cells, rng)
        samples.append(log_odds)
        codes.append(cells[name].codes[chosen])
    return find_basis(np.vstack(samples), np.concatenate(codes), space.distance_error, space.compress_above, rng)
