import numpy as np
import pytest

from psalm.core.coupling import Block, Coupling
from psalm.core.plan import SparsePlan
from psalm.core.refine import Refiner


@pytest.fixture
def coupled(rng):
    """Two treatments of 200 pairs that share one direction of their features, coupled by the truth."""
    from scipy import sparse

    shared = rng.normal(size=400)
    x, y = (np.column_stack([shared + 0.3 * rng.normal(size=400), rng.normal(size=(400, 3))]) for _ in range(2))
    y = y[:, ::-1].copy()
    halves = np.arange(200), np.arange(200, 400)
    mass = SparsePlan(sparse.eye(200, format="csr") / 400)
    return Coupling(400, 400, tuple(Block(t, half, half, mass) for t, half in enumerate(halves))), x, y


def test_first_coordinate_is_the_direction_that_is_shared(coupled, rng):
    """Independent: the shared direction is the first feature of one modality and the last of the other."""
    coupling, x, y = coupled
    scores = rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    first, second = Refiner(ridge=0.01)(coupling, scores, (x, y))
    np.testing.assert_array_equal(first[:, :2], scores[0])
    assert abs(np.corrcoef(first[:200, 2], x[:200, 0])[0, 1]) > 0.98
    assert abs(np.corrcoef(second[:200, 2], y[:200, 3])[0, 1]) > 0.98
    assert np.corrcoef(first[:, 2], second[:, 2])[0, 1] > 0.85


def test_treatment_means_do_not_matter_and_weight_is_relative_to_the_scores(coupled, rng):
    coupling, x, y = coupled
    scores = rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    plain = Refiner(weight=0.5)(coupling, scores, (x, y))
    moved = x + np.repeat([[5.0], [-3.0]], 200, axis=0)
    np.testing.assert_allclose(Refiner(weight=0.5)(coupling, scores, (moved, y))[0], plain[0], atol=1e-8)
    for block in coupling.blocks:
        spread, found = (
            sum(side[block.source][:, columns].var(axis=0).sum() for side in plain)
            for columns in (slice(2), slice(2, 9))
        )
        assert found / spread == pytest.approx(0.25)


def test_features_that_do_not_vary_add_nothing(coupled, rng):
    coupling, x, _ = coupled
    scores = rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    first, second = Refiner()(coupling, scores, (x, np.ones((400, 2))))
    assert (first[:, 2:] == 0).all() or np.isfinite(first).all()
    assert np.isfinite(second).all()
