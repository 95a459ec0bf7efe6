"""The paper's idea in one place: cells are matched within each treatment, by their propensity scores."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from psalm.core.coupling import Block, Coupling, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from psalm.core._types import FloatArray, IntArray


@dataclass(frozen=True)
class Match:
    """What a matcher found for one block.

    Parameters
    ----------
    plan
        Mass between source and target cells; sums to one.
    epsilon
        Absolute strength of the entropy, NaN where the method has none.
    iterations
        Sweeps used; 0 for a method that does not iterate.
    marginal_error
        L1 distance of the plan's target marginal from uniform.
    converged
        Whether an iterative method reached its tolerance.
    """

    plan: Plan
    epsilon: float
    iterations: int
    marginal_error: float
    converged: bool


class Matcher(Protocol):
    """Anything that matches one block of scores."""

    def __call__(self, source_scores: FloatArray, target_scores: FloatArray) -> Match:
        """Match (n_source, n_treatments) scores with (n_target, n_treatments) scores."""
        ...


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
        Wall time.
    """

    block: Block
    match: Match
    seconds: float


def match_within(
    source_scores: FloatArray,
    target_scores: FloatArray,
    source_codes: IntArray,
    target_codes: IntArray,
    matcher: Matcher,
    *,
    n_jobs: int | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> tuple[Coupling, list[TreatmentMatch]]:
    """Match the cells of every treatment that has cells on both sides.

    A treatment's block weighs the mean of its shares among the matched source and the matched target cells.

    Parameters
    ----------
    source_scores, target_scores
        (n_source, n_treatments) and (n_target, n_treatments).
    source_codes, target_codes
        Treatment of each cell; −1 for cells that take no part.
    matcher
        Called once per treatment.
    n_jobs
        Treatments matched at a time, as in joblib.
    tick
        Called with the number of pairs of each finished block.
    """
    from joblib import Parallel, delayed

    treatments = np.intersect1d(source_codes[source_codes >= 0], target_codes[target_codes >= 0])
    places = [(np.flatnonzero(source_codes == t), np.flatnonzero(target_codes == t)) for t in treatments]
    n_source, n_target = (sum(len(place[side]) for place in places) for side in (0, 1))

    def one(treatment: int, source: IntArray, target: IntArray) -> TreatmentMatch:
        start = perf_counter()
        match = matcher(source_scores[source], target_scores[target])
        weight = (len(source) / n_source + len(target) / n_target) / 2
        block = Block(int(treatment), source, target, match.plan.weighted(weight))
        return TreatmentMatch(block, match, perf_counter() - start)

    jobs = (delayed(one)(t, *place) for t, place in zip(treatments, places, strict=True))
    found = []
    for result in Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs):
        found.append(result)
        tick(len(result.block.source) * len(result.block.target))
    return Coupling(len(source_codes), len(target_codes), tuple(result.block for result in found)), found
