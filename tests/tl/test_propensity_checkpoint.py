"""Scoring that was interrupted goes on with the models that it has, and ends with the same scores."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import psalm
from psalm.core import cross_fit

FEW = {"n_repeats": 2, "n_folds": 3, "progress": False}
TRAIN_ONE = cross_fit._train_one


class Counted:
    """Trains, counts, and interrupts at a certain model."""

    def __init__(self, last=None):
        self.n, self.last = 0, last

    def __call__(self, *arguments):
        if self.n == self.last:
            raise KeyboardInterrupt
        self.n += 1
        return TRAIN_ONE(*arguments)


def score(mdata, monkeypatch, last=None, **options):
    counted = Counted(last)
    monkeypatch.setattr(cross_fit, "_train_one", counted)
    try:
        psalm.tl.propensity(mdata, **FEW | options)
    except KeyboardInterrupt:
        assert last is not None
    return counted.n


def assert_same(found, expected):
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name].obsm["propensity"], expected[name].obsm["propensity"])
        np.testing.assert_array_equal(found[name].obsm["propensity_error"], expected[name].obsm["propensity_error"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classifier": "logistic", "calibration": "isotonic"},
        {"classifier": "mlp"},
        {"classifier": make_pipeline(StandardScaler(), LogisticRegression())},
        {"batch_key": "batch"},
    ],
    ids=["kernel", "logistic", "mlp", "pipeline", "batches"],
)
def test_an_interrupted_call_goes_on_to_the_same_scores(scored, tmp_path, monkeypatch, options):
    expected, mdata = scored.copy(), scored.copy()
    for one in (expected, mdata):
        for name in ("a", "b"):
            one[name].obs["batch"] = np.where(np.arange(one[name].n_obs) % 2, "x", "y")
    n_all = score(expected, monkeypatch, **options)
    before = mdata["a"].obsm["propensity"].copy()
    n_first = score(mdata, monkeypatch, last=8, checkpoint=tmp_path / "kept", **options)
    assert n_first == 8
    np.testing.assert_array_equal(mdata["a"].obsm["propensity"], before)
    n_second = score(mdata, monkeypatch, checkpoint=str(tmp_path / "kept"), **options)
    n_twins = n_all - 12  # models that tell what the seed does are not kept
    assert n_second == 12 - (8 - (n_twins > 0)) + n_twins
    assert_same(mdata, expected)


def test_a_part_of_a_repeat_is_not_trained_again(scored, tmp_path, monkeypatch):
    assert score(scored, monkeypatch, last=8, checkpoint=tmp_path) == 8
    assert score(scored, monkeypatch, checkpoint=tmp_path) == 4
    assert score(scored, monkeypatch, checkpoint=tmp_path) == 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("change", [{"rng": 1}, {"n_folds": 4}, {"classifier": "logistic"}, {"use_rep": "X"}], ids=str)
def test_models_of_another_call_are_not_taken(scored, tmp_path, monkeypatch, change):
    for name in ("a", "b"):
        scored[name].obsm["moved"] = scored[name].X + np.arange(scored[name].n_vars)
    n_models = score(scored, monkeypatch, checkpoint=tmp_path, use_rep="moved")
    assert score(scored, monkeypatch, checkpoint=tmp_path, **{"use_rep": "moved"} | change) >= n_models


def test_other_cells_are_not_taken(scored, tmp_path, monkeypatch):
    n_models = score(scored, monkeypatch, checkpoint=tmp_path)
    scored["a"].X = scored["a"].X * 1.5
    assert score(scored, monkeypatch, checkpoint=tmp_path) == n_models / 2


def test_another_file_in_the_place_of_a_model_is_refused(scored, tmp_path, monkeypatch):
    from psalm.core import files

    score(scored, monkeypatch, checkpoint=tmp_path)
    for path in tmp_path.glob("*.model"):
        files.write(path, {"no": "model"})
    with pytest.raises(ValueError, match=r"holds a dict and no model. Remove it"):
        psalm.tl.propensity(scored, checkpoint=tmp_path, **FEW)


def test_classifiers_that_cannot_be_kept_are_refused(scored, tmp_path):
    nameless = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression())
    with pytest.raises(
        TypeError, match=r"(?s)`checkpoint` cannot tell the settings of the classifier .*Functions in it must be"
    ):
        psalm.tl.propensity(scored, classifier=nameless, checkpoint=tmp_path, **FEW)
    assert not list(tmp_path.iterdir())
