import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from psalm.core.matcher import Side
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher


@pytest.mark.parametrize("relaxation", [0.1, 1.0, 10.0])
def test_agrees_with_pot(read_only, rng, relaxation):
    """Independent: POT's stabilised unbalanced Sinkhorn with Kullback–Leibler marginals and reference."""
    x, y, a = read_only(40, 3), read_only(30, 3) + 0.5, rng.random(40) + 0.1
    source, target, costs = Side(x, a / a.sum()), Side(y), cdist(x, y)
    match = UnbalancedMatcher(relaxation, 0.1, tolerance=1e-8)(source, target)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        source.mass,
        target.mass,
        costs,
        0.1 * costs.mean(),
        relaxation * costs.mean(),
        method="sinkhorn_stabilized",
        reg_type="kl",
        stopThr=1e-13,
        numItermax=100_000,
    )
    assert match.converged
    assert np.abs(match.plan.rows(slice(0, 40)) - expected).sum() < 1e-6


def test_a_cell_far_from_all_others_carries_little(read_only):
    x, y = read_only(40, 3).copy(), read_only(40, 3)
    x[7] += 50.0
    mass = UnbalancedMatcher(0.5)(Side(x), Side(y)).plan.rows(slice(0, 40)).sum(axis=1)
    assert mass[7] < 0.02 * np.median(mass)


def test_dear_marginals_are_met(read_only):
    sides = Side(read_only(40, 3)), Side(read_only(30, 3))
    relaxed = UnbalancedMatcher(1e5, tolerance=1e-7)(*sides).plan.rows(slice(0, 40))
    balanced = SinkhornMatcher(tolerance=1e-7)(*sides).plan.rows(slice(0, 40))
    assert np.abs(relaxed - balanced).sum() < 1e-4


def test_one_side_may_give_alone(read_only):
    match = UnbalancedMatcher((float("inf"), 0.2), tolerance=1e-7)(Side(read_only(40, 3)), Side(read_only(30, 3) + 1))
    plan = match.plan.rows(slice(0, 40))
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 40, rtol=1e-5)
    assert np.abs(plan.sum(axis=0) - 1 / 30).max() > 1e-3
