"""Scores that hardly differ, or by more than float32 holds the squares of: every engine's plan meets its marginals."""

import numpy as np
import pytest

from psalm.core import entropic
from psalm.core.cost import posterior_coordinates
from psalm.core.exact import ExactMatcher
from psalm.core.gromov import GromovMatcher
from psalm.core.matcher import Side
from psalm.core.nearest import MutualMatcher, NearestMatcher
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.partial import PartialMatcher
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher

PLACE = np.array([0.1, -7.3, 2 / 3])
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (30, 20)]
COSTS = ["euclidean", "sqeuclidean"]


def noise(shape, rng):
    return rng.normal(size=(shape, 3))


SCORES = {
    "equal": lambda n, _: np.tile(PLACE, (n, 1)),
    "equal up to rounding": lambda n, rng: PLACE * (1 + 2.0**-52 * rng.integers(-2, 3, size=(n, 3))),
    "far from the origin": lambda n, rng: 1e4 + 1e-3 * noise(n, rng),
    "far and float32": lambda n, rng: (1e4 + 1e-3 * noise(n, rng)).astype(np.float32),
    "far and near each other": lambda n, rng: 1e4 + 1e-9 * noise(n, rng),
    "tiny": lambda n, rng: 1e-25 * noise(n, rng),
    "tinier than any square": lambda n, rng: 1e-200 * noise(n, rng),
    "huge": lambda n, rng: 1e25 * noise(n, rng),
    "all but one": lambda n, _: np.where(np.arange(n)[:, None] == 7, 50.0, np.tile(PLACE, (n, 1))),
}
ENTROPIC = {"balanced": SinkhornMatcher, "unbalanced": UnbalancedMatcher, "partial": PartialMatcher}


def pairs(kind, rng):
    """Blocks of a kind in every shape."""
    return [tuple(Side(SCORES[kind](n, rng), noise=np.full(n, 1e-3)) for n in shape) for shape in SHAPES]


def require_marginals(match, block, *, tolerance=2e-3, fraction=None):
    """Sums of a plan: both marginals in full, or a share of the mass below both."""
    plan = match.plan.rows(slice(0, len(block[0])))
    assert np.isfinite(plan).all()
    over = plan.sum(axis=1) - block[0].mass, plan.sum(axis=0) - block[1].mass
    if fraction is None:
        assert sum(np.abs(side).sum() for side in over) < tolerance
    else:
        assert max(side.max() for side in over) < tolerance
        assert plan.sum() == pytest.approx(fraction, abs=tolerance)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("method", ENTROPIC)
@pytest.mark.parametrize("engine", ["small", "kept", "recomputed", "float64", "torch", "auto", "absolute"])
def test_plans_with_an_entropy(rng, monkeypatch, engine, method, cost, kind):
    if engine in {"kept", "recomputed"}:
        monkeypatch.setattr(entropic, "SMALL_PAIRS", 0)
    options = {
        "recomputed": {"memory_mb": 0.0},
        "float64": {"tolerance": 1e-9},
        "torch": {"device": "torch:cpu"},
        "auto": {"epsilon": "auto"},
        "absolute": {"epsilon_absolute": 0.5 * 1e25 ** (1 + (cost == "sqeuclidean")) if kind == "huge" else 20.0},
    }
    matcher = ENTROPIC[method](cost=cost, **{"device": "cpu"} | options.get(engine, {}))
    blocks = pairs(kind, rng)
    for match, block in zip(matcher.match_many(blocks, 1), blocks, strict=True):
        assert match.converged
        if method == "unbalanced":  # where cost hardly matters at this price of mass, nor does it let any go
            plan = match.plan.rows(slice(0, len(block[0])))
            assert np.isfinite(plan).all()
            assert 0.1 < plan.sum() < 1 + 1e-6
        else:
            require_marginals(match, block, fraction=matcher.fraction if method == "partial" else None)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dense_pairs", [0, 2**16])
def test_exact_plans(rng, kind, cost, dense_pairs):
    matcher, blocks = ExactMatcher(cost, dense_pairs=dense_pairs), pairs(kind, rng)
    for match, block in zip(matcher.match_many(blocks, 1), blocks, strict=True):
        assert match.converged
        require_marginals(match, block)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_gromov_plans(rng, kind, epsilon):
    for source, target in pairs(kind, rng):
        block = Side(source.scores, features=source.scores), Side(target.scores, features=target.scores)
        match = GromovMatcher(epsilon=epsilon)(*block)
        assert np.isfinite(match.plan.mass.data).all()
        assert match.converged or kind == "all but one"  # POT's inner iterations do not reach an outlier
        if match.converged:
            require_marginals(match, block)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(
    "matcher", [SharedNeighborMatcher(), NearestMatcher(), MutualMatcher()], ids=lambda m: type(m).__name__
)
def test_neighbours(rng, kind, matcher):
    for block in pairs(kind, rng):
        plan = matcher(*block).plan.rows(slice(0, len(block[0])))
        assert np.isfinite(plan).all()
        assert (plan >= 0).all()
        assert 0 < plan.sum() <= 1 + 1e-9


@pytest.mark.parametrize("log_odds", [0.0, 1e-16, 50.0, 1e4])
@pytest.mark.parametrize("method", ENTROPIC)
def test_posterior_plans(rng, method, log_odds):
    """With log-odds of 1e4 a cell is denied all treatments but one, and modalities may deny it different ones."""
    prior = np.log(np.full(3, 1 / 3))
    for shape in SHAPES:
        block = [Side(posterior_coordinates(log_odds * noise(n, rng), prior)) for n in shape]
        matcher = ENTROPIC[method](cost="posterior", max_iterations=20_000)
        match = matcher(*block)
        plan = match.plan.rows(slice(0, shape[0]))
        assert np.isfinite(plan).all()
        if match.converged and method != "unbalanced":
            require_marginals(match, block, fraction=getattr(matcher, "fraction", None))
        assert match.converged or log_odds > 100
