"""How good is a match, where the truth is known. Every number is counted on the coupling's exact mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.cost import row_tiles
from psalm.core.coupling import TILE_BYTES, Block, Coupling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray


@dataclass(frozen=True)
class PairRanks:
    """Where each cell's true partner stands in the coupling, within the cell's treatment.

    Only source cells whose partner is matched in the same treatment are counted. Arrays are aligned.

    Parameters
    ----------
    source, target
        Positions of the true pairs.
    treatment
        Code of the pair's treatment.
    foscttm_source
        Fraction of the treatment's other target cells with more mass from the source cell than its partner;
        ties count one half. NaN where the partner is the only target cell.
    foscttm_target
        The same for the target cell, down the columns of the unnormalised block.
    trace
        Share of the source cell's mass that reaches its partner.
    lift
        Trace times the number of target cells of the block: 1 for a uniform coupling.
    recall
        Whether the partner is among the k target cells with most mass from the source cell; where it is tied with
        others for the last places, the probability that it is.
    recall_chance
        ``min(1, k / n)`` for n target cells of the block.
    """

    source: IntArray
    target: IntArray
    treatment: IntArray
    foscttm_source: FloatArray
    foscttm_target: FloatArray
    trace: FloatArray
    lift: FloatArray
    recall: FloatArray
    recall_chance: FloatArray

    @property
    def foscttm(self) -> FloatArray:
        """Mean of both directions; 0.5 is chance, 0 is perfect (Liu et al., WABI 2019)."""
        return (self.foscttm_source + self.foscttm_target) / 2


def pair_ranks(coupling: Coupling, partner: IntArray, k: int = 10) -> PairRanks:
    """Rank every true pair by its mass among all pairs of the same cell.

    Parameters
    ----------
    coupling
        The match.
    partner
        (n_source,) position of each source cell's true target cell; −1 where it has none.
    k
        Of recall.
    """
    parts = [_rank_block(block, partner, coupling.n_target, k) for block in coupling.blocks]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return PairRanks(*columns)


def _rank_block(block: Block, partner: IntArray, n_all_target: int, k: int) -> tuple[IntArray | FloatArray, ...]:
    """Fields of :class:`PairRanks` for one block."""
    place = np.full(n_all_target + 1, -1)
    place[block.target] = np.arange(len(block.target))
    columns = place[partner[block.source]]  # partner's position within the block
    rows = np.flatnonzero(columns >= 0)
    columns = columns[rows]
    true_mass, row_mass = _masses(block, rows, columns)
    above, tied, by_column = _ranks(block, rows, columns, true_mass)
    with np.errstate(invalid="ignore", divide="ignore"):
        trace = np.where(row_mass > 0, true_mass / row_mass, 0.0)
        foscttm_source = (above + (tied - 1) / 2) / (len(block.target) - 1)
        foscttm_target = by_column / (len(block.source) - 1)
    return (
        block.source[rows],
        block.target[columns],
        np.full(len(rows), block.treatment),
        foscttm_source,
        foscttm_target,
        trace,
        trace * len(block.target),
        np.clip((k - above) / tied, 0, 1),
        np.full(len(rows), min(1.0, k / len(block.target))),
    )


def _masses(block: Block, rows: IntArray, columns: IntArray) -> tuple[FloatArray, FloatArray]:
    """Mass of each true pair and of its whole row."""
    true_mass, row_mass = np.empty(len(rows)), np.empty(len(rows))
    for tile, mass in _tiles(block):
        here = (rows >= tile.start) & (rows < tile.stop)
        true_mass[here] = mass[rows[here] - tile.start, columns[here]]
        row_mass[here] = mass[rows[here] - tile.start].sum(axis=1)
    return true_mass, row_mass


def _ranks(
    block: Block, rows: IntArray, columns: IntArray, true_mass: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Along rows, target cells with more mass than the true pair and those with as much, itself among them.

    And down columns, rivals with more mass plus half of the ties.
    """
    above, tied, by_column = np.empty(len(rows)), np.empty(len(rows)), np.full(len(rows), -0.5)
    for tile, mass in _tiles(block):
        here = np.flatnonzero((rows >= tile.start) & (rows < tile.stop))
        own = mass[rows[here] - tile.start]
        above[here] = (own > true_mass[here, None]).sum(axis=1)
        tied[here] = (own == true_mass[here, None]).sum(axis=1)
        by_column += _above(mass[:, columns], true_mass, axis=0)
    return above, tied, by_column


def _above(mass: FloatArray, threshold: FloatArray, axis: int) -> FloatArray:
    return np.asarray((mass > threshold).sum(axis=axis) + (mass == threshold).sum(axis=axis) / 2)


def _tiles(block: Block) -> Iterator[tuple[slice, FloatArray]]:
    for tile in row_tiles(*block.plan.shape, TILE_BYTES):
        yield tile, block.plan.rows(tile)


@dataclass(frozen=True)
class SquaredErrors:
    """Squared error of the matched average and of the treatment mean, per scored source cell.

    Parameters
    ----------
    matched
        ``‖y_i − ŷ_i‖²`` with y the true partner's features and ŷ the matched average.
    treatment_mean
        ``‖y_i − ȳ_t(i)‖²`` with ȳ the mean over all target cells of the block, which a uniform coupling gives. The mean
        over the scored partners alone would have seen them: with few of them nothing else could be as near.
    total_mean
        ``‖y_i − ȳ‖²`` with ȳ the mean over the target cells of all blocks.
    """

    matched: FloatArray
    treatment_mean: FloatArray
    total_mean: FloatArray


def matched_average_errors(
    coupling: Coupling, ranks: PairRanks, features: FloatArray, average: FloatArray | None = None
) -> SquaredErrors:
    """Errors of predicting each true partner by the matched average.

    Parameters
    ----------
    coupling
        The match.
    ranks
        The true pairs.
    features
        (n_target, k) features of the target, in a fixed space.
    average
        (n_source, k) their matched averages, where they are at hand.
    """
    truth = features[ranks.target]
    average = (coupling.pull(features) if average is None else average)[ranks.source]
    means, every = np.empty_like(truth, dtype=np.float64), np.zeros(features.shape[1])
    n_target = sum(len(block.target) for block in coupling.blocks)
    for block in coupling.blocks:
        mean = features[block.target].mean(axis=0, dtype=np.float64)
        means[ranks.treatment == block.treatment] = mean
        every += mean * len(block.target) / n_target
    # a source cell without mass is predicted by its treatment's mean: no match, no information
    average = np.where(np.isnan(average), means, average)
    errors = (((truth - guess) ** 2).sum(axis=1) for guess in (average, means, every))
    return SquaredErrors(*errors)


def r_squared(errors: SquaredErrors) -> float:
    """``1 − Σ matched / Σ treatment_mean``, both pooled; NaN where the treatment mean is never wrong."""
    total = float(errors.treatment_mean.sum())
    return 1.0 - float(errors.matched.sum()) / total if total > 0 else float("nan")


def latent_errors(
    coupling: Coupling, source_latent: FloatArray, target_latent: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Squared distance of true latents between matched cells, and what a uniform coupling would give.

    Parameters
    ----------
    source_latent, target_latent
        (n_source, d), (n_target, d) true latents, in one space.

    Returns
    -------
    ``Σ_j G_ij ‖z_i − z_j‖² / Σ_j G_ij`` and ``mean_j ‖z_i − z_j‖²`` over the block, each (n_source,);
    NaN for unmatched cells.
    """
    centre = target_latent.mean(axis=0, dtype=np.float64)  # else latents far from 0 lose their distances to rounding
    source_latent, target_latent = source_latent - centre, target_latent - centre
    moments = np.column_stack([target_latent, (target_latent**2).sum(axis=1)])
    matched = coupling.pull(moments)
    uniform = np.full_like(matched, np.nan)
    for block in coupling.blocks:
        uniform[block.source] = moments[block.target].mean(axis=0)

    def distance(mean: FloatArray) -> FloatArray:
        inner = (source_latent * mean[:, :-1]).sum(axis=1)
        return np.asarray((source_latent**2).sum(axis=1) - 2 * inner + mean[:, -1])

    return distance(matched), distance(uniform)
