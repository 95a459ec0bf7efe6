import numpy as np
import pytest

import psalm

ENDS = {"source": "a", "target": "b"}


def aligned(**options):
    """Features are invertible linear maps of a latent that scores can locate."""
    mdata = psalm.datasets.simulated(
        n_cells=400, n_treatments=6, n_latent=2, n_private=0, n_features=(8, 6), strength=3.0, **options
    )
    for name in ("a", "b"):
        latent = mdata[name].obsm["latent"]
        mdata[name].X = np.column_stack([latent, latent @ [[1.0], [-1.0]], np.tile(latent, 3)])[:, : mdata[name].n_vars]
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, **ENDS, epsilon=0.05, progress=False)
    return mdata


@pytest.fixture(scope="module")
def linear():
    return aligned()


@pytest.fixture(scope="module")
def table(linear):
    return psalm.tl.holdout(linear, **ENDS, n_groups=2, max_epochs=60, progress=False)


def test_every_treatment_is_left_out_once_beside_every_baseline(linear, table):
    treatments = set(linear["a"].obs["treatment"].cat.categories)
    predictors = {"model", "treatment mean", "random match", "matched average"}
    rows = table[table["treatment"] != "all"]
    assert set(zip(rows["treatment"], rows["predictor"], strict=True)) >= {
        (t, p) for t in treatments for p in predictors
    }
    assert not rows.duplicated(["treatment", "predictor"]).any()
    alone = rows[rows["predictor"] == "model"]
    assert alone["n_source"].sum() == linear["a"].obs["treatment"].notna().sum()
    stored = linear.uns["holdout"]
    assert stored["table"].equals(table)
    assert set(stored["features"]["feature"]) == set(linear["b"].var_names)


def scores(table, predictor, treatment="all"):
    return table[(table["treatment"] == treatment) & (table["predictor"] == predictor)].iloc[0]


def test_an_unseen_treatment_is_predicted_where_the_map_is_the_same_for_all(table):
    """Truth by construction: the features of both modalities are linear in one latent."""
    model = scores(table, "model")
    assert model["r2_mean"] > 0.5
    assert model["pearson_mean"] > 0.7


def test_baselines_are_what_they_say(table):
    mean, random, average = (scores(table, name) for name in ("treatment mean", "random match", "matched average"))
    assert mean["r2_mean"] == pytest.approx(1)
    assert mean["pearson_mean"] == pytest.approx(1)
    assert abs(random["energy_distance"]) < 0.1 * mean["energy_distance"]  # a sample of the measured cells themselves
    assert random["wasserstein"] < mean["wasserstein"]
    assert average["energy_distance"] < mean["energy_distance"]


def test_with_pairs_there_is_a_model_trained_on_them_and_scores_over_cells():
    mdata = aligned(paired=True)
    table = psalm.tl.holdout(mdata, **ENDS, treatments=["t1", "t2"], max_epochs=60, progress=False, key_added="two")
    assert set(table["treatment"]) == {"t1", "t2", "all"}
    assert scores(table, "treatment mean")["r2_within"] == pytest.approx(0, abs=0.02)
    assert scores(table, "model on true pairs")["r2_within"] > scores(table, "treatment mean")["r2_within"]
    features = mdata.uns["two"]["features"]
    by_pairs = features[features["predictor"] == "model on true pairs"]
    assert by_pairs["pearson"].mean() > 0.8
    assert by_pairs["pearson_means"].isna().all()  # two treatments make no correlation


def test_same_seed_same_table_and_the_training_never_sees_the_treatment(linear):
    """Cells of a left-out treatment may be anything: predictions of its source cells stay the same."""
    one = psalm.tl.holdout(linear, **ENDS, treatments=["t1"], max_epochs=3, progress=False, key_added="one")
    again = psalm.tl.holdout(linear, **ENDS, treatments=["t1"], max_epochs=3, progress=False, key_added="one")
    assert one.equals(again)
    changed = linear.copy()
    values = changed["b"].X.copy()
    cells = (changed["b"].obs["treatment"] == "t1").to_numpy()
    values[cells] += 100.0
    changed["b"].X = values
    other = psalm.tl.holdout(changed, **ENDS, treatments=["t1"], max_epochs=3, progress=False, key_added="one")
    moved = scores(other, "treatment mean", "t1")["wasserstein"]
    assert moved == pytest.approx(scores(one, "treatment mean", "t1")["wasserstein"], rel=1e-3)
    assert scores(other, "model", "t1")["wasserstein"] > 10 * scores(one, "model", "t1")["wasserstein"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"treatments": ["t99"]}, ValueError, r"`treatments=\['t99'\]` must be some", id="unknown"),
        pytest.param({"treatments": []}, ValueError, "must be some of those that are matched", id="none"),
        pytest.param({"n_groups": 1}, ValueError, "`n_groups=1` must be a whole number", id="one group"),
        pytest.param({"truth": "nothing"}, KeyError, r"`truth='nothing'` is neither in", id="truth"),
        pytest.param({"match_key": "m"}, KeyError, "`match_key='m'`", id="match"),
        pytest.param({"key_added": "match"}, ValueError, "was not written by `tl.holdout`", id="taken"),
        pytest.param({"loss": "l1"}, ValueError, "`loss='l1'` is not known", id="loss"),
    ],
)
def test_bad_input(linear, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.holdout(linear, **ENDS, progress=False, max_epochs=1, **options)


def test_all_treatments_cannot_be_left_out(linear):
    every = list(linear["a"].obs["treatment"].cat.categories)
    with pytest.raises(ValueError, match="leave others to learn from"):
        psalm.tl.holdout(linear, **ENDS, treatments=every, progress=False)
