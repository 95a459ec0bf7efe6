import numpy as np
import pytest

import psalm
from psalm._containers import stack
from psalm._progress import bar


@pytest.fixture
def saved(raw, tmp_path):
    """Models trained on the first 200 cells of each modality, and the 40 others of each as new cells."""
    names = [name for m in ("a", "b") for name in raw[m].obs_names[:200]]
    mdata = raw[names].copy()
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=2, progress=False, save=tmp_path / "models.skops")
    new = raw[[name for name in raw.obs_names if name not in set(names)]].copy()
    return mdata, new, tmp_path / "models.skops"


def test_new_cells_are_scored_by_the_ensemble_and_can_be_matched(saved):
    """Independent: unlabelled cells in the training container get the same scores from the same models."""
    _, new, file = saved
    for name in ("a", "b"):
        new[name].obs["treatment"] = new[name].obs["perturbation"].to_numpy()
    psalm.tl.score(new, file)
    truth = new["a"].obsm["propensity_true"]
    assert np.corrcoef(new["a"].obsm["propensity"].ravel(), truth.ravel())[0, 1] > 0.6
    psalm.tl.match(new, source="a", target="b", progress=False)
    assert psalm.get.coupling(new).shape == (40, 40)
    assert not np.isclose(new.uns["match"]["table"]["epsilon_relative"], 0.2).any()  # chosen from the noise
    said = psalm.tl.diagnose(new, progress=False).set_index("check")["value"]
    assert np.isfinite(said[["reliability", "expected R²"]]).all()
    with pytest.raises(ValueError, match=r"come from `tl.score`, which has no report"):
        psalm.pl.propensity(new)


def test_an_anndata_is_scored_like_its_modality(saved):
    _, new, file = saved
    alone = new["b"].copy()
    psalm.tl.score(alone, file, modality="b")
    psalm.tl.score(new, file)
    np.testing.assert_array_equal(alone.obsm["propensity"], new["b"].obsm["propensity"])
    assert alone.obs["propensity_own"].isna().all()


def test_scores_equal_those_of_unlabelled_cells(raw, tmp_path):
    """Independent path: cells without a treatment are scored inside tl.propensity."""
    hidden = raw["a"].obs_names[:30]
    raw["a"].obs["perturbation"] = raw["a"].obs["perturbation"].astype(object)
    raw["a"].obs.loc[hidden, "perturbation"] = None
    with pytest.warns(UserWarning, match="30 in a"):
        psalm.pp.treatment(raw, "perturbation")
    psalm.tl.propensity(raw, n_repeats=1, progress=False, save=tmp_path / "m")
    again = raw["a"][hidden].copy()
    psalm.tl.score(again, tmp_path / "m", modality="a", key_added="again")
    np.testing.assert_allclose(again.obsm["again"], raw["a"][hidden].obsm["propensity"], rtol=1e-5)


def test_cells_of_training_are_refused(saved):
    trained, _, file = saved
    with pytest.raises(ValueError, match="200 cells of 'a' were trained on"):
        psalm.tl.score(trained, file, key_added="again")
    assert "again" not in trained["a"].obsm


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda new, file: psalm.tl.score(new["a"].copy(), file), ValueError, "Pass `modality=`", id="which"
        ),
        pytest.param(
            lambda new, file: psalm.tl.score(new, file, modality="c"), KeyError, "is not a modality", id="name"
        ),
        pytest.param(lambda new, file: psalm.tl.score(new, "nowhere"), FileNotFoundError, "does not exist", id="file"),
        pytest.param(
            lambda new, file: psalm.tl.score(new["a"][:, 1:].copy(), file, modality="a"),
            ValueError,
            "The model takes 12 features of 'a': .* and these cells have 11",
            id="features",
        ),
        pytest.param(
            lambda new, file: psalm.tl.score(stack({"x": new["a"].copy(), "y": new["b"].copy()}), file),
            ValueError,
            "The model knows modalities 'a', 'b'",
            id="no modality",
        ),
    ],
)
def test_bad_input(saved, call, error, message):
    _, new, file = saved
    with pytest.raises(error, match=message):
        call(new, file)


def test_what_does_not_fit_is_refused(saved, monkeypatch):
    """320 numbers of 12 features as float64 and two tables of scores: more than a kilobyte; nothing is written."""
    _, new, file = saved
    monkeypatch.setattr(psalm._estimate, "available_bytes", lambda: 1000.0)
    with pytest.raises(MemoryError, match=r"`tl.score` would need about .* GB are free.*Score some of the cells"):
        psalm.tl.score(new, file)
    assert all("propensity" not in new[name].obsm for name in ("a", "b"))


@pytest.mark.parametrize("show", [True, False])
def test_a_bar_counts_models(saved, monkeypatch, show):
    """Two repeats of five folds for each modality."""
    import psalm.tl._score as module

    _, new, file = saved
    asked, made = [], []

    def noted(*given, **options):
        asked.append((*given, options["show"]))
        made.append(bar(*given, **options))
        return made[-1]

    monkeypatch.setattr(module, "bar", noted)
    psalm.tl.score(new, file, progress=show)
    assert asked == [(10, "scores of a", show), (10, "scores of b", show)]
    assert [one.n for one in made] == [10 * show, 10 * show]
