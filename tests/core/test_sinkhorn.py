import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from psalm.core import entropic, large
from psalm.core.matcher import Side
from psalm.core.sinkhorn import SinkhornMatcher


def plan_of(matcher, x, y):
    match = matcher(Side(x), Side(y))
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
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 40, rtol=1e-5)  # float32
    found = np.abs(plan.sum(axis=0) - 1 / 25).sum()
    assert found <= match.marginal_error + 1e-7
    assert found == pytest.approx(match.marginal_error, rel=1e-2, abs=5e-7)
    assert match.marginal_error <= tolerance


def test_stopping_early_is_reported_and_keeps_exact_rows(read_only):
    match, plan = plan_of(SinkhornMatcher(0.05, max_iterations=2, tolerance=1e-9), read_only(20, 2), read_only(20, 2))
    assert not match.converged
    assert match.iterations == 2
    assert match.marginal_error > 1e-9
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 20, rtol=1e-5)


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("epsilon", [0.2, 0.005])
def test_large_blocks_with_and_without_a_kept_kernel(read_only, monkeypatch, cost, epsilon):
    """Independent: POT's log-domain Sinkhorn on the dense cost, for the path that large blocks take."""
    monkeypatch.setattr(entropic, "SMALL_PAIRS", 0)
    x, y = read_only(300, 3), read_only(270, 3)
    costs = cdist(x, y, cost)
    expected = ot.bregman.sinkhorn_log(
        np.full(300, 1 / 300), np.full(270, 1 / 270), costs, epsilon * costs.mean(), stopThr=1e-9, numItermax=50_000
    )
    for memory_mb in (512, 0):
        matcher = SinkhornMatcher(epsilon, cost, tolerance=1e-6, memory_mb=memory_mb, max_iterations=5000)
        match, plan = plan_of(matcher, x, y)
        assert match.converged
        assert np.abs(plan - expected).sum() < 3e-5


def test_a_block_that_begins_from_some_rows_gets_the_same_plan(read_only, monkeypatch):
    """Independent: the small path, which begins anew."""
    x, y = read_only(400, 3), read_only(300, 3)
    expected = plan_of(SinkhornMatcher(0.05, tolerance=1e-6), x, y)[1]
    monkeypatch.setattr(entropic, "SMALL_PAIRS", 0)
    plain = plan_of(SinkhornMatcher(0.05, tolerance=1e-6, memory_mb=0), x, y)[0]
    monkeypatch.setattr(large, "SOME_ROWS", 64)
    match, plan = plan_of(SinkhornMatcher(0.05, tolerance=1e-6, memory_mb=0), x, y)
    assert match.converged
    assert match.iterations != plain.iterations
    assert np.abs(plan - expected).sum() < 1e-5


def test_threads_do_not_change_a_bit(read_only, monkeypatch):
    monkeypatch.setattr(entropic, "SMALL_PAIRS", 0)
    block = [(Side(read_only(700, 3)), Side(read_only(600, 3)))]
    for memory_mb in (512, 0):
        one, three = (SinkhornMatcher(memory_mb=memory_mb).match_many(block, n)[0].plan for n in (1, 3))
        np.testing.assert_array_equal(one.source_potential, three.source_potential)
        np.testing.assert_array_equal(one.target_potential, three.target_potential)


def test_large_and_small_paths_agree(read_only, monkeypatch):
    x, y = read_only(200, 4), read_only(150, 4)
    small = plan_of(SinkhornMatcher(tolerance=1e-6), x, y)[1]
    monkeypatch.setattr(entropic, "SMALL_PAIRS", 0)
    assert np.abs(plan_of(SinkhornMatcher(tolerance=1e-6), x, y)[1] - small).sum() < 5e-6


def test_many_blocks_at_once_are_each_their_own(read_only):
    blocks = [(Side(read_only(n, 3)), Side(read_only(m, 3))) for n, m in ((5, 9), (1, 4), (30, 2))]
    together = SinkhornMatcher().match_many(blocks, 2)
    for block, match in zip(blocks, together, strict=True):
        np.testing.assert_array_equal(match.plan.source_potential, SinkhornMatcher()(*block).plan.source_potential)


def test_masses_are_the_marginals(read_only, rng):
    """Independent: POT with the same unequal marginals."""
    x, y, a, b = read_only(30, 3), read_only(20, 3), rng.random(30) + 0.1, rng.random(20) + 0.1
    a, b, costs = a / a.sum(), b / b.sum(), cdist(x, y)
    match = SinkhornMatcher(0.05, tolerance=1e-8)(Side(x, a), Side(y, b))
    expected = ot.bregman.sinkhorn_log(a, b, costs, 0.05 * costs.mean(), stopThr=1e-12, numItermax=50_000)
    assert np.abs(match.plan.rows(slice(0, 30)) - expected).sum() < 1e-6


def test_absolute_epsilon(read_only):
    match, _ = plan_of(SinkhornMatcher(epsilon_absolute=0.37), read_only(30, 3), read_only(20, 3))
    assert match.epsilon == 0.37


def test_a_thousand_to_one(read_only):
    match, plan = plan_of(SinkhornMatcher(0.05, tolerance=1e-6), read_only(2000, 3), read_only(2, 3))
    assert match.converged
    np.testing.assert_allclose(plan.sum(axis=0), 0.5, rtol=1e-5)


def test_duplicate_cells_share_evenly(read_only):
    """Near-equal scores must not be lost in the rounding of float32."""
    x = np.repeat(read_only(10, 3), 3, axis=0) + 1e3
    match, plan = plan_of(SinkhornMatcher(0.01, tolerance=1e-6), x, x.copy())
    costs = cdist(x, x)
    expected = ot.bregman.sinkhorn_log(
        np.full(30, 1 / 30), np.full(30, 1 / 30), costs, 0.01 * costs.mean(), stopThr=1e-12, numItermax=50_000
    )
    assert match.converged
    assert np.abs(plan - expected).sum() < 1e-5


def test_fast_rows_are_the_rows(read_only):
    for cost in ("euclidean", "sqeuclidean"):
        plan = SinkhornMatcher(0.02, cost)(Side(read_only(70, 3)), Side(read_only(600, 3))).plan
        exact = plan.rows(slice(5, 60))
        assert np.abs(plan.fast_rows()(slice(5, 60)) - exact).sum() < 1e-5 * exact.sum()
        columns = np.array([[0, 7], [599, 3]])
        np.testing.assert_allclose(plan.pairs(np.array([6, 9]), columns), [exact[1, [0, 7]], exact[4, [599, 3]]])


def test_swapping_source_and_target_transposes_the_plan(read_only):
    x, y = read_only(15, 3), read_only(22, 3)
    matcher = SinkhornMatcher(tolerance=1e-10)
    assert np.abs(plan_of(matcher, y, x)[1].T - plan_of(matcher, x, y)[1]).sum() < 1e-7


def test_permuting_cells_permutes_the_plan(read_only, rng):
    x, y, order = read_only(15, 3), read_only(22, 3), rng.permutation(22)
    matcher = SinkhornMatcher(tolerance=1e-6)
    assert np.abs(plan_of(matcher, x, y[order])[1] - plan_of(matcher, x, y)[1][:, order]).sum() < 3e-6


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1)])
def test_a_single_cell_sends_its_mass_evenly(read_only, n, m):
    match, plan = plan_of(SinkhornMatcher(), read_only(n, 3), read_only(m, 3))
    np.testing.assert_allclose(plan, 1 / (n * m), rtol=1e-6)
    assert match.converged


def test_constant_scores_give_the_uniform_plan():
    match, plan = plan_of(SinkhornMatcher(), np.ones((4, 3)), np.ones((5, 3)))
    np.testing.assert_allclose(plan, 1 / 20, rtol=1e-6)
    assert match.converged


def test_distant_outliers_and_tiny_epsilon_stay_finite(read_only):
    x, y = read_only(20, 2) + np.eye(20, 2) * 1e4, read_only(20, 2)
    match, plan = plan_of(SinkhornMatcher(1e-4, max_iterations=50), x, y)
    assert np.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(), 1, rtol=1e-5)
    assert np.isfinite(match.marginal_error)
