"""What is said of a match without a truth, by hand and against the truth."""

import numpy as np
import pytest
from scipy import sparse

from psalm.core.coupling import Block, Coupling
from psalm.core.permutation import relate
from psalm.core.plan import SparsePlan
from psalm.core.truth_free import (
    Expectation,
    Noise,
    Spreading,
    averages_over,
    block_means,
    halves,
    label_shares,
    one_hot,
)


def one_block(mass):
    mass = np.asarray(mass, float)
    n, m = mass.shape
    return Coupling(n, m, (Block(0, np.arange(n), np.arange(m), SparsePlan(sparse.csr_matrix(mass))),))


def expected(mass, y, first, second, n_permutations=20):
    coupling, rng = one_block(mass), np.random.default_rng(0)
    relation = relate(first, second, [np.arange(len(first))], rng, n_permutations)
    return Expectation.of(coupling, y, coupling.pull(y), [relation]).r2(np.array([0]))


def test_expected_r2_by_hand():
    """y = 0, 2, 4: variance sum 8. Averages 0, 2, 4 by the identity; estimates −1, 0, 1 and −1, 0, 1: product 2.

    (2·2 − 8 − 0) / 8 = −.5. With the averages themselves as both estimates it is (16 − 8)/8 = 1.
    """
    y, third = np.array([[0.0], [2.0], [4.0]]), np.array([[-1.0], [0.0], [1.0]])
    assert expected(np.eye(3), y, third, third).value == pytest.approx(-0.5)
    assert expected(np.eye(3), y, y, y).value == pytest.approx(1)


def test_a_hub_is_charged_with_its_bias():
    """All mass on y = 4: averages 4 do not vary, off the mean 2 by 2 in each of three cells: −3·4/8."""
    y = np.array([[0.0], [2.0], [4.0]])
    mass = [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert expected(mass, y, y, y).value == pytest.approx((2 * 8 - 12) / 8)
    constant = np.ones((3, 1))
    assert expected(mass, y, constant, constant).value == pytest.approx(-12 / 8)


def test_expected_r2_is_that_of_the_truth_where_errors_are_independent():
    """Independent: y is known. Averages are a part of y and noise; the estimates share the part, not the noise."""
    rng = np.random.default_rng(0)
    n = 4000
    part, rest, noise = rng.normal(size=(3, n, 1))
    y = part + rest
    averages = [part + 0.5 * noise, part + 0.5 * rng.normal(size=(n, 1)), part + 0.5 * rng.normal(size=(n, 1))]
    truth = 1 - ((y - averages[0]) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    known = np.arange(n) % 4 > 0  # both estimates are known for three cells of four
    first = np.where(known[:, None], averages[1], np.nan)
    relation = relate(first, averages[2], [np.arange(n)], rng, 1)
    plan = SparsePlan(sparse.csr_matrix((n, n)))  # not looked at: averages are given
    expectation = Expectation.of(
        Coupling(n, n, (Block(0, np.arange(n), np.arange(n), plan),)), y, averages[0], [relation, relation]
    )
    assert expectation.r2(np.array([0])).value == pytest.approx(truth, abs=0.05)


def test_averages_over_a_half_by_hand():
    """Of masses .1, .4, .5 on y = 1, 2, 3, over the last two: (.8 + 1.5)/.9; a row with no mass there has none."""
    coupling = one_block([[0.1, 0.4, 0.5], [1, 0, 0]])
    found = averages_over(coupling, np.array([[1.0], [2.0], [3.0]]), np.array([False, True, True]))
    np.testing.assert_allclose(found, [[2.3 / 0.9], [np.nan]])
    half = halves(one_block(np.ones((4, 7))), np.random.default_rng(0))
    assert half.sum() == 3


def spread(mass, weights=None, n_permutations=199):
    coupling = one_block(mass)
    weights = np.ones(coupling.n_target) if weights is None else np.asarray(weights, float)
    return Spreading.of(coupling, weights, np.random.default_rng(0), n_permutations).share(np.array([0]))


def test_effective_partners_by_hand():
    """Six cells: the identity has 6 effective partners, a hub 1; by chance Σ N² is 6 + 5 on average: 36/11."""
    assert spread(np.eye(6), n_permutations=4000).value == pytest.approx(11 / 6, rel=0.02)
    hub = np.zeros((6, 6))
    hub[:, 2] = 1
    found = spread(hub, n_permutations=4000)
    assert found.value == pytest.approx(11 / 36, rel=0.02)
    assert found.p_value < 0.01


def test_uniform_partners_are_no_hubs_and_a_cell_may_have_as_many_as_it_weighs():
    assert spread(np.ones((50, 40))).value == pytest.approx(1, abs=0.15)
    assert spread(np.ones((50, 40))).p_value > 0.05
    weights = np.ones(40)
    weights[0] = 40
    mass = np.ones((50, 40)) * weights
    assert spread(mass, weights).p_value > 0.05
    assert spread(mass).p_value < 0.05  # half of all on one of forty equal cells


def test_many_source_cells_do_not_hide_a_hub():
    """Five hundred source cells meet all fifty target cells anyway; one of them takes six tenths."""
    mass = np.ones((500, 50))
    mass[:, 0] = 1.5 * 49
    assert spread(mass).value < 0.1


def test_p_values_of_partners_are_uniform_under_chance():
    rng, p = np.random.default_rng(0), []
    for _ in range(150):
        mass = np.zeros((30, 30))
        mass[np.arange(30), rng.integers(30, size=30)] = 1
        coupling = one_block(mass)
        p.append(Spreading.of(coupling, np.ones(30), rng, 99).share(np.array([0])).p_value)
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.2
    assert 0.35 <= np.mean(p) <= 0.65


def test_reliability_by_hand():
    """Scores 0, 3, 6 around their mean: 18; errors 1, 0, −1: 2. The fourth cell has no error and takes no part.

    A second block has squares 2 and 2: alone 0, together 1 − 4/20. A third has two cells, which say nothing.
    """
    scores = np.array([0.0, 3, 6, 99, 1, 2, 3, 5, 6])[:, None]
    error = np.array([1.0, 0, -1, np.nan, 1, 0, -1, 3, 4])[:, None]
    found = Noise.of(scores, error, [np.arange(4), np.arange(4, 7), np.arange(7, 9)])
    assert found.reliability(np.array([0])) == pytest.approx(1 - 2 / 18)
    assert found.reliability(np.array([1])) == pytest.approx(0)
    assert found.reliability() == pytest.approx(1 - 4 / 20)
    assert np.isnan(found.reliability(np.array([2])))
    assert np.isnan(Noise.of(np.ones((9, 1)), error, [np.arange(9)]).reliability())


def test_label_shares_by_hand():
    """Target labels 0, 1, none: of the mass on labelled cells .2/.8 and all; a row on the unlabelled cell has none."""
    shares = label_shares(one_block([[0.1, 0.4, 0.5], [0.3, 0, 0], [0, 0, 1]]), np.array([0, 1, -1]), 2)
    np.testing.assert_allclose(shares, [[0.2, 0.8], [1, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(one_hot(np.array([1, -1]), 2), [[0, 1], [np.nan, np.nan]])
    u, v = one_hot(np.array([0, 0, 1, 1]), 2), np.vstack([shares, [[0, 1]]])
    # cells 0, 1 and 3: mean u (2/3, 1/3), mean v (.4, .6), n = 3; two cells are too few
    np.testing.assert_allclose(block_means(u, v, [np.arange(4), np.arange(2)]), [3 * (0.8 + 0.6) / 3, 0])
