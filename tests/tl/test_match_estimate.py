"""What a match would need is told without matching, and what does not fit is refused."""

import numpy as np
import pytest
from scipy import sparse

import psalm
from psalm import _estimate, _features
from psalm.core.methods import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_dry_run(scored, method):
    """A row per treatment and one for all, with time and memory, and nothing written."""
    before = set(scored.uns), set(scored.obsp), set(scored["a"].obs)
    table = psalm.tl.match(scored, source="a", target="b", method=method, dry_run=True)
    assert (set(scored.uns), set(scored.obsp), set(scored["a"].obs)) == before
    assert table["treatment"].tolist() == ["control", "t1", "t2", "t3", ""]
    rows, whole = table.iloc[:-1], table.iloc[-1]
    assert (rows["pairs"] == rows["n_source"] * rows["n_target"]).all()
    assert whole["pairs"] == rows["pairs"].sum()
    assert (rows["seconds"] > 0).all()
    assert whole["seconds"] == pytest.approx(rows["seconds"].sum())
    assert (rows["peak_gb"] > 0).all()
    assert whole["peak_gb"] >= rows["peak_gb"].max()
    expected = "many at a time" if hasattr(METHODS[method], "match_many") else "one per thread"
    assert set(rows["solver"]) == {expected}


def test_dry_run_of_the_posterior_and_of_refinement(scored):
    table = psalm.tl.match(scored, source="a", target="b", cost="posterior", dry_run=True)
    assert table["seconds"].gt(0).all()
    table = psalm.tl.match(scored, source="a", target="b", refine=2, dry_run=True)
    assert table["seconds"].iloc[-1] == pytest.approx(3 * table["seconds"].iloc[:-1].sum())


def test_own_matcher_has_no_known_need(scored):
    def uniform(source, target):
        return psalm.core.nearest.NearestMatcher()(source, target)

    table = psalm.tl.match(scored, source="a", target="b", method=uniform, dry_run=True)
    assert table["peak_gb"].isna().all()


def test_refuses_what_does_not_fit(scored, monkeypatch):
    """It names the treatment that needs most, what is there, and what to change; nothing is written."""
    monkeypatch.setattr(_estimate, "available_bytes", lambda: 1000.0)
    largest = (scored["a"].obs["treatment"].value_counts() * scored["b"].obs["treatment"].value_counts()).idxmax()
    with pytest.raises(
        MemoryError, match=f"'fgw' would need about .* GB are free.*treatment '{largest}'.*dry_run=True"
    ):
        psalm.tl.match(scored, source="a", target="b", method="fgw")
    assert "match" not in scored.uns


@pytest.mark.parametrize("method", ["ot", "fgw"])
def test_need_grows_with_the_block(method):
    """Pairs count for "fgw"; for "ot" they do until a block's kernel is not kept any more."""
    matcher = METHODS[method]()
    few, many = (matcher.need((n, n), 10, 2).working_bytes for n in (20_000, 40_000))
    assert many / few == pytest.approx(4 if method == "fgw" else 2, rel=0.01)


@pytest.mark.parametrize(
    ("matcher", "growth"),
    [(METHODS["ot"](), 4), (METHODS["ot"](cost="posterior"), 2), (METHODS["fgw"](), 8), (METHODS["exact"](), 4)],
    ids=["pairs", "cells", "cube", "exact"],
)
def test_work_grows_as_the_method_does(matcher, growth):
    """With twice the cells on both sides: pairs, cells, or the cube of cells."""
    few, many = (matcher.need((n, n), 10, 2).work for n in (1000, 2000))
    assert many / few == pytest.approx(growth)


STEPS = {
    "tl.propensity": (lambda mdata: psalm.tl.propensity(mdata, progress=False), "pp.represent"),
    "tl.transfer": (lambda mdata: psalm.tl.transfer(mdata, source="a", target="b", keys=["X", "latent"]), "'X'.*dense"),
    "tl.diagnose": (lambda mdata: psalm.tl.diagnose(mdata, progress=False), "fewer features, or match and diagnose"),
    "tl.predict": (lambda mdata: psalm.tl.predict(mdata, source="a", target="b", max_epochs=1), "dense.*target_rep"),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_long_step_refuses_what_does_not_fit(matched, monkeypatch, step):
    """It says what takes most and what to change; nothing is written, and nothing has been trained."""
    run, change = STEPS[step]
    before = set(matched.uns), {name: (set(one.obsm), set(one.obs)) for name, one in matched.mod.items()}
    monkeypatch.setattr(_estimate, "available_bytes", lambda: 1000.0)
    with pytest.raises(MemoryError, match=f"`{step}` would need about .* GB are free. Most of it.*{change}"):
        run(matched)
    assert (set(matched.uns), {name: (set(one.obsm), set(one.obs)) for name, one in matched.mod.items()}) == before


@pytest.mark.parametrize("step", ["evaluate", "diagnose"])
def test_features_that_averages_are_compared_in_count(matched, monkeypatch, step):
    """As float64, a representation once: 8 bytes · 240 cells · 10,000 features are 19 MB."""
    for adata in matched.mod.values():
        adata.obs["pair"] = np.arange(adata.n_obs)
    matched["b"].obsm["wide_rep"] = np.zeros((240, 10_000))
    options = {"evaluate": {"truth": "pair"}, "diagnose": {"n_permutations": 9, "progress": False}}[step]
    monkeypatch.setattr(_estimate, "available_bytes", lambda: 15e6)
    with pytest.raises(MemoryError, match=rf"`tl.{step}` .*is for obsm\['wide_rep'\], dense.*Pass `use_rep=`"):
        getattr(psalm.tl, step)(matched, use_rep="wide_rep", **options)
    assert not [key for key in matched.uns if key.startswith("match_")]
    getattr(psalm.tl, step)(matched, **options)


def test_need_of_compared_features_by_hand(matched):
    """X is made dense and then z-scores; a representation is compared in as it is."""
    of = {key: _features.features(matched, "b", key) for key in ("X", "propensity")}
    assert list(_estimate.of_compared(of["X"]).values()) == [2 * 8 * matched["b"].n_obs * matched["b"].n_vars]
    assert list(_estimate.of_compared(of["propensity"]).values()) == [8 * matched["b"].obsm["propensity"].size]


def test_need_of_scores_by_hand():
    """Two modalities of 1,000 and 500 cells, dense and sparse, 300 columns of which 256 are kept, two jobs."""
    dense, stored = np.zeros((1000, 10), dtype=np.float32), sparse.csr_matrix(np.eye(500, 40))
    found = _estimate.of_scores({"a": dense, "b": stored}, 300, 256, n_jobs=2)
    assert found["features as float64"] == 80_000 + 12 * 40
    assert found["scores and their errors"] == 8 * 1500 * 256
    assert found["models in training"] == 2 * 2 * 80_000
    assert found["calibration"] == 5 * 8 * 300_000
