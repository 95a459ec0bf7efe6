import numpy as np
import pytest
from scipy import sparse

from psalm.core.coupling import Block, Coupling
from psalm.core.matcher import Side
from psalm.core.plan import SparsePlan
from psalm.core.rows import Rows
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.transfer import Averages, Labels, Numbers, carry

MASS = np.array([[0.1, 0.3, 0.0], [0.2, 0.2, 0.1], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0]])
"""Four receiving and three giving cells; the last one receives nothing."""


@pytest.fixture
def coupling():
    """The cells above among 6 and 5; two of each are in no block."""
    block = Block(0, np.array([0, 2, 3, 5]), np.array([4, 0, 1]), SparsePlan(sparse.csr_matrix(MASS)))
    return Coupling(6, 5, (block,))


def test_labels_by_hand(coupling):
    codes = np.array([1, -1, 0, 0, 0])  # the block's givers, cells 4, 0 and 1, have labels 0, 1 and none
    (found,) = carry(coupling, [Labels(codes)])
    np.testing.assert_allclose(found[0], [1, 0.75])
    np.testing.assert_allclose(found[2], [0, 0.5])  # a tie goes to the first label; the third giver does not count
    assert np.isnan(found[[1, 3, 4, 5]]).all()  # in no block; only unlabelled mass; in no block; no mass


def test_numbers_by_hand(coupling):
    values = np.array([8.0, np.nan, 99.0, 99.0, 4.0])
    (found,) = carry(coupling, [Numbers(values)])
    np.testing.assert_allclose(found[0], [7, np.sqrt(3), 1])  # 4 with 1/4 and 8 with 3/4
    np.testing.assert_allclose(found[2], [6, 2, 0.8])
    np.testing.assert_allclose(found[3], [np.nan, np.nan, 0])
    assert np.isnan(found[[1, 4, 5]]).all()


def test_numbers_of_a_large_mean_keep_their_spread(coupling):
    values = np.array([8.0, 0, 0, 0, 4.0]) + 1e9
    (found,) = carry(coupling, [Numbers(values)])
    np.testing.assert_allclose(found[0, :2], [1e9 + 7, np.sqrt(3)], rtol=1e-12)


def test_nothing_known_in_a_block(coupling):
    labels, numbers = carry(coupling, [Labels(np.full(5, -1)), Numbers(np.full(5, np.nan))])
    assert np.isnan(labels).all()
    assert np.isnan(numbers[:, :2]).all()
    np.testing.assert_allclose(numbers[[0, 2, 3], 2], 0)


@pytest.mark.parametrize("tile_bytes", [64, 1024, 2**20], ids=["cell by cell", "small", "one tile"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_averages_in_any_tiles(coupling, read_only, monkeypatch, tile_bytes, is_sparse):
    """Independent: the dense product."""
    for module in ("coupling", "transfer"):
        monkeypatch.setattr(f"psalm.core.{module}.TILE_BYTES", tile_bytes)
    values = read_only(5, 12)
    (found,) = carry(coupling, [Averages(Rows(sparse.csr_matrix(values) if is_sparse else values))])
    expected = MASS[:3] @ values[[4, 0, 1]] / MASS[:3].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[[0, 2, 3]], expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert np.isnan(found[[1, 4, 5]]).all()


def test_tensors_are_flattened(coupling, read_only):
    values = read_only(5, 2, 3)
    (found,) = carry(coupling, [Averages(Rows(values))])
    np.testing.assert_allclose(found[3].reshape(2, 3), values[1], rtol=1e-6)


def test_soft_plans_in_one_pass_against_a_loop(read_only, rng, monkeypatch):
    """Independent: the dense matrix, cell by cell and label by label."""
    for module in ("coupling", "transfer"):
        monkeypatch.setattr(f"psalm.core.{module}.TILE_BYTES", 8 * 400)
    sizes, blocks = ((20, 30), (25, 15)), []
    receivers, givers = rng.permutation(50), rng.permutation(50)
    for t, (n, m) in enumerate(sizes):
        plan = SinkhornMatcher(epsilon=0.3)(Side(read_only(n, 3)), Side(read_only(m, 3))).plan
        blocks.append(Block(t, receivers[t * 20 :][:n], givers[t * 30 :][:m], plan.weighted(0.5)))
    coupling = Coupling(50, 50, tuple(blocks))
    dense = coupling.to_csr().toarray()
    codes = rng.integers(-1, 4, size=50)
    values = np.where(rng.uniform(size=50) < 0.2, np.nan, rng.normal(size=50))
    labels, numbers, averages = carry(coupling, [Labels(codes), Numbers(values), Averages(Rows(read_only(50, 7)))])
    assert averages.shape == (50, 7)
    for cell in range(50):
        row = dense[cell]
        if row.sum() == 0:
            assert np.isnan([*labels[cell], *numbers[cell]]).all()
            continue
        by_label = np.array([row[codes == label].sum() for label in range(4)])
        assert labels[cell, 0] == by_label.argmax()
        assert labels[cell, 1] == pytest.approx(by_label.max() / by_label.sum(), rel=1e-5)
        known = ~np.isnan(values)
        mean = np.average(values[known], weights=row[known])
        spread = np.sqrt(np.average((values[known] - mean) ** 2, weights=row[known]))
        np.testing.assert_allclose(numbers[cell], [mean, spread, row[known].sum() / row.sum()], rtol=1e-4, atol=1e-6)
