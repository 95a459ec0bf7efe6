"""Plots show what is stored: the tests read numbers back from the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

import psalm
from psalm import _keys

PANELS = {  # plot: how many axes it draws on
    "agreement": 1,
    "coupling": 1,
    "embedding": 1,
    "evaluation": 5,
    "history": 1,
    "links": 2,
    "match": 4,
    "overlap": 2,
    "prediction": 5,
    "propensity": 3,
    "treatments": 1,
}


@pytest.fixture
def embedded(matched):
    psalm.tl.embed(matched)
    return matched


def subject(name, mdata, model):
    return model if name == "history" else mdata


def test_every_plot_is_tested_here():
    assert sorted(PANELS) == sorted(psalm.pl.__all__)


@pytest.mark.parametrize("name", PANELS)
def test_figure_or_axes(name, stored, model):
    plot, data = getattr(psalm.pl, name), subject(name, stored, model)
    assert isinstance(plot(data, return_fig=True), Figure)
    assert np.size(plot(data, show=False)) == PANELS[name]
    assert plot(data) is None


@pytest.mark.parametrize("name", PANELS)
def test_given_axes_are_drawn_on(name, stored, model):
    figure, axes = plt.subplots(1, PANELS[name], layout="constrained")
    found = getattr(psalm.pl, name)(subject(name, stored, model), ax=axes)
    assert list(np.ravel(found)) == list(np.ravel(axes))
    assert plt.get_fignums() == [figure.number]
    assert all(ax.has_data() for ax in np.ravel(axes))


@pytest.mark.parametrize("name", PANELS)
def test_wrong_number_of_axes(name, stored, model):
    n_axes = PANELS[name] + 1
    _, axes = plt.subplots(1, n_axes)
    with pytest.raises(ValueError, match=f"`ax` holds {n_axes} axes, and this plot has {PANELS[name]} panels"):
        getattr(psalm.pl, name)(subject(name, stored, model), ax=axes)
    with pytest.raises(TypeError, match="`ax` holds str"):
        getattr(psalm.pl, name)(subject(name, stored, model), ax=["x"] * PANELS[name])


@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("n_treatments", [2, 39, 60, 200])
def test_few_and_many_treatments(name, n_treatments, make_stored, model):
    mdata = make_stored(n_treatments, 2)
    figure = getattr(psalm.pl, name)(subject(name, mdata, model), return_fig=True)
    figure.canvas.draw()
    assert max(figure.get_size_inches()) <= 12
    if n_treatments > 40:
        assert not {"t7", "t33"} & {label.get_text() for ax in figure.axes for label in ax.get_yticklabels()}


@pytest.mark.parametrize("name", PANELS)
def test_nothing_is_written(name, stored, model):
    before = {key: list(stored[key].obsm) + list(stored[key].obs) for key in "ab"} | {"uns": list(stored.uns)}
    getattr(psalm.pl, name)(subject(name, stored, model), show=False)
    assert {key: list(stored[key].obsm) + list(stored[key].obs) for key in "ab"} | {"uns": list(stored.uns)} == before


@pytest.mark.parametrize("name", [name for name in PANELS if name != "history"])
def test_no_legend_covers_data(name, stored):
    figure = getattr(psalm.pl, name)(stored, return_fig=True)
    figure.canvas.draw()
    frames = [ax.get_window_extent() for ax in figure.axes]
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    assert all(not legend.get_window_extent().overlaps(frame.padded(-2)) for legend in legends for frame in frames)


def test_whole_flow(embedded):
    model = psalm.tl.predict(embedded, source="a", target="b", max_epochs=5, progress=False)
    psalm.tl.evaluate(embedded, latent="latent")
    for name in set(PANELS) - {"links"}:
        assert isinstance(getattr(psalm.pl, name)(subject(name, embedded, model), return_fig=True), Figure)


def test_propensity_draws_the_stored_auc(matched):
    _, middle, right = psalm.pl.propensity(matched, show=False)
    table = matched.uns["propensity"]["table"]
    for line, name in zip(middle.lines, ("a", "b"), strict=False):
        np.testing.assert_allclose(line.get_xdata(), table[table["modality"] == name]["auc"])
    assert [label.get_text() for label in middle.get_yticklabels()] == ["control", "t1", "t2", "t3"]
    obs = matched["a"].obs
    medians = obs.groupby("treatment", observed=True)["propensity_own"].median()
    np.testing.assert_allclose(right.collections[2].get_offsets()[:, 0], medians, rtol=1e-6)


def test_overlap_draws_the_stored_probabilities(matched):
    axes = psalm.pl.overlap(matched, show=False)
    for ax, name in zip(axes, ("a", "b"), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), matched.uns["propensity"]["confusion"][name])
    del matched.uns["propensity"]["confusion"]
    with pytest.raises(ValueError, match="has no mean probabilities"):
        psalm.pl.overlap(matched)


def test_agreement_draws_the_stored_distances(matched):
    ax = psalm.pl.agreement(matched, show=False)
    stored = matched.uns["propensity"]["agreement"]
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], stored["energy_share"])
    assert len(ax.collections[1].get_offsets()) == (stored["energy_share"] > stored["random_split_share"]).sum()


def test_match_flags_what_did_not_converge(matched):
    matched.uns["match"]["table"].loc[2, "converged"] = False
    cells, bars, entropies, errors = psalm.pl.match(matched, show=False)
    table = matched.uns["match"]["table"]
    assert [bar.get_width() for bar in cells.patches] == [*table["n_source"], *table["n_target"]]
    shares = table["effective_matches"] / table["n_target"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], shares)
    np.testing.assert_allclose(errors.collections[0].get_offsets()[:, 0], table["marginal_error"])
    colours = [bar.get_facecolor() for bar in bars.patches]
    assert colours[2] != colours[0]
    assert colours[1] == colours[0]
    largest = np.log(table["n_target"].to_numpy())[matched["a"].obs["treatment"].cat.codes]
    share = matched["a"].obs["match_entropy"] / largest
    median = share[matched["a"].obs["treatment"] == "t2"].median()
    np.testing.assert_allclose(entropies.collections[5].get_offsets()[:, 0], [median])


def test_embedding_joins_each_cell_with_its_best_match(embedded):
    ax = psalm.pl.embedding(embedded, n_links=1000, show=False)
    mass = psalm.get.coupling(embedded).toarray()
    segments = ax.collections[0].get_segments()
    source, target = (embedded[m].obsm["X_propensity"] for m in ("a", "b"))
    assert len(segments) == 240
    shift = segments[0][1][0] - target[mass[0].argmax(), 0]
    for cell in (0, 17, 239):
        np.testing.assert_allclose(segments[cell][0], source[cell], rtol=1e-5)
        np.testing.assert_allclose(segments[cell][1] - [shift, 0], target[mass[cell].argmax()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "axis", "collection"), [("embedding", 0, 1), ("links", 0, 0), ("prediction", 0, 0)])
def test_stored_colours_are_taken(name, axis, collection, make_stored):
    mdata = make_stored(4)
    mdata.uns["treatment_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    ax = np.ravel(getattr(psalm.pl, name)(mdata, show=False))[axis]
    drawn = {tuple(np.round(colour[:3], 3)) for colour in ax.collections[collection].get_facecolors()}
    assert drawn == {(round(k / 15, 3),) * 3 for k in (1, 2, 3, 4)}


def test_treatments_draws_counts_and_what_was_left_out(stored):
    ax = psalm.pl.treatments(stored, show=False)
    table = stored.uns["treatment"]
    assert sorted(bar.get_width() for bar in ax.patches) == sorted([*table["a"], *table["b"]])
    assert sum(bar.get_alpha() < 1 for bar in ax.patches) == 4
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "control (negative control)"
    assert labels[-2:] == ["gone (not shared)", "small (rare)"]
    assert psalm.pl.treatments(stored, log=True, show=False).get_xscale() == "log"


def test_many_counts_are_points_within_the_axes(make_stored):
    mdata = make_stored(200, 2)
    mdata.uns["treatment"].loc["t3", "b"] = 500
    ax = psalm.pl.treatments(mdata, show=False)
    drawn = np.concatenate([points.get_offsets()[:, 0] for points in ax.collections])
    assert sorted(drawn) == sorted([*mdata.uns["treatment"]["a"], *mdata.uns["treatment"]["b"]])
    assert ax.get_xlim()[1] > 500


def test_coupling_draws_mass_in_order(stored):
    ax = psalm.pl.coupling(stored, treatment="t1", order_by="state", show=False)
    mass = psalm.get.coupling(stored).toarray()
    rows, columns = (
        np.flatnonzero(stored[name].obs["treatment"] == "t1")[
            np.argsort(stored[name].obs["state"][stored[name].obs["treatment"] == "t1"])
        ]
        for name in ("a", "b")
    )
    block = mass[np.ix_(rows, columns)]
    np.testing.assert_allclose(ax.images[0].get_array(), block / block.mean())


def test_coupling_orders_by_the_embedding_else_by_scores(stored):
    by_embedding = psalm.pl.coupling(stored, treatment="t1", show=False)
    assert "score PC 1" in by_embedding.get_ylabel()
    del stored["a"].obsm["X_propensity"]
    assert "first score" in psalm.pl.coupling(stored, treatment="t1", show=False).get_ylabel()


def test_coupling_groups_labels_in_one_order(stored):
    stored["b"].obs["kind"] = stored["b"].obs["kind"].cat.reorder_categories(["low", "high"])
    stored["b"].obs.loc[stored["b"].obs_names[:3], "kind"] = np.nan
    ax = psalm.pl.coupling(stored, treatment="control", order_by="kind", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["high", "low"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["high", "low", "missing"]


def test_large_blocks_are_binned(stored, monkeypatch):
    whole = psalm.pl.coupling(stored, treatment="t2", order_by="state", show=False).images[0].get_array()
    monkeypatch.setattr("psalm.pl._coupling.MOST_BINS", 4)
    binned = psalm.pl.coupling(stored, treatment="t2", order_by="state", show=False).images[0].get_array()
    assert whole.shape == (8, 9)
    assert binned.shape == (4, 4)
    np.testing.assert_allclose(binned[0, 0], whole[:2, :3].mean())  # bins of 2 rows; the first has 3 of 9 columns
    np.testing.assert_allclose(binned[3, 3], whole[6:, 7:].mean())


def test_coupling_summary_draws_effective_matches(stored):
    ax = psalm.pl.coupling(stored, show=False)
    obs, table = stored["a"].obs, stored.uns["match"]["table"]
    share = np.exp(obs["match_entropy"]) / table["n_target"].to_numpy()[obs["treatment"].cat.codes]
    medians = share.groupby(obs["treatment"], observed=True).median()
    np.testing.assert_allclose(ax.collections[2].get_offsets()[:, 0], medians)


def test_links_join_the_strongest_matches(stored):
    left, right = psalm.pl.links(stored, n_links=5, show=False)
    lines = [artist for artist in left.figure.artists if isinstance(artist, ConnectionPatch)]
    mass = psalm.get.coupling(stored).toarray()
    share = mass / mass.sum(axis=1, keepdims=True)
    strongest = np.argsort(-share.max(axis=1), kind="stable")[:5]
    assert len(lines) == 5
    for line, cell in zip(lines, strongest, strict=True):
        np.testing.assert_allclose(line.xy1, stored["a"].obsm["X_umap"][cell])
        np.testing.assert_allclose(line.xy2, stored["b"].obsm["X_umap"][mass[cell].argmax()])
    assert len(right.collections[0].get_offsets()) == stored["b"].n_obs


def test_links_take_a_basis_for_each_modality(stored):
    left, right = psalm.pl.links(stored, basis={"a": "X_umap", "b": "X_propensity"}, show=False)
    assert (left.get_xlabel(), right.get_xlabel()) == ("X_umap (1, 2)", "X_propensity (1, 2)")
    np.testing.assert_allclose(right.collections[0].get_offsets(), stored["b"].obsm["X_propensity"])


def test_prediction_draws_means_of_treatments(stored):
    *panels, losses = psalm.pl.prediction(stored, show=False)
    measured = stored["b"].to_df().groupby(stored["b"].obs["treatment"], observed=True).mean()
    predicted = stored["a"].obsm["b_predicted"].groupby(stored["a"].obs["treatment"], observed=True).mean()
    r = measured.corrwith(predicted).sort_values(ascending=False)
    wanted = [*r.index[:2], *r.index[-2:]]
    for ax, name in zip(panels, wanted, strict=True):
        np.testing.assert_allclose(
            ax.collections[0].get_offsets(), np.column_stack([measured[name], predicted[name]]), atol=1e-12
        )
        assert ax.get_title() == f"{name}  r = {r[name]:.2f}"
    table = stored.uns["b_predicted"]["table"].set_index("treatment")
    rows = [label.get_text() for label in losses.get_yticklabels()]
    assert rows == [*stored["a"].obs["treatment"].cat.categories, "all"]
    np.testing.assert_allclose(losses.collections[1].get_offsets()[:, 0], table["treatment_mean_loss"][rows])
    np.testing.assert_allclose(losses.collections[3].get_offsets()[:, 0], table["loss_with_treatment"][rows])


def test_history_draws_losses_and_marks_the_best_epoch(model):
    ax = psalm.pl.history(model, show=False)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), model.history["train_loss_epoch"].iloc[:, 0])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), model.history["validation_loss"].iloc[:, 0])
    assert list(ax.lines[2].get_xdata()) == [19, 19]


def faces(points):
    return [tuple(colour) != (1, 1, 1, 1) for colour in points.get_facecolors()]


def test_evaluation_draws_metrics_and_checks(stored):
    metric, check = psalm.pl.evaluation(stored, metrics=["foscttm", "stability"], show=False)
    table = stored.uns["match_evaluation"]
    treatments, overall = metric.collections[1:3]
    np.testing.assert_allclose(treatments.get_offsets()[:, 0], table["foscttm"][:-1])
    np.testing.assert_allclose(overall.get_offsets()[:, 0], table["foscttm"][-1:])
    assert faces(treatments) == list((table["foscttm_upper"] < 0.5)[:-1])
    assert [label.get_text() for label in metric.get_yticklabels()][-1] == "all"
    long = stored.uns["match_diagnosis"]["table"].query("check == 'stability'")
    np.testing.assert_allclose(check.collections[2].get_offsets()[:, 0], long["value"][:-1])
    assert faces(check.collections[2]) == list((long["p_value"] <= 0.05)[:-1])
    band = check.patches[0]
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [0.3, 0.5])


def test_evaluation_reads_either_table(stored):
    keys = _keys.MatchKeys("match")
    kept = stored.uns.pop(keys.evaluation)
    assert [ax.get_title() for ax in psalm.pl.evaluation(stored, show=False)] == ["stability", "hubness"]
    stored.uns[keys.evaluation] = kept
    del stored.uns[keys.diagnosis]
    titles = [ax.get_title() for ax in psalm.pl.evaluation(stored, show=False)]
    assert titles == ["FOSCTTM", "recall", "R² within treatments"]  # "trace" has no numbers


def test_a_treatment_may_be_called_all(stored):
    table = stored.uns["match_evaluation"]
    table.loc[2, "treatment"] = "all"
    (ax,) = psalm.pl.evaluation(stored, metrics=["r2"], show=False)
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:12, 0], table["r2"][:-1])


def test_evaluation_draws_baselines(stored):
    other = stored.uns["match_evaluation"].copy()
    other["recall"] /= 2
    stored.uns["nearest_evaluation"] = other
    (ax,) = psalm.pl.evaluation(stored, metrics=["recall"], baselines=["nearest"], show=False)
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], other["recall"])


def test_strata_are_rows_of_their_own(make_stored):
    """A treatment in two strata has two rows in the table of the match, and its cells belong to one of them."""
    mdata = make_stored(2)
    table = mdata.uns["match"]["table"].assign(treatment="control", within=["d1", "d2"])
    mdata.uns["match"]["table"] = table
    for name in "ab":
        mdata[name].obs["treatment"] = pd.Categorical(["control"] * mdata[name].n_obs)
    labels = psalm.pl.coupling(mdata, show=False).get_yticklabels()
    assert [label.get_text() for label in labels] == ["control in d1", "control in d2"]
    shade = psalm.pl.coupling(mdata, treatment="control", order_by="state", show=False).images[0].get_array()
    assert shade.shape == (mdata["a"].n_obs, mdata["b"].n_obs)
    psalm.pl.embedding(mdata, show=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda m: psalm.pl.embedding(m, basis="X"), "Found: .*'X_umap'", id="no such basis"),
        pytest.param(lambda m: psalm.pl.links(m, basis="X_psalm"), "Run `pp.represent` first", id="not represented"),
        pytest.param(lambda m: psalm.pl.links(m, basis={"a": "X_umap"}), "no key for 'b'", id="half a basis"),
        pytest.param(lambda m: psalm.pl.links(m, basis={"c": "X"}), "not modalities", id="unknown modality"),
        pytest.param(lambda m: psalm.pl.links(m, color="x"), "`color='x'` is neither in", id="no such colour"),
        pytest.param(lambda m: psalm.pl.match(m, match_key="x"), "Run `tl.match` first", id="not matched"),
        pytest.param(lambda m: psalm.pl.propensity(m, propensity_key="x"), "Run `tl.propensity`", id="not scored"),
        pytest.param(lambda m: psalm.pl.treatments(m, treatment="match"), "Run `pp.treatment` first", id="no table"),
        pytest.param(lambda m: psalm.pl.coupling(m, treatment="x"), "Matched treatments: 'control'", id="unknown"),
        pytest.param(lambda m: psalm.pl.coupling(m, treatment="t1", order_by="x"), "`order_by='x'`", id="no column"),
        pytest.param(lambda m: psalm.pl.prediction(m, target="a"), "Run `tl.predict` first", id="not predicted"),
        pytest.param(lambda m: psalm.pl.prediction(m, features=["x"]), "'x', which were not pred", id="no feature"),
        pytest.param(
            lambda m: psalm.pl.evaluation(m, match_key="x"), "Run `tl.evaluate` or `tl.diagnose` first", id="no score"
        ),
        pytest.param(lambda m: psalm.pl.evaluation(m, metrics=["x"]), "Found: 'foscttm'", id="no such metric"),
    ],
)
def test_missing_results(stored, call, message):
    with pytest.raises(KeyError, match=message):
        call(stored)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda m: psalm.pl.coupling(m, order_by="state"), "Pass `treatment=`", id="order of all"),
        pytest.param(lambda m: psalm.pl.links(m, n_links=-1), "whole number, 0 or more", id="negative links"),
        pytest.param(lambda m: psalm.pl.prediction(m, n_features=0), "whole number, 1 or more", id="no features"),
        pytest.param(
            lambda m: psalm.pl.links(m, ax=[plt.figure().gca(), plt.figure().gca()]), "two figures", id="two figures"
        ),
    ],
)
def test_bad_values(stored, call, message):
    with pytest.raises(ValueError, match=message):
        call(stored)


def test_history_needs_a_trained_model(stored, model):
    with pytest.raises(TypeError, match="Got MuData, which has no history"):
        psalm.pl.history(stored)
    model.history = {}
    with pytest.raises(ValueError, match="Train it first"):
        psalm.pl.history(model)
