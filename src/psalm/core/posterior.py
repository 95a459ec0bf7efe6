"""Transport under the "posterior" cost: its kernel is a product of two thin matrices, so no tile is ever computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm.core.cost import POSTERIOR
from psalm.core.matcher import Match
from psalm.core.plan import EntropicPlan

if TYPE_CHECKING:
    from psalm.core.entropic import Entropic
from psalm.core.matcher import Side


def solve_posterior(entropic: Entropic, source: Side, target: Side) -> Match:
    """Match one block, exactly, in O((n + m) T) time and memory; ε is 1, which the cost itself brings.

    Parameters
    ----------
    entropic
        Tolerance, bound on iterations, relaxation and fraction.
    source, target
        With :func:`psalm.core.cost.posterior_coordinates` as scores, (n, T) and (m, T).
    """
    from psalm.core.anderson import advance, start
    from psalm.core.problem import response
    from psalm.core.solver import relaxed

    tolerance = entropic.tolerance
    max_iterations, rho_a, rho_b, cap, log_budget = entropic.settings[3:]
    a, b = source.scores.astype(np.float64), target.scores.astype(np.float64)
    log_a, log_b = np.log(source.mass), np.log(target.mass)
    state, weight = start(log_b), target.mass
    kappa = relaxed(rho_a, 1.0, 1.0)
    cells = log_b, relaxed(rho_b, 1.0, 1.0), cap, log_budget
    for iteration in range(1, max_iterations + 1):
        v = np.exp(state.g)
        f = log_a + np.minimum(-kappa * np.log(a @ (b.T @ v)), cap)
        masses = v * (b @ (a.T @ np.exp(f)))
        step, error = response(state.g, f, masses, (log_a,), cells)
        if error <= tolerance or iteration == max_iterations:
            break
        advance(state, step, weight, error)
    return Match(EntropicPlan(a, b, f, state.g, 1.0, POSTERIOR), 1.0, iteration, error, converged=error <= tolerance)
