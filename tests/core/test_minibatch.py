import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from psalm.core import minibatch
from psalm.core.estimator import EstimatorClassifier
from psalm.core.image import ImageClassifier
from psalm.core.logistic import LogisticClassifier
from psalm.core.mlp import PerceptronClassifier

NETWORKS = [
    pytest.param(LogisticClassifier(max_logits=0, device="cpu"), id="linear"),
    pytest.param(PerceptronClassifier(max_epochs=3, device="cpu"), id="perceptron"),
    pytest.param(ImageClassifier(shape=(1, 4, 5), max_epochs=3, device="cpu"), id="image"),
]
WEIGHTED = [
    pytest.param(LogisticClassifier(), 0.02, id="exact"),
    pytest.param(LogisticClassifier(max_logits=0, device="cpu"), 0.02, id="linear"),
    pytest.param(PerceptronClassifier(learning_rate=0.01, max_epochs=8, device="cpu"), 0.1, id="perceptron"),
    pytest.param(ImageClassifier(shape=(1, 4, 5), max_epochs=8, device="cpu"), 0.1, id="image"),
    pytest.param(EstimatorClassifier(LogisticRegression()), 0.02, id="estimator"),
]


@pytest.mark.parametrize(("classifier", "tolerance"), WEIGHTED)
def test_where_features_tell_nothing_the_weighted_shares_are_predicted(classifier, tolerance):
    """Independent: the best constant prediction is the weighted share, in closed form."""
    codes = np.tile([0, 1], 600)
    weights = np.where(codes == 0, 1.5, 0.5)
    features = np.ones((1200, 20))
    fitted = classifier.fit(features, codes, 2, 0, weights)
    np.testing.assert_allclose(np.exp(fitted.log_prior), [0.75, 0.25])
    log_p = fitted.log_likelihood(features[:1]) + fitted.log_prior
    np.testing.assert_allclose(np.exp(log_p - np.logaddexp.reduce(log_p, axis=1)), [[0.75, 0.25]], atol=tolerance)


@pytest.mark.parametrize("classifier", [pytest.param(LogisticClassifier(), id="exact"), *NETWORKS])
def test_a_cell_of_weight_zero_is_as_good_as_absent(classifier, read_only):
    features, codes = read_only(90, 20), np.arange(90) % 3
    weights = np.where(codes == 2, 0.0, 1.5)
    kept = codes < 2
    found = classifier.fit(features, codes, 3, 0, weights).log_likelihood(features)
    without = classifier.fit(features[kept], codes[kept], 3, 0, np.ones(60)).log_likelihood(features)
    np.testing.assert_allclose(found, without)


@pytest.mark.parametrize("classifier", NETWORKS)
@pytest.mark.parametrize(
    "codes", [[0, 1], [0, 0, 2, 2, 2], [0, 1, 2]], ids=["two cells", "a treatment unseen", "one cell each"]
)
def test_a_handful_of_cells_is_enough(classifier, read_only, codes):
    found = classifier.fit(read_only(len(codes), 20), np.array(codes, dtype=np.int8), 3).log_likelihood(
        read_only(7, 20)
    )
    assert found.shape == (7, 3)
    assert np.isfinite(found).all()
    unseen = np.setdiff1d(np.arange(3), codes)
    assert (found[:, unseen] < -10).all()


@pytest.mark.parametrize("classifier", NETWORKS)
def test_one_treatment_leaves_nothing_to_learn(classifier, read_only):
    fitted = classifier.fit(read_only(5, 20), np.full(5, 1), 3)
    assert (fitted.log_likelihood(read_only(2, 20)).argmax(axis=1) == 1).all()


@pytest.mark.parametrize("classifier", NETWORKS)
def test_threads_do_not_change_the_model_and_stay_as_they_were(classifier, read_only):
    features, codes = read_only(300, 20), np.arange(300) % 3
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 4):
            torch.set_num_threads(n_threads)
            found.append(classifier.fit(features, codes, 3, 5).log_likelihood(features))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("n_single", [0, 30, 60])
def test_every_treatment_keeps_a_cell_to_train_on(rng, n_single):
    targets = np.append(np.arange(n_single), np.full(60 - n_single, n_single))
    training, held_out = minibatch.deal_held_out(targets, rng)
    assert set(targets[training]) == set(targets)
    if n_single == 60:
        np.testing.assert_array_equal(np.sort(held_out), np.arange(60))  # none to spare
    else:
        assert len(held_out) == min(6, 59 - n_single)
        np.testing.assert_array_equal(np.sort(np.append(training, held_out)), np.arange(60))


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_moments_and_chunks_cover_all_cells(monkeypatch, read_only, as_matrix):
    """Independent: numpy over all rows at once."""
    monkeypatch.setattr(minibatch, "CHUNK_ENTRIES", 64)
    features = np.column_stack([read_only(101, 3) + 1e3, np.full(101, 0.1)])
    matrix = as_matrix(features)
    sizes = [rows.stop - rows.start for rows in minibatch.chunks(matrix)]
    assert sizes == [16] * 6 + [5]
    mean, scale = minibatch.moments(matrix[rows] for rows in minibatch.chunks(matrix))
    np.testing.assert_allclose(mean, features.mean(axis=0))
    np.testing.assert_allclose(scale, [*features[:, :3].std(axis=0), 1.0], rtol=1e-6)


def test_log_probabilities_have_no_floor():
    network = torch.nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0], [1.0]]))
        network.bias.zero_()
    model = minibatch.NetworkModel(network, np.arange(2))
    np.testing.assert_allclose(model.predict_log_proba(np.array([[100.0]])), [[-100.0, 0.0]], atol=1e-6)


def test_the_learning_rate_falls_to_zero_over_all_steps(monkeypatch, read_only):
    """Independent: four passes over 90 cells in batches of 40 are 12 steps."""
    rates, step = [], minibatch._step

    def noted(loss, optimizer, batch):
        rates.append(optimizer.param_groups[0]["lr"])
        step(loss, optimizer, batch)

    monkeypatch.setattr(minibatch, "_step", noted)
    schedule = minibatch.Schedule(0.1, 0.0, 40, 4, None, "cpu")
    cells = (read_only(90, 3), np.arange(90) % 3, np.ones(90))
    minibatch.fit_network(lambda n: torch.nn.Linear(3, n), cells, schedule, 0)
    np.testing.assert_allclose(rates, 0.1 * (1 - np.arange(12) / 12))
