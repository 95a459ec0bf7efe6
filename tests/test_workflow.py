"""The whole flow on simulated truth, and results that survive disk, subsetting and reordering."""

import mudata
import numpy as np
import pandas as pd
import pytest

import psalm
from psalm._containers import no_pull, stack


@pytest.fixture(autouse=True)
def modern_mudata():
    """mudata's newer behaviour, which does not repeat columns of modalities in the container."""
    with no_pull():
        yield


def by_name(mdata, **options):
    """The coupling as {(source cell, target cell): mass}."""
    mass = psalm.get.coupling(mdata, **options).tocoo()
    names = mdata["a"].obs_names[mass.row], mdata["b"].obs_names[mass.col]
    return dict(zip(zip(*names, strict=True), mass.data, strict=True))


def assert_same_pairs(found, expected):
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), [expected[pair] for pair in found], rtol=1e-9)


def test_flow_recovers_the_truth_better_than_chance():
    mdata = psalm.datasets.simulated(n_cells=500, n_treatments=6, n_private=1, paired=True)
    psalm.pp.treatment(mdata, "perturbation")
    for name in ("a", "b"):
        psalm.pp.represent(mdata, name, kind="features")
    psalm.tl.propensity(mdata, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    last = psalm.tl.evaluate(mdata, truth=None, latent="latent").iloc[-1]
    assert last["foscttm"] < 0.3
    assert last["r2"] > 0.1
    assert last["latent_error"] < 0.8
    psalm.tl.predict(mdata, source="a", target="b", progress=False)
    truth, predicted = mdata["b"].obsm["X_psalm"], mdata["a"].obsm["b_predicted"].to_numpy()
    assert ((truth - predicted) ** 2).sum() < 0.8 * ((truth - truth.mean(axis=0)) ** 2).sum()


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # after one epoch
@pytest.mark.parametrize("ending", ["h5mu", "zarr"])
@pytest.mark.parametrize("method", ["ot", "snn"])
def test_results_survive_disk(scored, tmp_path, ending, method):
    psalm.tl.match(scored, source="a", target="b", method=method, progress=False)
    psalm.tl.evaluate(scored, latent="latent")
    psalm.tl.predict(scored, source="a", target="b", max_epochs=1, coverage=0.5, progress=False)
    psalm.tl.holdout(scored, source="a", target="b", treatments=["t1"], max_epochs=1, progress=False)
    path = tmp_path / f"cells.{ending}"
    if ending == "h5mu":
        scored.write_h5mu(path)
        back = mudata.read_h5mu(path)
    else:
        scored.write_zarr(path)
        back = mudata.read_zarr(path)
    pd.testing.assert_frame_equal(back.uns["holdout"]["table"], scored.uns["holdout"]["table"], check_dtype=False)
    assert psalm.get.predicted(back, "b").layers.keys() - {None} == {"lower", "upper"}  # anndata 0.13 lists X as None
    assert_same_pairs(by_name(back), by_name(scored))
    assert_same_pairs(by_name(back, exact=True), by_name(scored, exact=True))
    assert psalm.get.report(back)["converged"].all()
    np.testing.assert_allclose(
        psalm.tl.evaluate(back, latent="latent")["latent_error"],
        psalm.tl.evaluate(scored, latent="latent")["latent_error"],
    )
    assert psalm.get.propensity(back, "a").equals(psalm.get.propensity(scored, "a"))
    for name in ("propensity", "match"):
        assert getattr(psalm.pl, name)(back, return_fig=True)
    psalm.tl.match(back, source="a", target="b", method=method, progress=False)  # and the flow goes on


@pytest.mark.parametrize("exact", [False, True], ids=["stored", "exact"])
def test_results_survive_subsetting_and_reordering(matched, rng, exact):
    everything = by_name(matched, exact=exact)
    names = rng.permutation(matched.obs_names)[:300]
    part = matched[names].copy()
    kept = set(names)
    expected = {pair: mass for pair, mass in everything.items() if kept.issuperset(pair)}
    assert expected
    assert_same_pairs(by_name(part, exact=exact), expected)


def test_a_view_is_read_too(matched):
    view = matched[matched.obs["treatment"] == "t1"]
    assert view.is_view
    expected = psalm.get.report(matched).loc["t1", ["n_source", "n_target"]].tolist()
    assert list(psalm.get.coupling(view).shape) == expected


def test_reordering_one_modality(matched, rng):
    expected = by_name(matched)
    matched.mod["a"] = matched["a"][rng.permutation(240)].copy()
    matched.update()
    assert_same_pairs(by_name(matched), expected)


def added_cells(mdata):
    """The container with five new cells in "a", as a user would add them."""
    import anndata

    more = mdata["a"][:5].copy()
    more.obs_names = [f"new_{i}" for i in range(5)]
    mdata.mod["a"] = anndata.concat([mdata["a"], more])
    mdata.update()
    return mdata


@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")  # of mudata's own update
def test_added_cells_make_the_coupling_stale(matched):
    with pytest.raises(ValueError, match=r"cells were added to the container after matching.* `tl.match` again"):
        psalm.get.coupling(added_cells(matched))


def test_scores_computed_anew_make_the_exact_plan_stale(matched):
    psalm.tl.propensity(matched, n_repeats=1, rng=9, progress=False)
    with pytest.raises(ValueError, match="were computed anew after the coupling 'match' was made"):
        psalm.tl.evaluate(matched, latent="latent")


def test_treatments_changed_make_the_coupling_stale(matched):
    labels = matched["a"].obs["treatment"].to_numpy().copy()
    matched["a"].obs["treatment"] = (
        matched["a"].obs["treatment"].cat.set_categories(matched["a"].obs["treatment"].cat.categories)
    )
    matched["a"].obs.iloc[0, matched["a"].obs.columns.get_loc("treatment")] = "t3" if labels[0] != "t3" else "t1"
    with pytest.raises(ValueError, match="was made for other treatments than the cells now have"):
        psalm.tl.evaluate(matched, latent="latent")


def test_three_modalities_and_partly_shared_cells(raw):
    """A third modality measured on some cells of "a"; any pair can be matched."""
    third = raw["a"][:100, :6].copy()
    third.var_names = [f"c_{i}" for i in range(6)]
    mdata = stack({"a": raw["a"], "b": raw["b"], "c": third})
    psalm.pp.treatment(mdata, "perturbation")
    with pytest.warns(UserWarning, match="c does not tell 't1' from the others"):
        psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    psalm.tl.match(mdata, source="c", target="a", progress=False, key_added="pairs")
    assert psalm.get.coupling(mdata, "pairs").shape == (100, 240)
    assert psalm.tl.evaluate(mdata, match_key="pairs")["n_pairs"].iloc[-1] == 100


@pytest.mark.parametrize("read", [psalm.get.coupling, psalm.pl.embedding], ids=["get", "pl"])
@pytest.mark.parametrize("method", ["ot", "snn"])
def test_a_cell_that_got_a_treatment_after_matching_makes_the_coupling_stale(scored, read, method):
    for name in ("a", "b"):
        scored[name].obs.loc[scored[name].obs_names[:3], "treatment"] = np.nan
    psalm.tl.match(scored, source="a", target="b", method=method, progress=False)
    psalm.tl.embed(scored)
    assert psalm.get.coupling(scored).nnz
    scored["b"].obs.loc[scored["b"].obs_names[:3], "treatment"] = "t1"
    with pytest.raises(ValueError, match=r"labels in .* were changed after matching"):
        read(scored)


def test_renamed_cells_are_refused(matched):
    matched["a"].obs_names = [f"renamed_{i}" for i in range(240)]
    with pytest.raises(ValueError, match=r"240 cells of .* as many cells of 'a', under other names.*obs_names = names"):
        psalm.get.coupling(matched)
