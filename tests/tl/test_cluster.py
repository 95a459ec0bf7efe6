"""A cluster gives the results of this process, to the last bit, also when a worker is lost."""

import os
from pathlib import Path

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression

import psalm


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local, Client(local):
        yield local


def dies_once(place):
    """A classifier whose first training takes its process down; what is defined here travels to workers by value."""

    class Deadly(LogisticRegression):
        def __init__(self, place=""):
            super().__init__()
            self.place = place

        def fit(self, X, y, sample_weight=None):
            mark = Path(self.place)
            if not mark.exists():
                mark.write_text(str(os.getpid()))
                os._exit(1)
            return super().fit(X, y, sample_weight)

    return Deadly(str(place))


def align(mdata, classifier="kernel"):
    psalm.tl.propensity(mdata, classifier=classifier, n_repeats=2, n_folds=3, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)


def assert_same(found, expected):
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name].obsm["propensity"], expected[name].obsm["propensity"])
        np.testing.assert_array_equal(found[name].obs["match_potential"], expected[name].obs["match_potential"])
    assert (found.obsp["match"] != expected.obsp["match"]).nnz == 0


def test_scores_and_matches_of_a_cluster_are_those_of_this_process(scored, cluster, monkeypatch):
    from psalm.core import matching

    monkeypatch.setattr(matching, "JOB_PAIRS", 150)
    here, there = scored, scored.copy()
    align(here)
    with joblib.parallel_config(backend="dask", n_jobs=2):
        align(there)
    assert_same(there, here)


def test_a_lost_worker_is_survived(scored, cluster, tmp_path):
    """Independent: the process that was lost is another one than this, and the result is that without a loss."""
    here, there = scored, scored.copy()
    mark = tmp_path / "died"
    mark.write_text("")
    align(here, dies_once(mark))
    mark.unlink()
    with joblib.parallel_config(backend="dask", n_jobs=2):
        align(there, dies_once(mark))
    assert int(mark.read_text()) != os.getpid()
    assert_same(there, here)
