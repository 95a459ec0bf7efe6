"""The paper's pictures, at their size and averaged over squares of pixels."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest


def test_means_over_squares_of_pixels(rng):
    """Independent: the mean of each square, one by one."""
    from images import pooled

    images = rng.integers(0, 256, size=(3, 2, 8, 12)).astype(np.uint8)
    found = pooled(images, 4)
    assert found.shape == (3, 2, 2, 3)
    assert found[1, 0, 1, 2] == np.float32(images[1, 0, 4:, 8:].mean())
    np.testing.assert_allclose(found.mean(axis=(2, 3)), images.mean(axis=(2, 3)), rtol=1e-6)
    assert pooled(images, 1) is images


def test_what_is_asked_for_is_run(monkeypatch, tmp_path, capsys):
    import images

    file = tmp_path / "images.csv"
    sizes = ["--cells", "96", "--size", "16", "--pool", "2", "--folds", "2", "--repeats", "2"]
    chosen = ["--seeds", "2", "--first-seed", "3", "--kinds", "hard", "--methods", "treatment mean", "random partner"]
    kept = tmp_path / "kept"
    monkeypatch.setattr(sys, "argv", ["images.py", *sizes, *chosen, "--checkpoint", str(kept), "--out", str(file)])
    images.main()
    table = pd.read_csv(file)
    assert table[["seed", "method"]].to_numpy().tolist() == [
        [seed, method] for seed in (3, 4) for method in ("treatment mean", "random partner")
    ]
    np.testing.assert_allclose(table["mse_ratio"][::2], 1)
    assert (table["mse_ratio"][1::2] > 1.5).all()
    assert "96 pictures of 16 pixels" in capsys.readouterr().out
    assert any(kept.iterdir())


@pytest.mark.parametrize("side", ["3", "0"])
def test_squares_that_do_not_tile_a_picture_are_refused(side, monkeypatch, capsys):
    import images

    monkeypatch.setattr(sys, "argv", ["images.py", "--size", "16", "--pool", side])
    with pytest.raises(SystemExit):
        images.main()
    assert f"--pool {side} does not divide --size 16" in capsys.readouterr().err


def test_other_pictures_are_trained_on(monkeypatch, tmp_path):
    """Scores of no picture that is matched come from networks that have seen it: `tl.score` refuses that."""
    import images

    file, methods = tmp_path / "images.csv", ["psalm, defaults", "paper's settings, OT"]
    sizes = ["--cells", "120", "--train", "240", "--size", "16", "--folds", "2", "--repeats", "2", "--epochs", "2"]
    chosen = ["--seeds", "1", "--kinds", "soft", "--methods", *methods]
    monkeypatch.setattr(sys, "argv", ["images.py", *sizes, *chosen, "--out", str(file)])
    images.main()
    table = pd.read_csv(file).set_index("method")
    assert list(table.index) == methods
    assert (table[["cells", "train"]] == [120, 240]).all(axis=None)
    assert np.isfinite(table.loc["psalm, defaults", "expected"])  # the error of new pictures' scores is known
    assert table["mse_ratio"].between(0, 3).all()
