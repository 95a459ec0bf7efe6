"""The checks of a match that need no truth, on what the container holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _cells, _checks, _features, _keys, _matches, _scores
from psalm._recipe import Recipe
from psalm.core import verdicts
from psalm.core.permutation import Statistic, relate
from psalm.core.truth_free import (
    Expectation,
    Noise,
    Spreading,
    averages_over,
    block_means,
    halves,
    label_shares,
    one_hot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.permutation import Relation

RELIABILITY, SCORES, STABILITY, R2 = "reliability", "score agreement", "stability", "expected R²"
HUBNESS, LABELS, LINKS = "hubness", "labels", "links"
N_SPLITS = 3
"""Ways to deal the target cells into halves for the expected R², each used both ways round."""


@dataclass(frozen=True)
class Check:
    """A statistic of any blocks, and the sentence that explains it.

    Parameters
    ----------
    name
        Of the check.
    of
        From positions of blocks to the tested statistic.
    say
        From its outcome to a sentence.
    alone
        Not by treatment, only over all.
    """

    name: str
    of: Callable[[IntArray], Statistic]
    say: Callable[[verdicts.Outcome], str]
    alone: bool = False


@dataclass(frozen=True)
class Missing:
    """A check that cannot be made, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """A match and what it is checked with.

    Parameters
    ----------
    mdata, key
        Container, and name of the match.
    coupling
        The exact coupling.
    features
        (n_target, k) of the target.
    rng, n_permutations
        Of the null distributions.
    """

    mdata: MuData
    key: str
    coupling: Coupling
    features: FloatArray
    rng: np.random.Generator
    n_permutations: int

    @property
    def params(self) -> dict[str, Any]:
        """Of the match."""
        found: dict[str, Any] = _access.run(self.mdata, self.key, "tl.match", "match_key")["params"]
        return found

    @property
    def names(self) -> tuple[str, str]:
        """Source and target."""
        return str(self.params["source"]), str(self.params["target"])

    @property
    def blocks(self) -> list[IntArray]:
        """Source cells of each block."""
        return [block.source for block in self.coupling.blocks]

    @property
    def sides(self) -> tuple[list[IntArray], list[IntArray]]:
        """Source cells and target cells of each block."""
        return self.blocks, [block.target for block in self.coupling.blocks]

    def relate(self, u: FloatArray, v: FloatArray) -> Relation:
        """Covariance within blocks, and under permutation."""
        return relate(u, v, self.blocks, self.rng, self.n_permutations)

    def scores(self) -> tuple[list[FloatArray], list[FloatArray]] | str:
        """Scores of source and target and a draw of their error, NaN where it is not known; or why there are none."""
        key = str(self.params["propensity_key"])
        error = _keys.PropensityKeys(key).error
        if any(error not in self.mdata.mod[name].obsm for name in self.names):
            return (
                f"scores have no obsm[{error!r}]. Run `tl.propensity` with `n_repeats=2` or more (before `tl.score`, "
                "too), and match again."
            )
        scores = [_scores.scores(self.mdata, name, key) for name in self.names]
        return scores, [np.asarray(self.mdata.mod[name].obsm[error]) for name in self.names]


def from_scores(evidence: Evidence) -> Iterator[Check | Missing]:
    """Checks by two independent estimates of the scores."""
    found = evidence.scores()
    if isinstance(found, str):
        yield from (Missing(name, found) for name in (RELIABILITY, SCORES, STABILITY, R2))
        return
    scores, errors = found
    sides = zip(scores, errors, evidence.sides, strict=True)
    noise = dict(zip(evidence.names, (Noise.of(s, e, side) for s, e, side in sides), strict=True))
    shares = {name: one.reliability() for name, one in noise.items()}

    def weaker(blocks: IntArray) -> Statistic:
        n_cells = sum(len(evidence.blocks[block]) for block in blocks)
        return Statistic(n_cells, min(one.reliability(blocks) for one in noise.values()), np.full(1, np.nan))

    yield Check(RELIABILITY, weaker, lambda _: verdicts.reliability(shares))
    try:
        again = Recipe.of(evidence.mdata, evidence.key)
    except ValueError as reason:
        yield from (Missing(name, str(reason)) for name in (SCORES, STABILITY, R2))
        return
    reliable = all(share >= verdicts.RELIABLE for share in shares.values())
    first = again(_estimate(scores, errors, 1)).coupling
    other = _estimate(scores, errors, -1)
    couplings = [first, again(other).coupling]
    related = evidence.relate(other[0], first.pull(other[1]))
    del other  # as large as all scores
    yield Check(SCORES, related.correlation, partial(verdicts.score_agreement, reliable=reliable))
    y = evidence.features
    same = evidence.relate(*(coupling.pull(y) for coupling in couplings))
    yield Check(STABILITY, same.correlation, partial(verdicts.stability, reliable=reliable))
    expectation = Expectation.of(evidence.coupling, y, evidence.coupling.pull(y), _apart(evidence, couplings))
    yield Check(R2, expectation.r2, partial(verdicts.expected_r2, reliable=reliable))


def _estimate(scores: Sequence[FloatArray], errors: Sequence[FloatArray], sign: int) -> list[FloatArray]:
    """Scores of both sides plus or minus their error."""
    return [values + sign * np.nan_to_num(error) for values, error in zip(scores, errors, strict=True)]


def _apart(evidence: Evidence, couplings: Sequence[Coupling]) -> list[Relation]:
    """Matched averages of both couplings, over different halves of the target cells."""
    found = []
    for _ in range(N_SPLITS):
        half = halves(evidence.coupling, evidence.rng)
        for first in (half, ~half):
            sides = zip(couplings, (first, ~first), strict=True)
            found.append(evidence.relate(*(averages_over(c, evidence.features, side) for c, side in sides)))
    return found


def of_hubs(evidence: Evidence) -> Iterator[Check | Missing]:
    """Whether partners are spread."""
    target = evidence.names[1]
    codes = _matches.blocks_of(evidence.mdata, target, evidence.key)
    given = _cells.masses(evidence.mdata, target, evidence.params["mass"] or None, codes)
    mass = np.ones(len(codes)) if given is None else given
    spreading = Spreading.of(evidence.coupling, mass, evidence.rng, evidence.n_permutations)
    yield Check(HUBNESS, spreading.share, verdicts.hubness)


def of_labels(evidence: Evidence, column: str) -> Iterator[Check | Missing]:
    """Whether the match finds a label that both modalities know and it was not told."""
    codes, values = _access.shared_labels(evidence.mdata, evidence.names, column, "labels")
    u = one_hot(codes[0], len(values))
    v = label_shares(evidence.coupling, codes[1], len(values))
    related, base = evidence.relate(u, v), block_means(u, v, evidence.blocks)

    def accuracy(blocks: IntArray) -> Statistic:
        mean = related.mean(blocks)
        shift = base[blocks].sum() / mean.n_cells if mean.n_cells else np.nan
        return Statistic(mean.n_cells, mean.value + shift, mean.null + shift)

    if not related.u_squares.any():
        yield Missing(LABELS, f"{column!r} does not vary within any treatment. Pass a finer label than the treatment.")
    else:
        yield Check(LABELS, accuracy, partial(verdicts.labels, column=column))


def of_links(evidence: Evidence, links: Mapping[str, str], reps: tuple[str | None, str | None]) -> Iterator[Check]:
    """Whether linked features agree: all, every feature in units of its spread within treatments, and each alone."""
    sides = []
    for name, key, wanted in zip(evidence.names, reps, (list(links), list(links.values())), strict=True):
        found = _features.features(evidence.mdata, name, key)
        place = _positions(found, wanted, name, evidence.mdata.mod[name])
        values = found.values[:, place]
        sides.append(np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64))
    averages = evidence.coupling.pull(sides[1])
    u, v = (values / _spread(values, evidence.blocks) for values in (sides[0], averages))
    yield Check(LINKS, evidence.relate(u, v).correlation, partial(verdicts.links, what="Linked features"))
    for position, (first, second) in enumerate(links.items()):
        one = evidence.relate(u[:, [position]], v[:, [position]])
        name = f"{first} ~ {second}"
        yield Check(name, one.correlation, partial(verdicts.links, what=name), alone=True)


def _positions(found: _features.Features, wanted: list[str], name: str, adata: AnnData) -> IntArray:
    """Column of each linked feature, each of which must be there once."""
    names = found.names.astype(str)
    counts = names.value_counts().reindex(pd.Index(wanted).unique(), fill_value=0)
    wrong = [feature for feature in counts.index if counts[feature] != 1]
    if wrong:
        msg = (
            f"`links` names {_checks.listed(wrong)}, which are not features of {name!r} in {found.said}, or are there "
            f"more than once. Found: {_checks.listed(names, 5)}. Correct the names, or pass `link_rep=`. "
            f"{_access.feature_slots(adata)}"
        )
        raise KeyError(msg)
    first = pd.Series(np.arange(len(names)), index=names)
    return np.asarray([first[feature] for feature in wanted], dtype=int)


def _spread(values: FloatArray, blocks: Sequence[IntArray]) -> FloatArray:
    """Standard deviation of each column within blocks; 1 where it does not vary."""
    squares, count = np.zeros(values.shape[1]), 0
    for block in blocks:
        known = values[block][~np.isnan(values[block]).any(axis=1)]
        if len(known):
            squares, count = squares + ((known - known.mean(axis=0)) ** 2).sum(axis=0), count + len(known)
    spread = np.sqrt(squares / max(count, 1))
    return np.asarray(np.where(spread > 0, spread, 1.0))
