"""The two baselines that know nothing: a random partner of the same treatment, and the treatment's mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from problem import Problem


def random_partner(problem: Problem, seed: int) -> list[np.ndarray]:
    """Each source cell's mass goes to one target cell of its treatment, drawn at random."""
    rng, found = np.random.default_rng(seed), []
    for rows, columns in problem.blocks():
        plan = np.zeros((len(rows), len(columns)))
        plan[np.arange(len(rows)), rng.integers(len(columns), size=len(rows))] = 1
        found.append(plan)
    return found


def treatment_mean(problem: Problem, seed: int) -> list[np.ndarray]:
    """The uniform coupling within each treatment."""
    return [np.ones((len(rows), len(columns))) for rows, columns in problem.blocks()]
