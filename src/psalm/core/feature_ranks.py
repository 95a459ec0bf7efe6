"""Where the true partner stands by its distance from the matched average, in a space that all methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from psalm.core.cost import row_tiles
from psalm.core.coupling import TILE_BYTES

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Block, Coupling
    from psalm.core.metrics import PairRanks

TIED = 1e-9
"""Distances that differ by no more than this share of the larger are ties: rounding decides nothing."""


def feature_ranks(coupling: Coupling, ranks: PairRanks, features: FloatArray, average: FloatArray) -> FloatArray:
    """Fraction of cells closer than the true partner, mean of both directions, within the treatment (n_pairs,).

    From a source cell's matched average to the target cells of its block, and from its true partner to the matched
    averages of the block's source cells. Ties count one half, so that averages which are all the same score one half;
    so does a source cell without mass. NaN where there is no rival.

    Parameters
    ----------
    coupling
        The match.
    ranks
        The true pairs.
    features
        (n_target, k) of the target.
    average
        (n_source, k) matched averages; NaN where a cell has no mass.
    """
    found = np.full(len(ranks.source), np.nan)
    for block in coupling.blocks:
        here = np.flatnonzero(ranks.treatment == block.treatment)
        if len(here):
            found[here] = _block(block, ranks.source[here], ranks.target[here], features, average)
    return found


def _block(block: Block, source: IntArray, target: IntArray, features: FloatArray, average: FloatArray) -> FloatArray:
    forward = _closer(average[source], features[block.target], features[target])
    known = block.source[~np.isnan(average[block.source]).any(axis=1)]
    backward = _closer(features[target], average[known], average[source])
    both = [np.where(np.isnan(average[source]).any(axis=1), 0.5, values) for values in (forward, backward)]
    return np.asarray((both[0] + both[1]) / 2)


def _closer(points: FloatArray, cells: FloatArray, own: FloatArray) -> FloatArray:
    """Share of the other cells that are closer to each point than its own cell; NaN where there is no other."""
    found = np.full(len(points), np.nan)
    if len(cells) < 2:  # noqa: PLR2004, the own cell and a rival
        return found
    distance = np.sqrt(((points - own) ** 2).sum(axis=1))[:, None]
    for rows in row_tiles(len(points), len(cells), TILE_BYTES):
        rivals = cdist(points[rows], cells)
        margin = TIED * np.maximum(rivals, distance[rows])
        closer = (rivals < distance[rows] - margin).sum(axis=1)
        tied = (np.abs(rivals - distance[rows]) <= margin).sum(axis=1) - 1  # without the own cell
        found[rows] = (closer + tied / 2) / (len(cells) - 1)
    return found
