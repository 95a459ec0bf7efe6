"""The rank of the true partner by distance, by hand and under the ways to cheat."""

import numpy as np
import pytest
from scipy import sparse

from psalm.core import feature_ranks as module
from psalm.core import metrics
from psalm.core.coupling import Block, Coupling
from psalm.core.feature_ranks import feature_ranks
from psalm.core.plan import SparsePlan


def ranks(mass, y):
    mass, y = np.asarray(mass, float), np.asarray(y, float)
    n, m = mass.shape
    coupling = Coupling(n, m, (Block(0, np.arange(n), np.arange(m), SparsePlan(sparse.csr_matrix(mass))),))
    pairs = metrics.pair_ranks(coupling, np.arange(n))
    return feature_ranks(coupling, pairs, y, coupling.pull(y))


def test_by_hand():
    """y = 0, 1, 5; averages 0, 5, 5 (the second cell is matched to the third's partner).

    Forward: cell 0 nearest 0: 0; cell 1 at 5: own partner at distance 4, rivals at 5 and 0: 1/2; cell 2: 0.
    Backward: y 0 among averages: 0; y 1: own average at distance 4, rivals at 1 (closer) and 4 (tie): (1 + .5)/2;
    y 5: own at 0, one tie at 0: .25.
    """
    found = ranks([[1, 0, 0], [0, 0, 1], [0, 0, 1]], [[0], [1], [5]])
    np.testing.assert_allclose(found, [0, (0.5 + 0.75) / 2, 0.25 / 2])


def test_the_truth_scores_zero_and_the_mean_one_half(read_only):
    y = read_only(30, 3)
    np.testing.assert_allclose(ranks(np.eye(30), y), 0)
    assert ranks(np.ones((30, 30)), y).mean() == pytest.approx(0.5)


def test_a_hub_and_cells_without_mass_score_one_half(read_only):
    y, hub = read_only(21, 2), np.zeros((21, 21))
    hub[:, 7] = 1
    # forward: the hub's place ranks every partner, on average in the middle (all 20 others once each, itself first)
    assert ranks(hub, y).mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(ranks(np.zeros((21, 21)), y), 0.5)


def test_tiles_do_not_change_ranks(read_only, monkeypatch):
    y, mass = read_only(25, 2), np.random.default_rng(0).random((25, 25))
    whole = ranks(mass, y)
    monkeypatch.setattr(module, "TILE_BYTES", 8 * 25 * 4)
    np.testing.assert_allclose(ranks(mass, y), whole)


def test_one_pair_has_no_rival():
    assert np.isnan(ranks([[1.0]], [[3.0]])).all()
