import numpy as np
import pytest

from psalm.core.epsilon import DEFAULT, SOFTEST, relative_epsilons
from psalm.core.matcher import Side
from psalm.core.sinkhorn import SinkhornMatcher


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


@pytest.mark.parametrize("sizes", [(150, 150), (40, 90), (700, 900)])
@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
def test_the_same_cells_give_the_same_epsilon(rng, sizes, cost):
    """Whatever their order, and whichever modality is the source."""
    x, y = noisy_pair(rng, 0.3, n=max(sizes))
    x, y = (Side(side.scores[:n], noise=side.noise[:n]) for side, n in zip((x, y), sizes, strict=True))
    orders = [[rng.permutation(len(side)) for side in (x, y)] for _ in range(5)]
    shuffled = [[Side(s.scores[i], noise=s.noise[i]) for s, i in zip((x, y), order, strict=True)] for order in orders]
    blocks = [(x, y), (y, x), *map(tuple, shuffled)]
    found = relative_epsilons(blocks, cost)
    assert found.max() / found.min() < STEP
