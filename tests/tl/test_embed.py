import mudata
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import psalm
from psalm._containers import stack


def test_one_space_for_both_modalities(scored):
    """Independent: principal components of the pooled scores keep distances in full rank."""
    psalm.tl.embed(scored, n_comps=3)
    x, y = (scored[m].obsm["X_propensity"] for m in ("a", "b"))
    p, q = (scored[m].obsm["propensity"] for m in ("a", "b"))
    np.testing.assert_allclose(np.linalg.norm(x[:9] - y[:9], axis=1), np.linalg.norm(p[:9] - q[:9], axis=1), rtol=1e-4)


def test_no_more_components_than_the_scores_have(scored):
    psalm.tl.embed(scored, n_comps=10)
    assert scored["a"].obsm["X_propensity"].shape == (240, 3)


def test_the_container_holds_all_cells_in_its_own_order(scored):
    psalm.tl.embed(scored)
    for name in ("a", "b"):
        rows = scored.obs_names.get_indexer(scored[name].obs_names)
        np.testing.assert_array_equal(scored.obsm["X_propensity"][rows], scored[name].obsm["X_propensity"])
        assert (scored.obs["X_propensity_modality"].iloc[rows] == name).all()
    assert scored.obsm["X_propensity"].dtype == np.float32


def test_cells_of_both_modalities_are_at_the_mean_of_their_places():
    mdata = psalm.datasets.simulated(n_cells=120, n_treatments=4, n_features=(12, 10), paired=True)
    mdata = stack({"a": mdata["a"][:100].copy(), "b": mdata["b"][20:].copy()})
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.embed(mdata)
    joint, origin = mdata.obsm["X_propensity"], mdata.obs["X_propensity_modality"]
    both = (mdata["a"].obsm["X_propensity"][20:] + mdata["b"].obsm["X_propensity"][:80]) / 2
    names = mdata["b"].obs_names[:80]
    np.testing.assert_allclose(joint[mdata.obs_names.get_indexer(names)], both, rtol=1e-5)
    assert (origin[names] == "a+b").all()
    assert origin.value_counts().to_dict() == {"a+b": 80, "a": 20, "b": 20}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
    "ignore:n_jobs value:UserWarning",
)
@pytest.mark.parametrize("kind", ["scores", "matched"])
def test_scanpy_goes_on_with_the_container(matched, kind, tmp_path):
    psalm.tl.embed(matched, kind=kind, n_comps=3, key_added="X_joint")
    sc.pp.neighbors(matched, use_rep="X_joint", n_neighbors=5)
    sc.tl.umap(matched, maxiter=5, random_state=0)
    assert matched.obsm["X_umap"].shape == (480, 2)
    assert np.isfinite(matched.obsm["X_umap"]).all()
    sc.pl.umap(matched, color=["treatment", "X_joint_modality"], show=False)
    matched.write(tmp_path / "cells.h5mu")
    again = mudata.read(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(again.obsm["X_joint"], matched.obsm["X_joint"])
    psalm.tl.embed(again, key_added="X_joint")  # its own, so it is replaced


def test_matched_cells_are_at_the_average_of_their_partners(matched):
    """Independent: the dense mass."""
    psalm.tl.embed(matched, kind="matched", use_rep="X")
    mass = psalm.get.coupling(matched, normalize="source").toarray()
    np.testing.assert_allclose(matched["a"].obsm["X_matched"], mass @ matched["b"].X, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matched["b"].obsm["X_matched"], matched["b"].X, rtol=1e-6)
    assert matched.uns["X_matched"]["params"]["use_rep"] == "X"


@pytest.mark.parametrize("is_sparse", [False, True])
def test_many_features_become_components_of_the_target(matched, is_sparse):
    """Independent: components are linear, so the place of an average is the average of places."""
    if is_sparse:
        matched["b"].layers["some"] = sparse.csr_matrix(matched["b"].X)
    psalm.tl.embed(matched, kind="matched", use_rep="some" if is_sparse else "X", n_comps=4)
    own = matched["b"].obsm["X_matched"]
    mass = psalm.get.coupling(matched, normalize="source").toarray()
    np.testing.assert_allclose(matched["a"].obsm["X_matched"], mass @ own, rtol=1e-3, atol=1e-4)
    variances = np.linalg.svd(matched["b"].X - matched["b"].X.mean(axis=0), compute_uv=False)[:4] ** 2 / 239
    np.testing.assert_allclose(own.var(axis=0, ddof=1), variances, rtol=1e-3)


def test_averages_are_shrunk(matched):
    """What the docstring warns of: by the law of total variance averages vary less than what is averaged."""
    psalm.tl.embed(matched, kind="matched")
    assert matched["a"].obsm["X_matched"].var(axis=0).sum() < matched["b"].obsm["X_matched"].var(axis=0).sum()


@pytest.mark.filterwarnings("ignore:These cells keep no treatment")
def test_cells_without_a_place_are_left_out_as_the_message_says(raw):
    raw["a"].obs["perturbation"] = raw["a"].obs["perturbation"].astype(object)
    raw["a"].obs.iloc[:7, 0] = np.nan
    third = raw["a"].copy()
    third.obs_names, third.var_names = [f"c_{n}" for n in range(240)], [f"c_{v}" for v in third.var_names]
    mdata = stack({"a": raw["a"].copy(), "b": raw["b"].copy(), "c": third})
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    psalm.tl.embed(mdata)  # scores: a place for everyone
    assert np.isfinite(mdata.obsm["X_propensity"]).all()
    assert mdata.obs["X_propensity_modality"].value_counts().to_dict() == {"a": 240, "b": 240, "c": 240}
    with pytest.raises(ValueError, match="7 cells of 'a' are not matched, and 240 cells are only in other modalities"):
        psalm.tl.embed(mdata, kind="matched")
    placed = mdata["b"].obs_names.union(mdata["a"].obs_names[mdata["a"].obs["match_mass"] > 0])
    part = mdata[placed].copy()
    psalm.tl.embed(part, kind="matched")
    assert part.obsm["X_matched"].shape == (473, 10)
    assert np.isfinite(part.obsm["X_matched"]).all()


def test_scores_are_needed(raw):
    with pytest.raises(KeyError, match=r"Run `tl.propensity` first"):
        psalm.tl.embed(raw)


def _own(mdata):
    mdata.obsm["X_propensity"] = np.zeros((480, 2))
    psalm.tl.embed(mdata)


def _own_column(mdata):
    mdata.obs["X_matched_modality"] = "mine"
    psalm.tl.embed(mdata, kind="matched")


def _own_modality(mdata):
    mdata["b"].obsm["X_new"] = np.zeros((240, 2))
    psalm.tl.embed(mdata, key_added="X_new")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda m: psalm.tl.embed(m, kind="joint"), ValueError, "`kind='joint'`", id="kind"),
        pytest.param(lambda m: psalm.tl.embed(m, n_comps=0), ValueError, "`n_comps=0`", id="n_comps"),
        pytest.param(lambda m: psalm.tl.embed(m, key_added="a"), ValueError, "name of a modality", id="modality"),
        pytest.param(
            lambda m: psalm.tl.embed(m, kind="matched", match_key="no"), KeyError, "Run `tl.match`", id="match"
        ),
        pytest.param(_own, ValueError, r"mdata.obsm\['X_propensity'\].*would be lost", id="obsm"),
        pytest.param(_own_column, ValueError, r"mdata.obs\['X_matched_modality'\].*would be lost", id="obs"),
        pytest.param(_own_modality, ValueError, r"mdata\['b'\].obsm\['X_new'\].*would be lost", id="modality's obsm"),
    ],
)
def test_bad_input(matched, call, error, message):
    with pytest.raises(error, match=message):
        call(matched)
