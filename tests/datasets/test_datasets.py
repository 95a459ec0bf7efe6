import hashlib

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import psalm
from psalm.datasets import _public


def test_simulated_propensity_is_bayes_rule():
    """Independent: scipy's normal density around the treatment means, which are estimated from many cells."""
    mdata = psalm.datasets.simulated(n_cells=40_000, n_treatments=3, n_latent=2, n_features=(6, 6))
    cells = mdata["a"]
    z, codes = cells.obsm["latent"], cells.obs["perturbation"].cat.codes.to_numpy()
    density = np.column_stack(
        [multivariate_normal(z[codes == t].mean(axis=0), np.eye(2)).logpdf(z[:200]) for t in range(3)]
    )
    expected = density - density.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(cells.obsm["propensity_true"][:200], expected, atol=0.15)


def test_simulated_cells_are_disjoint_or_the_same():
    disjoint = psalm.datasets.simulated(n_cells=50, n_treatments=3)
    assert disjoint.n_obs == 100
    assert not np.allclose(disjoint["a"].obsm["latent"], disjoint["b"].obsm["latent"])
    same = psalm.datasets.simulated(n_cells=50, n_treatments=3, paired=True)
    assert same.n_obs == 50
    np.testing.assert_array_equal(same["a"].obsm["latent"], same["b"].obsm["latent"])


def test_simulated_is_reproducible():
    first, second, other = (psalm.datasets.simulated(n_cells=20, n_treatments=2, rng=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["b"].X, second["b"].X)
    assert not np.allclose(first["b"].X, other["b"].X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_treatments": 1}, "`n_treatments=1`"),
        ({"n_features": (8, 3)}, "`n_features=3`"),
        ({"n_cells": 2}, "n_cells"),
    ],
)
def test_simulated_refuses_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        psalm.datasets.simulated(**options)


def test_gene_halves_leak_nothing():
    mdata = psalm.datasets.gene_halves()
    first, second = mdata["panel1"], mdata["panel2"]
    assert first.n_vars + second.n_vars == 765
    assert first.var_names.intersection(second.var_names).empty
    assert (first.obs_names == second.obs_names).all()
    for adata in (first, second):
        assert adata.raw is None
        assert not any(map(len, (adata.obsm, adata.varm, adata.obsp, adata.uns, set(adata.layers) - {None})))
        assert list(adata.obs.columns) == ["bulk_labels"]
        assert adata.var.shape[1] == 0
    assert (first.obs["bulk_labels"].value_counts() < 10).sum() == 1


def test_snareseq_has_the_names_of_its_marker_genes(public_data):
    mdata = psalm.datasets.snareseq()
    rna = mdata["rna"]
    assert mdata["atac"].shape == (1047, 19)
    assert rna.shape == (1047, 18666)
    expression = {gene: np.asarray(rna[:, gene].X.todense()).ravel() for gene in ("COL1A2", "CD74", "GATA1")}
    for gene, line in (("COL1A2", "BJ"), ("CD74", "GM12878"), ("GATA1", "K562")):
        means = {name: expression[gene][rna.obs["cell_type"] == name].mean() for name in rna.obs["cell_type"].unique()}
        assert max(means, key=means.get) == line
    assert (rna.obs["cell_type_published"] == "GM").sum() == (rna.obs["cell_type"] == "BJ").sum()


def test_scgem(public_data):
    mdata = psalm.datasets.scgem()
    assert mdata["rna"].shape == (177, 34)
    assert mdata["methylation"].shape == (177, 27)
    assert mdata["rna"].obs["cell_type"].value_counts().to_dict() == {
        "d8": 40,
        "d24T+": 36,
        "BJ": 35,
        "iPS": 34,
        "d16T+": 32,
    }
    assert mdata["rna"].var_names[0] == "ZIC3"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache, and a network that does not answer."""
    import requests

    def refuse(*_, **__):
        msg = "no route"
        raise requests.ConnectionError(msg)

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setenv("PSALM_DATA_DIR", str(tmp_path))
    return tmp_path


def test_a_failed_download_is_one_clear_error(offline):
    with pytest.raises(OSError, match=r"could not be downloaded \(ConnectionError\).*PSALM_DATA_DIR") as caught:
        psalm.datasets.scgem()
    assert "https://raw.githubusercontent.com/caokai1073/Pamona" in str(caught.value)


def test_a_corrupted_download_is_one_clear_error(offline, monkeypatch):
    import requests

    class Response:
        headers = {"content-length": "5"}  # noqa: RUF012
        raw = None

        def raise_for_status(self):
            pass

        def iter_content(self, chunk_size=None):
            yield b"wrong"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

    monkeypatch.setattr(requests, "get", lambda *_, **__: Response())
    with pytest.raises(OSError, match="does not have the published checksum"):
        psalm.datasets.scgem()
    assert not list(offline.rglob("expression_type.txt"))


def test_files_in_the_cache_are_not_downloaded(offline, monkeypatch):
    content = b"0.0\n"
    file = offline / "scgem" / "expression_type.txt"
    file.parent.mkdir()
    file.write_bytes(content)
    name = "scgem/expression_type.txt"
    monkeypatch.setitem(_public.FILES, name, (_public.PAMONA, hashlib.sha256(content).hexdigest()))
    assert _public._fetch(name) == file
