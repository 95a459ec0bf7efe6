"""ott-jax: entropic optimal transport on scores, and entropic Gromov-Wasserstein on features, within each treatment.

"sinkhorn": ε is 0.2 of the mean Euclidean distance, as psalm's fixed one. "gromov": Euclidean distances over their
mean, ε 0.01; its solver works in logarithms, so a small ε is no obstacle. Every shape of a plan is compiled anew,
which takes most of the seconds of small treatments.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from _files import Found, Problem, distances, serve
from ott.geometry import costs, geometry, pointcloud
from ott.solvers import linear, quadratic

EPSILON, GROMOV_EPSILON = 0.2, 0.01


def align(problem: Problem, method: str, seed: int) -> Found:
    solve = {"sinkhorn": sinkhorn, "gromov": gromov}[method]
    solutions = [solve(problem, rows, columns) for rows, columns in problem.blocks()]
    plans = [np.asarray(solution.matrix, dtype=np.float64) for solution in solutions]
    return Found(plans, notes={"converged": [bool(solution.converged) for solution in solutions]})


def sinkhorn(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> object:
    points = jnp.asarray(problem.source.scores[rows]), jnp.asarray(problem.target.scores[columns])
    space = pointcloud.PointCloud(*points, cost_fn=costs.Euclidean(), epsilon=EPSILON, scale_cost="mean")
    return jax.jit(linear.solve)(space)


def gromov(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> object:
    spaces = []
    for side, cells in zip(problem.sides, (rows, columns), strict=True):
        cost = distances(side.features[cells], side.features[cells])
        spaces.append(geometry.Geometry(cost_matrix=jnp.asarray(cost / cost.mean())))
    return jax.jit(partial(quadratic.solve, epsilon=GROMOV_EPSILON))(*spaces)


if __name__ == "__main__":
    serve(["ott-jax", "jax"], align)
