"""Match by entropic optimal transport with the marginals in full: "ot"."""

from __future__ import annotations

from dataclasses import dataclass

from psalm.core.entropic import Entropic
from psalm.core.entropic_matcher import EntropicMatcher


@dataclass(frozen=True)
class SinkhornMatcher(EntropicMatcher):
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
