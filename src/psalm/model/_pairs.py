"""What CrossModal trains on: cells with matched averages, or with partners drawn from the match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.coupling import plan_tiles
from psalm.core.losses import N_DRAWS
from psalm.core.rows import LARGEST_CHUNK

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.rows import Rows
    from psalm.core.sampling import Sampler

EPOCHS_PER_DRAWING = 16
"""Partners are drawn for so many epochs at a time, so that a step only looks them up."""


@dataclass(frozen=True)
class Averages:
    """Moments of the target's features among the matches of each source cell.

    Parameters
    ----------
    mean
        (n_source, n_features); NaN where a cell is not matched.
    variance
        (n_source, n_features) at size one.
    size
        (n_source,) mean size factor.
    """

    mean: FloatArray
    variance: FloatArray
    size: FloatArray

    @classmethod
    def of(cls, coupling: Coupling, targets: Rows, size: FloatArray) -> Averages:
        """Moments under the exact plan, a tile at a time, in float32 with float64 sums of the mass."""
        shape = (coupling.n_source, targets.shape[1])
        mean, variance = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        sizes = np.full(coupling.n_source, np.nan, np.float32)
        for block in coupling.blocks:
            values, factor = targets.take(block.target), size[block.target].astype(np.float32)
            scaled = values / factor[:, None]
            centre = scaled.mean(axis=0)
            squares = (scaled - centre) ** 2
            for rows, mass in plan_tiles(block.plan):
                total = mass.sum(axis=1, dtype=np.float64)
                matched = total > 0
                cells = block.source[rows][matched]
                weights = (mass[matched] / total[matched, None]).astype(np.float32)
                mean[cells] = weights @ values
                shift = weights @ (scaled - centre)
                variance[cells] = np.maximum(weights @ squares - shift**2, 0)
                sizes[cells] = weights @ factor
        return cls(mean, variance, sizes)


@dataclass
class Pairs:
    """Cells to train on.

    Parameters
    ----------
    loss
        One of ``psalm.core.losses.LOSSES``.
    inputs, targets
        Features of source (n_source, ...) and target (n_target, n_features).
    size
        (n_target,) size factors.
    items
        Sorted positions of the cells that epochs run over: target cells of "unbiased", else source cells.
    treatment
        Row of each such cell's treatment in the table of means, by position; −1 for cells without.
    source_treatment
        (n_source,) the same of source cells.
    means, counts
        (n_treatments, n_features) means of the target's features at size one, by the cells' mass, and numbers of cells.
    averages
        Of "barycentric".
    sampler
        Draws partners of the items.
    seed
        Of the draws.
    """

    loss: str
    inputs: Rows
    targets: Rows
    size: FloatArray
    items: IntArray
    treatment: IntArray
    source_treatment: IntArray
    means: FloatArray
    counts: FloatArray
    averages: Averages | None
    sampler: Sampler
    seed: int
    _bank: tuple[int, IntArray] | None = field(default=None, repr=False)

    def partners(self, epoch: int) -> IntArray | None:
        """(n_cells, n_draws) cells drawn for every item, by position; epoch −1 is that of validation."""
        n_draws = N_DRAWS[self.loss]
        if n_draws == 0:
            return None
        number, place = divmod(epoch, EPOCHS_PER_DRAWING)
        if epoch < 0:
            return self._draw(n_draws, 0)
        if self._bank is None or self._bank[0] != number:
            self._bank = number, self._draw(n_draws * EPOCHS_PER_DRAWING, number + 1)
        return self._bank[1][:, place * n_draws : (place + 1) * n_draws]

    def _draw(self, n_draws: int, number: int) -> IntArray:
        rng = np.random.default_rng([self.seed, 1, number])
        return self.sampler.draw(np.arange(len(self.treatment)), n_draws, rng).astype(np.int32)


def pairs_of(
    loss: str,
    features: tuple[Rows, Rows],
    coupling: Coupling,
    target_cells: tuple[FloatArray, FloatArray | None],
    treatments: IntArray,
    seed: int,
) -> Pairs:
    """Training cells of a loss.

    Parameters
    ----------
    loss
        One of ``psalm.core.losses.LOSSES``.
    features
        Of source and target.
    coupling
        Blocks to train on.
    target_cells
        (n_target,) size factors, and weights in the means of treatments; None: all the same.
    treatments
        Number of each block's treatment; those of strata share one.
    seed
        Of the draws.
    """
    (inputs, targets), (size, mass) = features, target_cells
    weight = np.ones(len(size)) if mass is None else mass
    means, counts, row = _treatment_means(targets, coupling, size, treatments, weight)
    by_target = loss == "unbiased"
    n_cells = coupling.n_target if by_target else coupling.n_source
    treatment, source_treatment = np.full(n_cells, -1), np.full(coupling.n_source, -1)
    for block, place in zip(coupling.blocks, row, strict=True):
        treatment[block.target if by_target else block.source] = place
        source_treatment[block.source] = place
    averages = Averages.of(coupling, targets, size) if loss == "barycentric" else None
    sampler = (coupling if by_target else coupling.transpose).sampler()
    matched = sampler.draw(np.arange(n_cells), 1, np.random.default_rng(seed))[:, 0] >= 0
    if averages is not None:
        matched &= ~np.isnan(averages.size)
    items = np.flatnonzero(matched)
    return Pairs(
        loss, inputs, targets, size, items, treatment, source_treatment, means, counts, averages, sampler, seed
    )


def _treatment_means(
    targets: Rows, coupling: Coupling, size: FloatArray, treatments: IntArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Mean of every treatment's target cells at size one, their number, and the row of each block among them."""
    used, row = np.unique(treatments, return_inverse=True)
    total, mass, count = np.zeros((len(used), targets.shape[1])), np.zeros(len(used)), np.zeros(len(used))
    for block, place in zip(coupling.blocks, row, strict=True):
        for start in range(0, len(block.target), LARGEST_CHUNK):
            cells = block.target[start : start + LARGEST_CHUNK]
            total[place] += (targets.take(cells) * (weight[cells] / size[cells])[:, None]).sum(axis=0, dtype=np.float64)
        mass[place] += weight[block.target].sum()
        count[place] += len(block.target)
    return (total / mass[:, None]).astype(np.float32), count, row
