"""Files of models: what is read is what was written, and nothing in a file is run."""

import pickle
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import skops.io
import torch
from sklearn.ensemble import RandomForestClassifier

from psalm.core import files
from psalm.core.calibration import IsotonicCalibrator, VectorCalibrator
from psalm.core.cross_fit import CrossFit
from psalm.core.estimator import EstimatorClassifier
from psalm.core.image import ImageClassifier
from psalm.core.kernel import KernelClassifier
from psalm.core.logistic import LogisticClassifier
from psalm.core.mlp import PerceptronClassifier

CLASSIFIERS = {
    "kernel": KernelClassifier(n_landmarks=10),
    "logistic": LogisticClassifier(),
    "minibatches": LogisticClassifier(max_logits=10),
    "mlp": PerceptronClassifier(n_hidden=8),
    "image": ImageClassifier(),
}


@pytest.fixture
def cells(rng):
    codes = np.repeat(np.arange(3), 20)
    return rng.normal(size=(60, 4)) + codes[:, None], codes


def ensemble(classifier, features, codes, **options):
    return CrossFit(classifier, 2, 1, **options)(features, codes, 3, np.random.default_rng(0)).ensemble


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_models_say_the_same_after_reading(name, cells, tmp_path, rng):
    features, codes = cells
    if name == "image":
        features = rng.normal(size=(60, 1, 8, 8)).astype(np.float32)
    trained = ensemble(CLASSIFIERS[name], features, codes)
    files.write(tmp_path / "m", trained)
    np.testing.assert_array_equal(files.read(tmp_path / "m").log_odds(features), trained.log_odds(features))


@pytest.mark.parametrize("calibrator", [VectorCalibrator(), IsotonicCalibrator()])
def test_calibrations_too(calibrator, cells, tmp_path):
    trained = ensemble(LogisticClassifier(), *cells, calibrator=calibrator)
    files.write(tmp_path / "m", trained)
    np.testing.assert_array_equal(files.read(tmp_path / "m").log_odds(cells[0]), trained.log_odds(cells[0]))


def test_types_that_are_not_known_are_named_and_may_be_trusted(cells, tmp_path):
    trained = ensemble(EstimatorClassifier(RandomForestClassifier(3, random_state=0)), *cells)
    files.write(tmp_path / "m", trained)
    with pytest.raises(ValueError, match=r"sklearn\.tree\._tree\.Tree.*pass `trusted=\['sklearn"):
        files.read(tmp_path / "m")
    found = files.read(tmp_path / "m", ["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(found.log_odds(cells[0]), trained.log_odds(cells[0]))


class Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "m").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ValueError, match="not a zip archive"):
        files.read(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def test_a_function_in_the_file_is_not_called(tmp_path):
    """What skops writes for an object with `__reduce__` is refused before anything is built."""
    (tmp_path / "m").write_bytes(skops.io.dumps({"model": Evil(tmp_path / "ran")}))
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="may run code"):
        files.read(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


@dataclass
class Elsewhere:
    """Not of psalm."""

    value: int = 1


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "psalm.core.files:write",
        "psalm.core.files:Path",
        "subprocess:Popen",
        "tests:Elsewhere",
        "psalm.core.nothing:X",
    ],
)
@pytest.mark.parametrize("kind", [files.OBJECT, files.LAYER])
def test_forged_names_are_refused(name, kind, tmp_path):
    """A file may name any class: only dataclasses of psalm and layers of torch are built."""
    (tmp_path / "m").write_bytes(skops.io.dumps((kind, name, {"value": 1})))
    with pytest.raises(ValueError, match="is not a"):
        files.read(tmp_path / "m")


def test_objects_of_other_packages_are_not_written_as_psalms(tmp_path):
    files.write(tmp_path / "m", Elsewhere())
    with pytest.raises(ValueError, match="not a kind of object"):
        files.read(tmp_path / "m")


def test_networks_of_other_packages_cannot_be_written(tmp_path):
    with pytest.raises(TypeError, match=r"cannot be written.*would run code"):
        files.write(tmp_path / "m", {"optimiser": torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)})
    assert not (tmp_path / "m").exists()


def test_files_are_archives_without_pickles(cells, tmp_path):
    files.write(tmp_path / "m", ensemble(KernelClassifier(n_landmarks=10), *cells))
    with zipfile.ZipFile(tmp_path / "m") as archive:
        assert {name.rsplit(".", 1)[-1] for name in archive.namelist()} <= {"json", "npy"}
