import numpy as np
import pytest

from psalm.core.epsilon import DEFAULT, SOFTEST, relative_epsilons
from psalm.core.matcher import Side
from psalm.core.partial import PartialMatcher
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher


def noisy_pair(rng, private, *, n=150, shift=0.0):
    """Two views of the same Gaussian cells, in another order, with so much variance of their own."""
    shared = rng.normal(size=(n, 3))
    views = [shared + np.sqrt(private) * rng.normal(size=(n, 3)) for _ in range(2)]
    return [Side(view + shift * k, noise=np.full(n, 3 * private)) for k, view in enumerate(views)]


def r_squared(x, y, epsilon):
    plan = SinkhornMatcher(epsilon)(x, y).plan.rows(slice(0, len(x)))
    matched = plan @ y.scores / plan.sum(axis=1, keepdims=True)
    return 1 - ((y.scores - matched) ** 2).sum() / ((y.scores - y.scores.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize("private", [0.05, 0.5, 2.0])
def test_the_matched_average_beats_the_mean_whatever_the_noise(rng, private):
    """Independent: true pairs, which the rule does not see."""
    x, y = noisy_pair(rng, private)
    found = relative_epsilons([(x, y)], "euclidean")[0]
    assert r_squared(x, y, found) > 0


def test_more_noise_is_softer(rng):
    found = [relative_epsilons([tuple(noisy_pair(rng, private))], "euclidean")[0] for private in (0.02, 0.5, 3.0)]
    assert found == sorted(found)
    assert found[0] < 0.2 < found[-1]


def test_scores_that_are_all_noise_give_the_uniform_plan(rng):
    sides = [Side(rng.normal(size=(50, 3)), noise=np.full(50, 10.0)) for _ in range(2)]
    assert relative_epsilons([tuple(sides)], "euclidean") == SOFTEST


def test_clouds_that_differ_are_matched_softer(rng):
    near, far = (noisy_pair(np.random.default_rng(0), 0.1, shift=shift) for shift in (0.0, 2.0))
    found = relative_epsilons([tuple(near), tuple(far)], "euclidean")
    assert found[0] < found[1]


def test_unknown_noise_and_few_cells(rng, read_only):
    known = [Side(read_only(3, 2), noise=np.zeros(3)) for _ in range(2)]
    unknown = [Side(read_only(30, 2)) for _ in range(2)]
    np.testing.assert_array_equal(relative_epsilons([tuple(known), tuple(unknown)], "euclidean"), [SOFTEST, DEFAULT])


def test_blocks_are_chosen_for_one_by_one(rng):
    blocks = [tuple(noisy_pair(rng, private, n=40)) for private in (0.1, 1.0)]
    together = relative_epsilons(blocks, "sqeuclidean")
    alone = [relative_epsilons([block], "sqeuclidean")[0] for block in blocks]
    np.testing.assert_array_equal(together, alone)


STEP = 1.02
"""Of the bisection, in which rounding may tip the last decision."""


def unlike_pair(n, m, dtype=float, *, rounded=False):
    """Clouds of other places, shapes and sizes, whose ε depends on how they are halved more than that of like ones."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 4)), 0.8 + rng.normal(size=(m, 4)) * [1.8, 0.4, 1, 1]
    if rounded:  # many cells have the scores of another, but not its noise
        x, y = np.repeat(x, 2, axis=0)[:n], np.round(y)
    return [Side(side.astype(dtype), noise=rng.gamma(4, 0.05, len(side))) for side in (x, y)]


def in_other_orders(sides, n_orders, rng):
    """The same cells shuffled, and each of these blocks with source and target exchanged."""
    blocks = [tuple(sides)]
    for _ in range(n_orders):
        orders = [rng.permutation(len(side)) for side in sides]
        blocks.append(tuple(Side(s.scores[i], noise=s.noise[i]) for s, i in zip(sides, orders, strict=True)))
    return blocks + [block[::-1] for block in blocks]


@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (10, 10), (60, 11), (40, 90), (150, 150), (700, 900)])
@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("cells", [{}, {"dtype": np.float32}, {"rounded": True}], ids=["plain", "float32", "rounded"])
def test_the_same_cells_give_the_same_epsilon(rng, shape, cost, cells):
    """Whatever their order, and whichever modality is the source."""
    found = relative_epsilons(in_other_orders(unlike_pair(*shape, **cells), 3, rng), cost)
    assert found.max() / found.min() < STEP


@pytest.mark.parametrize("make", [SinkhornMatcher, UnbalancedMatcher, PartialMatcher])
def test_the_matchers_epsilon_is_that_of_the_cells(rng, make):
    blocks = in_other_orders(unlike_pair(25, 40), 3, rng)
    matches = make(epsilon="auto", device="cpu").match_many(blocks, 1)
    found = np.array([match.epsilon / match.mean_cost for match in matches])
    assert found.max() / found.min() < STEP
    assert found.max() < SOFTEST
