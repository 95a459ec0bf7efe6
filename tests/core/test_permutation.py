"""Covariances over cells and what shuffling leaves of them."""

import itertools

import numpy as np
import pytest

from psalm.core import permutation
from psalm.core.permutation import Statistic, relate


def test_by_hand():
    """u = −1, 0, 1 and v = 2, 0, −2 in one block: product −4, squares 2 and 8, correlation −1; mean −4/3."""
    u, v = np.array([[4.0], [5.0], [6.0], [9.0]]), np.array([[3.0], [1.0], [-1.0], [np.nan]])
    found = relate(u, v, [np.arange(4), np.array([0])], np.random.default_rng(0), 50)
    assert found.n_cells.tolist() == [3, 0]  # NaN takes no part; a single cell has nothing to vary with
    assert found.product.tolist() == [-4.0, 0.0]
    assert found.correlation().value == pytest.approx(-1)
    assert found.mean().value == pytest.approx(-4 / 3)
    assert np.isnan(found.correlation(np.array([1])).value)


def test_the_null_is_that_of_all_orders():
    """Independent: every permutation of four cells."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    u, v = u - u.mean(axis=0), v - v.mean(axis=0)
    every = sorted((u[list(order)] * v).sum() for order in itertools.permutations(range(4)))
    found = relate(u, v, [np.arange(4)], rng, 4000)
    assert set(np.round(np.unique(found.null), 9)) == set(np.round(every, 9))
    assert found.null.mean() == pytest.approx(np.mean(every), abs=0.1)


def test_large_and_small_blocks_are_permuted_alike(monkeypatch):
    u, v = np.random.default_rng(0).normal(size=(2, 30, 3))
    small = relate(u, v, [np.arange(30)], np.random.default_rng(5), 20).null
    monkeypatch.setattr(permutation, "SMALL", 1)
    np.testing.assert_allclose(relate(u, v, [np.arange(30)], np.random.default_rng(5), 20).null, small)


def test_p_values_are_uniform_under_chance_and_small_under_a_relation():
    rng = np.random.default_rng(0)
    p = [relate(*rng.normal(size=(2, 20, 2)), [np.arange(20)], rng, 99).correlation().p_value for _ in range(200)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.1
    u = rng.normal(size=(20, 2))
    assert relate(u, u + 0.5 * rng.normal(size=(20, 2)), [np.arange(20)], rng, 99).correlation().p_value == 0.01


def test_p_values_by_hand():
    """Three of nine are as large, with the observed one 4 of 10; two are as small: 3 of 10."""
    null = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert Statistic(9, 6.0, null).p_value == pytest.approx(0.4)
    assert Statistic(9, 1.0, null, low=True).p_value == pytest.approx(0.3)
    assert np.isnan(Statistic(0, float("nan"), null).p_value)
