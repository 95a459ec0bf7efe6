"""Cells that many tests share. Every test gets a copy of its own."""

import os

import matplotlib as mpl
import numpy as np
import pytest

import psalm

mpl.use("agg")


@pytest.fixture(scope="session")
def raw_base():
    return psalm.datasets.simulated(n_cells=240, n_treatments=4, n_features=(12, 10), rng=1)


@pytest.fixture(scope="session")
def scored_base(raw_base):
    mdata = raw_base.copy()
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    return mdata


@pytest.fixture(scope="session")
def matched_base(scored_base):
    mdata = scored_base.copy()
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    return mdata


@pytest.fixture
def raw(raw_base):
    """Simulated cells, nothing computed; modalities "a" and "b" of 240 disjoint cells."""
    return raw_base.copy()


@pytest.fixture
def scored(scored_base):
    """The same after tl.propensity."""
    return scored_base.copy()


@pytest.fixture
def matched(matched_base):
    """The same after tl.match from "a" to "b"."""
    return matched_base.copy()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def read_only(rng):
    """Make a random array that cannot be written to, so that silent mutation fails."""

    def make(*shape):
        array = rng.normal(size=shape)
        array.flags.writeable = False
        return array

    return make


@pytest.fixture(scope="session")
def public_data():
    """Folder with the public files; tests that need it are skipped where there is none."""
    folder = os.environ.get("PSALM_DATA_DIR")
    if not folder:
        pytest.skip("PSALM_DATA_DIR is not set: the public data sets are not at hand")
    return folder
