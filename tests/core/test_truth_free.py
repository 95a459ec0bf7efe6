"""What is said of a match without a truth, by hand and against the truth."""

import numpy as np
import pytest
from scipy import sparse

from psalm.core.coupling import Block, Coupling
from psalm.core.permutation import relate
from psalm.core.plan import SparsePlan
from psalm.core.truth_free import Expectation, Spreading, averages_over, block_means, halves, label_shares, one_hot


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
    coupling = Coupling(n, n, one_block(np.ones((n, 1))).blocks)  # stands for the block only
    whole = Coupling(n, n, (Block(0, np.arange(n), np.arange(n), coupling.blocks[0].plan),))
    expectation = Expectation.of(whole, y, averages[0], [relation, relation])
    assert expectation.r2(np.array([0])).value == pytest.approx(truth, abs=0.05)


def test_averages_over_a_half_by_hand():
    """Of masses .1, .4, .5 on y = 1, 2, 3, over the last two: (.8 + 1.5)/.9; a row with no mass there has none."""
    coupling = one_block([[0.1, 0.4, 0.5], [1, 0, 0]])
    found = averages_over(coupling, np.array([[1.0], [2.0], [3.0]]), np.array([False, True, True]))
    np.testing.assert_allclose(found, [[2.3 / 0.9], [np.nan]])
    half = halves(one_block(np.ones((4, 7))), np.random.default_rng(0))
    assert half.sum() == 3


def test_different_partners_by_hand():
    """The identity gives 6 different partners of 6 cells, a hub one; chance 6(1 − (5/6)^6) = 3.99."""
    rng = np.random.default_rng(0)
    chance = 6 * (1 - (5 / 6) ** 6)
    assert Spreading.of(one_block(np.eye(6)), rng, 2000).share(np.array([0])).value == pytest.approx(
        6 / chance, rel=0.03
    )
    hub = np.zeros((6, 6))
    hub[:, 2] = 1
    found = Spreading.of(one_block(hub), rng, 199).share(np.array([0]))
    assert found.value == pytest.approx(1 / chance, rel=0.05)
    assert found.p_value < 0.02


def test_uniform_partners_are_no_hubs():
    found = Spreading.of(one_block(np.ones((50, 40))), np.random.default_rng(0), 199).share(np.array([0]))
    assert found.value == pytest.approx(1, abs=0.05)
    assert found.p_value > 0.05


def test_label_shares_by_hand():
    """Target labels 0, 1, none: of the mass on labelled cells .2/.8 and all; a row on the unlabelled cell has none."""
    shares = label_shares(one_block([[0.1, 0.4, 0.5], [0.3, 0, 0], [0, 0, 1]]), np.array([0, 1, -1]), 2)
    np.testing.assert_allclose(shares, [[0.2, 0.8], [1, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(one_hot(np.array([1, -1]), 2), [[0, 1], [np.nan, np.nan]])
    u, v = one_hot(np.array([0, 0, 1]), 2), shares
    # cells 0 and 1: mean u (1, 0), mean v (.6, .4): 2 · .6
    np.testing.assert_allclose(block_means(u, v, [np.arange(3)]), [1.2])
