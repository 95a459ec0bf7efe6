"""What is handed to peers and back, without installing any."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse


@pytest.fixture
def problem(rng):
    from problem import Modality, Problem

    sides = []
    for name, kind, variables in (("r", "rna", ["CD3D", "ACTB", "CD4"]), ("p", "protein", ["CD4", "CD3"])):
        codes = np.array([1, 0, -1, 1, 0, 1])
        counts = sparse.csr_matrix(rng.poisson(2.0, size=(6, len(variables))))
        scores = rng.normal(size=(6, 2))
        sides.append(Modality(name, kind, rng.normal(size=(6, 4)), codes, counts, np.array(variables), scores))
    return Problem("blood", *sides, ("x", "y"))


def test_links_join_genes_with_the_proteins_they_encode(problem):
    from aligners.peers import links_of

    assert {tuple(pair) for pair in links_of(problem)} == {("CD3D", "CD3"), ("CD4", "CD4")}
    turned = replace(problem, source=problem.target, target=problem.source)
    assert {tuple(pair) for pair in links_of(turned)} == {("CD3", "CD3D"), ("CD4", "CD4")}


def test_a_peer_that_needs_links_says_that_there_are_none(problem):
    from aligners.peers import NotApplicable, Peer

    plain = replace(problem, source=replace(problem.source, kind="features"))
    for name in ("scglue", "maxfuse"):
        with pytest.raises(NotApplicable, match=f"{name} needs features that stand for each other.*'r'.*'p'"):
            Peer(name, "embed")(plain, 0)


def test_a_runner_reads_what_was_written_for_it(problem, tmp_path):
    from aligners.peers import BENCHMARKS, links_of, save

    save(problem, tmp_path)
    spec = importlib.util.spec_from_file_location("peers_files", BENCHMARKS / "peers" / "_files.py")
    files = importlib.util.module_from_spec(spec)
    sys.modules["peers_files"] = files
    spec.loader.exec_module(files)
    read = files.read(tmp_path)
    assert read.treatments == problem.treatments
    np.testing.assert_array_equal(read.links, links_of(problem))
    for own, side in zip(read.sides, problem.sides, strict=True):
        kept = side.codes >= 0
        assert (own.name, own.kind) == (side.name, side.kind)
        for part in ("features", "codes", "scores"):
            np.testing.assert_array_equal(getattr(own, part), getattr(side, part)[kept])
        np.testing.assert_array_equal(own.measured.toarray(), side.measured.toarray()[kept])
    assert [tuple(map(len, block)) for block in read.blocks()] == [(2, 2), (3, 3)]


def test_a_runner_that_fails_or_takes_too_long_is_reported():
    from aligners.peers import call

    with pytest.raises(RuntimeError, match=r"(?s)peer failed with exit status 1.*no such wheel"):
        call("peer", [sys.executable, "-c", "raise SystemExit('no such wheel')"], 60)
    with pytest.raises(RuntimeError, match=r"peer failed with exit status 1: ValueError: no plan$"):  # and no path
        call("peer", [sys.executable, "-c", "raise ValueError('no plan')"], 60)
    with pytest.raises(TimeoutError, match="longer than 1 seconds"):
        call("peer", [sys.executable, "-c", "import time; time.sleep(30)"], 1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not list its processes")
def test_what_a_runner_has_started_is_stopped_with_it(tmp_path):
    """Workers of a runner that took too long would go on, and slow down whatever is measured next."""
    from aligners.peers import call

    started = tmp_path / "pid"
    child = [sys.executable, "-c", "import time; time.sleep(60)"]
    code = (
        f"import pathlib, subprocess, time; process = subprocess.Popen({child}); "
        f"pathlib.Path({str(started)!r}).write_text(str(process.pid)); time.sleep(60)"
    )
    with pytest.raises(TimeoutError):
        call("peer", [sys.executable, "-c", code], 5)
    status = Path(f"/proc/{started.read_text()}/stat")
    assert not status.exists() or status.read_text().split()[2] in "ZX"  # gone, or only not yet buried


def test_every_peer_has_its_runner_and_pinned_versions():
    from aligners.peers import PEERS, RUNNERS

    for name in {peer.name for peer in PEERS.values()}:
        assert (RUNNERS / f"run_{name}.py").exists()
        lines = [line for line in (RUNNERS / f"{name}.txt").read_text().splitlines() if line and line[0] != "#"]
        assert lines
        assert all("==" in line for line in lines)
