"""Places to write to are tried before anything is computed, and what cannot be kept costs nothing that was computed."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import psalm
from psalm.core import checkpoint, compiled, cross_fit, files
from psalm.model import CrossModal, _training

FEW = {"n_repeats": 1, "n_folds": 3, "classifier": "logistic", "progress": False}
BOTH = {"source": "a", "target": "b", "progress": False}


def full(*given, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def below_a_file(tmp_path):
    """A path that nobody can write to, not even root."""
    (tmp_path / "file").write_text("mine")
    yield tmp_path / "file" / "place"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def no_work(monkeypatch):
    """Fails where a model would be trained or a block matched."""

    def work(*given, **options):
        raise AssertionError

    monkeypatch.setattr(cross_fit, "_train_one", work)
    monkeypatch.setattr(psalm._recipe, "match_within", work)
    monkeypatch.setattr(CrossModal, "_train_on", work)


@pytest.mark.parametrize(
    ("step", "argument", "options"),
    [
        pytest.param(psalm.tl.propensity, "save", FEW, id="propensity save"),
        pytest.param(psalm.tl.propensity, "checkpoint", FEW, id="propensity checkpoint"),
        pytest.param(psalm.tl.match, "checkpoint", BOTH | {"key_added": "second"}, id="match checkpoint"),
        pytest.param(psalm.tl.predict, "checkpoint", BOTH, id="predict checkpoint"),
    ],
)
def test_places_are_tried_first(matched, below_a_file, no_work, step, argument, options):
    before = matched.copy()
    with pytest.raises(
        OSError, match=rf"`{argument}='.*place'` cannot be written: (Not a dir|File exists wh).* Nothing"
    ):
        step(matched, **options, **{argument: below_a_file})
    assert set(matched.uns) == set(before.uns)
    np.testing.assert_array_equal(matched["a"].obsm["propensity"], before["a"].obsm["propensity"])


def test_places_of_the_model_are_tried_first(matched, below_a_file, no_work):
    model = CrossModal(matched, source="a", target="b")
    with pytest.raises(OSError, match=r"`checkpoint_dir=.*cannot be written: Not a directory"):
        model.train(checkpoint_dir=below_a_file, progress=False)
    with pytest.raises(FileNotFoundError, match=r"`ckpt_path=.*'` is no file"):
        model.train(ckpt_path=below_a_file, progress=False)


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")
def test_a_model_that_cannot_be_written_leaves_the_old_one(matched, below_a_file, tmp_path, monkeypatch):
    model = psalm.tl.predict(matched, **BOTH, max_epochs=1)
    with pytest.raises(OSError, match=r"`dir_path=.*cannot be written: Not a directory"):
        model.save(below_a_file)
    model.save(tmp_path / "model")
    monkeypatch.setattr(psalm.model._setup.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(tmp_path / "model", overwrite=True)
    assert CrossModal.load(tmp_path / "model").predict(matched).equals(model.predict())
    assert len(list((tmp_path / "model").iterdir())) == 1


def test_a_trial_leaves_files_and_folders_as_they_are(tmp_path):
    (tmp_path / "old").write_text("content")
    files.require_file("save", tmp_path / "old")
    files.require_file("save", tmp_path / "new" / "models")
    files.require_folder("checkpoint", tmp_path / "new")
    assert (tmp_path / "old").read_text() == "content"
    assert not list((tmp_path / "new").iterdir())


def test_a_dry_run_makes_no_folder(scored, tmp_path):
    psalm.tl.match(scored, **BOTH, dry_run=True, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_scores_stay_where_the_disk_is_full_by_the_time_models_are_written(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(psalm._ensembles.files, "write", full)
    with pytest.warns(UserWarning, match=r"models could not be written .*No space left.* all scores are in the cont"):
        psalm.tl.propensity(scored, **FEW, save=tmp_path / "m", key_added="new")
    assert "new" in scored["a"].obsm
    assert "save=" in psalm.get.provenance(scored)["call"].iloc[-1]


def test_blocks_and_models_that_cannot_be_kept_only_warn(scored, tmp_path, monkeypatch):
    expected = scored.copy()
    psalm.tl.propensity(expected, **FEW)
    psalm.tl.match(expected, **BOTH)
    monkeypatch.setattr(checkpoint.np, "savez", full)
    monkeypatch.setattr(files, "write", full)
    with pytest.warns(UserWarning, match=r"`checkpoint=` cannot keep trained models \(No space left on device\)"):
        psalm.tl.propensity(scored, **FEW, checkpoint=tmp_path / "scores")
    with pytest.warns(UserWarning, match=r"`checkpoint=` cannot keep finished treatments \(No space left on device\)"):
        psalm.tl.match(scored, **BOTH, checkpoint=tmp_path / "match")
    assert (scored.obsp["match"] != expected.obsp["match"]).nnz == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")
@pytest.mark.parametrize("when", ["from the start", "later"])
def test_training_goes_on_without_checkpoints(matched, tmp_path, monkeypatch, when):
    expected = psalm.tl.predict(matched.copy(), **BOTH, max_epochs=3).predict()
    monkeypatch.chdir(tmp_path)
    if when == "later":
        monkeypatch.setattr(_training.pl.Trainer, "save_checkpoint", full)
        with pytest.warns(UserWarning, match=r"No more checkpoints are written to .* \(No space left") as said:
            model = psalm.tl.predict(matched, **BOTH, max_epochs=3, checkpoint=tmp_path / "kept")
    else:
        Path("psalm_checkpoints").write_text("a file of the user's, in the way")
        with pytest.warns(UserWarning, match=r"cannot be written to 'psalm_checkpoints' in the working dir") as said:
            model = psalm.tl.predict(matched, **BOTH, max_epochs=3)
        assert Path("psalm_checkpoints").is_file()
    assert sum("heckpoints" in str(one.message) for one in said) == 1
    assert model.predict().equals(expected)
    assert "b_predicted" in matched["a"].obsm


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")
def test_nothing_is_left_in_the_working_directory(matched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    psalm.tl.predict(matched, **BOTH, max_epochs=1)
    assert not list(tmp_path.iterdir())
    psalm.tl.predict(matched, **BOTH, max_epochs=1, checkpoint="kept")
    assert not list(tmp_path.rglob("*.ckpt"))


COMPILES = """
import os, warnings
import numpy as np
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from psalm.core.compiled import compiled, folder
    @compiled()
    def twice(x):
        return 2 * x
    from psalm._scanpy import scanpy
    scanpy()
    twice(np.ones(3))
print(sum("Compiled code cannot be kept" in str(one.message) for one in said), os.environ["NUMBA_CACHE_DIR"])
"""


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_without_a_folder_for_compiled_code_all_runs_and_is_said_once(below_a_file, tmp_path, variable):
    """As in a batch job whose home is read-only; scanpy's functions, too, find a place."""
    environment = os.environ | {variable: str(below_a_file)}
    if variable != "NUMBA_CACHE_DIR":
        environment.pop("NUMBA_CACHE_DIR", None)
    (tmp_path / "script.py").write_text(COMPILES)
    command = [sys.executable, tmp_path / "script.py"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    n_warnings, place = run.stdout.split()
    assert n_warnings == "1"
    assert place != str(below_a_file)
    assert not Path(place).exists(), "it is taken away at the end"


def test_without_any_place_code_is_compiled_and_not_kept(below_a_file, monkeypatch):
    monkeypatch.setattr(compiled.config, "CACHE_DIR", str(below_a_file))
    monkeypatch.setattr(compiled.tempfile, "mkdtemp", full)
    compiled.folder.cache_clear()
    with pytest.warns(UserWarning, match="Compiled code cannot be kept"):
        function = compiled.compiled()(lambda x: 2 * x)
    assert function(3) == 6
    compiled.folder.cache_clear()
