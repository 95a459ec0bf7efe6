"""Match by entropic optimal transport with the marginals in full: "ot"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psalm.core.entropic import Entropic
from psalm.core.epsilon import epsilons_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core.entropic import Tick
    from psalm.core.matcher import Match, Need, Side


@dataclass(frozen=True)
class SinkhornMatcher:
    """Match by entropic optimal transport (Cuturi, NeurIPS 2013).

    Parameters
    ----------
    epsilon
        Strength of the entropy relative to the block's mean cost: small is sharp and noisy, large is soft.
        "auto": chosen for each block without pairs, see :mod:`psalm.core.epsilon`.
    cost
        "euclidean" or "sqeuclidean" distance between centred log-odds.
    tolerance
        Largest L1 error of the target marginal, relative to the block's mass; the source marginal is exact.
    max_iterations
        Bound on the sweeps. A block that stops here is reported as not converged.
    memory_mb
        The kernel of a block is kept in memory up to this size and recomputed in tiles above it.
    epsilon_absolute
        Strength of the entropy in units of cost, instead of ``epsilon``.
    device
        "cpu", "cuda", or "auto": the GPU where there is one and the blocks are large.
    """

    epsilon: float | str = 0.2
    cost: str = "euclidean"
    tolerance: float = 1e-3
    max_iterations: int = 2000
    memory_mb: float = 512.0
    epsilon_absolute: float | None = None
    device: str = "auto"

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

    @property
    def _entropic(self) -> Entropic:
        return Entropic(
            self.cost,
            self.epsilon_absolute or 0.0,
            self.epsilon_absolute is None,
            self.tolerance,
            self.max_iterations,
            memory_mb=self.memory_mb,
            device=self.device,
        )
