"""Names in figures are those of the user: literal, none left out, no two alike."""

import warnings

import numpy as np
import pandas as pd
import pytest

import psalm
from psalm import _keys
from psalm._containers import stack
from psalm.pl._names import LONGEST_NAME, shown

WRITTEN = {
    "_NT": "_NT",
    "$IC_50$ low": "$IC_50$ low",
    "a $ b $ c \\frac": "a $ b $ c \\frac",
    "BRD-A00100033-001-08-9 : 0.12": "BRD-A00100033-0…9 : 0.12",
    "BRD-A00100033-001-08-9 : 3.33": "BRD-A00100033-0…9 : 3.33",
    "BRD-A00100033-001-08-9 : 10": "BRD-A00100033-0…8-9 : 10",
    "two\nlines": "two\\nlines",
    "x" * 300 + "1" + "y" * 300: "xxxx…xxxx1yyyyyyyyy…yyyy",
    "x" * 300 + "2" + "y" * 300: "xxxx…xxxx2yyyyyyyyy…yyyy",
    "naïve β-Δ": "naïve β-Δ",
    "31": "31",
    "31.0": "31.0",
    "": '""',
    "{x}%s^_\\": "{x}%s^_\\",
}
"""Names, and how figures write them."""
NAMES = list(WRITTEN)
TREATMENTS = [name for name in NAMES if name]  # `pp.treatment` refuses an empty one
PLOTS = {
    "agreement": psalm.pl.agreement,
    "coupling": psalm.pl.coupling,
    "coupling of one": lambda m, **options: psalm.pl.coupling(m, treatment="t $1$", order_by="$kind$", **options),
    "embedding": psalm.pl.embedding,
    "evaluation": lambda m, **options: psalm.pl.evaluation(m, baselines=["_match$2$"], **options),
    "links": psalm.pl.links,
    "links by label": lambda m, **options: psalm.pl.links(m, color="$kind$", **options),
    "links by number": lambda m, **options: psalm.pl.links(m, color="$state$", **options),
    "match": psalm.pl.match,
    "overlap": psalm.pl.overlap,
    "prediction": psalm.pl.prediction,
    "propensity": psalm.pl.propensity,
    "treatments": psalm.pl.treatments,
}
OF_LABELS = {"coupling of one", "links by label", "links by number"}


@pytest.fixture
def odd(make_stored):
    """Everything that plots read, of treatments, labels and features with odd names."""
    mdata = make_stored(len(TREATMENTS), names=TREATMENTS)
    for adata in mdata.mod.values():
        adata.obs["$kind$"] = pd.Categorical(np.array(NAMES, dtype=object)[np.arange(adata.n_obs) % len(NAMES)])
        adata.obs["$state$"] = adata.obs["state"]
    mdata.uns[_keys.predicted("b")]["features"] = np.array(NAMES[:6], dtype=object)
    mdata.uns["_match$2$_evaluation"] = mdata.uns["match_evaluation"]
    return mdata


def texts(figure):
    """Everything that is written beside an axis, in titles and in legends."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    labels = [label for ax in figure.axes for label in (*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title)]
    labels += [label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label, *ax.texts)]
    return [*labels, *(text for legend in legends for text in legend.get_texts())]


@pytest.mark.parametrize("name", sorted(set(PLOTS) - OF_LABELS))
def test_names_of_treatments_are_literal_and_distinct(name, odd):
    """Warnings are errors, so a label that a legend leaves out fails as one that mathtext cannot read does."""
    figure = PLOTS[name](odd, return_fig=True)
    figure.canvas.draw()
    found = [text for text in texts(figure) if text.get_text()]
    for long in TREATMENTS:
        written = WRITTEN[long]
        ours = [text for text in found if text.get_text().removesuffix(" (negative control)") == written]
        assert ours, (long, written)
        assert not any(text.get_parse_math() or text.get_usetex() for text in ours)


@pytest.mark.parametrize("name", sorted(OF_LABELS))
def test_names_of_columns_and_labels_are_literal(name, make_stored, odd):
    mdata = make_stored(3, names=["control", "t $1$", "t2"])
    for adata, other in zip(mdata.mod.values(), odd.mod.values(), strict=True):
        for column in ("$kind$", "$state$"):
            adata.obs[column] = other.obs[column].to_numpy()[: adata.n_obs]
    figure = PLOTS[name](mdata, return_fig=True)
    figure.canvas.draw()
    dollars = [text for text in texts(figure) if "$" in text.get_text()]
    assert dollars
    assert not any(text.get_parse_math() for text in dollars)


def test_titles_of_features_are_literal(odd):
    figure = psalm.pl.prediction(odd, features=NAMES[:5], return_fig=True)
    figure.canvas.draw()
    titles = [ax.get_title().split("  r = ")[0] for ax in figure.axes[:5]]
    assert titles == list(WRITTEN.values())[:5]


@pytest.mark.parametrize("plot", ["treatments", "propensity", "match", "coupling", "agreement"])
def test_modalities_whose_names_begin_with_a_line_are_in_legends(plot, make_stored):
    mdata = make_stored(4)
    new = {"a": "_rna$1$", "b": "_$b$"}
    again = stack({new[name]: adata.copy() for name, adata in mdata.mod.items()})
    again.uns.update(mdata.uns)
    again.uns["treatment"] = mdata.uns["treatment"].rename(columns=new)
    again.uns["match"]["params"] |= {"source": new["a"], "target": new["b"]}
    for table in ("table", "reliability", "calibration"):
        again.uns["propensity"][table] = mdata.uns["propensity"][table].replace({"modality": new})
    again.uns["propensity"]["agreement"] = mdata.uns["propensity"]["agreement"].replace(new)
    figure = getattr(psalm.pl, plot)(again, return_fig=True)
    figure.canvas.draw()
    said = " ".join(text.get_text() for ax in figure.axes if ax.get_legend() for text in ax.get_legend().get_texts())
    assert "_rna$1$" in said
    assert "_$b$" in said


@pytest.mark.parametrize("count", [2, 300])
def test_names_that_differ_anywhere_stay_distinct(count):
    """One sign apart, at any place, and in several places at once."""
    rng = np.random.default_rng(0)
    base = np.array(list("compound-0123456789-abcdefghijklmnopqrstuvwxyz"))
    names = []
    for _ in range(count):
        changed = base.copy()
        changed[rng.integers(0, len(base), 3)] = list("#+*")
        names.append("".join(changed))
    names = list(dict.fromkeys(names))
    found = shown(names)
    assert len(set(found)) == len(names)
    assert max(map(len, found)) <= LONGEST_NAME + 5  # a number, where nothing else tells them apart
    assert shown(names[:1] * 2) == shown(names[:1]) * 2


# Colours

FOUR = ["#111111", "#222222", "#333333", "#444444"]


def drawn(mdata, **options):
    """Colour of each label in the legend."""
    ax = psalm.pl.links(mdata, show=False, **options)[1]
    handles = ax.get_legend().legend_handles
    return {
        text.get_text(): handle.get_color() for text, handle in zip(ax.get_legend().get_texts(), handles, strict=True)
    }


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (FOUR[:3], "holds 3 colours for 4 categories"),
        ([*FOUR, "#555555"], "holds 5 colours for 4 categories"),
        ([*FOUR[:3], "no colour"], "holds what is no colour: 'no colour'"),
        ([*FOUR[:3], float("nan")], "holds what is no colour: 'nan'"),
        ("#111111", "holds 1 colours for 4 categories"),
        ([], "holds 0 colours for 4 categories"),
    ],
    ids=["few", "many", "invalid", "missing", "text", "none"],
)
@pytest.mark.parametrize("plot", ["links", "embedding", "prediction"])
def test_colours_that_do_not_fit_are_replaced_and_said_once(plot, stored, said, make_stored):
    from scanpy.plotting.palettes import default_20

    mdata = make_stored(4)
    mdata.uns["treatment_colors"] = stored
    with pytest.warns(UserWarning, match=said) as caught:
        getattr(psalm.pl, plot)(mdata, show=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(drawn(mdata).values()) == default_20[:4]


def test_colours_follow_names_where_some_have_no_cells(make_stored):
    """A column has more categories than the cells that are drawn, or in another order in one modality."""
    mdata = make_stored(4)
    mdata.uns["kind_colors"] = FOUR[:3]
    for name, categories in (("a", ["low", "none", "high"]), ("b", ["high", "low"])):
        mdata[name].obs["kind"] = mdata[name].obs["kind"].cat.set_categories(categories)
    assert drawn(mdata, color="kind") == {"low": FOUR[0], "high": FOUR[2]}


def test_a_label_called_missing_keeps_its_colour(make_stored):
    mdata = make_stored(4)
    for adata in mdata.mod.values():
        adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "missing", "high")
        adata.obs.loc[adata.obs_names[:3], "kind"] = np.nan
    ax = psalm.pl.links(mdata, color="kind", show=False)[1]
    handles = ax.get_legend().legend_handles
    assert len({str(handle.get_color()) for handle in handles}) == 3
