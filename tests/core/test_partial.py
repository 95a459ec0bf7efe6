import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from psalm.core.matcher import Side
from psalm.core.partial import PartialMatcher
from psalm.core.sinkhorn import SinkhornMatcher


@pytest.mark.parametrize("fraction", [0.3, 0.8])
@pytest.mark.parametrize("epsilon", [0.1, 0.02])
def test_agrees_with_pot(read_only, fraction, epsilon):
    """Independent: POT's entropic partial transport by Dykstra's projections."""
    x, y = read_only(40, 3), read_only(30, 3) + 0.5
    costs = cdist(x, y)
    match = PartialMatcher(fraction, epsilon, tolerance=1e-7)(Side(x), Side(y))
    expected = ot.partial.entropic_partial_wasserstein(
        np.full(40, 1 / 40),
        np.full(30, 1 / 30),
        costs,
        epsilon * costs.mean(),
        m=fraction,
        stopThr=1e-14,
        numItermax=100_000,
    )
    plan = match.plan.rows(slice(0, 40))
    assert match.converged
    assert np.abs(plan - expected).sum() < 1e-6
    assert plan.sum() == pytest.approx(fraction, rel=1e-6)


def test_unequal_masses_are_upper_bounds(read_only, rng):
    a = rng.random(40) + 0.1
    source, target = Side(read_only(40, 3), a / a.sum()), Side(read_only(30, 3) + 1)
    plan = PartialMatcher(0.6, tolerance=1e-6)(source, target).plan.rows(slice(0, 40))
    assert (plan.sum(axis=1) <= source.mass + 1e-6).all()
    assert (plan.sum(axis=0) <= target.mass + 1e-6).all()
    assert plan.sum() == pytest.approx(0.6, rel=1e-5)


def test_all_of_it_is_balanced(read_only):
    sides = Side(read_only(40, 3)), Side(read_only(30, 3))
    whole = PartialMatcher(1.0, tolerance=1e-7)(*sides).plan.rows(slice(0, 40))
    assert np.abs(whole - SinkhornMatcher(tolerance=1e-7)(*sides).plan.rows(slice(0, 40))).sum() < 1e-6
