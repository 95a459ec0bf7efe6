"""What a runner reads and writes: a problem in, plans or an embedding and a report out. Needs numpy and scipy only."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Modality:
    """One modality, its cells without a treatment left out.

    Parameters
    ----------
    name, kind
        Of the modality; "rna" and "protein" are raw counts.
    features
        (n, k) representation.
    codes
        (n,) treatment.
    scores
        (n, n_treatments) propensity scores.
    measured
        (n, p) what was measured.
    variables
        (p,) their names.
    """

    name: str
    kind: str
    features: np.ndarray
    codes: np.ndarray
    scores: np.ndarray
    measured: Any
    variables: np.ndarray

    def cells(self, treatment: int) -> np.ndarray:
        """Positions of a treatment's cells."""
        return np.flatnonzero(self.codes == treatment)


@dataclass(frozen=True)
class Problem:
    """Two modalities under shared treatments; `links` holds pairs of source and target variables."""

    source: Modality
    target: Modality
    treatments: tuple[str, ...]
    links: np.ndarray

    @property
    def sides(self) -> tuple[Modality, Modality]:
        return self.source, self.target

    def blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions of each treatment's source and target cells."""
        return [(self.source.cells(code), self.target.cells(code)) for code in range(len(self.treatments))]


@dataclass(frozen=True)
class Found:
    """Plans, one per treatment, or an embedding of (n_source, d) and (n_target, d); and what else is worth knowing."""

    plans: Sequence[np.ndarray] = ()
    embedding: tuple[np.ndarray, np.ndarray] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def serve(packages: Sequence[str], align: Callable[[Problem, str, int], Found]) -> None:
    """Run ``FOLDER METHOD SEED`` of the command line."""
    folder, method, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    problem = read(folder)
    start = time.perf_counter()
    found = align(problem, method, seed)
    report = {"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "notes": found.notes}
    report["versions"] = {package: version(package) for package in packages}
    arrays = {f"plan_{number}": np.asarray(plan) for number, plan in enumerate(found.plans)}
    if found.embedding is not None:
        arrays = dict(zip(("source", "target"), found.embedding, strict=True))
    np.savez(folder / "found.npz", **arrays)
    (folder / "report.json").write_text(json.dumps(report))


def read(folder: Path) -> Problem:
    """The problem that `aligners.peers` wrote."""
    with np.load(folder / "problem.npz") as arrays:
        sides = [
            Modality(
                str(arrays[f"{side}_name"]),
                str(arrays[f"{side}_kind"]),
                *(arrays[f"{side}_{key}"] for key in ("features", "codes", "scores")),
                sparse.load_npz(folder / f"{side}_measured.npz"),
                arrays[f"{side}_variables"],
            )
            for side in ("source", "target")
        ]
        return Problem(*sides, tuple(arrays["treatments"].tolist()), arrays["links"])


def peak_mb() -> float:
    """Largest memory of this process so far; Linux's `getrusage` would count the parent's, from before the start."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) / 2**10
    units = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean."""
    return cdist(x, y)
