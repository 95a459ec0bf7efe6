"""The hand-over between matching within treatments and any matcher: two sides of a block in, a match out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psalm.core._types import FloatArray
    from psalm.core.plan import Plan


@dataclass(frozen=True)
class Side:
    """One modality's cells of a block.

    Parameters
    ----------
    scores
        (n, k) centred log-odds, or coordinates with the same distances.
    mass
        (n,) share of each cell in the block's mass; positive, sums to one. By default all cells weigh the same.
    features
        (n, p) representation of the modality, for matchers that compare geometries; else None.
    noise
        (n,) variance of each cell's scores that is error of estimation, summed over columns; None where not known.
    """

    scores: FloatArray
    mass: FloatArray = field(default_factory=lambda: np.empty(0))
    features: FloatArray | None = None
    noise: FloatArray | None = None

    def __post_init__(self) -> None:
        if not len(self.mass):
            object.__setattr__(self, "mass", np.full(len(self.scores), 1 / max(1, len(self.scores))))

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.scores)


@dataclass(frozen=True)
class Match:
    """What a matcher found for one block.

    Parameters
    ----------
    plan
        Mass between source and target cells; sums to one where the method transports all of it.
    epsilon
        Absolute strength of the entropy, NaN where the method has none.
    iterations
        Sweeps used; 0 for a method that does not iterate.
    marginal_error
        L1 distance of the plan's marginals from those that the method is to meet.
    converged
        Whether an iterative method reached its tolerance.
    mean_cost
        Mean cost of the block's pairs, NaN where the method has no cost.
    device
        Where it was computed.
    """

    plan: Plan
    epsilon: float = float("nan")
    iterations: int = 0
    marginal_error: float = 0.0
    converged: bool = True
    mean_cost: float = float("nan")
    device: str = "cpu"


class Matcher(Protocol):
    """Anything that matches one block."""

    def __call__(self, source: Side, target: Side) -> Match:
        """Match the cells of one treatment."""
        ...


@runtime_checkable
class BatchMatcher(Protocol):
    """A matcher that is faster with many blocks in one call."""

    def match_many(
        self, blocks: Sequence[tuple[Side, Side]], n_threads: int, tick: Callable[[float], object] | None = None
    ) -> list[Match]:
        """Match each block; large ones may use so many threads, and the result does not depend on how many.

        ``tick`` is called with shares of the work, as far as it can be told while a large block is under way.
        """
        ...


class Need(NamedTuple):
    """What matching one block takes.

    Parameters
    ----------
    working_bytes
        About the memory while blocks like it are matched, by all threads together.
    work
        What time is proportional to, in a unit of the method's own.
    """

    working_bytes: float
    work: float


@runtime_checkable
class SizedMatcher(Protocol):
    """A matcher that knows what a block takes before it is matched."""

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """Need of a block of (n_source, n_target) cells with so many columns of scores."""
        ...
