import contextlib

import numpy as np
import pytest
from scipy import sparse

from psalm.core import matching
from psalm.core.matcher import Match
from psalm.core.matching import Cells, match_within
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.plan import EntropicPlan, SparsePlan
from psalm.core.sinkhorn import SinkhornMatcher

SOURCE = np.array([0, 1, 0, -1, 1, 1, 2])
TARGET = np.array([1, 0, 0, 0, 3, 1, -1])


@pytest.mark.parametrize("matcher", [SinkhornMatcher(), SharedNeighborMatcher()], ids=["ot", "snn"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_mass_stays_within_treatments_and_sums_to_their_mean_shares(read_only, matcher, n_jobs):
    coupling, found = match_within(
        Cells(read_only(7, 3), SOURCE), Cells(read_only(7, 3), TARGET), matcher, n_jobs=n_jobs
    )
    mass = coupling.to_csr().toarray()
    assert [result.block.treatment for result in found] == [0, 1]
    allowed = (SOURCE[:, None] == TARGET) & (SOURCE[:, None] >= 0)
    assert (mass[~allowed] == 0).all()
    assert mass.sum() == pytest.approx(1)
    assert mass[SOURCE == 0].sum() == pytest.approx((2 / 5 + 3 / 5) / 2)
    assert mass[SOURCE == 1].sum() == pytest.approx((3 / 5 + 2 / 5) / 2)


def test_progress_counts_pairs(read_only):
    pairs = []
    cells = Cells(read_only(7, 3), SOURCE), Cells(read_only(7, 3), TARGET)
    match_within(*cells, SinkhornMatcher(), tick=pairs.append)
    assert sum(pairs) == 2 * 3 + 3 * 2


def test_no_common_treatment_is_an_empty_coupling(read_only):
    coupling, found = match_within(
        Cells(read_only(2, 3), np.array([0, 0])), Cells(read_only(2, 3), np.array([1, 1])), SinkhornMatcher()
    )
    assert found == []
    assert coupling.to_csr().nnz == 0


def test_masses_weigh_cells_and_treatments(read_only):
    mass = np.array([1.0, 2.0, 3.0, 99.0, 1.0, 1.0, 50.0])
    coupling, found = match_within(
        Cells(read_only(7, 3), SOURCE, mass), Cells(read_only(7, 3), TARGET), SinkhornMatcher(tolerance=1e-7)
    )
    dense = coupling.to_csr().toarray()
    share = (4 / 8 + 3 / 5) / 2  # of treatment 0: source masses 1 and 3 of 8, three of five target cells
    np.testing.assert_allclose(dense[[0, 2]].sum(axis=1), [share / 4, share * 3 / 4], rtol=1e-5)
    np.testing.assert_allclose(dense[:, 1:4].sum(axis=0), share / 3, rtol=1e-5)
    np.testing.assert_allclose(found[0].mass[0], [share / 4, share * 3 / 4])


def test_large_and_small_blocks_in_one_call(read_only, monkeypatch):
    """The same plans whichever way a block is solved and however many jobs there are."""
    codes = np.repeat([0, 1, 2, 3], [40, 10, 10, 30])
    cells = Cells(read_only(90, 3), codes), Cells(read_only(90, 3), codes)
    expected = match_within(*cells, SinkhornMatcher(tolerance=1e-6))[0].to_csr().toarray()
    monkeypatch.setattr(matching, "SMALL_PAIRS", 200)
    monkeypatch.setattr(matching, "JOB_PAIRS", 150)
    for n_jobs in (1, 3):
        found = match_within(*cells, SinkhornMatcher(tolerance=1e-6), n_jobs=n_jobs)[0].to_csr().toarray()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_jobs_on_another_backend(read_only, monkeypatch, backend):
    """The same plans to the last bit from other processes, as on a cluster."""
    import joblib

    monkeypatch.setattr(matching, "JOB_PAIRS", 150)
    codes = np.repeat([0, 1, 2, 3], [10, 12, 8, 9])
    cells = Cells(read_only(39, 3), codes), Cells(read_only(39, 3), codes)
    expected = match_within(*cells, SinkhornMatcher())[0].to_csr().toarray()
    with contextlib.ExitStack() as stack:
        if backend == "dask":
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
            stack.enter_context(Client(stack.enter_context(cluster)))
        stack.enter_context(joblib.parallel_config(backend=backend, n_jobs=2))
        found = match_within(*cells, SinkhornMatcher())[0].to_csr().toarray()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("potential", "error"), [(np.inf, 0.0), (-np.inf, 0.0), (np.nan, 0.0), (0.0, np.inf), (0.0, np.nan)]
)
def test_potentials_that_are_not_finite_are_refused(read_only, potential, error):
    def wrong(source, target):
        found = np.zeros(len(source))
        found[0] = potential
        plan = EntropicPlan(source.scores, target.scores, found, np.zeros(len(target)), 1.0, "euclidean")
        return Match(plan, 1.0, 1, error, converged=True)

    cells = Cells(read_only(5, 3), np.zeros(5, int)), Cells(read_only(6, 3), np.zeros(6, int))
    with pytest.raises(FloatingPointError, match="negative or not finite"):
        match_within(*cells, wrong)


@pytest.mark.parametrize("entry", [-0.1, np.nan, np.inf])
def test_a_plan_that_is_none_is_refused(read_only, entry):
    """A matcher of the user's may return anything; the treatment is named, and on request the others are kept."""

    def wrong(source, target):
        mass = np.full((len(source), len(target)), 1 / len(source) / len(target))
        if len(source) == 5:
            mass[0, 0] = entry
        return Match(SparsePlan(sparse.csr_matrix(mass)), np.nan, 1, 0.0, converged=True)

    codes = np.repeat([0, 1], [5, 6])
    cells = Cells(read_only(11, 3), codes), Cells(read_only(11, 3), codes)
    with pytest.raises(FloatingPointError, match="negative or not finite"):
        match_within(*cells, wrong)
    failed = []
    _, found = match_within(*cells, wrong, failed=failed.append)
    assert [failure.code for failure in failed] == [0]
    assert len(found) == 1
