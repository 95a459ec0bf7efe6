"""moscot: transport within treatments on scores, or translation on each modality's own features.

"sinkhorn": `SinkhornProblem` with its defaults, squared Euclidean distances over their mean and ε 1e-3. "sinkhorn,
epsilon 0.2": Euclidean distances over their mean and ε 0.2, as psalm's fixed one. Both hold all cells at once and say
which pairs of groups are to be matched. "translation": `TranslationProblem` with its defaults, Gromov-Wasserstein on
squared Euclidean distances over their mean and ε 0.01; it matches groups of the source to the whole target, so each
treatment is a problem of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _files import Found, Problem, serve
from anndata import AnnData
from moscot.problems.cross_modality import TranslationProblem
from moscot.problems.generic import SinkhornProblem

if TYPE_CHECKING:
    from collections.abc import Iterable


def align(problem: Problem, method: str, seed: int) -> Found:
    if method == "translation":
        solutions = [translated(problem, *block) for block in problem.blocks()]
    else:
        solutions = matched(problem, same_epsilon=method == "sinkhorn, epsilon 0.2")
    return found(solutions)


def found(solutions: Iterable) -> Found:
    solutions = list(solutions)
    plans = [np.asarray(solution.transport_matrix, dtype=np.float64) for solution in solutions]
    return Found(plans, notes={"converged": [bool(solution.converged) for solution in solutions]})


def matched(problem: Problem, *, same_epsilon: bool) -> list:
    """Solutions of one problem whose pairs of groups are the two modalities of each treatment."""
    codes = np.concatenate([[f"{place}: {code}" for code in side.codes] for place, side in enumerate(problem.sides)])
    scores = np.concatenate([side.scores for side in problem.sides])
    obs = pd.DataFrame({"group": pd.Categorical(codes)}, index=np.arange(len(codes)).astype(str))
    cells = AnnData(scores, obs, obsm={"scores": scores})
    pairs = [(f"0: {code}", f"1: {code}") for code in range(len(problem.treatments))]
    joint = {"attr": "obsm", "key": "scores"}
    cost, options = ("euclidean", {"epsilon": 0.2, "scale_cost": "mean"}) if same_epsilon else ("sq_euclidean", {})
    solver = SinkhornProblem(cells).prepare(key="group", joint_attr=joint, policy="explicit", subset=pairs, cost=cost)
    solver = solver.solve(**options)
    return [solver.solutions[pair] for pair in pairs]


def translated(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> object:
    sides = []
    for place, (side, cells) in enumerate(zip(problem.sides, (rows, columns), strict=True)):
        obs = pd.DataFrame(index=[f"{place}: {cell}" for cell in cells])
        sides.append(AnnData(side.features[cells], obs, obsm={"features": side.features[cells]}))
    solver = TranslationProblem(*sides).prepare(src_attr="features", tgt_attr="features").solve()
    (solution,) = solver.solutions.values()
    return solution


if __name__ == "__main__":
    serve(["moscot", "ott-jax", "jax"], align)
