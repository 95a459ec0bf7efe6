"""The paper's idea in one place: cells are matched within each treatment, by their propensity scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from psalm.core.coupling import Block, Coupling
from psalm.core.jobs import results
from psalm.core.matcher import BatchMatcher, Side
from psalm.core.plan import EntropicPlan, SparsePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.matcher import Match, Matcher

SMALL_PAIRS = 2**20
"""Blocks of at most so many pairs are matched many to a job, larger ones one by one with all threads."""
JOB_PAIRS = 2**22


@dataclass(frozen=True)
class TreatmentMatch:
    """One treatment's match with its place and price.

    Parameters
    ----------
    block
        Place in the coupling and weighted plan.
    match
        What the matcher reported.
    seconds
        Wall time; blocks that were matched in one call share it by their pairs.
    mass
        Marginals of source and target cells that the block was to have.
    """

    block: Block
    match: Match
    seconds: float
    mass: tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Failure:
    """A block that could not be matched.

    Parameters
    ----------
    code
        Of the block.
    reason
        What its matcher raised.
    """

    code: int
    reason: Exception


def described(reason: Exception) -> str:
    """Kind and message of an error."""
    return f"{type(reason).__name__}: {reason}".removesuffix(": ")


def stop(failure: Failure) -> NoReturn:
    """Raise what the matcher raised."""
    raise failure.reason


@dataclass(frozen=True)
class Place:
    """A block before it is matched: its code, and the positions of its cells."""

    code: int
    source: IntArray
    target: IntArray

    @property
    def n_pairs(self) -> int:
        """Pairs of cells."""
        return len(self.source) * len(self.target)


@dataclass(frozen=True)
class Cells:
    """All cells of one modality, as far as matching needs them.

    Parameters
    ----------
    scores
        (n, k).
    codes
        (n,) block of each cell; −1 for cells that take no part.
    mass
        (n,) positive weight of each cell; None: all the same.
    features
        (n, p) or None.
    noise
        (n,) variance of each cell's scores that is error of estimation, or None.
    """

    scores: FloatArray
    codes: IntArray
    mass: FloatArray | None = None
    features: FloatArray | None = None
    noise: FloatArray | None = None

    def side(self, cells: IntArray) -> Side:
        """Some cells as a side of a block."""
        mass = np.ones(len(cells)) if self.mass is None else np.asarray(self.mass, dtype=np.float64)[cells]
        features, noise = (None if values is None else values[cells] for values in (self.features, self.noise))
        return Side(self.scores[cells], mass / mass.sum(), features, noise)

    def share(self, cells: IntArray, all_cells: IntArray) -> float:
        """Mass of some cells relative to that of others."""
        return (
            len(cells) / len(all_cells)
            if self.mass is None
            else float(self.mass[cells].sum() / self.mass[all_cells].sum())
        )


def match_within(
    source: Cells,
    target: Cells,
    matcher: Matcher,
    *,
    n_jobs: int | None = None,
    tick: Callable[[int], object] = lambda _: None,
    report: Callable[[list[TreatmentMatch]], object] = lambda _: None,
    failed: Callable[[Failure], object] = stop,
) -> tuple[Coupling, list[TreatmentMatch]]:
    """Match the cells of every treatment that has cells on both sides.

    A treatment's block weighs the mean of its shares among the matched source and the matched target cells.

    Parameters
    ----------
    source, target
        Cells of the two modalities.
    matcher
        Called once per treatment; a :class:`psalm.core.matcher.BatchMatcher` once for many small ones.
    n_jobs
        Threads, or jobs of the joblib backend in force. None: all cores of this machine.
    tick
        Called with numbers of pairs as they are finished.
    report
        Called with what each finished job found.
    failed
        Called with each block whose matcher raises. If it returns, the coupling lacks the block and its mass; by
        default it raises the matcher's error.
    """
    places = find_places(source.codes, target.codes)
    found: dict[int, TreatmentMatch] = {}
    ticker = _Ticker(tick)
    pairs = {place.code: place.n_pairs for place in places}
    for outcomes in _run(_jobs(places), source, target, matcher, n_jobs, ticker):
        results = [outcome for outcome in outcomes if isinstance(outcome, TreatmentMatch)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        for failure in failures:
            failed(failure)
        found.update({result.block.treatment: result for result in results})
        report(results)
        codes = [result.block.treatment for result in results] + [failure.code for failure in failures]
        ticker.finish(sum(pairs[code] for code in codes))
    ordered = [found[place.code] for place in places if place.code in found]
    return Coupling(len(source.codes), len(target.codes), tuple(result.block for result in ordered)), ordered


class _Ticker:
    """Counts pairs: shares of a block while it is under way, the rest when it is finished."""

    def __init__(self, tick: Callable[[int], object]) -> None:
        self._tick, self._told = tick, 0

    def share(self, n_pairs: int, share: float) -> None:
        """Tell that so much of a block is done."""
        new = int(share * n_pairs) - self._told
        if new > 0:
            self._tick(new)
            self._told += new

    def finish(self, n_pairs: int) -> None:
        """Tell what is left of a job."""
        self._tick(n_pairs - self._told)
        self._told = 0


def find_places(source_codes: IntArray, target_codes: IntArray) -> list[Place]:
    """Blocks with cells on both sides, by code; one sort per side, however many blocks there are."""
    sides = []
    for codes in (source_codes, target_codes):
        order = np.argsort(codes, kind="stable")
        order = order[np.searchsorted(codes[order], 0) :]
        found, first = np.unique(codes[order], return_index=True)
        sides.append(dict(zip(found.tolist(), np.split(order, first[1:]), strict=False)))
    return [Place(code, sides[0][code], sides[1][code]) for code in sorted(sides[0].keys() & sides[1].keys())]


def _jobs(places: list[Place]) -> list[list[Place]]:
    """Blocks by job: large ones alone, small ones together."""
    jobs: list[list[Place]] = []
    pairs = JOB_PAIRS
    for place in sorted(places, key=lambda place: -place.n_pairs):
        if place.n_pairs > SMALL_PAIRS or pairs + place.n_pairs > JOB_PAIRS:
            jobs.append([])
            pairs = 0
        jobs[-1].append(place)
        pairs = JOB_PAIRS if place.n_pairs > SMALL_PAIRS else pairs + place.n_pairs
    return jobs


def _run(
    jobs: list[list[Place]],
    source: Cells,
    target: Cells,
    matcher: Matcher,
    n_jobs: int | None,
    ticker: _Ticker,
) -> Iterator[list[TreatmentMatch | Failure]]:
    """Results of every job: small blocks in parallel, large ones one after the other with all threads."""
    from joblib import cpu_count, delayed, effective_n_jobs
    from joblib.parallel import ThreadingBackend, get_active_backend

    backend, configured = get_active_backend(prefer="threads")
    here = isinstance(backend, ThreadingBackend) or configured == 1
    n_threads = effective_n_jobs(n_jobs) if n_jobs is not None else max(configured or 1, cpu_count() if here else 1)
    n_all = [np.concatenate([place.source for job in jobs for place in job] or [np.empty(0, int)])]
    n_all.append(np.concatenate([place.target for job in jobs for place in job] or [np.empty(0, int)]))

    def prepared(job: list[Place]) -> tuple[list[tuple[Side, Side]], list[float]]:
        pairs = [(source.side(place.source), target.side(place.target)) for place in job]
        shares = [(source.share(p.source, n_all[0]) + target.share(p.target, n_all[1])) / 2 for p in job]
        return pairs, shares

    alone = [job for job in jobs if isinstance(matcher, BatchMatcher) and here and job[0].n_pairs > SMALL_PAIRS]
    together = [job for job in jobs if not any(job is other for other in alone)]
    tasks = (delayed(_match)(matcher, job, *prepared(job), 1) for job in together)
    yield from results(tasks, n_threads if here else n_jobs, threads=True, ordered=False)
    for job in alone:
        yield _match(matcher, job, *prepared(job), n_threads, partial(ticker.share, job[0].n_pairs))


def _match(
    matcher: Matcher,
    job: list[Place],
    pairs: list[tuple[Side, Side]],
    shares: list[float],
    n_threads: int,
    tick: Callable[[float], object] | None = None,
) -> list[TreatmentMatch | Failure]:
    """Match the blocks of one job; where one of many fails, each alone, to tell which."""
    start = perf_counter()
    try:
        matches = _matches(matcher, pairs, n_threads, tick)
        for match in matches:
            _require_sound(match)
    except Exception as reason:  # noqa: BLE001, whatever a matcher raises is the block's failure
        if len(job) == 1:
            return [Failure(job[0].code, reason)]
        each = zip(job, pairs, shares, strict=True)
        return [found for place, pair, share in each for found in _match(matcher, [place], [pair], [share], n_threads)]
    spent, total = perf_counter() - start, max(1, sum(place.n_pairs for place in job))
    return [
        TreatmentMatch(
            Block(place.code, place.source, place.target, match.plan.weighted(share)),
            match,
            spent * place.n_pairs / total,
            (share * source.mass, share * target.mass),
        )
        for place, (source, target), match, share in zip(job, pairs, matches, shares, strict=True)
    ]


def _require_sound(match: Match) -> None:
    """Refuse a plan that moves no mass that there is: matchers may be anybody's, and numbers too small for them.

    Raises
    ------
    FloatingPointError
        Entries that are not finite or below zero, or potentials or an error that are not finite.
    """
    if isinstance(match.plan, SparsePlan):
        entries = match.plan.mass.data
        sound = not entries.size or (entries.min() >= 0 and entries.max() < np.inf)
    elif isinstance(match.plan, EntropicPlan):
        numbers = match.plan.source_potential, match.plan.target_potential, match.marginal_error
        sound = all(np.isfinite(one).all() for one in numbers)
    else:
        sound = True
    if not sound:
        msg = (
            "The plan has entries that are negative or not finite. Pass a larger `epsilon=`, or mend the matcher where "
            "it is yours."
        )
        raise FloatingPointError(msg)


def _matches(
    matcher: Matcher,
    pairs: list[tuple[Side, Side]],
    n_threads: int,
    tick: Callable[[float], object] | None,
) -> list[Match]:
    if isinstance(matcher, BatchMatcher):
        return matcher.match_many(pairs, n_threads, tick)
    return [matcher(source, target) for source, target in pairs]
