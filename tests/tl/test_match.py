import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm
from psalm._containers import stack
from psalm.core.matcher import Match, Side
from psalm.core.sinkhorn import SinkhornMatcher


@pytest.mark.parametrize("method", ["ot", "snn"])
def test_slots(scored, method):
    psalm.tl.match(scored, source="a", target="b", method=method, progress=False)
    mass = scored.obsp["match"]
    assert isinstance(mass, sparse.csr_matrix)
    assert mass.shape == (480, 480)
    assert mass.sum() == pytest.approx(1)
    rows, columns = mass.nonzero()
    assert rows.max() < 240 <= columns.min()
    assert (scored.obs["treatment"].to_numpy()[rows] == scored.obs["treatment"].to_numpy()[columns]).all()
    table = scored.uns["match"]["table"]
    assert list(table["treatment"]) == ["control", "t1", "t2", "t3"]
    assert table["converged"].all()
    assert (table["kept_mass"] == 1).all()
    assert (table["effective_matches"] <= table["n_target"] * 1.000001).all()
    assert ("match_potential" in scored["a"].obs) == (method == "ot")
    assert scored["b"].obs["match_entropy"].notna().all()


@pytest.mark.parametrize(
    ("method", "options", "soft"),
    [
        ("unbalanced", {"relaxation": 0.5}, True),
        ("partial", {"fraction": 0.7}, True),
        ("exact", {}, False),
        ("fgw", {"max_iterations": 500}, False),
        ("nearest", {}, False),
        ("mutual", {}, False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*transport less than:UserWarning")
def test_the_family(scored, method, options, soft):
    psalm.tl.match(scored, source="a", target="b", method=method, progress=False, **options)
    table, share = psalm.get.report(scored), scored["a"].obs["match_mass"]
    assert scored.uns["match"]["params"]["from_potentials"] == soft
    assert 0 < scored.obsp["match"].sum() <= 1 + 1e-5
    assert share.notna().all()
    missing = (share < 0.1).groupby(scored["a"].obs["treatment"], observed=True).sum()
    assert table["unmatched_source"].to_dict() == missing.to_dict()
    if method == "partial":
        assert scored.obsp["match"].sum() == pytest.approx(0.7, rel=1e-3)
    stored, exact = psalm.get.coupling(scored), psalm.get.coupling(scored, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray(), rtol=1e-9)
    assert psalm.tl.evaluate(scored, latent="latent")["latent_error"].iloc[-1] < 1


def test_cells_without_a_partner_are_named(scored):
    cells = scored["a"].obs_names[:3]
    scored["a"].obsm["propensity"][:3] += np.float32(60)
    with pytest.warns(UserWarning, match="source cells transport less than 10% of their mass, in "):
        psalm.tl.match(scored, source="a", target="b", method="unbalanced", relaxation=0.3, progress=False)
    assert (scored["a"].obs.loc[cells, "match_mass"] < 0.1).all()
    assert psalm.get.report(scored)["unmatched_source"].sum() == (scored["a"].obs["match_mass"] < 0.1).sum()


def test_the_posterior_cost_is_read_back(scored):
    psalm.tl.match(scored, source="a", target="b", cost="posterior", progress=False)
    table = psalm.get.report(scored)
    assert (table["epsilon"] == 1).all()
    assert set(table["cost"]) == {"posterior"}
    stored, exact = psalm.get.coupling(scored), psalm.get.coupling(scored, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray(), rtol=1e-9)


def test_the_posterior_cost_needs_a_shared_prior(raw):
    psalm.pp.treatment(raw, "perturbation")
    psalm.tl.propensity(raw, n_repeats=1, prior="own", progress=False)
    with pytest.raises(ValueError, match="were made with prior 'own'"):
        psalm.tl.match(raw, source="a", target="b", cost="posterior", progress=False)
    with pytest.raises(ValueError, match="`refine` adds coordinates"):
        psalm.tl.match(raw, source="a", target="b", cost="posterior", refine=True, progress=False)


def test_epsilon_is_chosen_by_treatment_where_noise_is_known(raw, scored):
    psalm.tl.match(scored, source="a", target="b", progress=False)
    np.testing.assert_allclose(psalm.get.report(scored)["epsilon_relative"], 0.2)
    psalm.pp.treatment(raw, "perturbation")
    psalm.tl.propensity(raw, n_repeats=2, progress=False)
    assert (raw["a"].obs["propensity_noise"] > 0).all()
    psalm.tl.match(raw, source="a", target="b", progress=False)
    assert psalm.get.report(raw)["epsilon_relative"].nunique() == 4


def test_masses_weigh_cells(scored, rng):
    for name in ("a", "b"):
        scored[name].obs["weight"] = rng.random(240) + 0.5
    psalm.tl.match(scored, source="a", target="b", mass="weight", tolerance=1e-6, progress=False)
    weight, treatment = scored["a"].obs["weight"], scored["a"].obs["treatment"]
    mass = pd.Series(psalm.get.coupling(scored).sum(axis=1).A1, index=weight.index)
    of_treatment = mass.groupby(treatment, observed=True).transform("sum")
    expected = weight / weight.groupby(treatment, observed=True).transform("sum")
    np.testing.assert_allclose(mass / of_treatment, expected, rtol=1e-4)
    np.testing.assert_allclose(scored["a"].obs["match_mass"], 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("missing", KeyError, "`mass='missing'` is neither in"),
        ("treatment", ValueError, "masses must be positive numbers"),
        ("negative", ValueError, "is not a positive finite number for 1 cells"),
    ],
)
def test_bad_masses(scored, value, error, message):
    for name in ("a", "b"):
        scored[name].obs["negative"] = np.r_[-1.0, np.ones(239)]
    with pytest.raises(error, match=message):
        psalm.tl.match(scored, source="a", target="b", mass=value, progress=False)


def test_a_device_that_a_method_would_ignore(scored):
    with pytest.raises(ValueError, match="SharedNeighborMatcher runs on the processor"):
        psalm.tl.match(scored, source="a", target="b", method="snn", device="cuda", progress=False)


def test_block_masses_are_mean_shares(matched):
    mass = psalm.get.coupling(matched)
    for name in matched.uns["match"]["table"]["treatment"]:
        rows, columns = (np.flatnonzero(matched[m].obs["treatment"] == name) for m in ("a", "b"))
        assert mass[rows][:, columns].sum() == pytest.approx((len(rows) + len(columns)) / 480)


def test_epsilon_is_relative_to_the_mean_cost(scored):
    psalm.tl.match(scored, source="a", target="b", epsilon=0.5, progress=False)
    table = scored.uns["match"]["table"]
    x, y = (scored[m].obsm["propensity"][scored[m].obs["treatment"] == "t1"] for m in ("a", "b"))
    expected = 0.5 * np.linalg.norm(x[:, None] - y, axis=2).mean()
    assert table.set_index("treatment").loc["t1", "epsilon"] == pytest.approx(expected, rel=1e-5)


def test_what_does_not_converge_is_warned_of_and_flagged(scored):
    with pytest.warns(UserWarning, match="4 treatments did not converge: 'control', 't1', 't2', 't3'"):
        psalm.tl.match(scored, source="a", target="b", method=SinkhornMatcher(0.01, max_iterations=2), progress=False)
    table = psalm.get.report(scored)
    assert not table["converged"].any()
    assert (table["marginal_error"] > 1e-3).all()


def test_a_treatment_without_cells_on_one_side_is_named(scored):
    scored["b"].obs.loc[scored["b"].obs["treatment"] == "t2", "treatment"] = np.nan
    with pytest.warns(UserWarning, match="1 treatments have no cells on one side: 't2'"):
        psalm.tl.match(scored, source="a", target="b", progress=False)
    row = psalm.get.report(scored).loc["t2"]
    assert (row["n_target"], row["kept_mass"], row["converged"]) == (0, 0, False)
    assert scored["a"].obs["match_entropy"][scored["a"].obs["treatment"] == "t2"].isna().all()


def test_a_treatment_with_one_cell_on_one_side_is_matched(scored):
    cells = np.flatnonzero(scored["b"].obs["treatment"] == "t3")
    scored["b"].obs.iloc[cells[1:], scored["b"].obs.columns.get_loc("treatment")] = np.nan
    psalm.tl.match(scored, source="a", target="b", progress=False)
    row = psalm.get.report(scored).loc["t3"]
    assert (row["n_target"], row["converged"]) == (1, True)
    mass = psalm.get.coupling(scored, normalize="source")
    sources = np.flatnonzero(scored["a"].obs["treatment"] == "t3")
    np.testing.assert_allclose(mass[sources][:, [cells[0]]].toarray(), 1)


def test_swapping_source_and_target_transposes(scored):
    psalm.tl.match(scored, source="a", target="b", tolerance=1e-8, progress=False)
    psalm.tl.match(scored, source="b", target="a", tolerance=1e-8, progress=False, key_added="back")
    there, back = psalm.get.coupling(scored), psalm.get.coupling(scored, "back")
    assert np.abs(there - back.T).max() < 1e-9


def test_a_small_budget_stores_a_compact_view_and_results_stay_exact(matched):
    exact = psalm.get.coupling(matched)
    evaluation = psalm.tl.evaluate(matched, latent="latent")
    psalm.tl.match(matched, source="a", target="b", obsp_mb=0.02, progress=False)
    view = psalm.get.coupling(matched)
    assert view.nnz < exact.nnz / 2
    table = psalm.get.report(matched)
    assert (table["kept_mass"] < 1).all()
    cells = [np.flatnonzero(matched[name].obs["treatment"] == "t1") for name in ("a", "b")]
    scores = matched["b"].obsm["propensity"][cells[1]].astype(float)
    by_view, by_plan = (
        (m := c[cells[0]][:, cells[1]].toarray()) @ scores / m.sum(1, keepdims=True) for c in (view, exact)
    )
    r2 = 1 - ((by_view - by_plan) ** 2).sum() / ((by_plan - by_plan.mean(axis=0)) ** 2).sum()
    assert table.loc["t1", "view_r2"] == pytest.approx(r2, abs=1e-4)
    assert r2 < 0.999
    np.testing.assert_allclose(view.sum(axis=1).A1, exact.sum(axis=1).A1, rtol=1e-5)
    np.testing.assert_allclose(psalm.get.coupling(matched, exact=True).toarray(), exact.toarray(), rtol=1e-9)
    assert psalm.tl.evaluate(matched, latent="latent")["latent_error"].to_numpy() == pytest.approx(
        evaluation["latent_error"].to_numpy()
    )


def test_a_matcher_of_the_users(scored):
    class Uniform:
        def __call__(self, source, target):
            from psalm.core.plan import SparsePlan

            n, m = len(source), len(target)
            return Match(SparsePlan(sparse.csr_matrix(np.full((n, m), 1 / (n * m)))), np.nan, 0, 0.0, converged=True)

    with pytest.warns(UserWarning, match="In 4 treatments scores decide almost nothing"):
        psalm.tl.match(scored, source="a", target="b", method=Uniform(), progress=False)
    assert scored.uns["match"]["params"]["method"] == "Uniform"
    assert psalm.tl.evaluate(scored, latent="latent")["latent_error"].iloc[-1] == pytest.approx(1)


def test_another_method_leaves_no_potentials_of_the_first(matched):
    psalm.tl.match(matched, source="a", target="b", method="snn", progress=False)
    assert "match_potential" not in matched["a"].obs
    assert not matched.uns["match"]["params"]["from_potentials"]


def test_jobs_do_not_change_the_coupling(matched):
    before = psalm.get.coupling(matched)
    psalm.tl.match(matched, source="a", target="b", n_jobs=2, progress=False)
    assert (psalm.get.coupling(matched) != before).nnz == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"source": "rna"}, KeyError, "`source='rna'` is not a modality. Found: 'a', 'b'", id="modality"),
        pytest.param({"target": "a"}, ValueError, "`source` and `target` are both 'a'", id="same modality"),
        pytest.param({"method": "sinkhorn"}, ValueError, "`method='sinkhorn'` is not known", id="method"),
        pytest.param({"method": 3}, TypeError, "`method` is int", id="not a matcher"),
        pytest.param({"cost": "cosine"}, ValueError, "`cost='cosine'` is not known", id="cost"),
        pytest.param({"epsilon": 0}, ValueError, "`epsilon=0` must be a finite number above zero", id="epsilon"),
        pytest.param({"tolerance": np.nan}, ValueError, "`tolerance=nan`", id="tolerance"),
        pytest.param(
            {"method": "snn", "epsilon": 0.1}, ValueError, "'epsilon' cannot be set for `method='snn'`", id="snn"
        ),
        pytest.param({"method": SinkhornMatcher(), "epsilon": 0.1}, ValueError, "would be ignored", id="object"),
        pytest.param(
            {"propensity_key": "scores"},
            KeyError,
            "`propensity_key='scores'`",
            id="key",
        ),
    ],
)
def test_bad_input(scored, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.match(scored, progress=False, **{"source": "a", "target": "b"} | options)


def test_treatments_changed_after_scoring(scored):
    for name in ("a", "b"):
        scored[name].obs["treatment"] = scored[name].obs["treatment"].cat.rename_categories({"t1": "new"})
    with pytest.raises(ValueError, match=r"have another treatment .* than when they were scored"):
        psalm.tl.match(scored, source="a", target="b", progress=False)


def test_labels_permuted_after_scoring(scored, rng):
    scored["a"].obs["treatment"] = rng.permutation(scored["a"].obs["treatment"])
    with pytest.raises(ValueError, match=r"have another treatment in obs\['treatment'\] than when they were scored"):
        psalm.tl.match(scored, source="a", target="b", progress=False)


def test_cells_that_lost_their_treatment_after_scoring_are_left_out(scored):
    cells = scored["a"].obs_names[:10]
    scored["a"].obs.loc[cells, "treatment"] = np.nan
    psalm.tl.match(scored, source="a", target="b", progress=False)
    assert psalm.get.coupling(scored)[:10].nnz == 0


def test_a_plan_without_potentials_is_stored_whole_whatever_the_budget(scored):
    psalm.tl.match(scored, source="a", target="b", method="snn", progress=False)
    whole = psalm.get.coupling(scored)
    psalm.tl.match(scored, source="a", target="b", method="snn", obsp_mb=0.001, progress=False)
    assert (psalm.get.coupling(scored) != whole).nnz == 0


def test_a_matcher_that_changes_the_scores_is_stored_as_entries(scored):
    """Its potentials do not fit the stored scores, so the plan must not be computed anew from them."""

    def twice(source, target):
        return SinkhornMatcher()(Side(2 * source.scores), Side(2 * target.scores))

    psalm.tl.match(scored, source="a", target="b", method=twice, progress=False)
    stored, exact = psalm.get.coupling(scored), psalm.get.coupling(scored, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray())
    assert not scored.uns["match"]["params"]["from_potentials"]


class Wrapped:
    """A user's object around one of psalm's; its own fields say nothing of the cost."""

    def __call__(self, source, target):
        return SinkhornMatcher(cost="sqeuclidean")(source, target)


def test_a_wrapped_matcher_keeps_its_potentials(scored):
    psalm.tl.match(scored, source="a", target="b", method=Wrapped())
    assert set(psalm.get.report(scored)["cost"]) == {"sqeuclidean"}
    stored, exact = psalm.get.coupling(scored), psalm.get.coupling(scored, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray(), rtol=1e-9)


@pytest.mark.parametrize("key", ["ot/0.2", "", "propensity", "treatment"])
def test_key_added_must_be_writable_and_free(scored, key):
    before = dict(scored.uns)
    with pytest.raises(ValueError, match=r"`key_added="):
        psalm.tl.match(scored, source="a", target="b", key_added=key, progress=False)
    assert scored.uns.keys() == before.keys()


def test_matching_another_pair_under_the_same_key_leaves_nothing_of_the_first(matched):
    third = matched["a"][:, :6].copy()
    third.obs_names = [f"c_{i}" for i in range(240)]
    third.var_names = [f"c_{i}" for i in range(6)]
    third.obs = third.obs.drop(columns=[name for name in third.obs if name.startswith("match_")])
    three = stack({"a": matched["a"], "b": matched["b"], "c": third})
    psalm.tl.propensity(three, n_repeats=1, progress=False)
    psalm.tl.match(three, source="a", target="c", progress=False)
    assert "match_potential" not in three["b"].obs
    assert three["c"].obs["match_potential"].notna().all()


def test_a_refined_match_is_read_back_from_its_coordinates(scored, tmp_path):
    psalm.tl.match(scored, source="a", target="b", refine=True, progress=False)
    coordinates = scored["a"].obsm["match_coordinates"]
    np.testing.assert_array_equal(coordinates[:, :4], scored["a"].obsm["propensity"])
    stored, exact = psalm.get.coupling(scored), psalm.get.coupling(scored, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray(), rtol=1e-9)
    psalm.tl.match(scored, source="a", target="b", progress=False)
    assert "match_coordinates" not in scored["a"].obsm
    assert np.abs(psalm.get.coupling(scored) - stored).max() > 1e-6


def test_refining_finds_partners_better():
    """Independent: true pairs. Features share directions that no treatment moves, which scores cannot know."""
    rng = np.random.default_rng(0)
    mdata = psalm.datasets.simulated(n_cells=1500, n_treatments=6, n_latent=3, paired=True)
    shared = rng.normal(size=(1500, 1))
    for name, size in (("a", 40), ("b", 30)):
        mdata[name].X = mdata[name].X + 0.7 * shared @ rng.normal(size=(1, size))
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    found = {}
    for refine in (False, True):
        psalm.tl.match(mdata, source="a", target="b", refine=refine, progress=False)
        found[refine] = psalm.tl.evaluate(mdata)["foscttm"].iloc[-1]
    assert found[True] < found[False]


def shuffled(mdata, rng):
    """The same cells with the same scores in another order."""
    parts = {name: adata[rng.permutation(adata.n_obs)].copy() for name, adata in mdata.mod.items()}
    again = stack(parts)
    again.uns.update(mdata.uns)
    return again


def halves_of_genes():
    mdata = psalm.datasets.gene_halves()
    for name in list(mdata.mod):
        psalm.pp.represent(mdata, name, kind="features", n_comps=20)
    return mdata


@pytest.mark.parametrize(
    ("cells", "treatment"),
    [
        (lambda: psalm.datasets.simulated(n_cells=240, n_treatments=4, n_features=(12, 10), rng=1), "perturbation"),
        (halves_of_genes, "bulk_labels"),
    ],
    ids=["simulated", "blood cells"],
)
@pytest.mark.filterwarnings("ignore:In 1 treatments scores decide almost nothing")
def test_automatic_epsilon_is_of_the_cells_not_of_their_order_or_direction(rng, cells, treatment):
    mdata, found = cells(), []
    psalm.pp.treatment(mdata, treatment, min_cells=5)
    psalm.tl.propensity(mdata, n_repeats=2, progress=False)
    names = list(mdata.mod)
    for source, target in (names, names[::-1]):
        for same in (mdata, shuffled(mdata, rng), shuffled(mdata, rng)):
            psalm.tl.match(same, source=source, target=target, progress=False)
            found.append(psalm.get.report(same)["epsilon_relative"])
    table = pd.concat(found, axis=1)
    assert (table.max(axis=1) / table.min(axis=1)).max() < 1.02  # a step of the bisection
