"""The paper's recipe to the letter (Xi et al., NeurIPS 2024): in-sample logits of a network, Euclidean distances.

Optimal transport with ε = 0.05 in units of the logits, raised by 0.01 while the plan is not a number; or one shared
nearest neighbour of logits scaled to length 1. The parts are those of `recipes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from problem import match_blocks
from recipes import AbsoluteSinkhorn, Cells, Recipe, deals, forget, scores_of
from sklearn.preprocessing import normalize

from psalm.core.neighbors import SharedNeighborMatcher

if TYPE_CHECKING:
    from problem import Modality, Problem

METHODS = ("ot", "snn")


@dataclass(frozen=True)
class PaperRecipe:
    """The paper's scores, and one of its two matchers."""

    method: str = "ot"

    def __call__(self, problem: Problem, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        cells = [labelled(side, problem.n_treatments, rng) for side in problem.sides]
        logits = []
        for side, own, scores in zip(problem.sides, cells, scores_of(Recipe(), cells), strict=True):
            every = np.full((len(side.codes), problem.n_treatments), np.nan)
            every[own.places] = scores
            logits.append(every)
        forget()
        if self.method == "ot":
            return match_blocks(AbsoluteSinkhorn(), problem, (logits[0], logits[1]))
        angles = [np.full_like(every, np.nan) for every in logits]
        for own, angle, every in zip(cells, angles, logits, strict=True):
            angle[own.places] = normalize(every[own.places])
        return match_blocks(SharedNeighborMatcher(n_neighbors=1), problem, (angles[0], angles[1]))


def labelled(side: Modality, n_treatments: int, rng: np.random.Generator) -> Cells:
    """The cells that have a treatment, as `recipes` takes them."""
    places = np.flatnonzero(side.codes >= 0)
    codes = side.codes[places]
    return Cells(side.features[places], codes, places, n_treatments, deals(codes, rng))
