import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import psalm
from psalm._containers import stack


@pytest.fixture
def counts(rng):
    """Three clear components, so that solvers agree on them."""
    rates = np.exp(rng.normal(size=(40, 3)) * [1.5, 1.0, 0.6] @ rng.normal(size=(3, 2100)) / 2 + 1)
    return rng.poisson(rates).astype(np.float32)


def container(values, **layers):
    modalities = {"m": AnnData(values), "other": AnnData(np.ones((5, 2), np.float32))}
    for name, adata in modalities.items():
        adata.obs_names = [f"{name}{i}" for i in range(adata.n_obs)]
        adata.var_names = [f"{name}_{i}" for i in range(adata.n_vars)]
    modalities["m"].layers.update(layers)
    return stack(modalities)


def represented(values, **options):
    mdata = container(values)
    psalm.pp.represent(mdata, "m", **options)
    return mdata["m"].obsm["X_psalm"]


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_rna_is_scanpys_recipe(counts, as_matrix):
    """Independent: the calls that a scanpy user would write."""
    adata = AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.pca(adata, n_comps=3, random_state=0)
    found = represented(as_matrix(counts), kind="rna", n_comps=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), np.abs(adata.obsm["X_pca"]), atol=2e-3)


def test_protein_by_hand():
    """log1p of (0, e²−1) centred is (−1, 1), of (e²−1, 0) is (1, −1), of equal counts (0, 0); then unit variance."""
    count = np.round(np.exp(2) - 1)
    values = np.array([[0, count], [count, 0], [4, 4]])
    expected = np.array([[-1, 1], [1, -1], [0, 0]]) * np.sqrt(3 / 2)
    np.testing.assert_allclose(represented(values, kind="protein"), expected, rtol=1e-6)


def test_narrow_features_are_scaled_and_constant_ones_stay_finite(rng):
    values = np.column_stack([rng.normal(5, 3, size=30), np.full(30, 7.0)])
    found = represented(values, kind="features")
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), [1, 0], atol=1e-6)


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_wide_features_are_reduced(rng, as_matrix):
    assert represented(as_matrix(rng.normal(size=(30, 20))), kind="features", n_comps=6).shape == (30, 6)


def test_a_layer_is_read_and_x_is_left_alone(counts):
    mdata = container(np.zeros((40, 2100), np.float32), counts=counts)
    psalm.pp.represent(mdata, "m", kind="rna", n_comps=3, layer="counts")
    np.testing.assert_allclose(
        np.abs(mdata["m"].obsm["X_psalm"]), np.abs(represented(counts, kind="rna", n_comps=3)), atol=1e-4
    )
    assert not mdata["m"].X.any()
    assert set(mdata["m"].layers) - {None} == {"counts"}  # anndata 0.13 lists X as None


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        pytest.param(np.ones((4, 2)), {"kind": "dna"}, ValueError, "`kind='dna'` is not known", id="kind"),
        pytest.param(np.full((4, 2), 0.5), {"kind": "rna"}, ValueError, "needs counts", id="fractions as counts"),
        pytest.param(-np.ones((4, 2)), {"kind": "protein"}, ValueError, "minimum -1", id="negative counts"),
        pytest.param(
            np.array([[1, np.nan], [np.inf, 1], [1, 1]]),
            {"kind": "features"},
            ValueError,
            r"`mdata\['m'\].X` has 2 values that are NaN or infinite, in 2 cells",
            id="not finite",
        ),
        pytest.param(
            sparse.csr_matrix([[1.0, np.nan], [0, 1], [1, 1]]),
            {"kind": "features"},
            ValueError,
            "1 values that are NaN or infinite, in 1 cells",
            id="not finite, sparse",
        ),
        pytest.param(np.ones((4, 2)), {"kind": "rna", "layer": "raw"}, KeyError, "`layer='raw'` is not in", id="layer"),
        pytest.param(np.ones((4, 2)), {"kind": "rna", "n_comps": 0}, ValueError, "`n_comps=0`", id="n_comps"),
    ],
)
def test_bad_input(values, options, error, message):
    with pytest.raises(error, match=message):
        represented(values, **options)


def test_unknown_modality():
    with pytest.raises(KeyError, match=r"`modality='rna'` is not a modality. Found: 'm', 'other'"):
        psalm.pp.represent(container(np.ones((4, 2))), "rna", kind="features")


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        pytest.param(np.ones((5, 1)), "rna", "needs 2 features and cells or more", id="one gene"),
        pytest.param(np.arange(5.0)[:, None], "protein", "needs 2 features and cells or more", id="one protein"),
        pytest.param(np.zeros((5, 9)), "rna", "No feature of .* varies between cells", id="no counts"),
        pytest.param(np.ones((5, 60)), "features", "No feature of .* varies between cells", id="constant"),
        pytest.param(sparse.csr_matrix((5, 60)), "features", "No feature of .* varies", id="constant, sparse"),
    ],
)
def test_what_cannot_be_represented(values, kind, message):
    with pytest.raises(ValueError, match=message):
        represented(values, kind=kind)


def test_a_generator_is_a_seed_too(counts):
    assert represented(
        counts,
        kind="rna",
        n_comps=3,
    ).shape == (40, 3)
    mdata = container(counts)
    psalm.pp.represent(mdata, "m", kind="rna", n_comps=3, rng=np.random.default_rng(3))
    assert mdata["m"].obsm["X_psalm"].shape == (40, 3)


@pytest.mark.parametrize(
    ("kind", "width"), [("rna", 2100), ("protein", 12), ("atac", 90), ("features", 9), ("features", 80)]
)
@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_cells_placed_in_the_space_of_a_reference_are_where_they_were(rng, kind, width, as_matrix):
    """Independent: the same cells, represented with all others and placed alone afterwards."""
    values = rng.poisson(np.exp(rng.normal(size=(50, 4)) @ rng.normal(size=(4, width)) / 3 + 1)).astype(np.float32)
    whole = container(as_matrix(values))
    psalm.pp.represent(whole, "m", kind=kind, n_comps=20)
    part = container(as_matrix(values[:9]))
    psalm.pp.represent(part, "m", kind=kind, reference=whole)
    np.testing.assert_allclose(part["m"].obsm["X_psalm"], whole["m"].obsm["X_psalm"][:9], atol=2e-3)


def test_a_reference_that_does_not_fit(rng):
    whole, narrow = container(rng.normal(size=(20, 6))), container(rng.normal(size=(5, 4)))
    with pytest.raises(ValueError, match="`reference` has no representation of 'm'"):
        psalm.pp.represent(narrow, "m", kind="features", reference=whole)
    psalm.pp.represent(whole, "m", kind="features")
    with pytest.raises(ValueError, match="`reference` has 6 features of 'm' and these cells have 4"):
        psalm.pp.represent(narrow, "m", kind="features", reference=whole)


def test_atac_is_latent_semantic_indexing_without_depth(rng):
    """Independent: the same steps by dense linear algebra; two kinds of very different depth are told apart."""
    kind, depth = np.repeat([0, 1], 40), rng.uniform(0.2, 3.0, size=80)
    rates = np.where(np.arange(200) % 2 == kind[:, None], 0.6, 0.3) * depth[:, None]
    counts = rng.poisson(rates).astype(float)
    found = represented(sparse.csr_matrix(counts), kind="atac", n_comps=5)
    tf = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    idf = np.log((1 + 80) / (1 + (counts > 0).sum(axis=0))) + 1
    u, s, _ = np.linalg.svd(tf * idf, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(u * s)[:, 1:6], rtol=1e-3, atol=1e-2)
    assert abs(np.corrcoef(found[:, 0], kind)[0, 1]) > 0.9


def test_genes_may_have_the_same_name(counts):
    """Independent: the same counts under names that occur once."""
    adata = AnnData(counts.copy())
    adata.obs_names = [f"m{i}" for i in range(40)]
    modalities = {"m": adata, "other": container(counts)["other"]}
    adata.var_names = [f"gene_{i // 2}" for i in range(2100)]
    with pytest.warns(UserWarning, match="not unique"):
        mdata = stack(modalities)
    psalm.pp.represent(mdata, "m", kind="rna", n_comps=3)
    np.testing.assert_allclose(mdata["m"].obsm["X_psalm"], represented(counts, kind="rna", n_comps=3), atol=1e-4)
