"""The embedders' losses against slow or opposite ones, and what an embedder may and may not look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

N_CELLS, N_TREATMENTS = (60, 70), 3


@pytest.fixture
def problem(rng):
    from problem import Modality, Problem

    sides = []
    for name, n_cells, n_features in (("a", N_CELLS[0], 8), ("b", N_CELLS[1], 5)):
        codes = np.arange(n_cells) % (N_TREATMENTS + 1) - 1
        centres = 3 * rng.normal(size=(N_TREATMENTS + 1, n_features))
        features = centres[codes] + rng.normal(size=(n_cells, n_features))
        features.flags.writeable = codes.flags.writeable = False
        sides.append(Modality(name, "features", features, codes, features, np.arange(n_features), codes))
    return Problem("simulated", *sides, ("x", "y", "z"))


@pytest.fixture(params=["autoencoder", "contrastive"])
def embed(request):
    from aligners.autoencoder import AdversarialAutoencoder
    from aligners.contrastive import GroupContrastive

    if request.param == "autoencoder":
        return AdversarialAutoencoder(n_latent=4, n_hidden=16, max_epochs=5)
    return GroupContrastive(n_embedding=4, n_hidden=16, max_epochs=5)


def without_treatment_moved(problem):
    from dataclasses import replace

    moved = problem.source.features + 100.0 * (problem.source.codes < 0)[:, None]
    return replace(problem, source=replace(problem.source, features=moved))


def test_every_cell_has_a_place_and_a_seed_gives_it_again(embed, problem):
    first, again, other = embed(problem, 0), embed(problem, 0), embed(problem, 1)
    assert [e.shape for e in first] == [(n, 4) for n in N_CELLS]
    assert all(np.isfinite(e).all() for e in first)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.allclose(np.concatenate(first), np.concatenate(other))


def test_cells_without_treatment_take_no_part(embed, problem):
    labelled = problem.source.codes >= 0
    before, after = embed(problem, 0), embed(without_treatment_moved(problem), 0)
    np.testing.assert_array_equal(before[0][labelled], after[0][labelled])
    np.testing.assert_array_equal(before[1], after[1])
    assert not np.allclose(before[0][~labelled], after[0][~labelled])


def test_the_best_pass_is_kept(embed, problem):
    """By what the held-out cells, which the seed deals again, say of the networks that come back."""
    from aligners.training import chosen, inputs, split

    network, history = embed.fit(problem, 0)
    _, held_out = split(problem, np.random.default_rng(0))
    codes = [torch.tensor(side.codes) for side in problem.sides]
    judged = embed.judge(network, *chosen(inputs(problem), codes, held_out))
    assert len(history) == embed.max_epochs
    assert judged["loss"] == pytest.approx(min(pass_["loss"] for pass_ in history), rel=1e-5)


def test_training_stops_when_patience_is_out(embed, problem):
    from dataclasses import replace

    _, history = replace(embed, max_epochs=10, patience=2, learning_rate=0.0, weight_decay=0.0).fit(problem, 0)
    assert len(history) < 10


def test_a_batch_has_the_same_treatments_in_both_modalities(problem, rng):
    from aligners.training import batches, split

    training, held_out = split(problem, rng)
    seen = list(batches(problem, training, 8, rng))
    for rows, columns in seen:
        np.testing.assert_array_equal(problem.source.codes[rows], problem.target.codes[columns])
    for side, cells, others in zip(zip(*seen, strict=True), training, held_out, strict=True):
        assert set(np.concatenate(side)) == set(cells)
        assert not set(cells) & set(others)


def test_discriminator_and_encoders_pull_in_opposite_directions(problem):
    """At an undecided discriminator the gradients of the two losses on the latents are each other's negative."""
    from aligners.autoencoder import AdversarialAutoencoder, Networks

    torch.manual_seed(0)
    networks = Networks(AdversarialAutoencoder(n_latent=4, n_hidden=16), [8, 5], N_TREATMENTS)
    torch.nn.init.zeros_(networks.discriminator[-1].bias)
    networks.discriminator[-1].weight.data *= 1e-4
    latents = [torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)]
    own, fooling = (
        torch.cat(torch.autograd.grad(networks.modality_loss(latents, flipped=flipped), latents))
        for flipped in (False, True)
    )
    torch.testing.assert_close(own, -fooling, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("learns", ["discriminator", "halves"])
def test_each_turn_lowers_the_loss_of_whose_turn_it_is_and_moves_no_other(problem, learns):
    """Independent: only one of the two may learn, by its rate; the discriminator's loss, or the flipped one, falls."""
    from aligners.autoencoder import AdversarialAutoencoder, Networks, Turns
    from aligners.training import chosen, inputs

    fooling = learns == "halves"
    rates = {"learning_rate": 1e-2 * fooling, "discriminator_rate": 1e-2 * (not fooling)}
    weights = {"reconstruction": 0.0, "classification": 0.0, "weight_decay": 0.0}
    torch.manual_seed(0)
    model = AdversarialAutoencoder(n_latent=4, n_hidden=16, **rates, **weights)
    networks = Networks(model, [8, 5], N_TREATMENTS)
    codes = [torch.tensor(side.codes) for side in problem.sides]
    cells = chosen(inputs(problem), codes, [np.flatnonzero(code >= 0) for code in codes])

    def loss():
        latents = [half.encoder(side) for half, side in zip(networks.halves, cells[0], strict=True)]
        return networks.modality_loss(latents, flipped=fooling).item()

    before = {name: value.clone() for name, value in networks.named_parameters()}
    first, turns = loss(), Turns(model, networks)
    for _ in range(120):
        turns(*cells)
    assert loss() < 0.7 * first
    moved = {name.split(".")[0] for name, value in networks.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {learns}


@pytest.mark.parametrize("itself", [False, True])
def test_the_contrastive_loss_is_that_of_a_slow_loop(rng, itself):
    from aligners.contrastive import group_loss

    u = rng.normal(size=(7, 3))
    v = u if itself else rng.normal(size=(6, 3))
    rows = np.array([0, 0, 1, 1, 2, 2, 3])  # the last has no positive
    columns = rows if itself else np.array([0, 0, 0, 1, 2, 2])
    losses = []
    for i in range(len(u)):
        others = [j for j in range(len(v)) if not (itself and i == j)]
        positives = [j for j in others if rows[i] == columns[j]]
        total = sum(np.exp(u[i] @ v[j] / 0.5) for j in others)
        if positives:
            losses.append(-np.mean([np.log(np.exp(u[i] @ v[j] / 0.5) / total) for j in positives]))
    tensors = (torch.as_tensor(array) for array in (u, v, rows, columns))
    found = group_loss(*tensors, torch.tensor(0.5), itself=itself)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_contrastive_embeddings_are_of_length_one_and_learn_treatments(problem):
    from aligners.contrastive import GroupContrastive
    from aligners.training import inputs

    model = GroupContrastive(n_embedding=4, n_hidden=16, learn_temperature=True, within=1.0, learning_rate=1e-2)
    encoders, history = model.fit(problem, 0)
    assert encoders.temperature != model.temperature
    assert max(judged["nearest"] for judged in history) > 0.8
    with torch.no_grad():
        for units in encoders(inputs(problem)):
            np.testing.assert_allclose(np.linalg.norm(units.numpy(), axis=1), 1, rtol=1e-5)
