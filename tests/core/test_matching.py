import numpy as np
import pytest

from psalm.core.matching import match_within
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher

SOURCE = np.array([0, 1, 0, -1, 1, 1, 2])
TARGET = np.array([1, 0, 0, 0, 3, 1, -1])


@pytest.mark.parametrize("matcher", [SinkhornMatcher(), SharedNeighborMatcher()], ids=["ot", "snn"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_mass_stays_within_treatments_and_sums_to_their_mean_shares(read_only, matcher, n_jobs):
    coupling, found = match_within(read_only(7, 3), read_only(7, 3), SOURCE, TARGET, matcher, n_jobs=n_jobs)
    mass = coupling.to_csr().toarray()
    assert [result.block.treatment for result in found] == [0, 1]
    allowed = (SOURCE[:, None] == TARGET) & (SOURCE[:, None] >= 0)
    assert (mass[~allowed] == 0).all()
    assert mass.sum() == pytest.approx(1)
    assert mass[SOURCE == 0].sum() == pytest.approx((2 / 5 + 3 / 5) / 2)
    assert mass[SOURCE == 1].sum() == pytest.approx((3 / 5 + 2 / 5) / 2)


def test_progress_counts_pairs(read_only):
    pairs = []
    match_within(read_only(7, 3), read_only(7, 3), SOURCE, TARGET, SinkhornMatcher(), tick=pairs.append)
    assert sorted(pairs) == [2 * 3, 3 * 2]


def test_no_common_treatment_is_an_empty_coupling(read_only):
    coupling, found = match_within(
        read_only(2, 3), read_only(2, 3), np.array([0, 0]), np.array([1, 1]), SinkhornMatcher()
    )
    assert found == []
    assert coupling.to_csr().nnz == 0
