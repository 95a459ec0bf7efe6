import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from psalm.core.sinkhorn import SinkhornMatcher


def plan_of(matcher, x, y):
    match = matcher(x, y)
    return match, match.plan.rows(slice(0, len(x)))


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("epsilon", [0.02, 0.2])
@pytest.mark.parametrize("shape", [(30, 30), (12, 41)], ids=["square", "wide"])
def test_agrees_with_pot(read_only, cost, epsilon, shape):
    """Independent: POT's log-domain Sinkhorn on the dense cost."""
    x, y = read_only(shape[0], 3), read_only(shape[1], 3)
    match, plan = plan_of(SinkhornMatcher(epsilon, cost, tolerance=1e-9, max_iterations=20_000), x, y)
    costs = cdist(x, y, cost)
    expected = ot.bregman.sinkhorn_log(
        np.full(shape[0], 1 / shape[0]),
        np.full(shape[1], 1 / shape[1]),
        costs,
        epsilon * costs.mean(),
        stopThr=1e-12,
        numItermax=50_000,
    )
    assert match.converged
    assert match.epsilon == pytest.approx(epsilon * costs.mean())
    assert np.abs(plan - expected).sum() < 1e-7


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_reported_error_is_the_error_of_the_plan(read_only, tolerance):
    match, plan = plan_of(SinkhornMatcher(0.1, tolerance=tolerance), read_only(40, 4), read_only(25, 4))
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 40)
    assert np.abs(plan.sum(axis=0) - 1 / 25).sum() == pytest.approx(match.marginal_error, rel=1e-6, abs=1e-12)
    assert match.marginal_error <= tolerance


def test_stopping_early_is_reported_and_keeps_exact_rows(read_only):
    match, plan = plan_of(SinkhornMatcher(0.01, max_iterations=2, tolerance=1e-9), read_only(20, 2), read_only(20, 2))
    assert not match.converged
    assert match.iterations == 2
    assert match.marginal_error > 1e-9
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 20)


def test_tiles_give_the_same_plan_as_a_kept_cost_matrix(read_only):
    x, y = read_only(50, 3), read_only(60, 3)
    _, kept = plan_of(SinkhornMatcher(), x, y)
    _, tiled = plan_of(SinkhornMatcher(memory_mb=0), x, y)
    np.testing.assert_allclose(tiled, kept, rtol=1e-9)


def test_swapping_source_and_target_transposes_the_plan(read_only):
    x, y = read_only(15, 3), read_only(22, 3)
    matcher = SinkhornMatcher(tolerance=1e-10)
    np.testing.assert_allclose(plan_of(matcher, y, x)[1].T, plan_of(matcher, x, y)[1], rtol=1e-6)


def test_permuting_cells_permutes_the_plan(read_only, rng):
    x, y, order = read_only(15, 3), read_only(22, 3), rng.permutation(22)
    np.testing.assert_allclose(
        plan_of(SinkhornMatcher(), x, y[order])[1], plan_of(SinkhornMatcher(), x, y)[1][:, order]
    )


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1)])
def test_a_single_cell_sends_its_mass_evenly(read_only, n, m):
    match, plan = plan_of(SinkhornMatcher(), read_only(n, 3), read_only(m, 3))
    np.testing.assert_allclose(plan, 1 / (n * m))
    assert match.converged


def test_constant_scores_give_the_uniform_plan():
    match, plan = plan_of(SinkhornMatcher(), np.ones((4, 3)), np.ones((5, 3)))
    np.testing.assert_allclose(plan, 1 / 20)
    assert match.converged


def test_distant_outliers_and_tiny_epsilon_stay_finite(read_only):
    x, y = read_only(20, 2) + np.eye(20, 2) * 1e4, read_only(20, 2)
    match, plan = plan_of(SinkhornMatcher(1e-4, max_iterations=50), x, y)
    assert np.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(), 1)
    assert np.isfinite(match.marginal_error)
