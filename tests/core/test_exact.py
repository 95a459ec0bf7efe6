"""Reference: POT's `ot.emd` on the whole cost matrix, which knows nothing of lists of pairs, tiles or float32."""

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from psalm.core.exact import ExactMatcher, solve_exact
from psalm.core.matcher import Side
from psalm.core.pricing import Search

COSTS = ("euclidean", "sqeuclidean")
ROUTES = {"listed": 0, "dense": 10**9}


def clusters(rng, sizes, d=4, distance=12.0):
    centres = distance * np.eye(len(sizes), d)
    return np.repeat(centres, sizes, axis=0) + rng.normal(size=(sum(sizes), d))


def weights(rng, n):
    mass = rng.gamma(0.5, size=n) + 1e-3
    return mass / mass.sum()


def equal(rng):
    return Side(rng.normal(size=(300, 6))), Side(rng.normal(size=(300, 6)) + 0.5)


def wide(rng):
    return Side(rng.normal(size=(37, 3))), Side(rng.normal(size=(611, 3)))


def tall(rng):
    return Side(rng.normal(size=(500, 3))), Side(rng.normal(size=(77, 3)))


def weighted(rng):
    return Side(rng.normal(size=(240, 5)), weights(rng, 240)), Side(rng.normal(size=(170, 5)), weights(rng, 170))


def duplicates(rng):
    return Side(np.repeat(rng.normal(size=(9, 4)), 30, axis=0)), Side(np.repeat(rng.normal(size=(6, 4)), 50, axis=0))


def same_cells(rng):
    x = rng.normal(size=(200, 4))
    return Side(x), Side(x[rng.permutation(200)])


def grid(_):
    x = np.stack(np.meshgrid(np.arange(14.0), np.arange(14.0)), axis=-1).reshape(-1, 2)
    return Side(x), Side(x + 0.5)


def unbalanced_clusters(rng):
    return Side(clusters(rng, (150, 60, 40))), Side(clusters(rng, (40, 60, 150)))


def far_away(rng):
    return Side(rng.normal(size=(150, 3)) + 1e4), Side(rng.normal(size=(150, 3)) + 1e4)


def one_to_many(rng):
    return Side(rng.normal(size=(1, 3))), Side(rng.normal(size=(60, 3)), weights(rng, 60))


def many_to_one(rng):
    return Side(rng.normal(size=(60, 3))), Side(rng.normal(size=(1, 3)))


def one_to_one(rng):
    return Side(rng.normal(size=(1, 3))), Side(rng.normal(size=(1, 3)))


def constant(_):
    return Side(np.full((40, 3), 0.1)), Side(np.full((70, 3), 0.1))


BLOCKS = (
    *(equal, wide, tall, weighted, duplicates, same_cells, grid, unbalanced_clusters, far_away),
    *(one_to_many, many_to_one, one_to_one, constant),
)


def optimum(source, target, cost):
    between = cdist(source.scores, target.scores, cost)
    scale = between.mean() or 1.0  # `ot.emd` compares costs with absolute numbers
    return scale * ot.emd2(source.mass, target.mass, between / scale, numItermax=10**8), scale


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_plan_costs_what_the_dense_optimum_costs(rng, block, cost, route):
    source, target = block(rng)
    match = ExactMatcher(cost, dense_pairs=ROUTES[route])(source, target)
    mass, (best, scale) = match.plan.mass, optimum(source, target, cost)
    paid = (mass.toarray() * cdist(source.scores, target.scores, cost)).sum()
    assert paid == pytest.approx(best, rel=1e-9, abs=1e-9 * scale)
    assert mass.data.min() >= 0
    rows, columns = mass.sum(axis=1).A1, mass.sum(axis=0).A1
    assert rows == pytest.approx(source.mass, rel=1e-9, abs=1e-13)
    assert columns == pytest.approx(target.mass, rel=1e-9, abs=1e-13)
    assert match.converged
    assert match.marginal_error < 1e-12
    assert match.mean_cost == pytest.approx(cdist(source.scores, target.scores, cost).mean(), rel=1e-6)
    assert np.isnan(match.epsilon)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_certificate_is_a_proof(rng, block, cost, route):
    """Weak duality needs no solver: potentials that no pair violates bound every plan's cost from below."""
    source, target = block(rng)
    mass, proof = solve_exact(ExactMatcher(cost, dense_pairs=ROUTES[route]), source, target)
    between = cdist(source.scores, target.scores, cost)
    scale = between.mean() or 1.0
    reduced = between - proof.source_potential[:, None] - proof.target_potential
    assert reduced.min() >= -1e-11 * scale
    value = source.mass @ proof.source_potential + target.mass @ proof.target_potential
    assert proof.gap == pytest.approx((mass.toarray() * between).sum() - value, abs=1e-10 * scale)
    assert proof.gap <= 1e-9 * scale
    assert (mass.toarray() * reduced).sum() <= 2e-9 * scale


@pytest.mark.parametrize("cost", COSTS)
def test_a_round_too_few_is_not_certified(rng, cost):
    """The bound holds all the same: the plan exceeds the optimum, and by no more than the gap."""
    source, target = unbalanced_clusters(rng)
    method = ExactMatcher(cost, dense_pairs=0, max_rounds=1)
    match = method(source, target)
    mass, proof = solve_exact(method, source, target)
    best, scale = optimum(source, target, cost)
    excess = (mass.toarray() * cdist(source.scores, target.scores, cost)).sum() - best
    assert not match.converged
    assert match.iterations == proof.rounds == 1
    assert match.marginal_error < 1e-12
    assert 1e-6 * scale < excess <= proof.gap
    assert ExactMatcher(cost, dense_pairs=0)(source, target).iterations > 1


def test_equal_cells_have_one_partner_each(rng):
    mass = ExactMatcher(dense_pairs=0)(*equal(rng)).plan.mass
    assert (np.diff(mass.indptr) == 1).all()
    assert sorted(mass.indices) == list(range(300))


@pytest.mark.parametrize("cost", COSTS)
def test_order_of_cells_and_sides_does_not_matter(rng, cost):
    source, target = weighted(rng)
    rows, columns = rng.permutation(len(source)), rng.permutation(len(target))
    method = ExactMatcher(cost, dense_pairs=0)
    mass = method(source, target).plan.mass.toarray()
    shuffled = (Side(side.scores[order], side.mass[order]) for side, order in ((source, rows), (target, columns)))
    of_shuffled, swapped = method(*shuffled).plan.mass.toarray(), method(target, source).plan.mass.toarray()
    assert of_shuffled == pytest.approx(mass[np.ix_(rows, columns)], abs=1e-12)
    assert swapped == pytest.approx(mass.T, abs=1e-12)


def test_threads_do_not_change_the_result(rng):
    blocks = [equal(rng), unbalanced_clusters(rng)]
    one, two = (ExactMatcher(dense_pairs=0).match_many(blocks, n_threads) for n_threads in (1, 2))
    for first, second in zip(one, two, strict=True):
        assert (first.plan.mass != second.plan.mass).nnz == 0
        assert first.iterations == second.iterations


def test_input_is_not_written_to(read_only):
    ExactMatcher(dense_pairs=0)(Side(read_only(90, 3)), Side(read_only(80, 3)))
    ExactMatcher()(Side(read_only(9, 3)), Side(read_only(8, 3)))


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("cost", COSTS)
def test_search_finds_every_pair_down_to_float64(rng, cost, offset):
    """Against all pairs in float64: chunks and tiles that are not full, and in every row a pair just within its slack.

    In float32 alone about half of these pairs would be missed.
    """
    x, y = rng.normal(size=(301, 7)) + offset, 3 * rng.normal(size=(1303, 7)) + offset
    between = cdist(x, y, cost)
    v = between.min(axis=0) / 2 + offset
    u = (between - v).min(axis=1) + 0.1 * between.std() * rng.normal(size=301)
    reduced = between - u[:, None] - v
    slack = np.sort(reduced, axis=1)[:, 5] + 1e-9
    lowest, pairs = Search(cost, x, y, 2)(u, v, slack, 1303)
    found = np.zeros(reduced.shape, dtype=bool)
    found[tuple(pairs)] = True
    assert (found == (reduced <= slack[:, None])).all()
    assert found.sum() == 6 * 301
    assert lowest == pytest.approx(reduced.min(axis=1), abs=1e-10)


def test_search_keeps_the_least_pairs_of_a_row(rng):
    x, y = rng.normal(size=(70, 5)), rng.normal(size=(900, 5))
    lowest, pairs = Search("euclidean", x, y, 1)(np.zeros(70), np.zeros(900), np.full(70, 1e30), 3)
    between = cdist(x, y)
    expected = np.sort(np.argsort(between, axis=1)[:, :3], axis=1)
    assert (np.sort(pairs[1].reshape(70, 3), axis=1) == expected).all()
    assert lowest == pytest.approx(between.min(axis=1), abs=1e-12)


def test_ties_spread_over_columns():
    """Equal cells would otherwise all be listed with the same few partners."""
    x = np.zeros((64, 2))
    _, pairs = Search("sqeuclidean", x, x, 1)(np.zeros(64), np.zeros(64), np.zeros(64), 4)
    assert len(np.unique(pairs[1])) > 32


@pytest.mark.parametrize(
    ("options", "match"),
    [
        pytest.param({"cost": "cosine"}, "'cosine'.*'euclidean', 'sqeuclidean'", id="cost"),
        pytest.param({"max_rounds": 0}, "`max_rounds=0`.*at least 1 round", id="rounds"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ExactMatcher(**options)


def test_memory_grows_with_pairs_where_all_are_listed_and_else_with_cells():
    matcher = ExactMatcher(dense_pairs=10_000)
    small, twice = (matcher.need((n, n), 5, 1).working_bytes for n in (50, 100))
    assert twice == 4 * small
    large, twice = (matcher.need((n, n), 5, 1).working_bytes for n in (1000, 2000))
    assert twice == 2 * large
