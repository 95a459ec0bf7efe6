import gzip
import hashlib

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm
from psalm.datasets import _bmmc

N_CELLS = 12


def made():
    """Cells laid out as in the published file: normalised X, counts in a layer, proteins after (and among) genes."""
    rng = np.random.default_rng(0)
    var = pd.DataFrame(
        {"feature_types": pd.Categorical(["GEX", "ADT", "GEX", "GEX", "ADT"]), "gene_id": list("vwxyz")},
        index=["CD3D", "CD3", "CD86", "LYZ", "CD86-1"],
    )
    obs = pd.DataFrame(
        {
            "GEX_pct_counts_mt": rng.random(N_CELLS),
            "cell_type": pd.Categorical(np.repeat(["B1 B", "NK", "pDC"], 4)),
            "batch": pd.Categorical(["s1d1", "s4d8"] * 6),
            "Site": pd.Categorical(["site1", "site4"] * 6),
            "is_train": pd.Categorical(["train"] * 6 + ["test"] * 2 + ["iid_holdout"] * 4),
        },
        index=[f"AAACC{number}-1-s1d1" for number in range(N_CELLS)],
    )
    counts = sparse.csr_matrix(rng.poisson(1.5, (N_CELLS, 5)).astype(np.float32))
    return anndata.AnnData(
        counts / 2, obs=obs, var=var, layers={"counts": counts}, obsm={"ADT_X_pca": counts.toarray()}
    )


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Put cells into the cache as if they were the published file; nothing is downloaded."""

    def refuse(*_, **__):
        pytest.fail("the network was asked")

    def write(adata):
        folder = tmp_path / "bmmc"
        folder.mkdir(exist_ok=True)
        adata.write_h5ad(tmp_path / "made.h5ad")
        file = folder / _bmmc.NAME
        file.write_bytes(gzip.compress((tmp_path / "made.h5ad").read_bytes()))
        monkeypatch.setattr(_bmmc, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
        return file

    monkeypatch.setattr("requests.get", refuse)
    monkeypatch.setenv("PSALM_DATA_DIR", str(tmp_path))
    return write


def test_both_modalities_have_counts_of_the_same_cells(publish):
    adata = made()
    publish(adata)
    mdata = psalm.datasets.bmmc_citeseq()
    assert list(mdata.mod) == ["rna", "protein"]
    for name, features in (("rna", ["CD3D", "CD86", "LYZ"]), ("protein", ["CD3", "CD86-1"])):
        part = mdata[name]
        assert list(part.var_names) == features
        assert list(part.var["gene_id"]) == list(adata[:, features].var["gene_id"])
        assert sparse.issparse(part.X)
        assert part.X.format == "csr"
        assert part.X.dtype == np.float32
        np.testing.assert_array_equal(part.X.toarray(), adata[:, features].layers["counts"].toarray())
        assert (part.obs_names == adata.obs_names).all()
    assert mdata.n_obs == N_CELLS


def test_labels_are_those_of_the_file(publish):
    adata = made()
    publish(adata)
    mdata = psalm.datasets.bmmc_citeseq()
    for part in mdata.mod.values():
        assert list(part.obs) == ["cell_type", "is_train", "batch", "Site"]
        assert list(part.obs["is_train"]) == list(adata.obs["is_train"])
        assert list(part.obs["cell_type"]) == list(adata.obs["cell_type"])
    psalm.pp.treatment(mdata, "cell_type", min_cells=2)
    assert list(mdata["rna"].obs["treatment"].cat.categories) == ["B1 B", "NK", "pDC"]


def test_counts_may_be_dense_or_whole_numbers(publish):
    adata = made()
    adata.layers["counts"] = adata.layers["counts"].toarray().astype(np.int64)
    publish(adata)
    counts = psalm.datasets.bmmc_citeseq()["protein"].X
    assert sparse.issparse(counts)
    assert counts.dtype == np.float32


def test_the_file_is_unpacked_once_and_anew_when_it_changed(publish):
    file = publish(made())
    psalm.datasets.bmmc_citeseq()
    plain = file.with_suffix("")
    before = plain.stat().st_mtime_ns
    psalm.datasets.bmmc_citeseq()
    assert plain.stat().st_mtime_ns == before
    publish(made()[:6].copy())
    assert psalm.datasets.bmmc_citeseq().n_obs == 6


def without_types(adata):
    del adata.var["feature_types"]


def without_proteins(adata):
    adata.var["feature_types"] = "GEX"


def without_counts(adata):
    del adata.layers["counts"]


def without_split(adata):
    del adata.obs["is_train"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(without_types, r"lacks `var\['feature_types'\] == 'GEX'`.*'ADT'`.*download", id="feature types"),
        pytest.param(without_proteins, r"lacks `var\['feature_types'\] == 'ADT'`, so it is not", id="proteins"),
        pytest.param(without_counts, r"lacks `layers\['counts'\]`", id="counts"),
        pytest.param(without_split, r"lacks `obs\['is_train'\]`", id="split"),
    ],
)
def test_a_file_of_another_layout_is_refused(publish, spoil, message):
    adata = made()
    spoil(adata)
    publish(adata)
    with pytest.raises(ValueError, match=message):
        psalm.datasets.bmmc_citeseq()


def test_no_network_is_one_clear_error(tmp_path, monkeypatch):
    import requests

    def refuse(*_, **__):
        msg = "no route"
        raise requests.ConnectionError(msg)

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setenv("PSALM_DATA_DIR", str(tmp_path))
    with pytest.raises(OSError, match=r"could not be downloaded \(ConnectionError\).*GSE194122.*PSALM_DATA_DIR"):
        psalm.datasets.bmmc_citeseq()
