"""How soft a match should be: the ε at which the plan claims no closer relation than the scores can have.

No pair is used. Entropic transport between two clouds of scores makes them correlated: the more, the smaller ε. For
Gaussian scores the best plan, the density ratio of true pairs, is the one whose correlation is that of true pairs. How
large this can be is estimated per block as a product of three factors in [0, 1],

    κ = reliability · attainable · agreement²,

and ε is where the plan's correlation is κ.

reliability
    ``√(r_s r_t)``, r one minus the share of a cell's score variance within the block that is error of estimation. The
    errors of two modalities are independent, so they attenuate a correlation by this factor (Spearman, 1904). The error
    comes from how much a cell's scores differ between repeats of cross-fitting, by the delete-a-group jackknife.
attainable
    Correlation of the sharpest plan that is considered: what any plan reaches with so few cells and clouds so
    different.
agreement
    The same between the modalities, relative to that between random halves of one modality: 1 for clouds of one
    distribution, whatever the number of cells. Less shows what a modality has for itself, and once squared also
    allows for as much again that does not show in the distributions.

The same cells give the same ε, in whatever order they come and whichever modality is the source: cells are sorted by
their scores before any are drawn, and what is drawn for the one side in one split is drawn for the other in the next.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.cost import POSTERIOR
from psalm.core.entropic import Entropic
from psalm.core.matcher import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray, IntArray

    Pair = tuple[Side, Side]

AUTO, DEFAULT = "auto", 0.2
"""ε relative to the mean cost where the noise of scores is not known."""
SOFTEST, SHARPEST = 20.0, 0.02
"""Range of ε, from uniform plans to nearly assignments."""
N_MOST = 500
"""Cells of each side that ε is chosen from."""
FEWEST_CELLS = 4
"""With fewer cells of a side there are no halves to compare, and the plan is left uniform."""
STEPS = 9
"""Bisections of ln ε, which then is known to within 0.7 %."""
TOLERANCE = 1e-3
"""L1 error of the marginals; at 1e-2 the correlation still depends on which side's are met exactly."""
SPLITS = ((0, 1), (1, 0))
"""Seeds of the halves of source and target, each also exchanged."""


def epsilons_of(blocks: Sequence[Pair], epsilon: float | str, absolute: float | None, cost: str) -> FloatArray | None:
    """What a matcher's settings mean for each block: (n_blocks,), relative unless ``absolute``; None: 1.

    Parameters
    ----------
    blocks
        Source and target of each.
    epsilon
        Relative to the mean cost, or :data:`AUTO`.
    absolute
        In units of cost; counts before ``epsilon``.
    cost
        Name; "posterior" brings its own ε.
    """
    if cost == POSTERIOR:
        return None
    if absolute is not None:
        return np.full(len(blocks), absolute)
    if isinstance(epsilon, str):
        return relative_epsilons(blocks, cost)
    return np.full(len(blocks), float(epsilon))


def relative_epsilons(blocks: Sequence[Pair], cost: str) -> FloatArray:
    """ε of every block, relative to its mean cost.

    Parameters
    ----------
    blocks
        Source and target of each, with the noise of their scores.
    cost
        "euclidean" or "sqeuclidean".

    Returns
    -------
    (n_blocks,) between :data:`SHARPEST` and :data:`SOFTEST`; :data:`DEFAULT` where noise is not known.
    """
    found = np.full(len(blocks), DEFAULT)
    reliability = np.array(list(starmap(_reliability, blocks)))
    large = np.array([min(len(x), len(y)) >= FEWEST_CELLS for x, y in blocks], dtype=bool)
    found[~np.isnan(reliability) & ((reliability == 0) | ~large)] = SOFTEST
    chosen = np.flatnonzero(large & (reliability > 0))
    if len(chosen):
        pairs = [_same_size(*blocks[int(k)]) for k in chosen]
        attainable = _correlations(pairs, np.full(len(pairs), SHARPEST), cost)
        wanted = reliability[chosen] * attainable * _agreements(pairs, cost) ** 2
        found[chosen] = _epsilons_of(pairs, wanted, cost)
    return found


def _reliability(source: Side, target: Side) -> float:
    """Geometric mean of both sides' share of variance that is not error of estimation; NaN where that is unknown."""
    shares = []
    for side in (source, target):
        if side.noise is None or np.isnan(side.noise).any():
            return float("nan")
        total = float(np.var(side.scores, axis=0, ddof=1, dtype=np.float64).sum()) if len(side) > 1 else 0.0
        shares.append(max(0.0, 1.0 - float(side.noise.mean()) / total) if total > 0 else 0.0)
    return float(np.sqrt(shares[0] * shares[1]))


def _same_size(source: Side, target: Side) -> Pair:
    """As many random cells of the one side as of the other, sorted by their scores."""
    size = min(len(source), len(target), N_MOST)
    first, second = (_drawn(side, np.lexsort(side.scores.T), size, seed=0) for side in (source, target))
    return first, second


def _drawn(side: Side, order: IntArray, size: int, seed: int) -> Side:
    """So many random cells, in the order given."""
    kept = np.sort(np.random.default_rng(seed).permutation(len(order))[:size])
    return Side(side.scores[order[kept]])


def _correlations(pairs: Sequence[Pair], epsilons: FloatArray, cost: str) -> FloatArray:
    """Correlation of scores under the plan at ε, of every pair of samples; at least 0."""
    solved = Entropic(cost, tolerance=TOLERANCE, max_iterations=1000, device="cpu").solve(pairs, 1, epsilons)
    return np.array([max(0.0, _correlation(x, y, m.plan)) for (x, y), m in zip(pairs, solved, strict=True)])


def _correlation(source: Side, target: Side, plan: Any) -> float:
    """Sum of covariances under a plan of mass one over the root of the sums of variances."""
    x, y = (np.asarray(side.scores, dtype=np.float64) for side in (source, target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt((x**2).sum() / len(x) * (y**2).sum() / len(y))
    return float((x * (plan.fast_rows()(slice(None)) @ y)).sum() / scale) if scale > 0 else 0.0


def _agreements(pairs: Sequence[Pair], cost: str) -> FloatArray:
    """Correlation of the sharpest plan between modalities relative to that within each, on halves; at most 1."""
    flat = [block for pair in pairs for seeds in SPLITS for block in _half_blocks(pair, seeds)]
    found = _correlations(flat, np.full(len(flat), SHARPEST), cost).reshape(len(pairs), len(SPLITS), 6).mean(axis=1)
    within, between = np.sqrt(found[:, 0] * found[:, 1]), found[:, 2:].mean(axis=1)
    return np.asarray(np.minimum(1.0, np.divide(between, within, where=within > 0, out=np.zeros_like(within))))


def _half_blocks(pair: Pair, seeds: tuple[int, int]) -> list[Pair]:
    """The halves of each side with one another, then those of the one side with those of the other."""
    x, y = (_halves(side, seed) for side, seed in zip(pair, seeds, strict=True))
    return [x, y, *((one, other) for one in x for other in y)]


def _halves(side: Side, seed: int) -> Pair:
    half, order = len(side) // 2, np.random.default_rng(seed).permutation(len(side))
    return Side(side.scores[order[:half]]), Side(side.scores[order[half : 2 * half]])


def _epsilons_of(pairs: Sequence[Pair], wanted: FloatArray, cost: str) -> FloatArray:
    """The ε at which each plan's correlation is the one wanted, by bisection: softer plans correlate less."""
    low, high = np.full(len(pairs), np.log(SHARPEST)), np.full(len(pairs), np.log(SOFTEST))
    for _ in range(STEPS):
        middle = (low + high) / 2
        closer = _correlations(pairs, np.exp(middle), cost) > wanted
        low, high = np.where(closer, middle, low), np.where(closer, high, middle)
    return np.asarray(np.exp((low + high) / 2))
