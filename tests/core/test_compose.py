import numpy as np
import pytest
from scipy import sparse

from psalm.core.compose import ComposedPlan, compose
from psalm.core.coupling import Block, Coupling
from psalm.core.matcher import Side
from psalm.core.plan import SparsePlan
from psalm.core.sinkhorn import SinkhornMatcher


def stored(mass, treatment=0, source=None, target=None):
    source = np.arange(mass.shape[0]) if source is None else np.array(source)
    target = np.arange(mass.shape[1]) if target is None else np.array(target)
    return Block(treatment, source, target, SparsePlan(sparse.csr_matrix(mass)))


def soft(x, y, treatment=0, source=None, target=None):
    plan = SinkhornMatcher(epsilon=0.3)(Side(x), Side(y)).plan
    source = np.arange(len(x)) if source is None else source
    return Block(treatment, source, np.arange(len(y)) if target is None else target, plan)


def by_definition(first, second):
    """Independent: the formula as a loop over triples, then rows rescaled to the mass of a."""
    found = np.zeros((first.shape[0], second.shape[1]))
    for a in range(first.shape[0]):
        for b in range(first.shape[1]):
            if second[b].sum() > 0:
                found[a] += first[a, b] * second[b] / second[b].sum()
        if found[a].sum() > 0:
            found[a] *= first[a].sum() / found[a].sum()
    return found


def test_by_hand():
    first = np.array([[0.2, 0.2], [0.0, 0.6]])
    second = np.array([[0.1, 0.3, 0.0], [0.0, 0.3, 0.3]])  # rows 1/4, 3/4, 0 and 0, 1/2, 1/2
    found = compose(Coupling(2, 2, (stored(first),)), Coupling(2, 3, (stored(second),))).to_csr().toarray()
    np.testing.assert_allclose(found, [[0.05, 0.25, 0.1], [0.0, 0.3, 0.3]])


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_an_identity_gives_the_first(rng, scale):
    """Whatever mass the identity has."""
    first = rng.uniform(size=(4, 5))
    found = compose(Coupling(4, 5, (stored(first),)), Coupling(5, 5, (stored(scale * np.eye(5)),)))
    np.testing.assert_allclose(found.to_csr().toarray(), first)


def test_an_identity_gives_a_soft_first(read_only):
    first = Coupling(30, 20, (soft(read_only(30, 3), read_only(20, 3)),))
    found = compose(first, Coupling(20, 20, (stored(np.eye(20)),)))
    np.testing.assert_allclose(found.to_csr().toarray(), first.to_csr().toarray(), rtol=1e-6)


def test_middle_cells_without_a_partner_leave_the_mass_of_a_as_it_is():
    first = np.array([[0.1, 0.3], [0.0, 0.6]])
    second = np.array([[0.5, 0.5], [0.0, 0.0]])
    found = compose(Coupling(2, 2, (stored(first),)), Coupling(2, 2, (stored(second),))).to_csr().toarray()
    np.testing.assert_allclose(found, [[0.2, 0.2], [0.0, 0.0]])  # the second cell reaches nobody


@pytest.mark.parametrize("kinds", ["soft soft", "soft stored", "stored soft", "stored stored"])
def test_blocks_of_every_kind(read_only, rng, kinds, monkeypatch):
    """Two treatments, cells in any order, one cell of b in no block of the second; tiles of a few rows."""
    monkeypatch.setattr("psalm.core.coupling.TILE_BYTES", 8 * 60)
    a, b, c = (rng.permutation(n) for n in (25, 30, 20))
    firsts, seconds = [], []
    for t, (i, j, k) in enumerate([(a[:10], b[:13], c[:8]), (a[10:24], b[13:], c[8:])]):
        middle = np.sort(j)[:-1] if t else j[::-1]  # another order, and a cell fewer
        make_first, make_second = (_block(kind, rng, read_only) for kind in kinds.split())
        firsts.append(make_first(t, i, j))
        seconds.append(make_second(7 - t, middle, k))
    first, second = Coupling(25, 30, tuple(firsts)), Coupling(30, 20, tuple(seconds))
    found = compose(first, second)
    expected = by_definition(first.to_csr().toarray(), second.to_csr().toarray())
    assert expected.sum() == pytest.approx(sum(b.plan.rows(slice(None)).sum() for b in firsts))
    np.testing.assert_allclose(found.to_csr().toarray(), expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found.transpose.to_csr().toarray(), expected.T, rtol=1e-5, atol=1e-12)
    assert [block.treatment for block in found.blocks] == [0, 1]


def _block(kind, rng, read_only):
    def make(t, rows, columns):
        if kind == "soft":
            return soft(read_only(len(rows), 3), read_only(len(columns), 3), t, rows, columns)
        return stored(rng.uniform(0.1, 1, size=(len(rows), len(columns))), t, rows, columns)

    return make


def test_averages_through_the_middle_are_averages_of_averages(read_only):
    """Independent of any composed entry: pull twice."""
    first = Coupling(30, 20, (soft(read_only(30, 3), read_only(20, 3)),))
    second = Coupling(20, 40, (soft(read_only(20, 2), read_only(40, 2)),))
    values = read_only(40, 2)
    np.testing.assert_allclose(compose(first, second).pull(values), first.pull(second.pull(values)), atol=1e-5)


def test_weights_and_stored_entries(read_only):
    first = Coupling(6, 5, (soft(read_only(6, 2), read_only(5, 2)),))
    plan = compose(first, first.transpose).blocks[0].plan
    assert isinstance(plan, ComposedPlan)
    np.testing.assert_allclose(plan.weighted(0.25).rows(slice(2, 4)), 0.25 * plan.rows(slice(2, 4)))
    with pytest.raises(TypeError, match="stored entries"):
        plan.stored()


def test_couplings_must_share_cells_and_blocks():
    two = Coupling(4, 4, tuple(stored(np.eye(2), t, cells, cells) for t, cells in enumerate(([0, 1], [2, 3]))))
    one = Coupling(4, 4, (stored(np.eye(4)),))
    with pytest.raises(ValueError, match="3 target cells and the second 4 source"):
        compose(Coupling(2, 3, ()), one)
    with pytest.raises(ValueError, match="different blocks"):
        compose(one, two)
    with pytest.raises(ValueError, match="different blocks"):
        compose(two, one)
