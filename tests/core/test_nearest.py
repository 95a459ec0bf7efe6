import numpy as np
import pytest
from scipy.spatial.distance import cdist

from psalm.core.matcher import Side
from psalm.core.nearest import MutualMatcher, NearestMatcher


def shares(n):
    """Unequal masses."""
    return np.arange(1, n + 1) / np.arange(1, n + 1).sum()


def test_all_mass_goes_to_the_nearest_cell(read_only):
    """Independent: argmin over all distances."""
    x, y = read_only(30, 3), read_only(20, 3)
    expected = np.zeros((30, 20))
    expected[np.arange(30), cdist(x, y).argmin(axis=1)] = shares(30)
    match = NearestMatcher()(Side(x, shares(30)), Side(y, shares(20)))
    np.testing.assert_array_equal(match.plan.rows(slice(0, 30)), expected)
    assert match.marginal_error == pytest.approx(np.abs(expected.sum(axis=0) - shares(20)).sum())


def test_of_identical_cells_the_first_is_taken(rng):
    y = np.repeat(rng.normal(size=(5, 2)), 40, axis=0)[rng.permutation(200)]
    found = NearestMatcher()(Side(y + 1e-3), Side(y)).plan.mass.indices
    expected = [next(j for j in range(200) if (y[j] == cell).all()) for cell in y]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("matcher", [NearestMatcher(), MutualMatcher()])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (4, 1)])
def test_small_and_constant_blocks_transport_all_mass(matcher, n, m):
    found = matcher(Side(np.zeros((n, 2))), Side(np.zeros((m, 2)))).plan.rows(slice(0, n))
    np.testing.assert_allclose(found.sum(axis=1), 1 / n)


def test_mutual_neighbours_share_the_mass_of_their_source_cell(read_only):
    """Independent: neighbour sets by sorting all distances, a loop over pairs."""
    x, y, k = read_only(25, 3), read_only(18, 3), 4
    distances = cdist(x, y)
    of_x = [set(row) for row in np.argsort(distances, axis=1)[:, :k].tolist()]
    of_y = [set(row) for row in np.argsort(distances.T, axis=1)[:, :k].tolist()]
    mutual = np.array([[j in of_x[i] and i in of_y[j] for j in range(18)] for i in range(25)])
    expected = np.zeros((25, 18))
    for i in range(25):
        if mutual[i].any():
            expected[i, mutual[i]] = shares(25)[i] / mutual[i].sum()
    match = MutualMatcher(k)(Side(x, shares(25)), Side(y, shares(18)))
    found = match.plan.rows(slice(0, 25))
    np.testing.assert_allclose(found, expected)
    assert (found.sum(axis=1) == 0).any()
    rows, columns = found.sum(axis=1) - shares(25), found.sum(axis=0) - shares(18)
    assert match.marginal_error == pytest.approx(np.abs(rows).sum() + np.abs(columns).sum())


def test_cells_without_a_mutual_neighbour_carry_no_mass():
    """By hand: 0 and 0.1 are each other's nearest, as are 5 and 5.1; the source cell at 1 is nobody's."""
    match = MutualMatcher(1)(Side(np.array([[0.0], [1.0], [5.0]])), Side(np.array([[0.1], [5.1]])))
    np.testing.assert_allclose(match.plan.rows(slice(0, 3)), [[1 / 3, 0], [0, 0], [0, 1 / 3]])
    assert match.plan.mass.sum() == pytest.approx(2 / 3)
    assert match.marginal_error == pytest.approx(1 / 3 + 2 * (1 / 2 - 1 / 3))


def test_unusable_numbers_of_neighbours_are_refused():
    with pytest.raises(ValueError, match="`n_neighbors` is 0"):
        MutualMatcher(0)
