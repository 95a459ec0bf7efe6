"""Gromov-Wasserstein baselines: cells correspond where their distances to other cells do; no scores.

`LabelledGromov(joint=True)` is the labelled entropic Gromov-Wasserstein of PerturbOT (Ryu, Bunne, Pinello, Regev and
Lopez, 2024): one problem over all cells, whose plan sends mass within treatments only, so that distances to the cells
of other treatments count too. With `joint=False` each treatment is a problem of its own. Distances are squared
Euclidean over their maximum and ε is 5e-3, as in PerturbOT. Each step linearises the objective at the last plan (Peyré,
Cuturi and Solomon, ICML 2016) and solves the entropic problem with POT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import ot
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

if TYPE_CHECKING:
    from problem import Problem

Blocks = list[tuple[np.ndarray, np.ndarray]]
PASSES, SWEEPS = 3, 100
"""Sweeps in logarithms before POT's, which are not, and POT's; each step starts from the last one's potential."""


@dataclass(frozen=True)
class LabelledGromov:
    """Entropic Gromov-Wasserstein with mass within treatments only.

    Parameters
    ----------
    joint
        One problem over all cells, or one per treatment.
    epsilon
        Strength of the entropy, where distances have the maximum 1.
    max_iterations, tolerance
        Steps, and the L1 change of a plan of mass 1 that ends them.
    """

    joint: bool = True
    epsilon: float = 5e-3
    max_iterations: int = 100
    tolerance: float = 1e-3

    def __call__(self, problem: Problem, seed: int) -> list[np.ndarray]:
        blocks = problem.blocks()
        features = [side.features for side in problem.sides]
        if self.joint:
            cells = [np.concatenate(side) for side in zip(*blocks, strict=True)]
            distances = [scaled(cdist(x[own], x[own], "sqeuclidean")) for x, own in zip(features, cells, strict=True)]
            return self.solve(distances, in_turn(blocks))
        found = []
        for block in blocks:
            distances = [scaled(cdist(x[c], x[c], "sqeuclidean")) for x, c in zip(features, block, strict=True)]
            found += self.solve(distances, in_turn([block]))
        return found

    def solve(self, distances: list[np.ndarray], blocks: Blocks) -> list[np.ndarray]:
        """Plans of the blocks, which index the distances."""
        first, second = (d.astype(np.float32) for d in distances)
        share = [(len(rows) / len(first) + len(columns) / len(second)) / 2 for rows, columns in blocks]
        plans = [np.full((len(r), len(c)), w / (len(r) * len(c))) for (r, c), w in zip(blocks, share, strict=True)]
        potentials = [np.zeros(len(columns)) for _, columns in blocks]
        for _ in range(self.max_iterations):
            costs = gradient(first, second, plans, blocks)
            before = plans
            solved = [entropic(c, w, self.epsilon, g) for c, w, g in zip(costs, share, potentials, strict=True)]
            plans, potentials = map(list, zip(*solved, strict=True))
            if sum(np.abs(new - old).sum() for new, old in zip(plans, before, strict=True)) < self.tolerance:
                break
        return plans


def scaled(distances: np.ndarray) -> np.ndarray:
    return distances / max(distances.max(), np.finfo(float).tiny)


def in_turn(blocks: Blocks) -> Blocks:
    """The same blocks where cells are ordered by treatment."""
    found, row, column = [], 0, 0
    for rows, columns in blocks:
        found.append((np.arange(row, row + len(rows)), np.arange(column, column + len(columns))))
        row, column = row + len(rows), column + len(columns)
    return found


def gradient(first: np.ndarray, second: np.ndarray, plans: list[np.ndarray], blocks: Blocks) -> list[np.ndarray]:
    """Cost of sending mass from i to j given the plan: Σ_i'j' (A_ii' − B_jj')² T_i'j', within the blocks."""
    rows_of, columns_of = (np.zeros(len(d), dtype=np.float32) for d in (first, second))
    moved = np.empty((len(first), len(second)), dtype=np.float32)  # A T
    for plan, (rows, columns) in zip(plans, blocks, strict=True):
        rows_of[rows], columns_of[columns] = plan.sum(axis=1), plan.sum(axis=0)
        span = slice(columns[0], columns[-1] + 1)
        moved[:, span] = first[:, rows[0] : rows[-1] + 1] @ plan.astype(np.float32)
    left, right = (first**2) @ rows_of, (second**2) @ columns_of
    return [
        (left[r][:, None] + right[c] - 2 * moved[r[0] : r[-1] + 1] @ second[:, c[0] : c[-1] + 1]).astype(np.float64)
        for r, c in blocks
    ]


def entropic(cost: np.ndarray, mass: float, epsilon: float, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plan of mass `mass` with uniform marginals, and its second potential, from which the next step starts."""
    n, m = cost.shape
    for _ in range(PASSES):
        f = -epsilon * (logsumexp((g - cost) / epsilon, axis=1) + np.log(n))
        g = -epsilon * (logsumexp((f[:, None] - cost) / epsilon, axis=0) + np.log(m))
    shifted = cost - f[:, None] - g
    plan, log = ot.sinkhorn(
        np.full(n, 1 / n), np.full(m, 1 / m), shifted, epsilon, numItermax=SWEEPS, stopThr=1e-5, warn=False, log=True
    )
    if not np.isfinite(plan).all():
        msg = f"A plan of {n} × {m} cells is not a number at ε = {epsilon}."
        raise FloatingPointError(msg)
    return mass * plan, g + epsilon * np.log(log["v"])
