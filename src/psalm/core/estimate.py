"""How much memory and time a match will need, before it is made.

Memory is counted from the sizes of the blocks, by each matcher's own account (``working_bytes``). Time is measured on a
sample of the largest block and scaled by pairs; methods whose work grows faster than pairs say so (``growth``).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.matching import SMALL_PAIRS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core.matcher import Matcher, Side
    from psalm.core.matching import Cells, Place

SAMPLE_CELLS = 1200
"""Cells of either side that are matched to measure time; more pairs than a small block has."""
BATCH, BLOCK, ALONE = "many at a time", "alone, all threads", "one per thread"
"""How blocks are run: small ones together, large ones over all threads, or one call each."""


@dataclass(frozen=True)
class Estimate:
    """What matching one block will need.

    Parameters
    ----------
    code
        Of the block.
    solver
        One of :data:`BATCH`, :data:`BLOCK`, :data:`ALONE`.
    seconds
        NaN where it was not measured.
    working_bytes
        While it is matched; NaN where the matcher does not say.
    """

    code: int
    solver: str
    seconds: float
    working_bytes: float


def estimate(
    places: Sequence[Place], cells: tuple[Cells, Cells], matcher: Matcher, n_threads: int, *, timed: bool
) -> list[Estimate]:
    """Need of every block.

    Parameters
    ----------
    places
        Blocks to be matched.
    cells
        Of source and target.
    matcher
        With its settings.
    n_threads
        It will have.
    timed
        Whether to match a sample, which takes seconds.
    """
    per_pair = _seconds_per_pair(places, cells, matcher, n_threads) if timed and places else float("nan")
    return [
        Estimate(
            place.code,
            _solver(matcher, place),
            per_pair * _work(matcher, place.n_pairs),
            working_bytes(matcher, place, cells[0].scores.shape[1], n_threads),
        )
        for place in places
    ]


def working_bytes(matcher: Any, place: Place, n_columns: int, n_threads: int) -> float:
    """Memory that matching a block needs, as its matcher says; NaN for a matcher that does not say."""
    if not hasattr(matcher, "working_bytes"):
        return float("nan")
    return float(matcher.working_bytes(len(place.source), len(place.target), n_columns, n_threads))


def _solver(matcher: Any, place: Place) -> str:
    if not hasattr(matcher, "match_many"):
        return ALONE
    return BATCH if place.n_pairs <= SMALL_PAIRS else BLOCK


def _work(matcher: Any, n_pairs: float) -> float:
    """Pairs, to the power with which the method's time grows in them."""
    return float(n_pairs ** getattr(matcher, "growth", 1.0))


def _seconds_per_pair(places: Sequence[Place], cells: tuple[Cells, Cells], matcher: Matcher, n_threads: int) -> float:
    """Wall time per unit of work, on cells drawn from the largest block; the second of two runs counts."""
    largest = max(places, key=lambda place: place.n_pairs)
    rng = np.random.default_rng(0)
    sides = [
        of.side(np.sort(rng.choice(own, min(SAMPLE_CELLS, len(own)), replace=False)))
        for of, own in zip(cells, (largest.source, largest.target), strict=True)
    ]
    seconds = [_timed(matcher, sides[0], sides[1], n_threads) for _ in range(2)][-1]  # the first may compile
    n_pairs = len(sides[0]) * len(sides[1])
    together = 1 if hasattr(matcher, "match_many") and n_pairs > SMALL_PAIRS else n_threads
    return seconds / _work(matcher, n_pairs) / min(together, max(1, len(places)))


def _timed(matcher: Any, source: Side, target: Side, n_threads: int) -> float:
    start = perf_counter()
    if hasattr(matcher, "match_many"):
        matcher.match_many([(source, target)], n_threads)
    else:
        matcher(source, target)
    return perf_counter() - start
