"""Peer packages, each in an environment of its own, as they conflict with each other and with psalm.

`benchmarks/peers/<peer>.txt` pins what is installed (once, into `benchmarks/.environments/<peer>`) and
`benchmarks/peers/run_<peer>.py` does the work there: it reads a problem, and writes plans or an embedding with a report
of versions, seconds and peak memory. Cells without a treatment are not shown to it. An embedding is matched within
treatments by psalm's own optimal transport.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from problem import match_blocks
from scipy import sparse

from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from problem import Modality, Problem

BENCHMARKS = Path(__file__).resolve().parents[2]
RUNNERS, ENVIRONMENTS = BENCHMARKS / "peers", BENCHMARKS / ".environments"
NEED_LINKS = ("scglue", "maxfuse")
"""Peers that compare modalities by features that stand for each other."""
LAST_LINES = 12


class NotInstalled(RuntimeError):  # noqa: N818  it is a finding, reported as one
    """The peer's environment cannot be made; says why."""


class NotApplicable(ValueError):  # noqa: N818  as above
    """The problem lacks what the peer needs; says what."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a peer found.

    Parameters
    ----------
    plans
        One per treatment.
    report
        "versions", "seconds" of the peer's own work, "peak_mb" of its process, "notes".
    """

    plans: list[np.ndarray]
    report: dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """An aligner that is somebody else's package.

    Parameters
    ----------
    name
        Of the peer: its runner and its requirements.
    method
        What its runner is to do.
    epsilon
        Strength of the entropy, relative to the mean distance, where an embedding is matched. Else not used.
    timeout
        Seconds that one run may take.
    """

    name: str
    method: str
    epsilon: float = 0.2
    timeout: float = 1800

    def __call__(self, problem: Problem, seed: int) -> list[np.ndarray]:
        return self.run(problem, seed).plans

    def run(self, problem: Problem, seed: int) -> Result:
        """Plans and a report.

        Peers that embed are not run again for another ε directly after, nor is what failed.
        """
        links = links_of(problem) if self.name in NEED_LINKS else np.empty((0, 2), dtype=str)
        if self.name in NEED_LINKS and not len(links):
            raise NotApplicable(missing_links(self.name, problem))
        outcome = work(self.name, self.method, problem, seed, self.timeout)
        if isinstance(outcome, RuntimeError | TimeoutError):
            raise outcome
        arrays, report = outcome
        if "source" in arrays:
            matcher = SinkhornMatcher(self.epsilon)
            return Result(match_blocks(matcher, problem, (arrays["source"], arrays["target"])), report)
        return Result([arrays[f"plan_{code}"] for code in range(problem.n_treatments)], report)


@lru_cache(maxsize=1)
def work(
    name: str, method: str, problem: Problem, seed: int, timeout: float
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | RuntimeError | TimeoutError:
    """Run the peer's runner; what it wrote, or why it failed, which is remembered too."""
    try:
        return written(name, method, problem, seed, timeout)
    except (RuntimeError, TimeoutError) as reason:
        return reason


def written(
    name: str, method: str, problem: Problem, seed: int, timeout: float
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and report of the peer's runner, embeddings with a row per cell of the problem."""
    python = installed(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save(problem, folder)
        call(name, [str(python), str(RUNNERS / f"run_{name}.py"), place, method, str(seed)], timeout)
        with np.load(folder / "found.npz") as found:
            arrays = dict(found)
        report = json.loads((folder / "report.json").read_text())
    for key, side in zip(("source", "target"), problem.sides, strict=True):
        if key in arrays:
            arrays[key] = spread(arrays[key], side)
    return arrays, report


def call(name: str, command: list[str], timeout: float) -> None:
    """Run a command; where it fails, the message is the error that it ended with.

    It has a session of its own, so that processes which it has started end with it where it is stopped.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        stop(process)
        msg = f"{name} took longer than {timeout:.0f} seconds and was stopped. Pass a longer `timeout`."
        raise TimeoutError(msg) from None
    except BaseException:
        stop(process)
        raise
    if process.returncode:
        msg = f"{name} failed with exit status {process.returncode}: {error_of(errors)}"
        raise RuntimeError(msg)


def stop(process: subprocess.Popen[str]) -> None:
    """Kill a process and, where the system has sessions, all that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def error_of(text: str) -> str:
    """The error that a traceback ends with, without the lines of code before it, which name places of one machine."""
    lines = text.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line and not line[0].isspace()]
    return "\n".join(lines[starts[-1] :]) if starts else "it printed nothing"


def ending(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


def installed(name: str) -> Path:
    """Python of the peer's environment, which is made if it is not there."""
    python, reason = environment(name)
    if reason:
        raise NotInstalled(reason)
    return python


@cache
def environment(name: str) -> tuple[Path, str]:
    """Python of an environment that holds exactly what is pinned, and the reason if it could not be made."""
    requirements, folder = RUNNERS / f"{name}.txt", ENVIRONMENTS / name
    python, stamp = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python, ""
    venv.create(folder, clear=True, with_pip=True, symlinks=sys.platform != "win32")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        return python, f"{name} could not be installed by pip: {ending(errors)}"
    stamp.write_text(requirements.read_text())
    return python, ""


def save(problem: Problem, folder: Path) -> None:
    """Write the problem as arrays, without cells that have no treatment."""
    arrays: dict[str, Any] = {"treatments": np.array(problem.treatments), "links": links_of(problem)}
    for key, side in zip(("source", "target"), problem.sides, strict=True):
        kept = side.codes >= 0
        arrays |= {f"{key}_name": side.name, f"{key}_kind": side.kind, f"{key}_variables": side.variables}
        arrays |= {f"{key}_{what}": getattr(side, what)[kept] for what in ("features", "codes", "scores")}
        sparse.save_npz(folder / f"{key}_measured.npz", sparse.csr_matrix(side.measured)[kept])
    np.savez(folder / "problem.npz", **arrays)


def spread(coordinates: np.ndarray, side: Modality) -> np.ndarray:
    """Rows of all cells of the problem from those of the cells that have a treatment."""
    every = np.full((len(side.codes), coordinates.shape[1]), np.nan)
    every[side.codes >= 0] = coordinates
    return every


def links_of(problem: Problem) -> np.ndarray:
    """(n, 2) source and target variables that stand for each other: a protein and a gene that encodes it."""
    kinds = [side.kind for side in problem.sides]
    if sorted(kinds) != ["protein", "rna"]:
        return np.empty((0, 2), dtype=str)
    with (RUNNERS / "links.csv").open(newline="") as table:
        pairs = [(row["protein"], row["gene"]) for row in csv.DictReader(table)]
    pairs = pairs if kinds[0] == "protein" else [pair[::-1] for pair in pairs]
    known = [set(side.variables) for side in problem.sides]
    return np.array([pair for pair in pairs if all(v in k for v, k in zip(pair, known, strict=True))], dtype=str)


def missing_links(name: str, problem: Problem) -> str:
    given = " and ".join(f"{side.name!r} (of kind {side.kind!r})" for side in problem.sides)
    return (
        f"{name} needs features that stand for each other: genes and the proteins that they encode, both as named "
        f"counts, or genes and peaks with coordinates. Among {given} there are none."
    )


PEERS: dict[str, Peer] = {
    "moscot, sinkhorn, own defaults": Peer("moscot", "sinkhorn"),
    "moscot, sinkhorn, ε 0.2": Peer("moscot", "sinkhorn, epsilon 0.2"),
    "moscot, translation": Peer("moscot", "translation"),
    "ott, sinkhorn, ε 0.2": Peer("ott", "sinkhorn"),
    "ott, gromov": Peer("ott", "gromov"),
    "POT, sinkhorn, ε 0.2": Peer("pot", "sinkhorn"),
    "POT, gromov": Peer("pot", "gromov"),
    "scglue, ε 0.2": Peer("scglue", "embed", epsilon=0.2),
    "scglue, ε 0.05": Peer("scglue", "embed", epsilon=0.05),
    "maxfuse": Peer("maxfuse", "match"),
}
"""By display name."""
