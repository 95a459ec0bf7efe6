import numpy as np
from scipy import sparse

from psalm.core.matcher import Side
from psalm.core.plan import SparsePlan
from psalm.core.sampling import Sampler
from psalm.core.sinkhorn import SinkhornMatcher


def test_one_draw_at_a_time_costs_no_pass(read_only, rng, monkeypatch):
    plan = SinkhornMatcher(0.05)(Side(read_only(50, 3)), Side(read_only(900, 3))).plan
    sampler = Sampler(50, [(np.arange(50), np.arange(900), plan)])
    computed = []
    original = type(plan).pairs
    monkeypatch.setattr(
        type(plan), "pairs", lambda self, rows, columns: computed.append(columns.size) or original(self, rows, columns)
    )
    drawn = sampler.draw(np.arange(50), 1, rng)
    assert drawn.shape == (50, 1)
    assert sum(computed) <= 50 * (np.sqrt(900) + 1)


def test_draws_follow_a_sharp_row(read_only, rng):
    """Independent: exact masses of the row, by five standard errors."""
    plan = SinkhornMatcher(0.02)(Side(read_only(50, 3)), Side(read_only(90, 3))).plan
    sampler = Sampler(60, [(np.arange(5, 55), np.arange(90) + 100, plan)])
    drawn = sampler.draw(np.array([5, 0]), 50_000, rng)
    assert (drawn[1] == -1).all()
    share = plan.rows(slice(0, 1))[0] * 50
    found = np.bincount(drawn[0] - 100, minlength=90) / 50_000
    assert (np.abs(found - share) <= 5 * np.sqrt(share * (1 - share) / 50_000) + 1e-6).all()


def test_rows_without_mass(rng):
    plan = SparsePlan(sparse.csr_matrix(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])))
    drawn = Sampler(3, [(np.arange(3), np.arange(2), plan)]).draw(np.arange(3), 4, rng)
    assert drawn.tolist() == [[-1] * 4, [1] * 4, [-1] * 4]


def test_the_first_partner_is_drawn_too(rng):
    plan = SparsePlan(sparse.csr_matrix(np.array([[1.0, 0.0], [0.5, 0.5]])))
    drawn = Sampler(2, [(np.arange(2), np.array([7, 9]), plan)]).draw(np.arange(2), 200, rng)
    assert (drawn[0] == 7).all()
    assert 0.3 < (drawn[1] == 7).mean() < 0.7
    assert set(drawn[1].tolist()) == {7, 9}


def test_an_empty_plan(rng):
    plan = SparsePlan(sparse.csr_matrix((2, 2)))
    assert (Sampler(2, [(np.arange(2), np.arange(2), plan)]).draw(np.arange(2), 3, rng) == -1).all()
