import numpy as np
import pytest

from psalm.core.layout import Factor, Layout, one_factor


@pytest.fixture
def factorial():
    """Treatments a1, a2, b1, b2 of two drugs at two doses."""
    return Layout(
        (
            Factor("drug", ("a", "b"), np.array([0, 0, 1, 1])),
            Factor("dose", ("1", "2"), np.array([0, 1, 0, 1])),
        )
    )


def test_columns(factorial):
    assert factorial.names == ["drug=a", "drug=b", "dose=1", "dose=2"]
    assert factorial.columns == [slice(0, 2), slice(2, 4)]
    assert one_factor(("x", "y")).names == ["x", "y"]
    np.testing.assert_array_equal(factorial.factors[0].codes(np.array([3, -1, 0])), [1, -1, 0])


def test_probability_of_a_combination_is_the_product(factorial):
    log_odds = np.log([[0.2, 0.8, 0.3, 0.7]])
    np.testing.assert_allclose(np.exp(factorial.log_probability(log_odds, np.array([2]))), 0.8 * 0.3)


def test_prior_of_a_combination_is_the_product_of_its_levels(factorial):
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(np.exp(factorial.log_prior(shares)), [0.3 * 0.4, 0.3 * 0.6, 0.7 * 0.4, 0.7 * 0.6])
    np.testing.assert_allclose(np.exp(one_factor(tuple("wxyz")).log_prior(shares)), shares)
