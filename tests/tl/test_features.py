"""What steps say of features that they are given: where they are, what is wrong with them, and what to do."""

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import psalm
from psalm._containers import no_pull
from psalm.pl._clouds import points

NAMES = {"source": "a", "target": "b"}
QUICK = {"n_repeats": 1, "n_folds": 2, "classifier": "logistic", "progress": False}


def score(mdata, **options):
    psalm.tl.propensity(mdata, **QUICK | options)


@pytest.fixture
def treated(raw):
    psalm.pp.treatment(raw, "perturbation")
    return raw


@pytest.fixture
def normalised(treated, rng):
    """Modality "a" as after scanpy's tutorial, with its counts kept in `.raw` alone."""
    counts = sparse.csr_matrix(rng.poisson(2.0, size=treated["a"].shape).astype(np.float32))
    adata = treated["a"].copy()
    adata.X = counts
    adata.raw = adata
    adata.X = np.log1p(counts.toarray())
    adata.layers["scaled"] = adata.X - 1
    with no_pull():
        return mudata.MuData({"a": adata, "b": treated["b"].copy()})


def test_a_nullable_frame_is_read_and_its_missing_values_are_named(treated):
    for name in "ab":
        values = pd.DataFrame(treated[name].X, treated[name].obs_names).add_prefix("f")
        treated[name].obsm["plain"], treated[name].obsm["nullable"] = values.to_numpy(), values.convert_dtypes()
    for key in ("plain", "nullable"):
        score(treated, use_rep=key, key_added=f"by_{key}")
    np.testing.assert_allclose(treated["a"].obsm["by_plain"], treated["a"].obsm["by_nullable"], atol=1e-6)
    treated["a"].obsm["nullable"].iloc[3, 2] = pd.NA
    treated["a"].obsm["nullable"]["f5"] = pd.NA
    with pytest.raises(ValueError, match=r"obsm\['nullable'\]` has 241 values.*2 features \('f2', 'f5'\)") as error:
        score(treated, use_rep="nullable")
    assert "1 features have no finite value in any of 240 cells: 'f5'. Drop them." in str(error.value)


def test_counts_in_raw_are_named_and_used_as_the_message_says(normalised):
    with pytest.raises(
        ValueError, match=r"needs counts.*\(layers: 'scaled'\).*raw`, with .* holds counts of 12"
    ) as error:
        psalm.pp.represent(normalised, "a", kind="rna", n_comps=5)
    remedy = "adata.layers['raw'] = adata.raw[:, adata.var_names].X"
    assert remedy in str(error.value)
    exec(remedy, {"adata": normalised["a"]})
    psalm.pp.represent(normalised, "a", kind="rna", n_comps=5, layer="raw")
    assert normalised["a"].obsm["X_psalm"].shape == (240, 5)


def test_raw_with_fewer_features_is_to_be_taken_whole(normalised):
    adata = normalised["a"]
    adata.raw = adata[:, :7].copy()
    with pytest.raises(KeyError, match=r"build the MuData with `adata.raw.to_adata\(\)`"):
        score(normalised, use_rep="counts")


def test_raw_that_holds_no_counts_is_not_called_so(normalised):
    adata = normalised["a"]
    adata.raw = AnnData(adata.X.copy(), obs=adata.obs[[]], var=adata.var[[]])
    with pytest.raises(ValueError, match="holds values that are no counts, of 12 features"):
        psalm.pp.represent(normalised, "a", kind="rna")


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda m: score(m, use_rep="counts"), id="propensity"),
        pytest.param(lambda m: psalm.pp.represent(m, "a", kind="rna", layer="counts"), id="represent"),
        pytest.param(lambda m: psalm.tl.transfer(m, **NAMES, keys="counts"), id="transfer"),
        pytest.param(lambda m: psalm.tl.evaluate(m, latent="counts"), id="evaluate"),
        pytest.param(lambda m: psalm.tl.predict(m, **NAMES, use_rep="counts", progress=False), id="predict"),
        pytest.param(
            lambda m: psalm.tl.match(m, **NAMES, method="fgw", use_rep="counts", key_added="f", progress=False),
            id="fgw",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # nothing can be told by noise
def test_lists_of_what_was_found_are_whole(normalised, step):
    """Lists name obsm, layers (not anndata's None for X) and raw."""
    score(normalised)
    psalm.tl.match(normalised, **NAMES, progress=False)
    normalised["a"].obsm["X_pca"] = np.ones((240, 2))
    with pytest.raises(KeyError) as error:
        step(normalised)
    for said in ("'X_pca'", "in layers: 'scaled'; and X.", "holds counts of 12 features"):
        assert said in str(error.value)
    assert "'None'" not in str(error.value)


def images(mdata, *shape):
    mdata["a"].obsm["img"] = np.random.default_rng(0).integers(0, 255, size=(240, *shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        pytest.param((16, 16, 5), r"obsm\['img'\]` has shape \(240, 16, 16, 5\).*moveaxis", id="channels last"),
        pytest.param((2, 3, 8, 8), r"obsm\['img'\]` has 5 axes.*\(n_cells, channels, height, width\)", id="z-stacks"),
        pytest.param((8, 8), r"obsm\['img'\]` has 3 axes.*images\[:, None\]", id="no channels"),
    ],
)
def test_images_in_another_order_are_refused(matched, shape, match):
    images(matched, *shape)
    with pytest.raises(ValueError, match=match):
        score(matched, use_rep={"a": "img"}, classifier={"a": "image", "b": "logistic"})
    with pytest.raises(ValueError, match=match):
        psalm.tl.predict(matched, **NAMES, use_rep="img", progress=False)
    with pytest.raises(ValueError, match=r"what is predicted is a matrix.*`target_rep=`"):
        psalm.tl.predict(matched, source="b", target="a", target_rep="img", progress=False)


def test_images_of_booleans_are_read(matched):
    images(matched, 1, 8, 8)
    matched["a"].obsm["img"] = matched["a"].obsm["img"] > 128
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing can be told by noise
        score(matched, use_rep={"a": "img"}, classifier={"a": "image", "b": "logistic"}, key_added="by_image")
        psalm.tl.predict(matched, **NAMES, use_rep="img", max_epochs=1, progress=False)
    assert np.isfinite(matched["a"].obsm["b_predicted"].to_numpy()).all()
    table = psalm.tl.transfer(matched, **NAMES, keys="img")
    assert table["slot"].tolist() == ["img_from_a"]


def test_a_figure_takes_coordinates_in_any_form(matched):
    for name in "ab":
        values = pd.DataFrame(matched[name].X[:, :3], matched[name].obs_names).add_prefix("f")
        matched[name].obsm["X_umap"] = values.convert_dtypes()
        np.testing.assert_allclose(points(matched, name, "X_umap"), matched[name].X[:, :2], rtol=1e-6)
    psalm.pl.embedding(matched, basis="X_umap")
