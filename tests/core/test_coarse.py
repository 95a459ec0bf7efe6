"""Groups of columns and the shifts between them, against dense arithmetic."""

import numpy as np
import pytest

from psalm.core.coarse import MOST_TIMES, Aggregate, grouped
from psalm.core.entropic import Entropic
from psalm.core.matcher import Side


def clusters(n, seed, n_centres=6):
    rng = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(0).normal(size=(n_centres, 5))
    found = centres[rng.integers(n_centres, size=n)] + rng.normal(size=(n, 5))
    found.setflags(write=False)
    return found


def dense(x, y, epsilon, g):
    """Plan with exact rows for column potentials over ε, in float64."""
    exponent = g - ((x[:, None] - y) ** 2).sum(axis=2) / epsilon
    mass = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return mass / mass.sum(axis=1, keepdims=True) / len(x)


def test_groups_are_neighbours_and_cover_every_column():
    y = clusters(500, 1)
    order, edges = grouped(y)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(y)))
    assert edges[0] == 0
    assert edges[-1] == len(y)
    assert (np.diff(edges) > 0).all()
    within = sum(((part - part.mean(axis=0)) ** 2).sum() for part in np.split(y[order], edges[1:-1]))
    assert within < 0.3 * ((y - y.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize("n_columns", [1, 3, 60])
def test_few_or_equal_columns_make_few_groups(n_columns):
    order, edges = grouped(np.ones((n_columns, 2)))
    assert len(order) == n_columns
    assert edges.tolist() == [0, n_columns]


def test_after_a_corrected_step_every_group_has_its_mass():
    """With one column a group the step is Newton's: rows made exact again, the columns are met."""
    x, y = clusters(300, 2), clusters(40, 3)
    g = np.random.default_rng(4).normal(size=40)
    plan = dense(x, y, 8.0, g)
    log_a, log_b = np.full(300, -np.log(300)), np.full(40, -np.log(40))
    masses = plan.sum(axis=0)
    error = np.abs(masses - 1 / 40).sum()
    aggregate = Aggregate(np.arange(41), log_a, log_b)
    step = aggregate(log_b - np.log(masses), masses, error, lambda rows, _: plan[rows] * 7.0)
    after = dense(x, y, 8.0, g + step).sum(axis=0)
    plain = dense(x, y, 8.0, g + log_b - np.log(masses)).sum(axis=0)
    assert np.abs(after - 1 / 40).sum() < 0.03 * error
    assert np.abs(plain - 1 / 40).sum() > 0.2 * error


def test_where_marginals_are_met_the_step_stays_zero():
    """On a sample of the rows as well: the correction has the fixed point of the sweeps."""
    x, y = clusters(2500, 5), clusters(90, 6)
    order, edges = grouped(y)
    plan = dense(x, y[order], 8.0, np.zeros(90))
    masses = plan.sum(axis=0)
    aggregate = Aggregate(edges, np.full(2500, -np.log(2500)), np.log(masses))
    assert len(aggregate.rows) < 2500
    sums = np.add.reduceat(plan, edges[:-1], axis=1)
    step = aggregate(np.zeros(90), masses, 1.0, lambda rows, _: sums[rows])
    np.testing.assert_allclose(step, 0, atol=1e-9)


def test_a_group_that_no_sampled_row_reaches_takes_its_plain_step():
    sums = np.zeros((4, 3))
    sums[:, :2] = [[1, 2], [2, 1], [1, 1], [3, 1]]
    masses = np.array([0.5, 0.4999, 0.0001])
    log_b = np.log([0.4, 0.3, 0.3])
    aggregate = Aggregate(np.arange(4), np.full(4, -np.log(4)), log_b)
    step = aggregate(log_b - np.log(masses), masses, 1.0, lambda *_: sums)
    assert np.isfinite(step).all()
    assert step[2] == pytest.approx(np.log(0.3 / 0.0001))


def test_correction_ends_when_it_does_not_pay():
    aggregate = Aggregate(np.array([0, 2]), np.zeros(2), np.zeros(2))
    assert not aggregate.pays(steady=False)
    assert [aggregate.pays(steady=True) for _ in range(MOST_TIMES)] == [True] * (MOST_TIMES - 1) + [False]


@pytest.mark.parametrize("memory_mb", [512, 0], ids=["kept", "recomputed"])
@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
def test_few_sweeps_where_cells_form_groups(memory_mb, cost):
    """Row and column sums in float64 from the cost matrix; plain iterations take hundreds of sweeps here."""
    x, y = clusters(1100, 7), clusters(1000, 8)
    entropic = Entropic(cost, 0.05, tolerance=1e-6, memory_mb=memory_mb)
    match = entropic.solve([(Side(x), Side(y))], 2)[0]
    assert match.converged
    assert match.iterations < 30
    cost_matrix = ((x[:, None] - y) ** 2).sum(axis=2)
    cost_matrix = cost_matrix if cost == "sqeuclidean" else np.sqrt(cost_matrix)
    potentials = match.plan.source_potential[:, None] + match.plan.target_potential
    plan = np.exp((potentials - cost_matrix) / match.epsilon)
    assert np.abs(plan.sum(axis=0) * 1000 - 1).mean() < 1e-6
    assert np.abs(plan.sum(axis=1) * 1100 - 1).mean() < 1e-6
