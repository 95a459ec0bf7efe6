"""POT: entropic optimal transport on scores, and entropic Gromov-Wasserstein on features, within each treatment.

"sinkhorn": ε is 0.2 of the mean Euclidean distance, as psalm's fixed one. "gromov": `entropic_gromov_wasserstein` on
Euclidean distances over their mean; for each treatment the smallest ε of `GROMOV_EPSILONS` at which POT's Sinkhorn
converges at every step. At most 100 steps, which end at a change of 1e-5 (POT's own limits are 1,000 and 1e-9).
"""

from __future__ import annotations

import warnings

import numpy as np
import ot
from _files import Found, Problem, distances, serve

RELATIVE_EPSILON = 0.2
GROMOV_EPSILONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Tried in turn."""
STEPS = {"max_iter": 100, "tol": 1e-5, "numItermax": 1000, "stopThr": 1e-6}


def align(problem: Problem, method: str, seed: int) -> Found:
    solve = {"sinkhorn": sinkhorn, "gromov": gromov}[method]
    plans, notes = zip(*[solve(problem, rows, columns) for rows, columns in problem.blocks()], strict=True)
    return Found(plans, notes={"epsilon": [note[0] for note in notes], "warnings": [note[1] for note in notes]})


def sinkhorn(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, tuple[float, list[str]]]:
    cost = distances(problem.source.scores[rows], problem.target.scores[columns])
    epsilon = RELATIVE_EPSILON * cost.mean()
    with warnings.catch_warnings(record=True) as found:
        plan = ot.sinkhorn(ot.unif(len(rows)), ot.unif(len(columns)), cost, epsilon)
    return plan, (epsilon, [str(w.message) for w in found])


def gromov(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, tuple[float, list[str]]]:
    costs = []
    for side, cells in zip(problem.sides, (rows, columns), strict=True):
        cost = distances(side.features[cells], side.features[cells])
        costs.append(cost / cost.mean())
    masses = ot.unif(len(rows)), ot.unif(len(columns))
    for epsilon in GROMOV_EPSILONS:
        plan = converged(costs, masses, epsilon)
        if plan is not None:
            return plan, (epsilon, [])
    msg = f"No plan for {len(rows)} × {len(columns)} cells at any of ε {GROMOV_EPSILONS}."
    raise FloatingPointError(msg)


def converged(costs: list[np.ndarray], masses: tuple[np.ndarray, np.ndarray], epsilon: float) -> np.ndarray | None:
    """The plan, or None if an inner problem does not converge: POT warns, and the steps stop there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            plan = ot.gromov.entropic_gromov_wasserstein(*costs, *masses, epsilon=epsilon, **STEPS)
        except UserWarning:
            return None
    return plan if np.isfinite(plan).all() else None


if __name__ == "__main__":
    serve(["POT", "numpy", "scipy"], align)
