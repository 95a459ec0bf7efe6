"""Every step on features that stay in their file: the results of features in memory, and files are not written to."""

import hashlib
from contextlib import contextmanager

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm
from psalm._containers import no_pull

NAMES = {"source": "a", "target": "b"}


@contextmanager
def backed(folder):
    with no_pull():
        mdata = mudata.read_h5mu(folder / "m.h5mu", backed="r")
    try:
        yield mdata
    finally:
        mdata.file.close()


def lazy_of(file):
    """Features stay in the file; annotations, which mudata needs, are read."""
    found = anndata.experimental.read_lazy(file)
    return anndata.AnnData(found.X, obs=found.obs.to_memory(), var=found.var.to_memory())


@contextmanager
def lazy(folder):
    with no_pull():
        yield mudata.MuData({name: lazy_of(folder / "m.zarr" / "mod" / name) for name in NAMES.values()})


def run(mdata):
    psalm.pp.treatment(mdata, "perturbation")
    psalm.pp.represent(mdata, "a", kind="features", n_comps=5)
    psalm.tl.propensity(mdata, classifier="logistic", n_repeats=2, n_folds=2, progress=False)
    psalm.tl.match(mdata, **NAMES, progress=False)
    psalm.tl.match(mdata, **NAMES, method="fgw", use_rep="X", key_added="fgw", progress=False)
    psalm.tl.match(mdata, **NAMES, refine=1, use_rep="X", key_added="refined", progress=False)
    psalm.tl.transfer(mdata, **NAMES, keys=["perturbation", "X"])
    psalm.tl.predict(mdata, **NAMES, max_epochs=1, progress=False)
    psalm.tl.diagnose(mdata, use_rep="X", n_permutations=19, progress=False)
    psalm.tl.embed(mdata)
    psalm.tl.embed(mdata, kind="matched", use_rep="X", key_added="joint")
    psalm.tl.evaluate(mdata, truth="pair", use_rep="X", n_bootstrap=0)
    psalm.tl.holdout(mdata, **NAMES, use_rep="X", target_rep="X", treatments=["t1"], max_epochs=1, progress=False)


def digest(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize("reading", [backed, lazy])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_step_reads_features_from_files(raw, tmp_path, reading, form):
    for name in NAMES.values():
        raw[name].X = form(np.maximum(raw[name].X, 0))
        raw[name].obs["pair"] = [f"pair{i}" for i in range(raw[name].n_obs)]
    with no_pull():
        raw.write_h5mu(tmp_path / "m.h5mu")
        raw.write_zarr(tmp_path / "m.zarr")
    before = digest(tmp_path)
    run(raw)
    with reading(tmp_path) as mdata:
        assert not isinstance(mdata["a"].X, np.ndarray)
        run(mdata)
        for name in NAMES.values():
            for slot in ("propensity", "X_propensity"):
                np.testing.assert_array_equal(np.asarray(mdata[name].obsm[slot]), raw[name].obsm[slot])
        np.testing.assert_array_equal(mdata["b"].obsm["X_from_a"], raw["b"].obsm["X_from_a"])
        found, expected = (of["a"].obsm["b_predicted"] for of in (mdata, raw))  # batches come in another order
        assert np.corrcoef(found.to_numpy().ravel(), expected.to_numpy().ravel())[0, 1] > 0.999
        np.testing.assert_array_equal(mdata.obsm["joint"], raw.obsm["joint"])
        for key in ("match", "fgw", "refined"):
            assert (mdata.obsp[key] != raw.obsp[key]).nnz == 0
        for key in ("match_evaluation", "match_diagnosis"):
            found, expected = (of.uns[key] for of in (mdata, raw))
            pick = (lambda stored: stored["verdicts"]) if "verdicts" in found else (lambda stored: stored)
            pd.testing.assert_frame_equal(pick(found), pick(expected))
        assert not isinstance(mdata["a"].X, np.ndarray)
    assert digest(tmp_path) == before
