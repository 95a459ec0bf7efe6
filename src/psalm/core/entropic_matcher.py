"""What matchers by entropic transport share: how they are called, and what their blocks take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from psalm.core.epsilon import epsilons_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core.entropic import Entropic, Tick
    from psalm.core.matcher import Match, Need, Side


class EntropicMatcher(ABC):
    """A matcher whose settings say what :class:`psalm.core.entropic.Entropic` is to solve."""

    cost: str
    epsilon: float | str
    epsilon_absolute: float | None

    @property
    @abstractmethod
    def _entropic(self) -> Entropic:
        """What to solve, with any ε."""
        ...

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block."""
        return self.match_many([(source, target)], 1)[0]

    def match_many(self, blocks: Sequence[tuple[Side, Side]], n_threads: int, tick: Tick | None = None) -> list[Match]:
        """Match every block; the result does not depend on the number of threads."""
        epsilons = epsilons_of(blocks, self.epsilon, self.epsilon_absolute, self.cost)
        return self._entropic.solve(blocks, n_threads, epsilons, tick)

    def need(self, shape: tuple[int, int], n_columns: int, n_threads: int) -> Need:
        """What a block takes."""
        return self._entropic.need(shape, n_columns, n_threads)
