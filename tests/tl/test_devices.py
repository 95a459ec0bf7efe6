"""A device that is not there is refused in one sentence before any work, wherever a device is taken."""

import pytest
import torch

import psalm
from psalm.core import cross_fit, device
from psalm.core.image import ImageClassifier
from psalm.core.kernel import KernelClassifier
from psalm.core.logistic import LogisticClassifier
from psalm.core.minibatch import NetworkModel
from psalm.core.mlp import PerceptronClassifier
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.model import CrossModal

BOTH = {"source": "a", "target": "b", "progress": False}
ABSENT = ["cuda", "cuda:1", "mps", "xpu"]
UNKNOWN = ["gpu", "CUDA", "tpu", "cuda:x", "auto:1", "", None, 3]


@pytest.fixture(autouse=True)
def cpu_only(monkeypatch):
    """As on a machine without a GPU, whatever this one has; and no model is trained."""

    def work(*given, **options):
        raise AssertionError

    for place in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(place, "is_available", lambda: False)
    monkeypatch.setattr(cross_fit, "_train_one", work)
    monkeypatch.setattr(CrossModal, "_train_on", work)


@pytest.mark.parametrize("name", [*ABSENT, *UNKNOWN])
@pytest.mark.parametrize("classifier", [PerceptronClassifier, ImageClassifier, KernelClassifier, LogisticClassifier])
def test_classifiers(scored, classifier, name):
    said = r"but torch .* finds no (CUDA|MPS|XPU) device here" if name in ABSENT else "is not known"
    with pytest.raises(ValueError, match=rf"`{classifier.__name__}\(device={name!r}\)`,? {said}"):
        psalm.tl.propensity(scored, classifier={"b": classifier(device=name)}, progress=False)


@pytest.mark.parametrize("name", [*ABSENT, "torch:mps", "gpu", "torch", "torch:gpu"])
def test_matches(scored, name):
    for options in ({"device": name}, {"method": SinkhornMatcher(device=name)}):
        with pytest.raises(ValueError, match=r"`device='.*'`,? (is not known|but torch .* finds no)"):
            psalm.tl.match(scored, **BOTH, **options)


def test_a_device_without_float64_is_refused_for_matches(scored, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="`device='mps'` has no float64, which matching needs"):
        psalm.tl.match(scored, **BOTH, device="mps")


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps", "cuda:0", "qpu", ""])
@pytest.mark.parametrize("step", [psalm.tl.predict, psalm.tl.holdout])
def test_predictions(matched, step, name):
    with pytest.raises(ValueError, match=rf"`accelerator='{name}'` (is not known. Pass one of 'auto'|is not there)"):
        step(matched, **BOTH, accelerator=name)
    with pytest.raises(ValueError, match=rf"`accelerator='{name}'`"):
        CrossModal(matched, source="a", target="b").train(accelerator=name, progress=False)


def test_more_devices_than_there_are(matched, monkeypatch):
    from lightning.pytorch.accelerators import CUDAAccelerator

    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: 2))
    model = CrossModal(matched, source="a", target="b")
    for devices in (3, [0, 2]):
        with pytest.raises(ValueError, match=r"`devices=.*`, but of accelerator 'gpu' there are 2 here. Ask for fewer"):
            model.train(accelerator="gpu", devices=devices, progress=False)


def test_the_number_of_a_device_counts_from_zero(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cuda", "cuda:0", "cuda:1"):
        device.require(name)
    with pytest.raises(ValueError, match=r"`device='cuda:2'`, but torch .* finds 2 CUDA devices here"):
        device.require("cuda:2")


def test_a_network_of_skorch(scored):
    from skorch import NeuralNetClassifier

    with pytest.raises(ValueError, match=r"`NeuralNetClassifier\(device='cuda'\)`, but torch"):
        psalm.tl.propensity(scored, classifier=NeuralNetClassifier(torch.nn.Linear, device="cuda"), progress=False)


def test_a_model_that_was_trained_on_a_gpu_predicts_without(rng):
    features = rng.normal(size=(5, 3))
    network = torch.nn.Linear(3, 2)
    expected = NetworkModel(network, [0, 1]).predict_proba(features)
    assert (NetworkModel(network, [0, 1], "cuda:1").predict_proba(features) == expected).all()
