import random

import numpy as np
import pytest
import torch

import psalm
from psalm._lightning import quiet
from psalm.pp import _scvi


@pytest.fixture
def counts(rng):
    rates = np.exp(rng.normal(size=(200, 1)) * [[1.0] * 15 + [-1.0] * 15] + 1)
    return rng.poisson(rates).astype(np.float32)


@pytest.fixture
def setting():
    """scvi-tools' own seed set by the user."""
    import scvi

    before = scvi.settings.seed
    scvi.settings.seed = 3
    yield scvi.settings
    scvi.settings.seed = before


def test_same_seed_same_weights_and_the_global_streams_are_left_alone(counts, setting):
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    python_before = random.getstate()
    first, second = (_scvi.fit(counts, 3, 1, 7, progress=False) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert setting.seed == 3
    assert random.getstate() == python_before
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_the_split_is_that_of_scvi_tools_and_not_of_its_setting(counts, setting):
    """Independent: scvi-tools, whose setting holds the same seed."""
    found = _scvi.fit(counts, 3, 2, 7, progress=False)
    with quiet():
        setting.seed = 7
        model = _scvi._model(counts, 3)
        model.train(2, accelerator="auto", enable_progress_bar=False, logger=False, check_val_every_n_epoch=None)
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(found[name], value.cpu().numpy())


def test_the_embedding_holds_what_cells_differ_in(counts):
    """Independent: the one factor that the counts were drawn from."""
    weights = _scvi.fit(counts, 2, 40, 0, progress=False)
    embedding = _scvi.embed(counts, 2, weights)
    factor = np.log1p(counts[:, :15].sum(axis=1)) - np.log1p(counts[:, 15:].sum(axis=1))
    assert max(abs(np.corrcoef(factor, column)[0, 1]) for column in embedding.T) > 0.7
    np.testing.assert_allclose(_scvi.embed(counts[:9], 2, weights), embedding[:9], atol=1e-5)


def test_epochs_belong_to_scvi(raw):
    with pytest.raises(ValueError, match="`max_epochs=3` is for training with `kind='scvi'`"):
        psalm.pp.represent(raw, "a", kind="features", max_epochs=3)
