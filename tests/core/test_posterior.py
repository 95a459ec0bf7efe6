import numpy as np
import ot
import pytest

from psalm.core.cost import posterior_coordinates
from psalm.core.log_odds import centre, probabilities
from psalm.core.matcher import Side
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher

PRIOR = np.array([0.5, 0.3, 0.2])


@pytest.fixture
def log_odds(read_only):
    return centre(2 * read_only(40, 3)), centre(2 * read_only(30, 3))


@pytest.fixture
def sides(log_odds):
    return [Side(posterior_coordinates(values, np.log(PRIOR))) for values in log_odds]


def test_the_kernel_by_hand(log_odds, sides):
    pi, rho = (probabilities(values) for values in log_odds)
    by_hand = sum(pi[3, t] * rho[5, t] / PRIOR[t] for t in range(3))
    assert (sides[0].scores @ sides[1].scores.T)[3, 5] == pytest.approx(by_hand)


def test_agrees_with_pot(sides):
    """Independent: POT's log-domain Sinkhorn on the dense cost, ε = 1."""
    costs = -np.log(sides[0].scores @ sides[1].scores.T)
    match = SinkhornMatcher(cost="posterior", tolerance=1e-10)(*sides)
    expected = ot.bregman.sinkhorn_log(
        np.full(40, 1 / 40), np.full(30, 1 / 30), costs, 1.0, stopThr=1e-14, numItermax=50_000
    )
    plan = match.plan.rows(slice(0, 40))
    assert match.converged
    assert match.epsilon == 1
    assert np.abs(plan - expected).sum() < 1e-9
    np.testing.assert_allclose(match.plan.fast_rows()(slice(3, 9)), plan[3:9])
    np.testing.assert_allclose(match.plan.pairs(np.array([4]), np.array([[7, 2]])), plan[4:5, [7, 2]])


def test_relaxed_marginals(sides):
    costs = -np.log(sides[0].scores @ sides[1].scores.T)
    match = UnbalancedMatcher(0.5, cost="posterior", tolerance=1e-10)(*sides)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        *(side.mass for side in sides), costs, 1.0, 0.5, reg_type="kl", stopThr=1e-13, numItermax=100_000
    )
    assert np.abs(match.plan.rows(slice(0, 40)) - expected).sum() < 1e-8
