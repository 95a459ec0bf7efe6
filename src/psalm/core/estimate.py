"""How much memory and time a match will need, before it is made.

Memory is counted from the sizes of the blocks, as each matcher says (:class:`psalm.core.matcher.SizedMatcher`). Time is
measured on a sample of the largest block, and grows with the work that the matcher says a block is.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.matcher import BatchMatcher, Need, SizedMatcher
from psalm.core.matching import SMALL_PAIRS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core.matcher import Matcher, Side
    from psalm.core.matching import Cells, Place

SAMPLE_CELLS = 1200
"""Cells of either side that are matched to measure time, at first; more pairs than a small block has."""
LONG_ENOUGH = 1.0
"""Seconds that a sample should take."""
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
    n_columns = cells[0].scores.shape[1]
    pace = _pace(places, cells, matcher, n_threads) if timed and places else float("nan")
    needs = [_need_of_place(matcher, place, n_columns, n_threads, len(places)) for place in places]
    return [
        Estimate(place.code, solver_of(matcher, place.n_pairs), pace * need.work, need.working_bytes)
        for place, need in zip(places, needs, strict=True)
    ]


def _need_of_place(matcher: Matcher, place: Place, n_columns: int, n_threads: int, n_places: int) -> Need:
    """Need of a block with the threads that it, or blocks beside it, will have."""
    busy = n_threads if solver_of(matcher, place.n_pairs) == BLOCK else min(n_threads, n_places)
    return need_of(matcher, (len(place.source), len(place.target)), n_columns, busy)


def need_of(matcher: Matcher, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
    """What the matcher says a block takes; of one that does not say, memory is not known and work is pairs."""
    if isinstance(matcher, SizedMatcher):
        return matcher.need(shape, n_columns, n_threads)
    return Need(float("nan"), shape[0] * shape[1])


def solver_of(matcher: Matcher, n_pairs: int) -> str:
    """How a block of so many pairs is run."""
    if not isinstance(matcher, BatchMatcher):
        return ALONE
    return BATCH if n_pairs <= SMALL_PAIRS else BLOCK


def _pace(places: Sequence[Place], cells: tuple[Cells, Cells], matcher: Matcher, n_threads: int) -> float:
    """Seconds per unit of work, on cells drawn from the largest block.

    The first run may compile, and does not count. Samples double until one takes long enough to outweigh what every run
    costs, or is the whole block.
    """
    largest = max(places, key=lambda place: place.n_pairs)
    most = max(len(largest.source), len(largest.target))
    n_cells = SAMPLE_CELLS
    _timed(matcher, _sample(largest, cells, n_cells), n_threads)
    while True:
        sides = _sample(largest, cells, n_cells)
        seconds = _timed(matcher, sides, n_threads)
        if seconds >= LONG_ENOUGH or n_cells >= most:
            break
        n_cells *= 2
    shape = len(sides[0]), len(sides[1])
    at_a_time = 1 if solver_of(matcher, shape[0] * shape[1]) == BLOCK else min(n_threads, len(places))
    return seconds / need_of(matcher, shape, sides[0].scores.shape[1], n_threads).work / at_a_time


def _sample(place: Place, cells: tuple[Cells, Cells], n_cells: int) -> tuple[Side, Side]:
    """At most so many cells of either side."""
    rng = np.random.default_rng(0)
    source, target = (
        of.side(np.sort(rng.choice(own, min(n_cells, len(own)), replace=False)))
        for of, own in zip(cells, (place.source, place.target), strict=True)
    )
    return source, target


def _timed(matcher: Matcher, sides: tuple[Side, Side], n_threads: int) -> float:
    start = perf_counter()
    if isinstance(matcher, BatchMatcher):
        matcher.match_many([sides], n_threads)
    else:
        matcher(*sides)
    return perf_counter() - start
