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
    error = ((model.predict().to_numpy()[:, :2] - latent) ** 2).sum()
    means = np.array([latent[labels == label].mean(axis=0) for label in labels])
    assert error < 0.6 * ((means - latent) ** 2).sum()
    assert model.history["train_loss"][-1] < model.history["train_loss"][0]


def trained(matched, **options):
    model = CrossModal(matched, source="a", target="b", n_hidden=16)
    model.train(max_epochs=3, progress=False, **options)
    return model


def test_same_seed_same_model_and_the_global_stream_is_left_alone(matched):
    state = torch.random.get_rng_state()
    first, second = (trained(matched, rng=5).predict() for _ in range(2))
    assert first.equals(second)
    assert not first.equals(trained(matched, rng=6).predict())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loaded_model_predicts_bit_equal(matched, tmp_path):
    model = trained(matched)
    model.save(tmp_path / "model")
    loaded = CrossModal.load(tmp_path / "model")
    assert loaded.predict(matched).equals(model.predict())
    assert loaded.predict(matched["a"][:7]).equals(model.predict().iloc[:7])
    assert loaded.history == model.history
    with pytest.raises(RuntimeError, match="holds no cells"):
        loaded.predict()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)


def test_early_stopping_keeps_the_best_epoch(matched):
    model = CrossModal(matched, source="a", target="b", n_hidden=64)
    model.train(max_epochs=400, patience=3, learning_rate=0.05, progress=False)
    losses = model.history["validation_loss"]
    assert len(losses) < 400
    assert len(losses) - 1 - int(np.argmin(losses)) == 3


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
