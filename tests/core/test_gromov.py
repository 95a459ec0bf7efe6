import warnings
from itertools import permutations
from pathlib import Path
from threading import Event, Thread

import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from psalm.core import gromov
from psalm.core.gromov import GromovMatcher
from psalm.core.matcher import Side


def shares(n):
    """Unequal masses."""
    return np.arange(1, n + 1) / np.arange(1, n + 1).sum()


def dense(match):
    return match.plan.rows(slice(0, match.plan.shape[0]))


def block(rng, n, m=None):
    """Two sides of n and m cells of one hidden space, both with features and poor scores."""
    hidden = rng.normal(size=(max(n, m or n), 3))
    return [
        Side(h[:, :2] + rng.normal(size=(len(h), 2)), shares(len(h)), h @ rng.normal(size=(3, 6)))
        for h in (hidden[:n], hidden[: m or n])
    ]


def by_mean(distances):
    return distances / distances.mean()


def objective(plan, source, target, alpha):
    """The fused objective by a sum over pairs of pairs."""
    cost = by_mean(cdist(source.scores, target.scores))
    a, b = (by_mean(cdist(side.features, side.features)) for side in (source, target))
    mismatch = (a[:, None, :, None] - b[None, :, None, :]) ** 2
    return (1 - alpha) * (plan * cost).sum() + alpha * np.einsum("ij,kl,ijkl->", plan, plan, mismatch)


def test_without_geometry_and_entropy_it_is_the_assignment_problem(read_only):
    """Independent: the Hungarian algorithm."""
    source, target = (Side(read_only(20, 2), features=read_only(20, 4)) for _ in range(2))
    rows, columns = linear_sum_assignment(cdist(source.scores, target.scores))
    expected = np.zeros((20, 20))
    expected[rows, columns] = 1 / 20
    match = GromovMatcher(alpha=0, epsilon=None)(source, target)
    np.testing.assert_allclose(dense(match), expected, atol=1e-12)
    assert match.converged
    assert np.isnan(match.epsilon)


def test_without_geometry_it_is_entropic_transport(rng):
    """Independent: POT's Sinkhorn in the log domain, at the absolute ε that the match states."""
    source, target = block(rng, 15, 11)
    match = GromovMatcher(alpha=0, epsilon=0.1, tolerance=1e-7)(source, target)
    cost = cdist(source.scores, target.scores)
    assert match.epsilon == pytest.approx(0.1 * cost.mean())
    assert match.mean_cost == pytest.approx(cost.mean())
    expected = ot.bregman.sinkhorn_log(source.mass, target.mass, cost, match.epsilon, numItermax=5000)
    np.testing.assert_allclose(dense(match), expected, atol=1e-7)


def test_geometry_alone_finds_cells_that_moved():
    """By hand: three cells on a line at 0, 1 and 10, in another order and place; scores say nothing."""
    line = np.array([[0.0], [1.0], [10.0]])
    order = [2, 0, 1]
    source, target = Side(np.zeros((3, 2)), features=line), Side(np.zeros((3, 2)), features=line[order] + 7)
    expected = np.zeros((3, 3))
    expected[order, [0, 1, 2]] = 1 / 3
    match = GromovMatcher(alpha=1, epsilon=None)(source, target)
    np.testing.assert_allclose(dense(match), expected, atol=1e-9)
    assert match.converged


def test_sharp_plan_is_as_good_as_the_best_of_all_assignments(rng):
    """Independent: every assignment of six cells. With good scores the local optimum is the global one."""
    source, target = (Side(side.scores, features=side.features) for side in block(rng, 6))
    target = Side(source.scores + 0.1 * rng.normal(size=(6, 2)), features=target.features)
    alpha = 0.4
    assignments = [np.eye(6)[list(order)] / 6 for order in permutations(range(6))]
    best = min(objective(plan, source, target, alpha) for plan in assignments)
    found = dense(GromovMatcher(alpha=alpha, epsilon=None)(source, target))
    assert objective(found, source, target, alpha) == pytest.approx(best)


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_alpha_trades_scores_for_geometry(rng, alpha):
    """The plan for one alpha is better at that alpha's objective than the plan for the other."""
    source, target = block(rng, 25, 20)
    here, there = (dense(GromovMatcher(alpha=a, epsilon=None)(source, target)) for a in (alpha, 1 - alpha))
    assert objective(here, source, target, alpha) < objective(there, source, target, alpha)


def test_soft_plan_is_a_stationary_point(rng):
    """Independent: at a local optimum, log G + gradient / ε is a sum of row and column terms; gradient by einsum."""
    source, target = block(rng, 12, 9)
    alpha, epsilon = 0.6, 0.2
    plan = dense(GromovMatcher(alpha=alpha, epsilon=epsilon, tolerance=1e-9, max_iterations=2000)(source, target))
    cost = by_mean(cdist(source.scores, target.scores))
    a, b = (by_mean(cdist(side.features, side.features)) for side in (source, target))
    mismatch = (a[:, None, :, None] - b[None, :, None, :]) ** 2
    gradient = (1 - alpha) * cost + 2 * alpha * np.einsum("kl,ijkl->ij", plan, mismatch)
    rest = np.log(plan) + gradient / epsilon
    rest -= rest.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(rest - rest.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("epsilon", [None, 0.05])
def test_marginals_are_the_masses_and_their_error_is_that_of_the_plan(rng, epsilon):
    source, target = block(rng, 14, 23)
    match = GromovMatcher(epsilon=epsilon)(source, target)
    found = dense(match)
    np.testing.assert_allclose(found.sum(axis=1), source.mass, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), target.mass, atol=1e-4)
    error = np.abs(found.sum(axis=1) - source.mass).sum() + np.abs(found.sum(axis=0) - target.mass).sum()
    assert match.marginal_error == pytest.approx(error, abs=1e-15)
    assert match.converged


@pytest.mark.parametrize("epsilon", [None, 0.05])
@pytest.mark.parametrize("alpha", [0, 0.5, 1])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (3, 1), (5, 4)])
def test_small_and_constant_blocks_match(n, m, alpha, epsilon):
    source, target = (Side(np.zeros((size, 2)), shares(size), np.ones((size, 3))) for size in (n, m))
    match = GromovMatcher(alpha=alpha, epsilon=epsilon)(source, target)
    np.testing.assert_allclose(dense(match).sum(axis=1), shares(n), atol=1e-6)
    assert match.marginal_error < 1e-4
    assert match.converged


@pytest.mark.parametrize("epsilon", [None, 0.05])
def test_a_block_that_is_stopped_early_is_not_converged(rng, epsilon):
    """POT says nothing of it."""
    source, target = block(rng, 30, 25)
    match = GromovMatcher(epsilon=epsilon, max_iterations=1, tolerance=1e-9)(source, target)
    assert not match.converged
    assert match.iterations == 1


def test_arithmetic_that_fails_is_a_match_that_did_not_converge(rng):
    """ε far too small for POT, which warns, and whose plan then rests; pytest would make an error of the warning."""
    source, target = block(rng, 30, 25)
    match = GromovMatcher(alpha=0, epsilon=1e-5)(source, target)
    assert not match.converged
    assert match.iterations < 200
    assert match.marginal_error > 0.01


def warn_from(text, folder, module):
    """Warn as a module in a folder does."""
    warnings.warn_explicit(text, UserWarning, str(folder / "_file.py"), 1, module=module)


@pytest.mark.parametrize(
    ("epsilon", "solver"), [(None, "fused_gromov_wasserstein"), (0.1, "entropic_fused_gromov_wasserstein")]
)
def test_what_pot_warns_of_is_a_match_that_did_not_converge(rng, monkeypatch, epsilon, solver):
    solve = getattr(ot.gromov, solver)

    def solve_and_warn(*args, **options):
        warn_from("numItermax reached before optimality", Path(ot.__file__).parent, "ot.lp._file")
        return solve(*args, **options)

    source, target = block(rng, 10)
    assert GromovMatcher(epsilon=epsilon)(source, target).converged
    monkeypatch.setattr(ot.gromov, solver, solve_and_warn)
    assert not GromovMatcher(epsilon=epsilon)(source, target).converged


def test_warnings_of_others_are_passed_on():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with gromov._complaints() as complaints:
            warn_from("did not converge", Path(ot.__file__).parent, "ot.lp._file")
            warn_from("mind the gap", Path(__file__).parent, "other")
    assert complaints == ["did not converge"]
    assert [str(warning.message) for warning in seen] == ["mind the gap"]


def test_threads_take_turns():
    """Python keeps one record of warnings for all threads."""
    entered = Event()

    def enter():
        with gromov._complaints():
            entered.set()

    thread = Thread(target=enter)
    with gromov._complaints():
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()


def test_inputs_are_left_as_they_were(read_only):
    source, target = (Side(read_only(8, 2), features=read_only(8, 3)) for _ in range(2))
    for epsilon in (None, 0.05):
        GromovMatcher(epsilon=epsilon)(source, target)


def test_missing_features_are_refused(read_only):
    with pytest.raises(ValueError, match="no `features`"):
        GromovMatcher()(Side(read_only(4, 2), features=read_only(4, 2)), Side(read_only(4, 2)))


def test_large_blocks_are_refused_with_the_memory_that_they_need(read_only):
    """Before anything is computed."""
    scores = np.broadcast_to(read_only(1, 2), (20_000, 2))
    with pytest.raises(ValueError, match=r"20000 source and 4 target .* about 6.4 GB"):
        GromovMatcher()(Side(scores, features=scores), Side(read_only(4, 2), features=read_only(4, 2)))


@pytest.mark.parametrize(
    ("option", "words"),
    [({"alpha": 1.5}, "`alpha` is 1.5"), ({"epsilon": 0}, "`epsilon` is 0"), ({"tolerance": -1}, "`tolerance` is -1")],
)
def test_options_out_of_range_are_refused(option, words):
    with pytest.raises(ValueError, match=words):
        GromovMatcher(**option)
