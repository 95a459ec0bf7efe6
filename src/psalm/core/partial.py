"""Match a share of the mass by entropic transport, that which costs least: "partial"."""

from __future__ import annotations

from dataclasses import dataclass

from psalm.core.entropic import Entropic
from psalm.core.entropic_matcher import EntropicMatcher


@dataclass(frozen=True)
class PartialMatcher(EntropicMatcher):
    """Match by partial entropic optimal transport: a given share of the mass, marginals being upper bounds.

    Minimises ``Σ P C + ε KL(P | a bᵀ)`` with ``P 1 ≤ a``, ``Pᵀ 1 ≤ b`` and ``Σ P = fraction``.
    Bounds make the last steps slow where ε is small: a block that crawls is reported as not converged, or, as the
    tolerance bounds a sweep's change, before its best plan. Below ε of .02 "exact" is the better choice.

    Source: Benamou et al., SIAM Journal on Scientific Computing 2015, section 5.

    Parameters
    ----------
    fraction
        Share of each block's mass that is transported, in (0, 1].
    epsilon, cost, tolerance, max_iterations, memory_mb, epsilon_absolute, device
        As :class:`psalm.core.sinkhorn.SinkhornMatcher`; the tolerance bounds the change that one more sweep would make
        to the target's masses.
    """

    fraction: float = 0.9
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
            fraction=None if self.fraction == 1 else self.fraction,  # marginals are met, which converges faster
            memory_mb=self.memory_mb,
            device=self.device,
        )
