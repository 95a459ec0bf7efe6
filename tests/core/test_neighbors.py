import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import skew

from psalm.core import neighbors
from psalm.core.matcher import Side
from psalm.core.neighbors import SharedNeighborMatcher, nearest, nearest_within


def shares(n):
    """Unequal masses."""
    return np.arange(1, n + 1) / np.arange(1, n + 1).sum()


def csls(cells, others, *, within=False):
    """2 d − r(y) by sorting all distances, not by tiles; a cell itself is nearest and does not count."""
    distances = cdist(cells, others)
    if within:
        np.fill_diagonal(distances, np.inf)
    near = np.sort(distances, axis=0)[: min(10, len(cells) - within)]
    scaled = 2 * distances - near.mean(axis=0)
    if within:
        np.fill_diagonal(scaled, -np.inf)
    return scaled


@pytest.mark.parametrize("hubness", [None, "csls"])
def test_mass_is_the_row_normalised_jaccard_index_of_neighbour_sets(read_only, hubness):
    """Independent: neighbour sets by sorting all distances, intersections of Python sets."""
    x, y, k = read_only(10, 2), read_only(12, 2), 4
    source, target = Side(x, shares(10)), Side(y, shares(12))

    def neighbours(cells, others, name):
        within = cells is others
        near = csls(cells, others, within=within) if hubness else cdist(cells, others)
        return [{(name, j) for j in row} for row in np.argsort(near, axis=1)[:, :k].tolist()]

    x_sets, y_sets = (
        [a | b for a, b in zip(neighbours(cells, x, "x"), neighbours(cells, y, "y"), strict=True)] for cells in (x, y)
    )
    jaccard = np.array([[len(a & b) / len(a | b) for b in y_sets] for a in x_sets])
    match = SharedNeighborMatcher(k, hubness)(source, target)
    found = match.plan.rows(slice(0, 10))
    np.testing.assert_allclose(found, source.mass[:, None] * jaccard / jaccard.sum(axis=1, keepdims=True))
    assert match.marginal_error == pytest.approx(np.abs(found.sum(axis=0) - target.mass).sum())
    assert match.converged
    assert match.iterations == 0


@pytest.mark.parametrize("hubness", [None, "csls"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (4, 1), (3, 5)])
def test_more_neighbours_than_cells_are_bounded(read_only, n, m, hubness):
    found = SharedNeighborMatcher(50, hubness)(Side(read_only(n, 2)), Side(read_only(m, 2))).plan.rows(slice(0, n))
    np.testing.assert_allclose(found.sum(axis=1), 1 / n)


@pytest.mark.parametrize("hubness", [None, "csls"])
def test_duplicate_cells_keep_their_mass(hubness):
    """Each of many identical cells is its own neighbour, so that every cell shares one with another."""
    x = np.repeat([0.0, 1.0, 5.0], 20)[:, None]
    match = SharedNeighborMatcher(3, hubness)(Side(x, shares(60)), Side(x[::-1].copy(), shares(60)))
    found = match.plan.rows(slice(0, 60))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), shares(60))


def test_every_cell_is_one_of_its_own_neighbours():
    cells = np.zeros((40, 3))
    for hubness in (None, "csls"):
        assert (nearest_within(cells, 2, hubness) == np.arange(40)[:, None]).any(axis=1).all()


@pytest.mark.parametrize("n", [4, 60])
def test_scaled_neighbours_within_a_modality_are_the_least_of_all_pairs(read_only, n):
    x = read_only(n, 3)
    expected = np.argsort(csls(x, x, within=True), axis=1)[:, :4]
    np.testing.assert_array_equal(nearest_within(x, 4, "csls"), expected)


def test_scaled_neighbours_do_not_depend_on_tiles(read_only, monkeypatch):
    x, y = read_only(90, 5), read_only(700, 5)
    expected = np.argsort(csls(x, y), axis=1)[:, :7]
    np.testing.assert_array_equal(nearest(x, y, 7, "csls"), expected)
    monkeypatch.setattr(neighbors, "TILE_BYTES", 8 * 700 * 4)
    np.testing.assert_array_equal(nearest(x, y, 7, "csls"), expected)


def test_the_least_of_equal_values_are_the_first(rng):
    values = rng.integers(0, 6, size=(30, 1001)).astype(float)
    np.testing.assert_array_equal(neighbors._least(values, 40), np.argsort(values, axis=1, kind="stable")[:, :40])


def test_scaling_lowers_hubness(rng):
    """Hubness: skewness of how often a cell is among the neighbours of others (Radovanović et al., JMLR 2010)."""
    x, y = rng.normal(size=(700, 50)), rng.normal(size=(600, 50))

    def skewness(near, n):
        return skew(np.bincount(near.ravel(), minlength=n))

    plain, scaled = (skewness(nearest(x, y, 15, hubness), 600) for hubness in (None, "csls"))
    assert plain > 2
    assert scaled < plain / 2
    plain, scaled = (skewness(nearest_within(x, 15, hubness), 700) for hubness in (None, "csls"))
    assert plain > 2
    assert scaled < plain / 2


def test_scaling_spreads_mass_more_evenly_over_target_cells(rng):
    hidden = rng.normal(size=(400, 30))
    x, y = (Side(hidden + 0.5 * rng.normal(size=hidden.shape)) for _ in range(2))
    plain, scaled = (SharedNeighborMatcher(15, hubness)(x, y) for hubness in (None, "csls"))
    assert scaled.marginal_error < 0.8 * plain.marginal_error
    assert scaled.plan.mass.diagonal().sum() > plain.plan.mass.diagonal().sum()


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "15"])
def test_unusable_numbers_of_neighbours_are_refused(value):
    with pytest.raises(ValueError, match="whole number from 1"):
        SharedNeighborMatcher(value)


def test_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="'mutual'` is not known"):
        SharedNeighborMatcher(hubness="mutual")
