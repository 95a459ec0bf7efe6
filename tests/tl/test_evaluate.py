import numpy as np
import pytest
from scipy import sparse

import psalm
from psalm import _matches
from psalm._containers import stack

# few treatments leave scores few dimensions, which psalm says
pytestmark = pytest.mark.filterwarnings("ignore:Scores of . fill")


@pytest.fixture
def paired():
    mdata = psalm.datasets.simulated(n_cells=150, n_treatments=3, n_features=(12, 10), n_private=1, paired=True)
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    return mdata


def direct(mdata, features):
    """Independent: dense loops over the stored (here complete) coupling, cell by cell."""
    mass, labels = psalm.get.coupling(mdata).toarray(), mdata["a"].obs["treatment"].to_numpy()
    foscttm, errors, baseline = [], 0.0, 0.0
    for i, label in enumerate(labels):
        block = np.flatnonzero(labels == label)
        others = block[block != i]
        directions = [
            np.mean((row[others] > mass[i, i]) + 0.5 * (row[others] == mass[i, i])) for row in (mass[i], mass[:, i])
        ]
        foscttm.append(np.mean(directions))
        errors += ((features[i] - mass[i] @ features / mass[i].sum()) ** 2).sum()
        baseline += ((features[i] - features[block].mean(axis=0)) ** 2).sum()
    return np.mean(foscttm), 1 - errors / baseline


def test_agrees_with_loops_and_beats_chance(paired):
    table = psalm.tl.evaluate(paired)
    features = paired["b"].X
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    foscttm, r2 = direct(paired, features)
    last = table.iloc[-1]
    assert last["foscttm"] == pytest.approx(foscttm)
    assert last["r2"] == pytest.approx(r2)
    assert last["foscttm"] < 0.45
    assert list(table["scope"]) == ["treatment"] * 3 + ["all"]
    assert table["n_pairs"].to_list()[-1] == 150
    weights = table["n_pairs"][:-1]
    assert np.average(table["lift"][:-1], weights=weights) == pytest.approx(last["lift"])


def test_truth_by_a_column_of_disjoint_permuted_cells(paired, rng):
    expected = psalm.tl.evaluate(paired)
    order = rng.permutation(150)
    a, b = paired["a"].copy(), paired["b"][order].copy()
    for name, adata in (("a", a), ("b", b)):
        adata.obs["pair"] = adata.obs_names.to_numpy()
        adata.obs_names = [f"{name}_{i}" for i in range(150)]
    mdata = stack({"a": a, "b": b})
    mdata.uns["propensity"] = paired.uns["propensity"]
    mdata.uns["match"] = paired.uns["match"]
    _matches.write_coupling(mdata, "match", "a", "b", psalm.get.coupling(paired)[:, order])
    found = psalm.tl.evaluate(mdata, truth="pair")
    np.testing.assert_allclose(found["foscttm"], expected["foscttm"])


def test_the_table_is_stored(paired):
    table = psalm.tl.evaluate(paired)
    assert paired.uns["match_evaluation"].equals(table)


def test_a_collapsed_coupling_scores_one_half(paired):
    for name in ("a", "b"):
        paired[name].obsm["propensity"][:] = 0
        paired[name].obs["propensity_own"] = 1 / 3
    with pytest.warns(UserWarning, match="In 3 treatments scores decide almost nothing"):
        psalm.tl.match(paired, source="a", target="b", progress=False)
    last = psalm.tl.evaluate(paired).iloc[-1]
    assert last["foscttm"] == pytest.approx(0.5)
    assert last["lift"] == pytest.approx(1)
    assert last["r2"] == pytest.approx(0, abs=1e-9)


def test_latent_error_of_disjoint_cells(matched):
    table = psalm.tl.evaluate(matched, latent="latent")
    assert (table["n_pairs"] == 0).all()
    assert table["latent_error"].iloc[-1] < 0.9
    assert table["foscttm"].isna().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({}, ValueError, "'a' and 'b' have no names in common, so no true pairs", id="no pairs"),
        pytest.param(
            {"truth": "pair"}, KeyError, r"`truth='pair'` is neither in `mdata\['a'\].obs` nor", id="no column"
        ),
        pytest.param({"truth": "perturbation"}, ValueError, "4 values that occur more than once", id="not unique"),
        pytest.param({"latent": "z"}, KeyError, r"`latent='z'` is not in `mdata\['a'\].obsm`", id="no latent"),
        pytest.param({"match_key": "m"}, KeyError, "`match_key='m'`: there is no result of `tl.match`", id="no match"),
    ],
)
def test_bad_input(matched, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.evaluate(matched, **options)


def test_sparse_targets_are_read(paired):
    expected = psalm.tl.evaluate(paired)["r2"]
    paired["b"].X = sparse.csr_matrix(paired["b"].X)
    np.testing.assert_allclose(psalm.tl.evaluate(paired)["r2"], expected)


def test_truth_may_be_known_for_some_cells(paired):
    for name in ("a", "b"):
        paired[name].obs["pair"] = paired[name].obs_names.astype(object)
    paired["a"].obs.loc[paired["a"].obs_names[:5], "pair"] = None
    paired["b"].obs.loc[paired["b"].obs_names[3:9], "pair"] = None
    assert psalm.tl.evaluate(paired, truth="pair")["n_pairs"].iloc[-1] == 141


def test_latents_must_fit(matched):
    matched["a"].obsm["latent"] = matched["a"].obsm["latent"][:, :2]
    with pytest.raises(ValueError, match="`latent='latent'` has 2 dimensions in 'a' and 4 in 'b'"):
        psalm.tl.evaluate(matched, latent="latent")


def test_nothing_left_to_score(matched):
    labels = matched.obs["treatment"].to_numpy()
    sides = matched.obs_names.str[0].to_numpy()
    part = matched[((labels == "t1") & (sides == "a")) | ((labels == "t2") & (sides == "b"))].copy()
    with pytest.raises(ValueError, match="No treatment of the match 'match' has cells on both sides"):
        psalm.tl.evaluate(part, latent="latent")


def test_every_metric_has_an_interval_around_it(paired):
    table = psalm.tl.evaluate(paired)
    metrics = ["foscttm", "foscttm_source", "foscttm_target", "foscttm_features", "recall", "trace", "lift", "r2"]
    for name in [*metrics, "r2_total"]:
        assert (table[f"{name}_lower"] <= table[name]).all(), name
        assert (table[name] <= table[f"{name}_upper"]).all(), name
        assert (table[f"{name}_upper"] - table[f"{name}_lower"]).iloc[-1] > 0, name
    assert table["foscttm_features_upper"].iloc[-1] < 0.5
    assert table["recall_lower"].iloc[-1] > table["recall_chance"].iloc[-1]
    assert table["r2_total"].iloc[-1] > table["r2"].iloc[-1]
    assert "foscttm_lower" not in psalm.tl.evaluate(paired, n_bootstrap=0)
    assert psalm.tl.evaluate(paired).equals(table)  # the seed decides


def test_recall_is_that_of_a_loop(paired):
    """Independent: partners sorted by stored mass, which is without ties here."""
    mass, labels = psalm.get.coupling(paired).toarray(), paired["a"].obs["treatment"].to_numpy()
    hits = [mass[i, labels == labels[i]][mass[i, labels == labels[i]] > mass[i, i]].size < 4 for i in range(150)]
    last = psalm.tl.evaluate(paired, k=4).iloc[-1]
    assert last["recall"] == pytest.approx(np.mean(hits))
    sizes = np.array([(labels == label).sum() for label in labels])
    assert last["recall_chance"] == pytest.approx(np.mean(4 / sizes))


def test_a_finer_label_is_transferred_better_than_by_its_frequency(paired):
    """The label is on which side of its median the first true latent lies; cells of no label take no part."""
    side = paired["a"].obsm["latent"][:, 0] > np.median(paired["a"].obsm["latent"][:, 0])
    for name in ("a", "b"):
        paired[name].obs["side"] = np.where(side, "right", "left").astype(object)
    paired["a"].obs.loc[paired["a"].obs_names[:7], "side"] = None
    last = psalm.tl.evaluate(paired, labels="side").iloc[-1]
    assert last["label_accuracy"] > last["label_chance"] + 0.03
    mass = psalm.get.coupling(paired).toarray()
    hits = [(mass[i, side].sum() > mass[i, ~side].sum()) == side[i] for i in range(7, 150)]
    assert last["label_accuracy"] == pytest.approx(np.mean(hits))
    with pytest.raises(KeyError, match=r"`labels='x'` is neither in `mdata\['a'\].obs` nor in"):
        psalm.tl.evaluate(paired, labels="x")


def test_labels_alone_are_scored_where_no_pair_is_known(matched):
    for name in ("a", "b"):
        matched[name].obs["side"] = np.where(matched[name].obsm["latent"][:, 0] > 0, "right", "left")
    last = psalm.tl.evaluate(matched, labels="side").iloc[-1]
    assert last["n_pairs"] == 0
    assert 0 < last["label_chance"] <= 1


def test_treatments_of_which_nothing_is_scored_have_a_row(paired):
    for name in ("a", "b"):
        paired[name].obs["pair"] = paired[name].obs_names.astype(object)
    lost = (paired["a"].obs["treatment"] == "t1").to_numpy()
    paired["a"].obs.loc[lost, "pair"] = None
    table = psalm.tl.evaluate(paired, truth="pair").set_index("treatment")
    assert table.loc["t1", "n_pairs"] == 0
    assert table.loc["t1", ["foscttm", "r2", "lift"]].isna().all()
    assert table.loc["", "n_treatments"] == 2
