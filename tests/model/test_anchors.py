"""Predictions of cells whose treatment is known."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from psalm.model import CrossModal
from psalm.model._anchors import SLOPES, Anchors, chosen
from psalm.model._fit import _settled


def test_outputs_are_moved_to_the_measured_mean_and_shrunk_towards_it():
    """By hand: 10 + .5 · (3 − 1) = 11 for treatment 0, 20 + .5 · (7 − 5) = 21 for treatment 1, code −1 stays."""
    anchors = Anchors(("a", "b"), torch.tensor([[1.0], [5.0]]), torch.tensor([[10.0], [20.0]]), slope=0.5)
    moved = anchors(torch.tensor([[3.0], [7.0], [7.0]]), torch.tensor([0, 1, -1]))
    assert moved[:, 0].tolist() == [11.0, 21.0, 7.0]


def test_the_smallest_slope_within_one_standard_error_is_chosen():
    """Second column is better by 1 ± 0: it is chosen. Third is better still by .1 with standard error .5: it is not."""
    losses = np.array([[2.0, 1.0, 1.9], [2.0, 1.0, -0.1], [2.0, 1.0, 0.9]])
    assert chosen(losses) == 1
    assert chosen(losses[:1]) == 0  # one cell says nothing
    assert SLOPES[0] == 0
    assert SLOPES[-1] == 1


@pytest.mark.parametrize(
    ("losses", "slope", "known"),
    [
        pytest.param((0.5, 0.3, 0.4), 0.7, None, id="the treatment helps"),
        pytest.param((0.2, 0.3, 0.4), 0.7, (False, False), id="features alone do best"),
        pytest.param((0.5, 0.4, 0.4), 0.0, None, id="means do as well"),
        pytest.param((0.41, 0.42, 0.4), 0.0, None, id="means do best, features alone second"),
    ],
)
def test_what_held_out_losses_decide(losses, slope, known):
    """Losses of features alone, with the treatment, and of its mean."""
    table = pd.DataFrame([losses], index=["all"], columns=["loss", "loss_with_treatment", "treatment_mean_loss"])
    found = _settled(Anchors(("a", "b"), torch.zeros(2, 1), torch.ones(2, 1)), table, 0.7)
    assert (found.slope, found.known) == (slope, known)


def test_where_features_say_nothing_predictions_are_the_treatments_means(matched):
    """The source's features are noise: told the treatment, the model is the mean; not told, it is worse."""
    mdata = matched.copy()
    rng = np.random.default_rng(0)
    mdata["a"].obsm["noise"] = rng.normal(size=(mdata["a"].n_obs, 8))
    model = CrossModal(mdata, source="a", target="b", use_rep="noise", n_hidden=16)
    with pytest.warns(UserWarning, match="predicted by its mean"):
        model.train(max_epochs=30, progress=False)
    assert model.slope == 0
    labels = mdata["b"].obs["treatment"].astype(str).to_numpy()
    means = {name: mdata["b"].X[labels == name].mean(axis=0) for name in np.unique(labels)}
    wanted = np.array([means[name] for name in mdata["a"].obs["treatment"].astype(str)])
    np.testing.assert_allclose(model.predict(), wanted, atol=1e-4)
    table = model.get_held_out().loc["all"]
    assert table["loss"] > table["loss_with_treatment"] == table["treatment_mean_loss"]


def test_cells_of_unknown_treatment_are_predicted_by_their_features_alone(matched):
    model = CrossModal(matched, source="a", target="b", n_hidden=16)
    model.train(max_epochs=60, exclude=["t1"], progress=False)
    cells = matched["a"].copy()
    alone, told = model.predict(cells, use_treatment=False), model.predict(cells)
    left_out = (cells.obs["treatment"] == "t1").to_numpy()
    np.testing.assert_array_equal(alone[left_out], told[left_out])
    assert (alone[~left_out] != told[~left_out]).any(axis=1).all()
    del cells.obs["treatment"]
    np.testing.assert_array_equal(model.predict(cells), alone)
    # told the treatment, each treatment's mean prediction is close to the measured mean; alone it need not be
    labels = matched["b"].obs["treatment"]
    for name in ("control", "t2"):
        measured = matched["b"].X[(labels == name).to_numpy()].mean(axis=0)
        own = (matched["a"].obs["treatment"] == name).to_numpy()
        np.testing.assert_allclose(told[own].mean(axis=0), measured, atol=1e-4)


def test_a_treatment_of_few_target_cells_is_predicted_by_features_alone(matched):
    """Three target cells are no mean to go by; nor is the match's choice of cells that did not respond."""
    labels = matched["b"].obs["treatment"].astype(object)
    few = np.flatnonzero(labels == "t1")[3:]
    matched["b"].obs["treatment"] = labels.where(~np.isin(np.arange(len(labels)), few))
    block = matched["b"].obs["match_block"].to_numpy(copy=True)
    block[few] = np.nan
    matched["b"].obs["match_block"] = block
    kept = matched[~np.isin(matched.obs_names, matched["b"].obs_names[few])].copy()
    model = CrossModal(kept, source="a", target="b", n_hidden=16)
    model.train(max_epochs=60, progress=False)
    alone, told = model.predict(use_treatment=False), model.predict()
    own = (kept["a"].obs["treatment"] == "t1").to_numpy()
    np.testing.assert_array_equal(alone[own], told[own])
    assert (alone[~own] != told[~own]).any(axis=None)
    left_out = kept["a"].copy()
    left_out.obs["match_block"] = -1.0
    np.testing.assert_array_equal(model.predict(left_out), alone)


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # three epochs
def test_masses_weigh_in_the_means(matched):
    """Independent: weighted means of the target's features."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        matched[name].obs["weight"] = rng.uniform(0.1, 5, size=matched[name].n_obs)
    from psalm import tl

    tl.match(matched, source="a", target="b", mass="weight", progress=False)
    model = CrossModal(matched, source="a", target="b", n_hidden=16)
    model.train(max_epochs=3, progress=False)
    labels, weight = matched["b"].obs["treatment"].astype(str), matched["b"].obs["weight"].to_numpy()
    anchors = model._fitted.anchors
    for code, name in enumerate(anchors.treatments):
        own = (labels == name).to_numpy()
        wanted = np.average(matched["b"].X[own], axis=0, weights=weight[own])
        found = model.module.expected(anchors.measured[[code]])[0].numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)


SCRIPT = """
import json, os, pathlib, psalm, warnings
warnings.simplefilter("ignore")
mdata = psalm.datasets.simulated(n_cells=300)
psalm.pp.treatment(mdata, "perturbation")
psalm.tl.propensity(mdata, n_repeats=1, progress=False)
psalm.tl.match(mdata, source="a", target="b", progress=False)
model = psalm.model.CrossModal(mdata, source="a", target="b", n_hidden=16)
model.train(max_epochs=3, batch_size=32, progress=False, accelerator="cpu", devices=2, strategy="ddp")
losses = model.history["validation_loss"]["validation_loss"].tolist()
found = {"losses": losses, "first": float(model.predict().iloc[0, 0])}
pathlib.Path(f"found_{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(found))
"""


def test_two_processes_train_one_model(tmp_path):
    """Each takes half of the batches; both end with the same history and the same weights."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    here = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env=os.environ | here,
        check=False,
    )
    found = [json.loads(file.read_text()) for file in tmp_path.glob("found_*.json")]
    assert len(found) == 2, run.stderr[-2000:]
    assert found[0] == found[1]
    losses = found[0]["losses"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
