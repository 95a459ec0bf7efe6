import warnings

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist

from psalm.core import device, torch_entropic
from psalm.core.entropic import Entropic
from psalm.core.matcher import Side
from psalm.core.partial import PartialMatcher
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher

SHAPES = [(30, 20), (1, 5), (25, 40), (7, 7), (60, 3)]


def blocks(read_only, rng):
    sides = []
    for n, m in SHAPES:
        a = rng.random(n) + 0.2
        sides.append((Side(read_only(n, 3), a / a.sum()), Side(read_only(m, 3) + 0.3)))
    return sides


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize(
    ("kind", "epsilon"),
    [
        ("balanced", 0.2),
        ("balanced", 0.01),
        ("unbalanced", 0.2),
        ("unbalanced", 0.01),
        ("partial", 0.2),
        ("partial", 0.05),
    ],
)
def test_plans_are_those_of_the_processor(read_only, rng, kind, cost, epsilon):
    """Independent: the compiled path, another program for the same sweeps."""
    make = {"balanced": SinkhornMatcher, "unbalanced": UnbalancedMatcher, "partial": PartialMatcher}[kind]
    options = {"cost": cost, "epsilon": epsilon, "tolerance": 1e-6, "max_iterations": 5000}
    sides = blocks(read_only, rng)
    expected = make(**options, device="cpu").match_many(sides, 1)
    found = make(**options, device="torch:cpu").match_many(sides, 1)
    for one, other in zip(found, expected, strict=True):
        rows = slice(0, one.plan.shape[0])
        assert one.converged
        assert one.epsilon == pytest.approx(other.epsilon, rel=1e-5)
        assert np.abs(one.plan.rows(rows) - other.plan.rows(rows)).sum() < 2e-5


def hard_blocks(cost, n_blocks):
    """Scores with tails so heavy that they have no variance, small ε, and POT's plan where it has the marginals."""
    rng, found = np.random.default_rng(0), []
    while len(found) < n_blocks:
        (n, m), epsilon = rng.integers(2, 40, size=2), 10 ** rng.uniform(-1.7, -0.3)
        x, y = rng.standard_t(2, size=(n, 4)), rng.standard_t(2, size=(m, 4))
        a, b, costs = np.full(n, 1 / n), np.full(m, 1 / m), cdist(x, y, cost)
        options = {"method": "sinkhorn_stabilized", "stopThr": 1e-11, "numItermax": 5000, "warn": False}
        with np.errstate(all="ignore"), warnings.catch_warnings():  # where it breaks down its plan has no marginals
            warnings.simplefilter("ignore")
            plan = ot.sinkhorn(a, b, costs, epsilon * costs.mean(), **options)
        if np.abs(plan.sum(axis=0) - b).sum() + np.abs(plan.sum(axis=1) - a).sum() < 1e-8:
            found.append((Side(x), Side(y), epsilon, plan))
    return found


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_hard_blocks_agree_with_pot(cost, tolerance):
    """Independent: POT in float64, of whose plans only those count that meet both marginals."""
    cases = hard_blocks(cost, 50)
    blocks, epsilons = [(x, y) for x, y, _, _ in cases], np.array([epsilon for _, _, epsilon, _ in cases])
    matches = Entropic(cost, tolerance=tolerance, device="torch:cpu").solve(blocks, 1, epsilons)
    for match, (x, y, _, expected) in zip(matches, cases, strict=True):
        plan = match.plan.rows(slice(0, len(x)))
        assert match.converged
        assert match.device == "cpu"
        assert np.abs(plan.sum(axis=0) - 1 / len(y)).sum() < 1.1 * tolerance
        assert np.abs(plan.sum(axis=1) - 1 / len(x)).sum() < 1.1 * tolerance
        assert np.abs(plan - expected).sum() < 4 * tolerance


def test_tiles_of_rows(read_only, rng, monkeypatch):
    sides = blocks(read_only, rng)
    whole = SinkhornMatcher(device="torch:cpu").match_many(sides, 1)
    monkeypatch.setattr(torch_entropic, "BATCH_PAIRS", 100)
    tiled = SinkhornMatcher(device="torch:cpu").match_many(sides, 1)
    for one, other in zip(whole, tiled, strict=True):
        rows = slice(0, one.plan.shape[0])
        assert np.abs(one.plan.rows(rows) - other.plan.rows(rows)).sum() < 1e-3


def test_a_device_that_is_not_there(read_only, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"`device='cuda'`, but torch .* finds no CUDA device"):
        SinkhornMatcher(device="cuda")(Side(read_only(3, 2)), Side(read_only(4, 2)))
    monkeypatch.setattr(device, "WORTH_A_GPU", 0)
    assert SinkhornMatcher()(Side(read_only(3, 2)), Side(read_only(4, 2))).device == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(read_only, rng):
    sides = blocks(read_only, rng)
    expected = SinkhornMatcher(device="cpu", tolerance=1e-6).match_many(sides, 1)
    for one, other in zip(SinkhornMatcher(device="cuda", tolerance=1e-6).match_many(sides, 1), expected, strict=True):
        rows = slice(0, one.plan.shape[0])
        assert one.device == "cuda"
        assert np.abs(one.plan.rows(rows) - other.plan.rows(rows)).sum() < 2e-5
