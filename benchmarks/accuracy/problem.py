"""What an aligner is given, what it returns, and how that is scored: the same for psalm, for baselines and for peers.

An aligner sees features and treatments, never pairs. It returns one dense plan per treatment, which is put into the
container as a match and scored by `psalm.tl.evaluate`, as psalm's own are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from scipy import sparse

import psalm
from psalm.core.matcher import Match, Matcher, Side
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from tasks import Task

NUMBER = "cell_number"


@dataclass(frozen=True, eq=False)
class Modality:
    """One modality, as aligners see it.

    Parameters
    ----------
    name
        Of the modality.
    kind
        "rna", "protein", "atac" for raw counts, else "features".
    features
        (n_cells, k) representation: `psalm.pp.represent`, the same for every method.
    codes
        (n_cells,) treatment, −1 for cells that take no part.
    measured
        (n_cells, p) what was measured: counts, or features as they came.
    variables
        (p,) their names.
    scores
        (n_cells, n_treatments) propensity scores by psalm's defaults, for solvers of optimal transport that have no
        scores of their own.
    """

    name: str
    kind: str
    features: np.ndarray
    codes: np.ndarray
    measured: Any
    variables: np.ndarray
    scores: np.ndarray

    def cells(self, treatment: int) -> np.ndarray:
        """Positions of a treatment's cells."""
        return np.flatnonzero(self.codes == treatment)


@dataclass(frozen=True, eq=False)
class Problem:
    """Two modalities of different cells under shared treatments."""

    name: str
    source: Modality
    target: Modality
    treatments: tuple[str, ...]

    @property
    def sides(self) -> tuple[Modality, Modality]:
        return self.source, self.target

    @property
    def n_treatments(self) -> int:
        return len(self.treatments)

    def blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions of each treatment's source and target cells."""
        return [(self.source.cells(code), self.target.cells(code)) for code in range(self.n_treatments)]


class Aligner(Protocol):
    """Anything that says, treatment by treatment, which cells correspond."""

    def __call__(self, problem: Problem, seed: int) -> Sequence[np.ndarray]:
        """One (n_source, n_target) non-negative plan per treatment, cells in the order of `Problem.blocks`."""
        ...


class Embedder(Protocol):
    """Anything that puts the cells of both modalities into one space."""

    def __call__(self, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(n_source, d) and (n_target, d)."""
        ...


def problem_of(mdata: MuData, task: Task) -> Problem:
    """What aligners may see of cells that have scores; the pairs are not in it."""
    sides = [
        Modality(
            name,
            kind,
            np.asarray(mdata[name].obsm["X_psalm"], dtype=np.float64),
            mdata[name].obs["treatment"].cat.codes.to_numpy().astype(int),
            mdata[name].X,
            mdata[name].var_names.to_numpy().astype(str),
            np.asarray(mdata[name].obsm["propensity"], dtype=np.float64),
        )
        for name, kind in zip((task.source, task.target), task.kinds, strict=True)
    ]
    treatments = tuple(mdata[task.source].obs["treatment"].cat.categories.astype(str))
    return Problem(f"{task.folder}, {task.treatment}", *sides, treatments)


@dataclass(frozen=True, eq=False)
class Given:
    """A matcher that returns plans made before; it knows cells by the numbers it is given as features."""

    needs_features: ClassVar[bool] = True

    problem: Problem
    plans: Sequence[np.ndarray]

    def __call__(self, source: Side, target: Side) -> Match:
        rows, columns = (np.rint(side.features[:, 0]).astype(int) for side in (source, target))
        treatment = self.problem.source.codes[rows[0]]
        places = [
            np.searchsorted(side.cells(treatment), cells)
            for side, cells in zip(self.problem.sides, (rows, columns), strict=True)
        ]
        mass = np.asarray(self.plans[treatment], dtype=np.float64)[np.ix_(*places)]
        return Match(SparsePlan(sparse.csr_matrix(mass / mass.sum())))


def put(mdata: MuData, problem: Problem, plans: Sequence[np.ndarray]) -> None:
    """Write plans into the container, as `psalm.tl.match` would."""
    check(problem, plans)
    for side in problem.sides:
        mdata[side.name].obsm[NUMBER] = np.arange(len(side.codes), dtype=np.float64)[:, None]
    names = {"source": problem.source.name, "target": problem.target.name}
    given = Given(problem, plans)
    psalm.tl.match(mdata, **names, method=given, use_rep=NUMBER, progress=False)


def check(problem: Problem, plans: Sequence[np.ndarray]) -> None:
    """Refuse what is no plan, rather than score it."""
    shapes = [(len(rows), len(columns)) for rows, columns in problem.blocks()]
    found = [np.shape(plan) for plan in plans]
    if found != shapes:
        msg = f"{problem.name}: plans of shapes {found}, but treatments have {shapes}."
        raise ValueError(msg)
    for name, plan in zip(problem.treatments, plans, strict=True):
        if not np.isfinite(plan).all() or np.min(plan) < 0 or not np.sum(plan) > 0:
            msg = f"{problem.name}: the plan of {name!r} has entries that are not finite or negative, or no mass."
            raise ValueError(msg)


def match_blocks(matcher: Matcher, problem: Problem, coordinates: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Plans of a matcher of psalm's, or of anything that is called like one, by coordinates that both sides share."""
    found = []
    for rows, columns in problem.blocks():
        match = matcher(Side(coordinates[0][rows]), Side(coordinates[1][columns]))
        found.append(match.plan.rows(slice(0, len(rows))))
    return found


@dataclass(frozen=True)
class ByFeatures:
    """A matcher of psalm's that goes by the features it is given, such as an embedding, and not by scores."""

    needs_features: ClassVar[bool] = True

    matcher: Matcher

    def __call__(self, source: Side, target: Side) -> Match:
        match = self.matcher(Side(source.features, source.mass), Side(target.features, target.mass))
        return replace(match, plan=SparsePlan(sparse.csr_matrix(match.plan.rows(slice(0, len(source))))))


@dataclass(frozen=True)
class Embedded:
    """An embedding, and a matcher within treatments by its distances."""

    embed: Embedder
    matcher: Matcher

    def __call__(self, problem: Problem, seed: int) -> list[np.ndarray]:
        return match_blocks(self.matcher, problem, embedding(self.embed, problem, seed))


@lru_cache(maxsize=1)
def embedding(embed: Embedder, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The last embedding is kept for the next matcher."""
    return embed(problem, seed)
