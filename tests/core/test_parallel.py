"""Whatever backend of joblib is in force, the results are those of this process."""

import joblib
import numpy as np
import pytest

import psalm
from psalm.core.jobs import results

BACKENDS = ["multiprocessing", "loky", "threading", "sequential"]


def aligned(mdata):
    psalm.tl.propensity(mdata, classifier="logistic", n_repeats=1, n_folds=3, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    return mdata


# of Python from 3.12 on, whichever process forks
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", ["multiprocessing", "threading"])
def test_scores_and_matches_of_a_backend_are_those_of_this_process(scored, backend, monkeypatch):
    from psalm.core import matching

    monkeypatch.setattr(matching, "JOB_PAIRS", 150)  # more jobs than one
    expected = aligned(scored.copy())
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = aligned(scored)
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name].obsm["propensity"], expected[name].obsm["propensity"])
    assert (found.obsp["match"] != expected.obsp["match"]).nnz == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [False, True])
def test_results_come_in_order_or_as_they_are_finished(backend, threads):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        jobs = [joblib.delayed(pow)(k, 2) for k in range(7)]
        assert list(results(jobs, None, threads=threads)) == [k**2 for k in range(7)]
        assert sorted(results(jobs, None, threads=threads, ordered=False)) == [k**2 for k in range(7)]
