"""The job script of the docs runs, and goes on after it was stopped; `srun` is played by a script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mudata
import numpy as np
import pytest

import psalm

JOBS = Path(__file__).parents[1] / "docs" / "jobs"
SRUN = """#!/bin/bash
shift # --overlap, which is srun's own
"$@" &
"$@" &
trap 'kill $(jobs -p)' TERM
wait
"""


@pytest.fixture
def place(tmp_path):
    """The script's folder, with cells and an srun that starts two workers here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    for file in JOBS.iterdir():
        shutil.copy(file, tmp_path)
    mdata = psalm.datasets.simulated(n_cells=120, n_treatments=3, n_features=(12, 10), rng=1)
    found = mudata.MuData({"rna": mdata["a"], "image": mdata["b"]})
    psalm.pp.treatment(found, "perturbation")
    found.write_h5mu(tmp_path / "cells.h5mu")
    return tmp_path


def submit(place):
    path = os.pathsep.join([str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "SLURM_JOB_ID": "7", "PYTHONWARNINGS": "ignore"}
    command = ["bash", "align.sbatch"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.filterwarnings("ignore:Scores of:UserWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="clusters run Linux")
def test_job_script_gives_the_match_of_this_process_and_goes_on(place):
    done = submit(place)
    assert done.returncode == 0, done.stderr
    expected = mudata.read_h5mu(place / "cells.h5mu")
    psalm.tl.propensity(expected, progress=False)
    psalm.tl.match(expected, source="rna", target="image", progress=False)
    found = mudata.read_h5mu(place / "matched.h5mu")
    np.testing.assert_array_equal(found["rna"].obsm["propensity"], expected["rna"].obsm["propensity"])
    assert (found.obsp["match"] != expected.obsp["match"]).nnz == 0
    assert not list(place.glob("scheduler-*")), "the script cleans up"

    kept = {file: file.stat().st_mtime_ns for file in [*place.glob("*.scores/*"), *place.glob("*.match/*")]}
    assert len(kept) > 50
    (place / "matched.h5mu").unlink()
    assert submit(place).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "nothing is trained or matched again"
    assert len(list(place.glob("*.scores/*"))) == sum(".scores" in str(file) for file in kept)
