"""Match by entropic transport whose marginals may give: "unbalanced"."""

from __future__ import annotations

from dataclasses import dataclass

from psalm.core.entropic import Entropic
from psalm.core.entropic_matcher import EntropicMatcher


@dataclass(frozen=True)
class UnbalancedMatcher(EntropicMatcher):
    """Match by unbalanced entropic optimal transport: cells that are far from all others carry less mass.

    Minimises ``Σ P C + ε KL(P | a bᵀ) + ρ KL(P 1 | a) + ρ KL(Pᵀ 1 | b)``.
    Source: Chizat et al., Mathematics of Computation 2018; for populations that differ, Schiebinger et al. 2019.

    Parameters
    ----------
    relaxation
        ρ relative to the block's mean cost: price of a marginal's Kullback–Leibler divergence. Large is balanced;
        small leaves out whoever has no partner near. One number, or one for source and one for target.
    epsilon, cost, tolerance, max_iterations, memory_mb, epsilon_absolute, device
        As :class:`psalm.core.sinkhorn.SinkhornMatcher`; the tolerance bounds the change that one more sweep would make
        to the target's masses.
    """

    relaxation: float | tuple[float, float] = 1.0
    epsilon: float | str = 0.2
    cost: str = "euclidean"
    tolerance: float = 1e-3
    max_iterations: int = 2000
    memory_mb: float = 512.0
    epsilon_absolute: float | None = None
    device: str = "auto"

    @property
    def _entropic(self) -> Entropic:
        rho = self.relaxation if isinstance(self.relaxation, tuple) else (self.relaxation, self.relaxation)
        return Entropic(
            self.cost,
            self.epsilon_absolute or 0.0,
            self.epsilon_absolute is None,
            self.tolerance,
            self.max_iterations,
            relaxation=rho,
            memory_mb=self.memory_mb,
            device=self.device,
        )
