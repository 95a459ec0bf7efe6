"""Designs as they are: batches, factors, strata, controls and cells that did not respond, from scores to matches."""

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import psalm
from psalm._containers import no_pull, stack

# small designs leave scores few dimensions, which psalm says
pytestmark = pytest.mark.filterwarnings("ignore:Scores of . fill")


def modality(rng, name, n_cells, labels, shift, width=6):
    features = rng.normal(size=(n_cells, width)) + shift
    obs = pd.DataFrame(labels, index=[f"{name}_{i}" for i in range(n_cells)])
    return AnnData(features, obs=obs, var=pd.DataFrame(index=[f"{name}_f{i}" for i in range(width)]))


@pytest.fixture
def plates(rng):
    """Treatments t0 … t3 move one feature each; plates move another, and hold unequal shares of the treatments."""
    modalities = {}
    for name in ("x", "y"):
        plate = rng.integers(3, size=800)
        codes = np.where(rng.random(800) < 0.5, plate, rng.integers(4, size=800))
        shift = 2.0 * np.eye(6)[codes] + 4.0 * np.eye(6)[[5]] * (plate == 1)[:, None]
        labels = {"t": [f"t{code}" for code in codes], "plate": [f"p{number}" for number in plate]}
        modalities[name] = modality(rng, name, 800, labels, shift)
    mdata = stack(modalities)
    psalm.pp.treatment(mdata, "t")
    return mdata


def gap_between_plates(mdata, key):
    """How far scores of a treatment lie apart between plates, over how far cells lie apart within them."""
    cells = mdata["x"]
    frame = pd.DataFrame(cells.obsm[key]).groupby([cells.obs["t"].to_numpy(), cells.obs["plate"].to_numpy()])
    return frame.mean().groupby(level=0).std().mean().mean() / frame.std().mean().mean()


def test_batches_are_taken_out_and_reported(plates):
    psalm.tl.propensity(plates, n_repeats=1, progress=False)
    psalm.tl.propensity(plates, batch_key="plate", n_repeats=1, progress=False, key_added="adjusted")
    assert gap_between_plates(plates, "adjusted") < 0.6 * gap_between_plates(plates, "propensity")
    table = psalm.get.propensity_report(plates, "adjusted")
    assert table["batch_auc"].between(0.5, 0.9).all()
    assert "batch_auc" not in psalm.get.propensity_report(plates)
    assert plates.uns["adjusted"]["params"]["batch_key"] == "plate"


def test_treatments_that_have_plates_of_their_own_are_named(plates):
    for name in ("x", "y"):
        plates[name].obs.loc[plates[name].obs["t"] == "t3", "plate"] = "p9"
    with pytest.warns(UserWarning, match="In x the batch alone tells 't3'"):
        psalm.tl.propensity(plates, batch_key="plate", n_repeats=1, progress=False)


@pytest.mark.parametrize(
    ("prepare", "options", "error", "message"),
    [
        (None, {"batch_key": "lane"}, KeyError, "`batch_key='lane'` is neither in"),
        (None, {"batch_key": "plate", "groups": "plate", "n_folds": 3}, ValueError, "holds out whole batches"),
        ("missing", {"batch_key": "plate"}, ValueError, "1 cells of `mdata\\['x'\\]` have no value"),
        ("unlabelled", {"batch_key": "plate"}, ValueError, "Batches 'p9' of .* have no cell with a treatment"),
        ("images", {"batch_key": "plate", "use_rep": "images", "classifier": "image"}, ValueError, "sparse or images"),
    ],
)
def test_batches_that_cannot_work(plates, prepare, options, error, message):
    obs = plates["x"].obs
    if prepare == "missing":
        obs.iloc[0, obs.columns.get_loc("plate")] = None
    if prepare == "unlabelled":
        obs.iloc[0, obs.columns.get_loc("plate")] = "p9"
        obs.iloc[0, obs.columns.get_loc("treatment")] = np.nan
    if prepare == "images":
        for name in ("x", "y"):
            plates[name].obsm["images"] = np.zeros((800, 1, 8, 8))
    with pytest.raises(error, match=message):
        psalm.tl.propensity(plates, progress=False, **options)


def test_new_cells_are_adjusted_by_the_shift_of_their_batch(plates, tmp_path):
    psalm.tl.propensity(plates, batch_key="plate", n_repeats=1, progress=False, save=tmp_path / "m")
    new = plates["x"][:40].copy()
    new.obs_names = [f"new_{name}" for name in new.obs_names]
    psalm.tl.score(new, tmp_path / "m", modality="x", key_added="again")
    old = plates["x"].obsm["propensity"][:40]
    assert np.corrcoef(new.obsm["again"].ravel(), old.ravel())[0, 1] > 0.95
    new.obs["plate"] = "p7"
    with pytest.raises(ValueError, match="Batches 'p7' of 'x' were not seen in training"):
        psalm.tl.score(new, tmp_path / "m", modality="x")


@pytest.fixture
def factorial(rng):
    """Two drugs at two doses; each factor moves a feature of its own."""
    modalities = {}
    for name in ("x", "y"):
        drug, dose = rng.integers(2, size=(2, 400))
        shift = 1.5 * (np.eye(6)[[0]] * drug[:, None] + np.eye(6)[[1]] * dose[:, None])
        labels = {"drug": np.array(["A", "B"])[drug], "dose": np.array([1, 10])[dose]}
        modalities[name] = modality(rng, name, 400, labels, shift)
    mdata = stack(modalities)
    psalm.pp.treatment(mdata, ["drug", "dose"])
    return mdata


def test_scores_on_factors(factorial, tmp_path):
    psalm.tl.propensity(factorial, score_on="factors", n_repeats=1, progress=False, save=tmp_path / "m")
    scores = psalm.get.propensity(factorial, "x")
    assert list(scores.columns) == ["drug=A", "drug=B", "dose=1", "dose=10"]
    np.testing.assert_allclose(scores.iloc[:, :2].sum(axis=1), 0, atol=1e-5)
    p = np.exp(scores) / (np.exp(scores).T.groupby([0, 0, 1, 1]).transform("sum").T)
    obs = factorial["x"].obs
    expected = [
        p.loc[cell, f"drug={drug}"] * p.loc[cell, f"dose={dose}"]
        for cell, drug, dose in zip(obs.index, obs["drug"], obs["dose"], strict=True)
    ]
    np.testing.assert_allclose(obs["propensity_own"], expected, rtol=1e-4)
    table = psalm.get.propensity_report(factorial)
    assert table.groupby("factor", sort=False)["n_cells"].sum().to_dict() == {"drug": 800, "dose": 800}
    assert psalm.get.propensity(factorial, "x", reference="A : 1")[["drug=A", "dose=1"]].abs().to_numpy().max() == 0


def test_factors_are_matched_within_the_combination_and_survive_a_file(factorial, tmp_path):
    psalm.tl.propensity(factorial, score_on="factors", n_repeats=1, progress=False)
    psalm.tl.match(factorial, source="x", target="y", progress=False)
    exact = psalm.get.coupling(factorial, exact=True)
    rows, columns = exact.nonzero()
    assert (
        factorial["x"].obs["treatment"].to_numpy()[rows] == factorial["y"].obs["treatment"].to_numpy()[columns]
    ).all()
    with no_pull():
        factorial.write_h5mu(tmp_path / "f.h5mu")
        again = mudata.read_h5mu(tmp_path / "f.h5mu")
    np.testing.assert_allclose(psalm.get.coupling(again, exact=True).toarray(), exact.toarray(), rtol=1e-9)
    assert psalm.pl.propensity(again, return_fig=True) is not None
    with pytest.raises(ValueError, match="has no mean probabilities"):
        psalm.pl.overlap(again)


def test_new_cells_are_scored_on_factors(factorial, tmp_path):
    """Independent: cells without a treatment are scored inside tl.propensity."""
    hidden = factorial["x"].obs_names[:50]
    factorial["x"].obs.loc[hidden, "treatment"] = np.nan
    psalm.tl.propensity(factorial, score_on="factors", n_repeats=1, progress=False, save=tmp_path / "m")
    new = factorial["x"][hidden].copy()
    psalm.tl.score(new, tmp_path / "m", modality="x", key_added="again")
    np.testing.assert_allclose(new.obsm["again"], factorial["x"][hidden].obsm["propensity"], rtol=1e-5)


def test_factors_that_are_not_there(raw):
    psalm.pp.treatment(raw, "perturbation")
    with pytest.raises(KeyError, match=r"there are no factors in .* Run `pp.treatment` with several columns"):
        psalm.tl.propensity(raw, score_on="factors", progress=False)
    with pytest.raises(ValueError, match="`score_on='dose'` is not known"):
        psalm.tl.propensity(raw, score_on="dose", progress=False)


@pytest.fixture
def screen(rng):
    """Guides of two genes and two negative controls; half of the cells of gene G2 did not respond."""
    modalities, responded = {}, {}
    for name in ("x", "y"):
        guide = np.array(["G1_1", "G1_2", "G2_1", "NT_1", "NT_2"])[rng.integers(5, size=500)]
        responds = rng.random(500) < np.where(np.char.startswith(guide, "G2"), 0.5, 1.0)
        shift = np.zeros((500, 6))
        shift[np.char.startswith(guide, "G1"), 0] = 4
        shift[np.char.startswith(guide, "G2") & responds, 1] = 4
        modalities[name] = modality(rng, name, 500, {"guide": guide}, shift)
        responded[name] = responds
    mdata = stack(modalities)
    psalm.pp.treatment(mdata, "guide", mapping=lambda guide: guide.split("_")[0], control="NT")
    return mdata, responded


def test_cells_that_did_not_respond_look_like_controls(screen):
    """Independent: which cells responded is known."""
    mdata, responded = screen
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    cells = mdata["x"].obs
    found = cells["propensity_response"]
    assert found[cells["treatment"] == "NT"].isna().all()
    perturbed = (cells["treatment"] == "G2").to_numpy()
    did, did_not = (found[perturbed & (responded["x"] == answer)] for answer in (True, False))
    assert did.mean() > 0.9
    assert did_not.mean() < 0.45  # as likely as controls there: half of the gene's cells make it 1/3
    assert mdata.uns["propensity"]["params"]["control"] == "NT"


def test_they_can_be_left_out_of_the_match(screen):
    mdata, _ = screen
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="x", target="y", min_response=0.5, progress=False)
    table = psalm.get.report(mdata)
    low = mdata["x"].obs["propensity_response"] < 0.5
    assert table["left_out_source"].sum() == low.sum() > 20
    assert table.loc["NT", "left_out_source"] == 0
    assert table["n_source"].sum() == 500 - low.sum()
    mass = psalm.get.coupling(mdata, exact=True)
    assert mass[low.to_numpy()].nnz == 0
    assert mass.sum() == pytest.approx(1)
    assert (mdata["x"].obs["match_block"] == -1).sum() == low.sum()


def test_log_odds_against_the_control(screen):
    mdata, _ = screen
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    against = psalm.get.propensity(mdata, "x", reference="NT")
    centred = psalm.get.propensity(mdata, "x")
    np.testing.assert_allclose(against["G1"], centred["G1"] - centred["NT"], rtol=1e-5)
    with pytest.raises(KeyError, match="`reference='G9'` is not a treatment"):
        psalm.get.propensity(mdata, "x", reference="G9")


def test_without_a_control_the_response_is_against_all_other_treatments(scored):
    obs, table = scored["a"].obs, psalm.get.propensity_report(scored)
    frequency = table.groupby("treatment")["frequency"].mean()[obs["treatment"].astype(str)].to_numpy()
    odds = obs["propensity_own"] / (1 - obs["propensity_own"]) / (frequency / (1 - frequency))
    np.testing.assert_allclose(obs["propensity_response"], odds / (1 + odds), rtol=1e-4)


def test_cells_are_matched_within_their_stratum(raw, rng, tmp_path):
    for name in ("a", "b"):
        raw[name].obs["donor"] = rng.choice(["d1", "d2"], size=240)
    psalm.pp.treatment(raw, "perturbation", within="donor")
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    psalm.tl.match(raw, source="a", target="b", progress=False)
    mass = psalm.get.coupling(raw, exact=True)
    rows, columns = mass.nonzero()
    assert (raw["a"].obs["donor"].to_numpy()[rows] == raw["b"].obs["donor"].to_numpy()[columns]).all()
    table = psalm.get.report(raw)
    assert table.index.names == ["treatment", "within"]
    assert len(table) == 8
    assert mass.sum() == pytest.approx(1)
    evaluation = psalm.tl.evaluate(raw, latent="latent")
    assert evaluation["treatment"].tolist() == ["control", "t1", "t2", "t3", ""]
    assert evaluation["n_source"].tolist()[:4] == raw["a"].obs["treatment"].value_counts(sort=False).tolist()
    with no_pull():
        raw.write_zarr(tmp_path / "w.zarr")
        again = mudata.read_zarr(tmp_path / "w.zarr")
    np.testing.assert_allclose(psalm.get.coupling(again, exact=True).toarray(), mass.toarray(), rtol=1e-9)
    labels = psalm.pl.match(raw, show=False)[0].get_yticklabels()
    assert labels[0].get_text() == "control in d1"


def test_a_stratum_without_cells_on_one_side_is_named(raw):
    for name, donors in (("a", ["d1", "d2"]), ("b", ["d1", "d1"])):
        raw[name].obs["donor"] = np.resize(donors, 240)
    with pytest.warns(UserWarning, match="d2"):
        psalm.pp.treatment(raw, "perturbation", within="donor")
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    with pytest.warns(UserWarning, match="4 treatments have no cells on one side: 'control in d2'"):
        psalm.tl.match(raw, source="a", target="b", progress=False)
    assert (raw["a"].obs["match_block"] == -1).sum() == 120


def test_cells_left_out_are_counted_once_where_there_are_strata(raw):
    for name in ("a", "b"):
        raw[name].obs["donor"] = np.resize(["d1", "d2"], 240)
    psalm.pp.treatment(raw, "perturbation", within="donor")
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    psalm.tl.match(raw, source="a", target="b", min_response=0.6, progress=False)
    low = raw["a"].obs["propensity_response"] < 0.6
    assert psalm.get.report(raw)["left_out_source"].sum() == low.sum() > 0
