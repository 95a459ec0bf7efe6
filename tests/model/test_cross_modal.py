import warnings

import numpy as np
import pytest
import torch

import psalm
from psalm._containers import stack
from psalm.model import CrossModal


@pytest.fixture(scope="module")
def linear():
    """Cells whose features are invertible linear maps of a latent that scores can locate: a clear answer exists."""
    mdata = psalm.datasets.simulated(n_cells=600, n_treatments=6, n_latent=2, n_private=0, n_features=(8, 6))
    for name in ("a", "b"):
        latent = mdata[name].obsm["latent"]
        mdata[name].X = np.column_stack([latent, latent @ [[1.0], [-1.0]], np.tile(latent, 3)])[:, : mdata[name].n_vars]
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", epsilon=0.05, progress=False)
    return mdata


@pytest.mark.parametrize("loss", ["barycentric", "mse", "unbiased"])
def test_every_loss_learns_the_map_better_than_treatment_means(linear, loss):
    """Independent: the target's features are a known function of the source cell's latent."""
    model = CrossModal(linear, source="a", target="b", n_hidden=32, dropout=0.0)
    model.train(loss=loss, max_epochs=40, progress=False)
    latent, labels = linear["a"].obsm["latent"], linear["a"].obs["treatment"]
    means = np.array([latent[labels == label].mean(axis=0) for label in labels])
    for told in (False, True):
        error = ((model.predict(use_treatment=told).to_numpy()[:, :2] - latent) ** 2).sum()
        assert error < 0.6 * ((means - latent) ** 2).sum()
    assert model.history["train_loss_epoch"].iloc[-1, 0] < model.history["train_loss_epoch"].iloc[0, 0]


def trained(matched, **options):
    model = CrossModal(matched, source="a", target="b", n_hidden=16)
    with warnings.catch_warnings():  # three epochs may be too few to beat the mean
        warnings.filterwarnings("ignore", message="Held-out cells are predicted no better")
        model.train(max_epochs=3, progress=False, **options)
    return model


def test_same_seed_same_model_and_the_global_stream_is_left_alone(matched):
    state = torch.random.get_rng_state()
    first, second = (trained(matched, rng=5).predict(use_treatment=False) for _ in range(2))
    assert first.equals(second)
    assert not first.equals(trained(matched, rng=6).predict(use_treatment=False))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loaded_model_predicts_bit_equal(matched, tmp_path):
    model = trained(matched)
    model.save(tmp_path / "model")
    loaded = CrossModal.load(tmp_path / "model")
    assert loaded.predict(matched).equals(model.predict())
    assert loaded.predict(matched["a"][:7]).equals(model.predict().iloc[:7])
    for name, table in model.history.items():
        np.testing.assert_array_equal(loaded.history[name], table)
    assert loaded.get_held_out().equals(model.get_held_out())
    assert loaded.get_coverage(0.5).equals(model.get_coverage(0.5))
    with pytest.raises(RuntimeError, match="holds no cells"):
        loaded.predict()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)


def test_early_stopping_keeps_the_best_epoch(matched):
    model = CrossModal(matched, source="a", target="b", n_hidden=64)
    model.train(max_epochs=400, early_stopping_patience=3, learning_rate=0.05, progress=False)
    losses = model.history["validation_loss"].to_numpy()
    assert len(losses) < 400
    assert model.best_epoch == int(np.argmin(losses)) == len(losses) - 1 - 3
    assert model.get_held_out().loc["all", "loss"] == pytest.approx(losses.min(), rel=1e-5)


def test_unmatched_cells_are_predicted_too(matched):
    cells = matched["a"].obs_names[:5]
    labels = matched["a"].obs["perturbation"].astype(object)
    labels[cells] = None
    matched["a"].obs["perturbation"] = labels
    with pytest.warns(UserWarning, match="5 in a"):
        psalm.pp.treatment(matched, "perturbation")
    psalm.tl.propensity(matched, n_repeats=1, progress=False)
    psalm.tl.match(matched, source="a", target="b", progress=False)
    assert trained(matched).predict().loc[cells].notna().all(axis=None)


def test_constant_and_sparse_features_are_fine(matched):
    from scipy import sparse

    values = matched["a"].X.copy()
    values[:, 0] = 3.0
    matched["a"].X = sparse.csr_matrix(values)
    assert np.isfinite(trained(matched).predict().to_numpy()).all()


def test_errors_say_what_to_do(matched, tmp_path):
    model = CrossModal(matched, source="a", target="b")
    with pytest.raises(RuntimeError, match=r"not trained. Call `.train\(\)` first"):
        model.predict()
    with pytest.raises(RuntimeError, match="nothing to save"):
        model.save(tmp_path)
    with pytest.raises(ValueError, match="leaves none to train on"):
        model.train(validation_size=1.0, progress=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        CrossModal.load(tmp_path / "nowhere")
    wrong = matched["a"][:, ::-1].copy()
    with pytest.raises(ValueError, match=r"The model takes 12 features of .* Pass the same features"):
        trained(matched).predict(wrong)


def test_the_match_must_join_the_modalities(matched):
    other = matched["b"].copy()
    other.obs_names = [f"c{i}" for i in range(240)]
    other.var_names = [f"c_{i}" for i in range(10)]
    three = stack({"a": matched["a"], "b": matched["b"], "c": other})
    three.uns["match"] = matched.uns["match"]
    with pytest.raises(ValueError, match="joins 'a' and 'b', not 'a' and 'c'"):
        CrossModal(three, source="a", target="c")


def test_training_that_diverges_is_an_error_and_leaves_the_model_as_it_was(matched):
    model = CrossModal(matched, source="a", target="b")
    with pytest.raises(ArithmeticError, match=r"Training diverged in epoch .* Lower `learning_rate`"):
        model.train(max_epochs=5, learning_rate=1e30, progress=False)
    assert not model.is_trained


def test_cells_represented_in_another_space_are_refused(matched):
    psalm.pp.represent(matched, "a", kind="features")
    model = trained(matched)
    alone = stack({"a": matched["a"][:50].copy(), "b": matched["b"].copy()})
    psalm.pp.represent(alone, "a", kind="features")
    with pytest.raises(ValueError, match="coordinates in another space than those of training"):
        model.predict(alone)
    psalm.pp.represent(alone, "a", kind="features", reference=matched)
    np.testing.assert_allclose(model.predict(alone), model.predict().iloc[:50], rtol=1e-3, atol=1e-4)


def counted(kind, matched):
    """The target's features as counts, or as on and off, of a rate that depends on the latent."""
    rng, latent = np.random.default_rng(0), matched["b"].obsm["latent"]
    rate = np.exp(1 + 0.7 * latent @ rng.normal(size=(latent.shape[1], 10)) / 2)
    values = {
        "poisson": lambda: rng.poisson(rate),
        "nb": lambda: rng.poisson(rate * rng.gamma(5.0, 0.2, size=rate.shape)),
        "bernoulli": lambda: rng.random(rate.shape) < rate / (1 + rate),
    }[kind]()
    matched["b"].layers["counts"] = values.astype(np.float32)


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # about as well, on 24 cells
@pytest.mark.parametrize(("kind", "loss"), [("poisson", "barycentric"), ("nb", "mse"), ("bernoulli", "barycentric")])
def test_counts_have_a_likelihood_of_their_own(kind, loss, matched):
    """Independent: the mean share of each feature in the counts of each treatment."""
    counted(kind, matched)
    counts = matched["b"].layers["counts"]
    given = "auto" if kind != "poisson" else kind  # cells vary, so that "auto" sees more than Poisson's variance
    model = CrossModal(matched, source="a", target="b", target_rep="counts", likelihood=given, n_hidden=32)
    assert model.likelihood == kind
    model.train(max_epochs=200, batch_size=64, progress=False)
    assert model.loss == loss
    predicted = model.predict(use_treatment=False)
    assert (predicted >= 0).all(axis=None)
    assert kind != "bernoulli" or (predicted <= 1).all(axis=None)
    truth = counts if kind == "bernoulli" else counts / counts.sum(axis=1, keepdims=True)
    found = predicted.to_numpy() if kind == "bernoulli" else predicted.div(predicted.sum(axis=1), axis=0).to_numpy()
    labels = [matched[name].obs["treatment"].to_numpy() for name in ("a", "b")]
    guess, mean = (
        np.array([values[of == treatment].mean(axis=0) for treatment in np.unique(labels[0])])
        for values, of in zip((found, truth), labels, strict=True)
    )
    off = np.stack([guess - guess.mean(axis=0), mean - mean.mean(axis=0)]).reshape(2, -1)
    assert np.corrcoef(off)[0, 1] > 0.8  # 40 values: a tenth of a millionth by chance


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # about as well, on 24 cells
def test_size_factors_are_taken_from_the_target(matched):
    """Cells with ten times the counts are ten times as large, not different: predictions stay what they were."""
    counted("poisson", matched)
    first = CrossModal(matched, source="a", target="b", target_rep="counts", likelihood="poisson", n_hidden=16)
    first.train(max_epochs=60, batch_size=64, progress=False)
    grown = np.random.default_rng(1).random(matched["b"].n_obs) < 0.3
    matched["b"].layers["counts"][grown] *= 10
    second = CrossModal(matched, source="a", target="b", target_rep="counts", likelihood="poisson", n_hidden=16)
    second.train(max_epochs=60, batch_size=64, progress=False)
    shares = [
        p.div(p.sum(axis=1), axis=0).to_numpy() for p in (m.predict(use_treatment=False) for m in (first, second))
    ]
    off = np.stack([values - values.mean(axis=0) for values in shares]).reshape(2, -1)
    assert np.corrcoef(off)[0, 1] > 0.9


def test_setup_mudata_says_it_once(matched):
    with pytest.raises(ValueError, match=r"Pass them, or call `CrossModal.setup_mudata`"):
        CrossModal(matched)
    CrossModal.setup_mudata(matched, source="b", target="a")
    model = CrossModal(matched)
    assert (model.setup.source, model.setup.target) == ("b", "a")
    assert model.get_var_names() == {"b": list(matched["b"].var_names), "a": list(matched["a"].var_names)}
    assert "b (10 features of X) to a (12 features of X, likelihood gaussian)" in str(model._model_summary_string)
    with pytest.raises(TypeError, match="setup_mudata"):
        CrossModal.setup_anndata(matched["a"])


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # the spot says the treatment, no more
def test_images_are_read_by_convolutions(matched):
    """A bright spot moves with the treatment; a network that sees pixels without places could not tell where."""
    codes = matched["a"].obs["treatment"].cat.codes.to_numpy()
    images = np.random.default_rng(0).normal(0, 0.1, size=(matched["a"].n_obs, 1, 12, 12)).astype(np.float32)
    images[np.arange(len(images)), 0, 2 + 2 * codes, 3] += 3
    matched["a"].obsm["image"] = images
    values = np.random.default_rng(1).normal(0, 0.3, size=(matched["b"].n_obs, 2))
    values[:, 0] += matched["b"].obs["treatment"].cat.codes
    matched["b"].obsm["tone"] = values
    model = CrossModal(matched, source="a", target="b", use_rep="image", target_rep="tone", n_hidden=32)
    model.train(max_epochs=60, progress=False)
    predicted = model.predict(use_treatment=False).to_numpy()[:, 0]
    assert np.corrcoef(predicted, codes)[0, 1] > 0.9
    assert model.get_latent_representation().shape == (240, 32)


@pytest.mark.parametrize("loss", ["barycentric", "mse", "unbiased"])
def test_features_left_in_a_file_give_the_model_of_features_in_memory(matched, tmp_path, loss, monkeypatch):
    """Sparse, on disk and never whole, in the same order of cells."""
    from anndata import read_h5ad
    from scipy import sparse

    from psalm.model import _batches

    monkeypatch.setattr(_batches, "RUN", 1)  # the order of cells in memory
    in_memory = trained(matched, loss=loss).predict()
    matched["a"].X = sparse.csr_matrix(matched["a"].X)
    matched["a"].write_h5ad(tmp_path / "a.h5ad")
    on_disk = stack({"a": read_h5ad(tmp_path / "a.h5ad", backed="r"), "b": matched["b"]})
    for slot in ("uns", "obsp"):
        for name, value in getattr(matched, slot).items():
            getattr(on_disk, slot)[name] = value
    np.testing.assert_allclose(trained(on_disk, loss=loss).predict(), in_memory, rtol=1e-4, atol=1e-5)


class StopAt:
    """What Ctrl-C in an epoch does, as a Lightning callback."""

    def __new__(cls, epoch):
        from lightning.pytorch import Callback

        class Stop(Callback):
            def on_train_epoch_start(self, trainer, pl_module):
                if trainer.current_epoch == epoch:
                    raise KeyboardInterrupt

        return Stop()


@pytest.mark.parametrize("loss", ["barycentric", "mse"])
def test_interrupted_training_goes_on_from_its_checkpoint_as_if_nothing_had_been(matched, tmp_path, loss):
    options = {"max_epochs": 6, "loss": loss, "progress": False, "rng": 3}
    whole = CrossModal(matched, source="a", target="b", n_hidden=16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Held-out cells are predicted no better")
        whole.train(**options)
        model = CrossModal(matched, source="a", target="b", n_hidden=16)
        with pytest.raises(KeyboardInterrupt, match=r"Go on with .*ckpt_path="):
            model.train(**options, checkpoint_dir=tmp_path, callbacks=[StopAt(4)])
        assert not model.is_trained
        (checkpoint,) = tmp_path.glob("*.ckpt")
        with pytest.raises(ValueError, match=r"The checkpoint was made with .* Go on with the same"):
            model.train(**options | {"batch_size": 99}, ckpt_path=checkpoint)
        model.train(**options, ckpt_path=checkpoint, checkpoint_dir=tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))  # taken away once training has ended well
    assert model.predict().equals(whole.predict())
    assert model.best_epoch == whole.best_epoch


def test_intervals_hold_the_share_of_true_values_that_they_say():
    """Independent: the true partner's features. Where the match is right, so are intervals around its predictions."""
    mdata = psalm.datasets.simulated(n_cells=1500, n_treatments=6, n_latent=2, n_features=(8, 6), paired=True)
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=60, coverage=0.8, progress=False)
    lower, upper = (mdata["a"].obsm[f"b_predicted_{side}"].to_numpy() for side in ("lower", "upper"))
    truth = mdata["b"].X
    assert 0.72 < ((lower <= truth) & (truth <= upper)).mean() < 0.88
    report = model.get_coverage(0.8)
    assert mdata.uns["b_predicted"]["coverage"]["coverage"].tolist() == report["coverage"].tolist()
    assert abs(report["coverage"].mean() - 0.8) < 0.1
    wider = model.get_intervals(coverage=0.95)
    assert (wider[1] - wider[0]).to_numpy().mean() > (upper - lower).mean()
    with pytest.raises(ValueError, match=r"need 9999 held-out cells to be calibrated on, and there are"):
        model.get_intervals(coverage=0.9999)


def test_a_model_that_says_no_more_than_treatment_means_warns(matched):
    matched["b"].obsm["noise"] = np.random.default_rng(0).normal(size=(240, 4))
    model = CrossModal(matched, source="a", target="b", target_rep="noise", n_hidden=64)
    with pytest.warns(UserWarning, match="no better than by the mean of their treatment"):
        model.train(max_epochs=30, early_stopping=False, loss="mse", progress=False)


def test_nothing_in_a_file_is_executed(matched, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("executed",))

    trained(matched).save(tmp_path)
    torch.save({"format": 2, "version": "0.1.0", "setup": Hostile()}, tmp_path / "model.pt")
    with pytest.raises(Exception, match=r"(?i)weights"):
        CrossModal.load(tmp_path)


def test_another_version_is_told(matched, tmp_path):
    trained(matched).save(tmp_path)
    stored = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save(stored | {"version": "9.9.0"}, tmp_path / "model.pt")
    with pytest.warns(UserWarning, match=r"written by psalm 9.9.0 and is read by"):
        CrossModal.load(tmp_path)
    torch.save(stored | {"format": 1}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="has format 1"):
        CrossModal.load(tmp_path)


def test_excluded_treatments_take_no_part(matched):
    model = trained(matched, exclude=["t1"])
    assert set(model.get_held_out().index) == {"control", "t2", "t3", "all"}
    with pytest.raises(ValueError, match="`exclude` names 't9', which are not matched"):
        trained(matched, exclude=["t9"])
