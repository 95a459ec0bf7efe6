"""Means and scales of inputs and targets, of numbers that are far from zero."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from psalm.core.minibatch import moments
from psalm.model._fit import prepare
from psalm.model._network import Network

MEAN, SPREAD = 1e4, 1e-2


def far_from_zero(shape, seed=0):
    return np.random.default_rng(seed).normal(MEAN, SPREAD, size=shape).astype(np.float32)


def network(shape):
    return Network(shape, 3, n_hidden=8, n_layers=1, dropout=0.0, likelihood="gaussian", log_counts=False)


def test_moments_in_parts_are_those_of_all_numbers():
    """Independent: numpy's two-pass formula in float64. The mean of squares has 16 digits, the variance is the 13th."""
    values = far_from_zero((5000, 2))
    mean, scale = moments(np.array_split(values, 7))
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(scale, values.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 6, 6)], ids=["features", "image"])
def test_inputs_far_from_zero_are_standardised(shape):
    values, one = far_from_zero((600, *shape)), network(shape)
    one.standardise(torch.from_numpy(part) for part in np.array_split(values, 3))
    standard = (torch.from_numpy(values) - one.input_mean) / one.input_scale
    assert standard.std().item() == pytest.approx(1, rel=0.01)
    assert abs(standard.mean().item()) < 0.1  # float32 holds the mean to 5e-4, a twentieth of the spread


def test_targets_far_from_zero_are_standardised_and_constants_keep_scale_one():
    targets = far_from_zero((600, 3), seed=1)
    targets[:, 2] = 0.1
    rows = SimpleNamespace(take=lambda cells: targets[cells])
    pairs = SimpleNamespace(inputs=SimpleNamespace(take=lambda cells: far_from_zero((600, 4))[cells]), targets=rows)
    pairs.size, one, cells = np.ones(600), network((4,)), np.arange(600)
    prepare(one, pairs, cells, cells)
    np.testing.assert_allclose(one.likelihood.scale[:2], targets[:, :2].astype(float).std(axis=0), rtol=1e-3)
    assert one.likelihood.scale[2] == 1
