"""Ratios of sums, and intervals that hold what they should."""

import numpy as np
import pytest

from psalm.core.bootstrap import Ratio, estimate


def test_ratios_by_hand():
    """Group 0: (1 + 3)/(1 + 1); group 1: one cell, another is NaN; all: (1 + 3 + 5)/3; complements are one minus."""
    top, groups = np.array([1.0, 3.0, 5.0, np.nan]), np.array([0, 0, 1, 1])
    found = estimate(
        {"mean": Ratio(top, np.ones(4)), "rest": Ratio(top, np.full(4, 10.0), complement=True)},
        groups, 3, np.random.default_rng(0), 0,
    )  # fmt: skip
    assert [e.value for e in found["mean"]][:2] == [2.0, 5.0]
    assert np.isnan(found["mean"][2].value)  # no cell
    assert found["mean"][3].value == 3.0
    assert found["rest"][3].value == pytest.approx(1 - 9 / 30)
    assert np.isnan(found["mean"][0].lower)  # nothing was drawn


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Independent: the mean of 60 exponential values is known to be one; 300 repetitions."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        values = rng.exponential(size=60)
        (one, _) = estimate({"m": Ratio(values, np.ones(60))}, np.zeros(60, int), 1, rng, 200)["m"]
        covered += one.lower <= 1 <= one.upper
    assert 0.88 <= covered / 300 <= 0.98


def test_many_cells_are_drawn_in_portions(monkeypatch):
    """Independent: the standard error of a mean."""
    from psalm.core import bootstrap

    monkeypatch.setattr(bootstrap, "WEIGHTS", 1000)
    values = np.random.default_rng(1).normal(size=400)
    found = estimate({"m": Ratio(values, np.ones(400))}, np.zeros(400, int), 1, np.random.default_rng(2), 500)["m"][0]
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)


def test_a_single_cell_has_no_interval():
    found = estimate({"m": Ratio(np.ones(1), np.ones(1))}, np.zeros(1, int), 1, np.random.default_rng(0), 50)["m"]
    assert found[0].value == 1
    assert np.isnan(found[0].lower)


def test_small_groups_are_as_uncertain_as_they_are():
    """Forty groups of two cells: independent, the standard error of the mean of 80 values is .112."""
    rng = np.random.default_rng(0)
    width = []
    for _ in range(20):
        values = rng.normal(size=80)
        every = estimate({"m": Ratio(values, np.ones(80))}, np.repeat(np.arange(40), 2), 40, rng, 400)["m"][-1]
        width.append(every.upper - every.lower)
    assert np.mean(width) == pytest.approx(2 * 1.96 / np.sqrt(80), rel=0.1)


def test_groups_count_in_every_draw_as_they_count_in_all():
    """Two cells of one and ten of zero: whatever is drawn, the mean of all is 2/12."""
    values, groups = np.repeat([1.0, 0.0], [2, 10]), np.repeat([0, 1], [2, 10])
    every = estimate({"m": Ratio(values, np.ones(12))}, groups, 2, np.random.default_rng(0), 50)["m"][-1]
    np.testing.assert_allclose([every.value, every.lower, every.upper], 1 / 6)
