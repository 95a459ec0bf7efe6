import numpy as np
from scipy.spatial.distance import cdist

from psalm.core.neighbors import SharedNeighborMatcher


def test_mass_is_the_row_normalised_jaccard_index_of_neighbour_sets(read_only):
    """Independent: neighbour sets by sorting all distances, intersections of Python sets."""
    x, y, k = read_only(9, 2), read_only(12, 2), 4

    def neighbours(cell):
        near_x, near_y = (np.argsort(cdist(cell[None], side)[0])[:k] for side in (x, y))
        return {("x", i) for i in near_x} | {("y", i) for i in near_y}

    jaccard = np.array(
        [[len(neighbours(a) & neighbours(b)) / len(neighbours(a) | neighbours(b)) for b in y] for a in x]
    )
    match = SharedNeighborMatcher(k)(x, y)
    found = match.plan.rows(slice(0, 9))
    np.testing.assert_allclose(found, jaccard / jaccard.sum(axis=1, keepdims=True) / 9)
    assert match.marginal_error == np.abs(found.sum(axis=0) - 1 / 12).sum()


def test_more_neighbours_than_cells_are_bounded(read_only):
    found = SharedNeighborMatcher(50)(read_only(3, 2), read_only(5, 2)).plan.rows(slice(0, 3))
    np.testing.assert_allclose(found.sum(axis=1), 1 / 3)


def test_duplicate_cells_keep_their_mass():
    x = np.zeros((30, 2))
    found = SharedNeighborMatcher(3)(x, x.copy()).plan.rows(slice(0, 30))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1 / 30)
