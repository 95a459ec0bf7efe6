import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier

import psalm

# few treatments leave scores few dimensions, which psalm says
pytestmark = pytest.mark.filterwarnings("ignore:Scores of . fill")


def test_slots(scored):
    for name in ("a", "b"):
        scores = scored[name].obsm["propensity"]
        assert scores.dtype == np.float32
        assert scores.shape == (240, 4)
        np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-5)
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        codes = scored[name].obs["treatment"].cat.codes
        np.testing.assert_allclose(scored[name].obs["propensity_own"], p[np.arange(240), codes], rtol=1e-4)
    stored = scored.uns["propensity"]
    assert list(stored["treatments"]) == ["control", "t1", "t2", "t3"]
    assert stored["params"]["use_rep"] == ["a: X", "b: X"]
    assert stored["table"].groupby("modality")["n_cells"].sum().to_dict() == {"a": 240, "b": 240}
    assert stored["table"]["auc"].between(0.6, 1).all()
    assert set(stored["reliability"]["when"]) == {"before", "after"}


def test_the_representation_is_used_where_it_exists(raw):
    psalm.pp.treatment(raw, "perturbation")
    psalm.pp.represent(raw, "a", kind="features", n_comps=5)
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    assert raw.uns["propensity"]["params"]["use_rep"] == ["a: obsm['X_psalm']", "b: X"]
    first = raw["a"].obsm["propensity"].copy()
    psalm.tl.propensity(raw, n_repeats=1, progress=False, use_rep={"a": "X"})
    assert raw.uns["propensity"]["params"]["use_rep"] == ["a: X", "b: X"]
    assert not np.allclose(first, raw["a"].obsm["propensity"])


def test_unlabelled_cells_are_scored_and_own_nothing(raw):
    raw["a"].obs["perturbation"] = raw["a"].obs["perturbation"].astype(object)
    raw["a"].obs.iloc[:30, 0] = None
    with pytest.warns(UserWarning, match="30 in a"):
        psalm.pp.treatment(raw, "perturbation")
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    assert np.isfinite(raw["a"].obsm["propensity"]).all()
    assert raw["a"].obs["propensity_own"].isna().sum() == 30


def test_folds_of_the_modalities_are_independent_even_for_the_same_cells():
    """Partners in the same fold would leak the pairing: the same features in both modalities get different scores."""
    paired = psalm.datasets.simulated(n_cells=200, n_treatments=3, n_features=(10, 10), paired=True)
    paired["b"].X = paired["a"].X.copy()
    psalm.pp.treatment(paired, "perturbation")
    psalm.tl.propensity(paired, n_repeats=1, progress=False)
    assert not np.allclose(paired["a"].obsm["propensity"], paired["b"].obsm["propensity"], atol=1e-3)


def test_same_seed_same_scores_whatever_the_jobs(scored):
    before = scored["b"].obsm["propensity"].copy()
    psalm.tl.propensity(scored, n_repeats=1, progress=False, n_jobs=2)
    np.testing.assert_array_equal(scored["b"].obsm["propensity"], before)
    psalm.tl.propensity(scored, n_repeats=1, progress=False, rng=1)
    assert (scored["b"].obsm["propensity"] != before).any()


def test_any_classifier_with_probabilities(scored):
    psalm.tl.propensity(
        scored, classifier=RandomForestClassifier(20, random_state=0), n_repeats=1, progress=False, key_added="forest"
    )
    assert np.isfinite(scored["a"].obsm["forest"]).all()
    assert (scored.uns["forest"]["table"]["auc"] > 0.6).all()
    assert "propensity" in scored.uns


def test_sparse_features_score_like_dense_ones(scored):
    """The logistic pipeline does not centre sparse input; log-odds stay close."""
    dense = scored["a"].obsm["propensity"].copy()
    scored["a"].X = sparse.csr_matrix(scored["a"].X)
    psalm.tl.propensity(scored, n_repeats=1, progress=False)
    assert np.corrcoef(dense.ravel(), scored["a"].obsm["propensity"].ravel())[0, 1] > 0.98


def test_treatments_with_fewer_cells_than_folds_are_named(raw):
    for name in ("a", "b"):
        raw[name].obs["perturbation"] = ["lonely", *raw[name].obs["perturbation"].astype(str)[1:]]
    psalm.pp.treatment(raw, "perturbation", min_cells=1)
    with (
        pytest.warns(UserWarning, match="a does not tell 'lonely' from the others"),
        pytest.warns(UserWarning, match=r"1 treatments have fewer cells than folds \(5\): 'lonely'"),
    ):
        psalm.tl.propensity(raw, n_repeats=1, progress=False)
    assert np.isfinite(raw["a"].obsm["propensity"]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"treatment": "drug"}, KeyError, r"`treatment='drug'` is not in `mdata\['a'\].obs`", id="column"),
        pytest.param({"use_rep": "X_pca"}, KeyError, "`use_rep='X_pca'` is neither in .* Run|run `pp.repr", id="rep"),
        pytest.param({"classifier": "svm"}, ValueError, "`classifier='svm'` is not known", id="unknown classifier"),
        pytest.param({"classifier": RidgeClassifier()}, TypeError, "RidgeClassifier, which has no", id="no proba"),
        pytest.param({"n_folds": 1}, ValueError, "`n_folds=1` must be a whole number, 2 or more", id="one fold"),
        pytest.param({"n_repeats": 0}, ValueError, "`n_repeats=0`", id="no repeat"),
    ],
)
def test_bad_input(scored, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.propensity(scored, progress=False, **options)


def test_features_that_are_not_finite(scored):
    before = scored["a"].obsm["propensity"].copy()
    scored["b"].X[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"`mdata\['b'\].X` has 1 values that are NaN or infinite"):
        psalm.tl.propensity(scored, progress=False)
    np.testing.assert_array_equal(scored["a"].obsm["propensity"], before)


def test_forests_without_a_seed_follow_rng(scored):
    for key in ("first", "second"):
        psalm.tl.propensity(
            scored, classifier=RandomForestClassifier(5), n_repeats=1, progress=False, rng=4, key_added=key
        )
    np.testing.assert_array_equal(scored["a"].obsm["first"], scored["a"].obsm["second"])


def test_two_treatments_of_which_one_has_a_single_cell(raw):
    for name in ("a", "b"):
        raw[name].obs["perturbation"] = ["lonely" if name == "a" and i == 0 else "t" for i in range(240)]
    raw["b"].obs["perturbation"] = ["lonely"] * 20 + ["t"] * 220
    psalm.pp.treatment(raw, "perturbation", min_cells=1)
    with pytest.warns(UserWarning, match="'lonely'"):
        psalm.tl.propensity(raw, n_repeats=1, progress=False)
    with pytest.warns(UserWarning, match="In 1 treatments scores decide almost nothing.*: 't'"):
        psalm.tl.match(raw, source="a", target="b", progress=False)
    assert psalm.get.report(raw).loc["lonely", ["n_source", "n_target"]].tolist() == [1, 20]


def test_modalities_that_lost_a_treatment(scored):
    part = scored[~((scored.obs["treatment"] == "t1") & scored.obs_names.isin(scored["a"].obs_names))].copy()
    with pytest.raises(ValueError, match=r"do not have the same treatments .*: 't1' are in .* Run `pp.treatment`"):
        psalm.tl.propensity(part, progress=False)


def test_numeric_labels_are_read_as_text(scored):
    for name in ("a", "b"):
        scored[name].obs["dose"] = scored[name].obs["treatment"].cat.codes.astype(int)
    psalm.tl.propensity(scored, treatment="dose", n_repeats=1, progress=False)
    psalm.tl.match(scored, source="a", target="b", progress=False)
    assert list(psalm.get.report(scored).index) == ["0", "1", "2", "3"]
    assert psalm.get.coupling(scored, exact=True).nnz > 0


def test_mapping_with_an_unknown_modality(scored):
    with pytest.raises(KeyError, match=r"`use_rep` names 'aa', which are not modalities. Found: 'a', 'b'"):
        psalm.tl.propensity(scored, use_rep={"aa": "X"}, progress=False)


@pytest.mark.parametrize("calibration", ["temperature", "vector", "isotonic", "none"])
def test_calibrations(scored, calibration):
    psalm.tl.propensity(scored, calibration=calibration, n_repeats=2, progress=False)
    stored = scored.uns["propensity"]
    assert np.isfinite(scored["a"].obsm["propensity"]).all()
    assert stored["params"]["calibration"] == calibration
    assert stored["calibration"]["temperature"].notna().all() == (calibration in ("temperature", "none"))
    if calibration in ("temperature", "vector"):  # isotonic curves of 60 cells a treatment are rough
        assert (stored["calibration"]["log_loss_after"] < stored["calibration"]["log_loss_before"]).all()


def test_different_frequencies_do_not_push_the_modalities_apart():
    """Independent: control cells have one distribution in both, whatever was left out of another treatment."""
    mdata = psalm.datasets.simulated(n_cells=4000, n_treatments=3, n_private=0, n_features=(12, 12))
    rare = mdata["b"].obs_names[mdata["b"].obs["perturbation"] == "t1"][250:]
    mdata = mdata[~mdata.obs_names.isin(rare)].copy()
    psalm.pp.treatment(mdata, "perturbation")
    gaps = {}
    for prior in ("shared", "own"):
        psalm.tl.propensity(mdata, prior=prior, n_repeats=1, progress=False)
        means = {
            m: mdata[m].obsm["propensity"][mdata[m].obs["perturbation"] == "control"].mean(axis=0) for m in ("a", "b")
        }
        gaps[prior] = means["a"][1] - means["b"][1]
    assert gaps["own"] > 0.7
    assert abs(gaps["shared"]) < gaps["own"] / 4
    table = mdata.uns["propensity"]["table"]
    assert table.groupby("modality")["frequency"].sum().to_numpy() == pytest.approx(1)


def test_classifier_by_modality(scored):
    psalm.tl.propensity(scored, classifier={"b": "mlp"}, n_repeats=1, n_folds=2, progress=False)
    assert scored.uns["propensity"]["params"]["classifier"] == ["a: kernel", "b: mlp"]
    assert (scored.uns["propensity"]["table"]["auc"] > 0.6).all()
    with pytest.raises(KeyError, match="`classifier` names 'c', which are not modalities"):
        psalm.tl.propensity(scored, classifier={"c": "mlp"}, progress=False)


def test_groups(scored, rng):
    for name in ("a", "b"):
        scored[name].obs["donor"] = rng.choice(["d1", "d2", "d3", "d4"], size=240)
    psalm.tl.propensity(scored, groups="donor", n_folds=4, n_repeats=1, progress=False)
    assert scored.uns["propensity"]["params"]["groups"] == "donor"


@pytest.mark.parametrize(
    ("donors", "options", "error", "message"),
    [
        pytest.param(None, {}, KeyError, "`groups='donor'` is neither in", id="no column"),
        pytest.param(["d1", "d2"], {}, ValueError, "2 groups in 'a' for 5 folds", id="too few groups"),
        pytest.param(
            "treatment", {"n_folds": 2}, ValueError, "4 treatments that occur in one group only", id="confounded"
        ),
        pytest.param(["d1", "d2", None], {"n_folds": 2}, ValueError, "have no value in .*donor", id="missing group"),
    ],
)
def test_groups_that_cannot_work(scored, donors, options, error, message):
    for name in ("a", "b"):
        if donors == "treatment":
            scored[name].obs["donor"] = scored[name].obs["treatment"].astype(str)
        elif donors:
            scored[name].obs["donor"] = [donors[i % len(donors)] for i in range(240)]
    with pytest.raises(error, match=message):
        psalm.tl.propensity(scored, groups="donor", progress=False, **options)
