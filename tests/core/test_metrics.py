"""Every metric against an example computed by hand, and the ways to cheat it."""

import numpy as np
import pytest
from scipy import sparse

from psalm.core import metrics
from psalm.core.coupling import Block, Coupling
from psalm.core.matching import Cells, match_within
from psalm.core.plan import SparsePlan
from psalm.core.sinkhorn import SinkhornMatcher


def one_block(mass):
    mass = np.asarray(mass, float)
    n, m = mass.shape
    return Coupling(n, m, (Block(0, np.arange(n), np.arange(m), SparsePlan(sparse.csr_matrix(mass))),))


def ranks_of(mass, partner=None):
    return metrics.pair_ranks(one_block(mass), np.arange(len(mass)) if partner is None else np.asarray(partner))


def test_by_hand():
    """Rows: cell 0 has one rival above (.3 > .2) of two; cell 1 none; cell 2 a tie and one above.

    Columns: target 0 has one above (.25 > .2); target 1 has one above (.3 > .25); target 2 has both above.
    """
    mass = [[0.20, 0.30, 0.10], [0.10, 0.25, 0.20], [0.25, 0.05, 0.05]]
    ranks = ranks_of(mass)
    np.testing.assert_allclose(ranks.foscttm_source, [0.5, 0.0, 0.75])
    np.testing.assert_allclose(ranks.foscttm_target, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(ranks.foscttm, [0.5, 0.25, 0.875])
    np.testing.assert_allclose(ranks.trace, [0.2 / 0.6, 0.25 / 0.55, 0.05 / 0.35])
    np.testing.assert_allclose(ranks.lift, 3 * ranks.trace)


def test_the_truth_scores_zero():
    ranks = ranks_of(np.eye(5))
    np.testing.assert_allclose(ranks.foscttm, 0)
    np.testing.assert_allclose(ranks.lift, 5)


def test_the_reverse_of_the_truth_scores_one():
    np.testing.assert_allclose(ranks_of(1 - np.eye(4)).foscttm, 1)


@pytest.mark.parametrize("n", [2, 7])
def test_collapse_scores_one_half(n):
    """All cells mapped to one point: every match is as good as any other, so this is chance, not 0.25."""
    coupling, _ = match_within(*[Cells(np.ones((n, 3)), np.zeros(n, int))] * 2, SinkhornMatcher())
    ranks = metrics.pair_ranks(coupling, np.arange(n))
    np.testing.assert_allclose(ranks.foscttm, 0.5)
    np.testing.assert_allclose(ranks.lift, 1)


def test_a_hub_scores_chance():
    """Every source cell sends all its mass to the same target cell."""
    mass = np.zeros((11, 11))
    mass[:, 4] = 1
    assert ranks_of(mass).foscttm.mean() == pytest.approx(0.5)


def test_partners_outside_the_block_and_missing_ones_are_not_scored():
    """Target cell 1 is in no block: its source cell has a partner that cannot be matched."""
    plan = SparsePlan(sparse.csr_matrix([[0.5, 0.1], [0.2, 0.2], [0.0, 1.0]]))
    coupling = Coupling(3, 3, (Block(0, np.arange(3), np.array([0, 2]), plan),))
    ranks = metrics.pair_ranks(coupling, np.array([0, 1, -1]))
    np.testing.assert_array_equal(ranks.source, [0])
    np.testing.assert_array_equal(ranks.target, [0])
    assert ranks.foscttm_source == pytest.approx([0.0])
    assert ranks.foscttm_target == pytest.approx([0.0])


def test_a_single_pair_has_no_rival_and_no_rank():
    ranks = ranks_of([[1.0]])
    assert np.isnan(ranks.foscttm).all()
    assert ranks.trace == pytest.approx([1.0])


def test_tiles_do_not_change_ranks(read_only, monkeypatch):
    """Independent: all rows at once."""
    x, y = read_only(40, 3), read_only(40, 3)
    coupling, _ = match_within(Cells(x, np.zeros(40, int)), Cells(y, np.zeros(40, int)), SinkhornMatcher())
    whole = metrics.pair_ranks(coupling, np.arange(40))
    monkeypatch.setattr(metrics, "TILE_BYTES", 8 * 40 * 3)
    np.testing.assert_allclose(metrics.pair_ranks(coupling, np.arange(40)).foscttm, whole.foscttm)


def r_squared(mass, features):
    coupling = one_block(mass)
    ranks = metrics.pair_ranks(coupling, np.arange(len(mass)))
    return metrics.r_squared(metrics.matched_average_errors(coupling, ranks, np.asarray(features, float)))


def test_r_squared_by_hand():
    """y = 0, 1, 5 with mean 2; matched averages .5, .5, 5: errors .25 + .25 + 0 against 4 + 1 + 9."""
    mass = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert r_squared(mass, [[0], [1], [5]]) == pytest.approx(1 - 0.5 / 14)


def test_r_squared_of_uniform_truth_and_constant_features(read_only):
    features = read_only(6, 2)
    assert r_squared(np.ones((6, 6)), features) == pytest.approx(0)
    assert r_squared(np.eye(6), features) == pytest.approx(1)
    assert np.isnan(r_squared(np.eye(6), np.ones((6, 2))))


def test_r_squared_is_pooled_over_treatments():
    """Two treatments, one matched perfectly and one at its mean: 1 − 0.5/(0.5 + 2)."""
    first = SparsePlan(sparse.csr_matrix(np.ones((2, 2))))
    second = SparsePlan(sparse.csr_matrix(np.eye(2)))
    blocks = (Block(0, np.array([0, 1]), np.array([0, 1]), first), Block(1, np.array([2, 3]), np.array([2, 3]), second))
    coupling = Coupling(4, 4, blocks)
    errors = metrics.matched_average_errors(
        coupling, metrics.pair_ranks(coupling, np.arange(4)), np.array([[0.0], [1], [5], [7]])
    )
    assert metrics.r_squared(errors) == pytest.approx(1 - 0.5 / 2.5)


def test_latent_errors_by_hand():
    """Source at 0 and 2, targets at 0 and 2: the truth costs 0, the uniform coupling (0 + 4)/2."""
    z = np.array([[0.0], [2.0]])
    matched, uniform = metrics.latent_errors(one_block(np.eye(2)), z, z)
    np.testing.assert_allclose(matched, 0)
    np.testing.assert_allclose(uniform, 2)


def recall(mass, k, partner=None):
    partner = np.arange(len(mass)) if partner is None else np.asarray(partner)
    found = metrics.pair_ranks(one_block(mass), partner, k)
    return found.recall, found.recall_chance


def test_recall_by_hand():
    """Row 0: partner second of three; row 1: first; row 2: tied with one other for the places 2 and 3."""
    mass = [[0.20, 0.30, 0.10], [0.10, 0.25, 0.20], [0.25, 0.05, 0.05]]
    for k, wanted in ((1, [0, 1, 0]), (2, [1, 1, 0.5]), (3, [1, 1, 1]), (9, [1, 1, 1])):
        found, chance = recall(mass, k)
        np.testing.assert_allclose(found, wanted)
        np.testing.assert_allclose(chance, min(1, k / 3))


def test_recall_of_a_uniform_and_of_a_hub_coupling_is_chance():
    """Uniform: every row is tied. Hub: one cell finds its partner first, the others are tied for the rest."""
    np.testing.assert_allclose(recall(np.ones((8, 8)), 2)[0], 2 / 8)
    mass = np.zeros((11, 11))
    mass[:, 4] = 1
    assert recall(mass, 3)[0].mean() == pytest.approx(3 / 11)


def test_total_errors_by_hand():
    """Two treatments with y = 0, 2 and 10, 12, matched averages their means: total R² is 1 − 4/104, within 0."""
    plan = SparsePlan(sparse.csr_matrix(np.ones((2, 2))))
    blocks = (Block(0, np.array([0, 1]), np.array([0, 1]), plan), Block(1, np.array([2, 3]), np.array([2, 3]), plan))
    coupling, y = Coupling(4, 4, blocks), np.array([[0.0], [2.0], [10.0], [12.0]])
    errors = metrics.matched_average_errors(coupling, metrics.pair_ranks(coupling, np.arange(4)), y)
    assert 1 - errors.matched.sum() / errors.total_mean.sum() == pytest.approx(1 - 4 / 104)
    assert metrics.r_squared(errors) == pytest.approx(0)


def test_a_cell_that_moves_no_mass_has_no_trace_and_no_order():
    """All of its candidates tie at zero."""
    ranks = ranks_of([[0.0, 0.0, 0.0], [0.5, 0.25, 0.0], [0.0, 0.0, 0.25]])
    np.testing.assert_allclose(ranks.trace, [0, 1 / 3, 1])
    np.testing.assert_allclose(ranks.lift, [0, 1, 3])
    np.testing.assert_allclose(ranks.foscttm_source[0], 0.5)


def test_recall_is_of_the_first_ten_by_default():
    ranks = ranks_of(np.full((20, 20), 1 / 400))
    np.testing.assert_allclose(ranks.recall_chance, 10 / 20)


def test_errors_are_of_cells_over_all_features():
    """Targets (0, 0), (2, 4), (4, 2), all matched to their mean (2, 2): errors 8, 4, 4, in a row per cell."""
    coupling, y = one_block(np.ones((3, 3))), np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    errors = metrics.matched_average_errors(coupling, metrics.pair_ranks(coupling, np.arange(3)), y)
    for found in (errors.matched, errors.treatment_mean, errors.total_mean):
        np.testing.assert_allclose(found, [8, 4, 4])


def test_latent_errors_in_two_dimensions(rng):
    """Independent: every distance, weighted by the mass."""
    mass, source, target = rng.random((3, 4)), rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    squared = ((source[:, None] - target) ** 2).sum(axis=2)
    matched, uniform = metrics.latent_errors(one_block(mass), source, target)
    np.testing.assert_allclose(matched, (mass * squared).sum(axis=1) / mass.sum(axis=1))
    np.testing.assert_allclose(uniform, squared.mean(axis=1))


@pytest.mark.parametrize("n_known", [1, 2, 5])
def test_a_uniform_coupling_scores_zero_however_few_pairs_are_known(n_known, rng):
    """By definition: every matched average is the mean of the treatment's target cells.

    Against the mean of n scored partners it would be −1/(n − 1) in expectation: partners vary around their own mean by
    1 − 1/n of their variance only.
    """
    n_source, n_target = 40, 60
    plan = SparsePlan(sparse.csr_matrix(np.ones((n_source, n_target))))
    first, second = np.arange(n_source), np.arange(n_target)
    blocks = Block(0, first, second, plan), Block(1, n_source + first, n_target + second, plan)
    partner = np.full(2 * n_source, -1)
    for block in blocks:
        partner[rng.choice(block.source, n_known, replace=False)] = rng.choice(block.target, n_known, replace=False)
    coupling, y = Coupling(2 * n_source, 2 * n_target, blocks), rng.normal(size=(2 * n_target, 3)) * 2 + 5
    errors = metrics.matched_average_errors(coupling, metrics.pair_ranks(coupling, partner), y)
    assert len(errors.matched) == 2 * n_known
    assert metrics.r_squared(errors) == pytest.approx(0, abs=1e-12)


def test_r_squared_of_one_known_pair_by_hand():
    """Targets 0, 1, 5 with mean 2 and the pair of the last, predicted by (1 + 5)/2: 1 − (5 − 3)² / (5 − 2)²."""
    coupling, y = one_block([[1, 0, 0], [0, 1, 0], [0, 1, 1]]), np.array([[0.0], [1.0], [5.0]])
    errors = metrics.matched_average_errors(coupling, metrics.pair_ranks(coupling, np.array([-1, -1, 2])), y)
    assert metrics.r_squared(errors) == pytest.approx(1 - 4 / 9)
    assert errors.total_mean.tolist() == [9]


def test_latent_errors_do_not_depend_on_where_the_origin_is(rng):
    """Independent: distances are the same wherever all latents are moved to."""
    mass, source, target = rng.random((5, 6)), rng.normal(size=(5, 2)), rng.normal(size=(6, 2))
    near, far = (metrics.latent_errors(one_block(mass), source + at, target + at) for at in (0.0, 1e7))
    np.testing.assert_allclose(near, far, rtol=1e-6)
