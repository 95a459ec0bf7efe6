import numpy as np
import pytest
from scipy import sparse

from psalm.core.coupling import Block, Coupling
from psalm.core.matcher import Side
from psalm.core.plan import SparsePlan
from psalm.core.sinkhorn import SinkhornMatcher


@pytest.fixture
def mass():
    """Blocks of 3 × 2 and 2 × 2 among 6 source and 5 target cells; source cell 5 and target cell 4 are unmatched."""
    dense = np.zeros((6, 5))
    dense[np.ix_([0, 2, 4], [1, 3])] = [[0.1, 0.1], [0.0, 0.2], [0.15, 0.05]]
    dense[np.ix_([1, 3], [0, 2])] = [[0.2, 0.0], [0.1, 0.1]]
    return dense


@pytest.fixture
def coupling(mass):
    places = [([0, 2, 4], [1, 3]), ([1, 3], [0, 2])]
    blocks = [
        Block(t, np.array(rows), np.array(columns), SparsePlan(sparse.csr_matrix(mass[np.ix_(rows, columns)])))
        for t, (rows, columns) in enumerate(places)
    ]
    return Coupling(6, 5, tuple(blocks))


def test_pull_is_the_row_normalised_average(coupling, mass, read_only):
    values = read_only(5, 3)
    found = coupling.pull(values)
    np.testing.assert_allclose(found[:5], (mass @ values)[:5] / mass.sum(axis=1)[:5, None])
    assert np.isnan(found[5]).all()


def test_transpose_pulls_in_the_other_direction(coupling, mass, read_only):
    values = read_only(6, 2)
    expected = (mass.T @ values)[:4] / mass.sum(axis=0)[:4, None]
    np.testing.assert_allclose(coupling.transpose.pull(values)[:4], expected)


def test_entropies_by_hand(coupling):
    source, target = coupling.entropies()
    assert source[0] == pytest.approx(np.log(2))
    assert source[2] == pytest.approx(0)
    assert np.isnan(source[5])
    thirds = np.array([1 / 3, 2 / 3])
    assert target[0] == pytest.approx(-(thirds * np.log(thirds)).sum())


def test_csr_is_the_matrix(coupling, mass):
    np.testing.assert_allclose(coupling.to_csr().toarray(), mass)


def test_samples_follow_the_columns(coupling, mass, rng):
    """Independent: frequencies of many draws against the normalised column, by five standard errors."""
    draws = coupling.sample(20_000, rng)
    assert draws.shape == (5, 20_000)
    for target in range(4):
        column = mass[:, target] / mass[:, target].sum()
        frequency = np.bincount(draws[target], minlength=6) / 20_000
        assert (np.abs(frequency - column) <= 5 * np.sqrt(column * (1 - column) / 20_000)).all()
    assert (draws[4] == -1).all()


@pytest.fixture
def soft(read_only):
    match = SinkhornMatcher()(Side(read_only(60, 3)), Side(read_only(80, 3)))
    return Coupling(60, 80, (Block(0, np.arange(60), np.arange(80), match.plan),))


def test_compact_view_keeps_everything_that_fits(soft):
    view, kept = soft.compact(60 * 80)
    np.testing.assert_allclose(view.toarray(), soft.to_csr().toarray())
    np.testing.assert_allclose(kept, 1)


def test_compact_view_states_its_loss_and_keeps_marginals(soft):
    exact = soft.to_csr().toarray()
    view, kept = soft.compact(60 * 8)
    largest = exact >= np.sort(exact, axis=1)[:, [-8]]
    largest[exact.argmax(axis=0), np.arange(80)] = True
    np.testing.assert_array_equal(view.toarray() > 0, largest)
    assert kept[0] == pytest.approx(exact[largest].sum() / exact.sum())
    assert kept[0] < 0.9
    np.testing.assert_allclose(view.sum(axis=1).A1, exact.sum(axis=1), rtol=1e-5)  # float32 rows
    before = np.abs(np.where(largest, exact, 0).sum(axis=0) - exact.sum(axis=0)).sum()
    assert np.abs(view.sum(axis=0).A1 - exact.sum(axis=0)).sum() < 0.2 * before


def test_soft_averages_come_from_potentials(soft, read_only):
    """Independent: the dense matrix."""
    exact, values = soft.to_csr().toarray(), read_only(80, 4)
    expected = exact @ values / exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soft.pull(values), expected, atol=1e-5)
    back = read_only(60, 2)
    np.testing.assert_allclose(soft.push(back), exact.T @ back / exact.sum(axis=0)[:, None], atol=1e-5)


def test_top_partners(coupling, mass):
    partners, shares = coupling.top(2)
    assert partners[2].tolist() == [3, -1]
    assert shares[2].tolist() == [1, 0]
    assert set(partners[0]) == {1, 3}
    np.testing.assert_allclose(shares[4], [0.75, 0.25])
    assert partners[4].tolist() == [1, 3]
    assert (partners[5] == -1).all()


def test_soft_samples_follow_the_columns(soft, rng):
    """Independent: frequencies of many draws against the exact column, by five standard errors."""
    exact = soft.to_csr().toarray()
    draws = soft.sampler().draw(np.array([3, 70]), 40_000, rng)
    for row, target in zip(draws, (3, 70), strict=True):
        column = exact[:, target] / exact[:, target].sum()
        frequency = np.bincount(row, minlength=60) / 40_000
        assert (np.abs(frequency - column) <= 5 * np.sqrt(column * (1 - column) / 40_000) + 1e-9).all()


def test_masses_of_cells(coupling, mass):
    spread = coupling.spread()
    np.testing.assert_allclose(spread.source_mass[:5], mass.sum(axis=1)[:5])
    np.testing.assert_allclose(spread.target_mass[:4], mass.sum(axis=0)[:4])
    assert np.isnan(spread.source_mass[5])
