"""Every step on features that stay in their file: the results of features in memory, and files are not written to."""

import hashlib
from contextlib import contextmanager

import anndata
import mudata
import numpy as np
import pytest

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
    psalm.tl.transfer(mdata, **NAMES, keys=["perturbation", "X"])
    psalm.tl.predict(mdata, **NAMES, max_epochs=1, progress=False)
    psalm.tl.diagnose(mdata, n_permutations=19, progress=False)
    psalm.tl.embed(mdata)


def digest(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("reading", [backed, lazy])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_step_reads_features_from_files(raw, tmp_path, reading):
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
        assert (mdata.obsp["match"] != raw.obsp["match"]).nnz == 0
        assert not isinstance(mdata["a"].X, np.ndarray)
    assert digest(tmp_path) == before
