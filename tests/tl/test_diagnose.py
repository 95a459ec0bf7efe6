"""What a match says of itself, beside what is true."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm
from psalm.core.matcher import Match
from psalm.core.plan import SparsePlan

pytestmark = pytest.mark.filterwarnings("ignore:Scores of . fill")


def simulated(**options):
    mdata = psalm.datasets.simulated(n_cells=500, n_treatments=8, n_features=(12, 10), paired=True, **options)
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=3, progress=False)
    return mdata


@pytest.fixture(scope="module")
def base():
    return simulated()


@pytest.fixture
def scored(base):
    return base.copy()


def match(mdata, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        psalm.tl.match(mdata, source="a", target="b", progress=False, **options)


def diagnosed(mdata, **options):
    return psalm.tl.diagnose(mdata, progress=False, n_permutations=99, **options).set_index("check")


@pytest.mark.parametrize("method", ["ot", "nearest", "snn", "exact"])
def test_the_expected_r2_is_near_the_true_one(scored, method):
    """Independent: evaluate, which knows the pairs. On few cells the expectation is low: errors are doubled."""
    match(scored, method=method)
    truth = psalm.tl.evaluate(scored).iloc[-1]["r2"]
    found = diagnosed(scored).loc["expected R²", "value"]
    assert truth - 0.2 < found < truth + 0.1


def test_it_ranks_methods_as_the_truth_does(scored):
    found, truth = [], []
    for options in ({}, {"method": "snn"}, {"method": "nearest"}, {"epsilon": 5.0}, {"epsilon_absolute": 0.02}):
        match(scored, **options)
        found.append(diagnosed(scored).loc["expected R²", "value"])
        truth.append(psalm.tl.evaluate(scored, n_bootstrap=0).iloc[-1]["r2"])
    ranks = [np.argsort(np.argsort(values)) for values in (found, truth)]
    assert np.corrcoef(ranks)[0, 1] >= 0.7


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_called_noise(seed):
    """Both modalities are noise that knows nothing of the treatment: nothing positive is said of the match."""
    mdata = psalm.datasets.simulated(n_cells=300, n_treatments=4, n_features=(12, 10), rng=seed)
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        mdata[name].X = rng.normal(size=mdata[name].shape)
    psalm.pp.treatment(mdata, "perturbation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        psalm.tl.propensity(mdata, progress=False)
        match(mdata)
    table = diagnosed(mdata)
    assert table.loc["reliability", "value"] < 0.2
    assert "mostly error" in table.loc["reliability", "verdict"]
    for check in ("score agreement", "stability"):
        assert "nothing follows" in table.loc[check, "verdict"]
    assert "do not read single cells" in table.loc["expected R²", "verdict"]


def test_private_variation_passes_and_the_verdict_says_what_it_takes_for_granted():
    """Two unrelated sets of cells share labels: what is reproducible within each is matched, and is wrong."""
    mdata = psalm.datasets.simulated(n_cells=400, n_treatments=6, n_features=(12, 12), paired=True)
    rng, labels, order = np.random.default_rng(1), mdata["a"].obs["perturbation"].to_numpy(), np.arange(400)
    for label in np.unique(labels):  # a cell's partner by name is another cell of its treatment
        own = np.flatnonzero(labels == label)
        order[own] = rng.permutation(own)
    mdata["b"].X = mdata["b"].X[order]
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=3, progress=False)
    match(mdata)
    assert psalm.tl.evaluate(mdata).iloc[-1]["r2"] < 0
    table = diagnosed(mdata)
    assert table.loc["expected R²", "value"] > 0.02
    assert "if scores mean the same in both modalities" in table.loc["expected R²", "verdict"]


@pytest.mark.parametrize("attack", ["random", "hub", "collapse"])
def test_attacks_score_no_better_than_chance(scored, attack):
    """Random partners; nine tenths of the cells on one; the same partners for all: with the truth and without."""
    rng = np.random.default_rng(1)

    def matcher(source, target):
        n, m = len(source), len(target)
        mass = np.full((n, m), 1.0)
        if attack != "collapse":
            mass[:] = 0
            mass[np.arange(n), rng.integers(m, size=n)] = 1
        if attack == "hub":
            few = rng.permutation(n)[: int(0.9 * n)]
            mass[few] = 0
            mass[few, 0] = 1
        return Match(SparsePlan(sparse.csr_matrix(mass / mass.sum())))

    match(scored, method=matcher)
    last = psalm.tl.evaluate(scored).iloc[-1]
    assert last["foscttm_upper"] > 0.49  # no better than chance
    assert last["foscttm_features_upper"] > 0.49
    assert last["lift_lower"] < 1.02
    assert last["recall_lower"] < last["recall_chance"] + 0.02
    assert last["r2"] < 1e-9
    table = diagnosed(scored)
    if attack == "hub":
        assert table.loc["hubness", "value"] < 0.5
        assert "Few target cells take much of the mass" in table.loc["hubness", "verdict"]
    else:
        assert table.loc["hubness", "p_value"] > 0.01
    assert "made by a function object" in table.loc["stability", "verdict"]
    assert np.isnan(table.loc["stability", "value"])


def test_tiny_groups_score_no_better_than_chance():
    """Two or three cells a treatment: by chance every second partner is found, and no metric rewards it.

    The mean FOSCTTM of a container varies by .04; that of four by .02.
    """
    found = []
    for seed in range(4):
        mdata = psalm.datasets.simulated(n_cells=120, n_treatments=40, n_features=(12, 10), paired=True, rng=seed)
        rng = np.random.default_rng(seed)
        for name in ("a", "b"):
            mdata[name].X = rng.normal(size=mdata[name].shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            psalm.pp.treatment(mdata, "perturbation", min_cells=2)
            psalm.tl.propensity(mdata, n_folds=2, n_repeats=2, progress=False)
        match(mdata)
        last = psalm.tl.evaluate(mdata, n_bootstrap=0).iloc[-1]
        assert last["recall"] == last["recall_chance"] == 1  # all cells are among the first ten
        found.append([*last[["foscttm", "lift", "r2"]], diagnosed(mdata).loc["expected R²", "value"]])
    foscttm, lift, r2, expected = np.mean(found, axis=0)
    assert foscttm == pytest.approx(0.5, abs=0.06)
    assert lift == pytest.approx(1, abs=0.01)
    assert r2 < 0.01
    assert expected < 0.01


def test_labels_and_links_are_found_by_a_true_match(scored):
    """The match that sends each cell to its partner finds everything; shuffled, nothing."""
    rng = np.random.default_rng(0)
    scored["b"].X[:, 1] = scored["a"].X[:, 0] + 0.1 * rng.normal(size=scored["a"].n_obs)
    side = np.where(scored["a"].obsm["latent"][:, 0] > 0, "right", "left")
    for name in ("a", "b"):
        scored[name].obs["side"] = side

    def truth(source, target):
        return Match(SparsePlan(sparse.identity(len(source), format="csr") / len(source)))

    match(scored, method=truth)
    links = {"a_feature_0": "b_feature_1", "a_feature_3": "b_feature_4"}
    table = diagnosed(scored, labels="side", links=links)
    assert table.loc["labels", "value"] == pytest.approx(1)
    assert table.loc["labels", "n_significant"] >= 6  # some treatments have few cells on one side
    assert "more often than chance" in table.loc["labels", "verdict"]
    assert table.loc["a_feature_0 ~ b_feature_1", "value"] > 0.9
    within = [
        pd.DataFrame(scored[name].X[:, column]).groupby(scored["a"].obs["treatment"].to_numpy(), observed=True)
        for name, column in (("a", 3), ("b", 4))
    ]
    x, y = (values.transform(lambda part: part - part.mean()).to_numpy()[:, 0] for values in within)
    wanted = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
    assert table.loc["a_feature_3 ~ b_feature_4", "value"] == pytest.approx(wanted)
    sides = pd.Series(side).groupby(scored["a"].obs["treatment"].to_numpy(), observed=True)
    chance = sides.transform(lambda part: part.map(part.value_counts(normalize=True))).astype(float).mean()
    assert table.loc["labels", "null"] == pytest.approx(chance, abs=0.02)

    def shuffled(source, target):
        order = rng.permutation(len(source))
        return Match(SparsePlan(sparse.identity(len(source), format="csr")[order] / len(source)))

    match(scored, method=shuffled)
    table = diagnosed(scored, labels="side", links=links)
    assert table.loc["labels", "p_value"] > 0.01
    assert table.loc["links", "p_value"] > 0.01


def test_the_tables_are_stored_and_survive_a_file(scored, tmp_path):
    import mudata

    match(scored)
    verdicts = psalm.tl.diagnose(scored, progress=False, n_permutations=19)
    stored = scored.uns["match_diagnosis"]
    assert stored["verdicts"].equals(verdicts)
    table = stored["table"]
    assert set(table["treatment"]) == {"", *scored["a"].obs["treatment"].cat.categories}
    n_cells = table[table["check"] == "stability"].set_index("treatment")["n_cells"]
    assert n_cells.drop("").sum() == n_cells[""]
    tested = table[table["check"] != "reliability"]
    assert (tested["null_lower"] <= tested["null_upper"]).all()
    scored.write_h5mu(tmp_path / "m.h5mu")
    again = mudata.read_h5mu(tmp_path / "m.h5mu")
    assert list(again.uns["match_diagnosis"]["verdicts"]["verdict"]) == list(verdicts["verdict"])
    np.testing.assert_allclose(psalm.tl.diagnose(again, progress=False, n_permutations=19)["value"], verdicts["value"])


def test_without_repeats_it_says_what_is_missing(matched):
    table = diagnosed(matched)
    for check in ("reliability", "score agreement", "stability", "expected R²"):
        assert "`n_repeats=2` or more" in table.loc[check, "verdict"]
        assert np.isnan(table.loc[check, "value"])
    assert not np.isnan(table.loc["hubness", "value"])


@pytest.mark.parametrize(
    "options", [{"cost": "posterior"}, {"refine": 1}, {"method": "unbalanced"}, {"method": "partial"}]
)
def test_every_kind_of_match_is_made_again(scored, options):
    match(scored, **options)
    table = diagnosed(scored)
    assert table.loc["stability", "value"] > 0.2
    assert table.loc["stability", "p_value"] == 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"match_key": "m"}, KeyError, "there is no result of `tl.match`", id="no match"),
        pytest.param(
            {"labels": "x"}, KeyError, r"`labels='x'` is neither in `mdata\['a'\].obs` nor in", id="no labels"
        ),
        pytest.param({"links": {"x": "b_feature_0"}}, KeyError, "`links` names 'x', which are not features", id="link"),
        pytest.param({"links": {"a_feature_0": "b_feature_0"}, "link_rep": {"c": "X"}}, KeyError, "'c'", id="rep"),
        pytest.param({"n_permutations": 0}, ValueError, "`n_permutations=0`", id="no permutations"),
    ],
)
def test_bad_input(matched, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.diagnose(matched, progress=False, **options)


def test_labels_that_do_not_vary_within_treatments_are_refused_in_words(matched):
    table = diagnosed(matched, labels="perturbation")
    assert "does not vary within any treatment" in table.loc["labels", "verdict"]


def test_scores_made_anew_are_not_mixed_with_an_old_match(scored):
    match(scored, method="snn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        psalm.tl.propensity(scored, n_repeats=2, rng=9, progress=False)
    assert "computed anew" in diagnosed(scored).loc["stability", "verdict"]


def test_a_new_match_takes_old_verdicts_away_and_nothing_else_is_lost(scored):
    match(scored)
    diagnosed(scored)
    psalm.tl.evaluate(scored)
    match(scored)
    assert not {"match_diagnosis", "match_evaluation"} & set(scored.uns)
    scored.uns["match_diagnosis"], scored.uns["match_evaluation"] = {"mine": 1}, "mine"
    match(scored)
    with pytest.raises(ValueError, match=r"`mdata.uns\['match_diagnosis'\]` exists"):
        diagnosed(scored)
    with pytest.raises(ValueError, match=r"`mdata.uns\['match_evaluation'\]` was not written by"):
        psalm.tl.evaluate(scored)


def test_settings_that_are_pairs_are_made_again(scored):
    match(scored, method="unbalanced", relaxation=(float("inf"), 0.1))
    from psalm._recipe import Recipe

    again = Recipe.of(scored, "match")([scored[name].obsm["propensity"] for name in ("a", "b")])
    np.testing.assert_allclose(
        again.coupling.to_csr().toarray(), psalm.get.coupling(scored, exact=True).toarray(), atol=1e-9
    )


def test_links_to_a_feature_that_is_there_twice_are_refused(scored):
    match(scored)
    scored["a"].var_names = ["x", "x", *scored["a"].var_names[2:]]
    assert diagnosed(scored, links={"a_feature_3": "b_feature_4"}).loc["links", "p_value"] > 0
    with pytest.raises(KeyError, match="or are there more than once"):
        diagnosed(scored, links={"x": "b_feature_4"})


def test_treatments_too_small_to_say_anything_say_so():
    mdata = psalm.datasets.simulated(n_cells=40, n_treatments=20, n_features=(12, 10), paired=True)
    for name in ("a", "b"):
        mdata[name].obs["perturbation"] = [f"t{number // 2}" for number in range(40)]
        mdata[name].obs["side"] = ["left", "right"] * 20
    psalm.pp.treatment(mdata, "perturbation", min_cells=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        psalm.tl.propensity(mdata, n_folds=2, n_repeats=2, progress=False)
    match(mdata)
    table = diagnosed(mdata, labels="side")
    for check in ("stability", "expected R²"):
        assert "no treatment has three such cells" in table.loc[check, "verdict"]
