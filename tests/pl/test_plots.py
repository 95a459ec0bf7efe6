"""Plots show what is stored: the tests read numbers back from the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import psalm


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def embedded(matched):
    psalm.tl.embed(matched)
    return matched


@pytest.mark.parametrize("name", ["agreement", "propensity", "match", "embedding", "overlap"])
def test_figure_or_axes(embedded, name):
    plot = getattr(psalm.pl, name)
    assert isinstance(plot(embedded, return_fig=True), Figure)
    assert plot(embedded, show=False) is not None


def test_propensity_draws_the_stored_auc(matched):
    _, right = psalm.pl.propensity(matched, show=False)
    table = matched.uns["propensity"]["table"]
    for line, name in zip(right.lines, ("a", "b"), strict=False):
        np.testing.assert_allclose(line.get_xdata(), table[table["modality"] == name]["auc"])
    assert [label.get_text() for label in right.get_yticklabels()] == ["control", "t1", "t2", "t3"]


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
    assert len(ax.collections[1].get_offsets()) == (stored["p_value"] <= 0.01).sum()


def test_match_flags_what_did_not_converge(matched):
    matched.uns["match"]["table"].loc[2, "converged"] = False
    _, bars, _ = psalm.pl.match(matched, show=False)
    colours = [bar.get_facecolor() for bar in bars.patches]
    assert colours[2] != colours[0]
    assert colours[1] == colours[0]


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


def test_embedding_takes_axes_and_stored_colours(embedded):
    embedded.uns["treatment_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    _, ax = plt.subplots()
    assert psalm.pl.embedding(embedded, ax=ax) is ax
    drawn = {tuple(np.round(colour[:3], 3)) for colour in ax.collections[1].get_facecolors()}
    assert drawn == {(round(k / 15, 3),) * 3 for k in (1, 2, 3, 4)}


@pytest.mark.parametrize("n_treatments", [2, 60])
def test_few_and_many_treatments(n_treatments):
    mdata = psalm.datasets.simulated(n_cells=8 * n_treatments + 40, n_treatments=n_treatments, n_features=(8, 8))
    psalm.pp.treatment(mdata, "perturbation", min_cells=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # small treatments are announced
        psalm.tl.propensity(mdata, n_repeats=1, progress=False)
        psalm.tl.match(mdata, source="a", target="b", progress=False)
    psalm.tl.embed(mdata)
    for name in ("propensity", "match", "embedding"):
        figure = getattr(psalm.pl, name)(mdata, return_fig=True)
        figure.canvas.draw()
        assert max(figure.get_size_inches()) <= 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda m: psalm.pl.embedding(m, show=False), "Run `tl.embed`", id="not embedded"),
        pytest.param(lambda m: psalm.pl.match(m, match_key="x"), "Run `tl.match` first", id="not matched"),
        pytest.param(lambda m: psalm.pl.propensity(m, propensity_key="x"), "Run `tl.propensity`", id="not scored"),
    ],
)
def test_missing_results(matched, call, message):
    with pytest.raises(KeyError, match=message):
        call(matched)
