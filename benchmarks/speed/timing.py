"""What the scripts of this folder share: an alternating timer, peak memory in a fresh process, and one tidy table.

Methods are functions of the same data. They run in turn, so many rounds, in one process and on the same number of
threads, after one run of each that is not timed and whose results are compared. A ratio is a method's median seconds
over psalm's: above one psalm is faster. ``--threads`` limits BLAS; psalm's own threads are one per core, so that the
comparison is even where there are as many cores.

Memory is the highest resident size while a method runs, less the size before, in a process of its own that has loaded
the data and run the method on a small problem, so that libraries are not counted. Linux forgets an earlier peak on
request; elsewhere (``resource.getrusage``) a peak of loading hides whatever stays below it. These processes come from
a server that has imported the libraries and nothing else, where the system can fork; importing takes seconds.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import re
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Method = Callable[[Any], Any]

COLUMNS = ("step", "case", "method", "seconds_median", "seconds_least", "rounds", "ratio", "peak_gb", "note")
NOT_INSTALLED = "not installed"
ROUNDS, THREADS = 5, 2
LIBRARIES = ["mudata", "psalm", "scanpy", "scipy.spatial.distance", "sklearn.decomposition", "sklearn.neighbors"]
UNKNOWN = float("nan")


@dataclass(frozen=True)
class Line:
    """A row of the table: seconds of every round, none where the method did not run; NaN for what was not measured."""

    step: str
    case: str
    method: str
    seconds: tuple[float, ...] = ()
    ratio: float = UNKNOWN
    peak_gb: float = UNKNOWN
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of :data:`COLUMNS`; empty for what is not known."""
        ends = (f"{median(self.seconds):.4g}", f"{min(self.seconds):.4g}") if self.seconds else ("", "")
        known = ("" if np.isnan(value) else f"{value:.3g}" for value in (self.ratio, self.peak_gb))
        return (self.step, self.case, self.method, *ends, str(len(self.seconds)), *known, self.note)


@dataclass(frozen=True)
class Comparison:
    """Methods that do the same step on the same data.

    Parameters
    ----------
    step, case
        As they stand in the table.
    methods
        By name, module-level functions of the data; the first is psalm's.
    load
        From a problem (of any kind that can be pickled) to the data, anew in every process.
    check
        Compares the results of all methods, raises where they differ, and says something of some of them.
    """

    step: str
    case: str
    methods: Mapping[str, Method]
    load: Callable[[Any], Any]
    check: Callable[[Any, Mapping[str, Any]], Mapping[str, str]]

    def __call__(self, problem: Any, small: Any, given: argparse.Namespace) -> list[Line]:
        """A line for each method; ``small`` is a problem that takes no memory worth counting."""
        peaks = {
            name: fresh(peak_gigabytes, method, self.load, problem, small, given.threads)
            for name, method in self.methods.items()
        }
        with quiet(), threadpool_limits(given.threads):
            data = self.load(problem)
            notes = self.check(data, {name: method(data) for name, method in self.methods.items()})
            seconds = alternate(self.methods, data, given.rounds)
        own = median(seconds[next(iter(self.methods))])
        return [
            Line(self.step, self.case, name, times, median(times) / own, peaks[name], notes.get(name, ""))
            for name, times in seconds.items()
        ]


class quiet(warnings.catch_warnings):  # noqa: N801, used like a function
    """Without warnings: what psalm says of simulated cells is not measured here."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def alternate(methods: Mapping[str, Method], data: Any, rounds: int) -> dict[str, tuple[float, ...]]:
    """Seconds of every round, by method; each round runs every method once."""
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            result = method(data)
            found[name].append(time.perf_counter() - start)
            del result
    return {name: tuple(times) for name, times in found.items()}


def peak_gigabytes(method: Method, load: Callable[[Any], Any], problem: Any, small: Any, threads: int) -> float:
    """Highest resident size while a method runs, less that before; meant for a fresh process."""
    with quiet(), threadpool_limits(threads):
        method(load(small))
        data = load(problem)
        before = forget_peak()
        method(data)
        return (kilobytes("VmHWM") - before) / 2**20


def forget_peak() -> int:
    """Kilobytes now resident, from which the peak counts again; where it cannot be forgotten, the peak so far."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what loading has freed is not lent to the method
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return kilobytes("VmHWM")
    return kilobytes("VmRSS")


def kilobytes(name: str) -> int:
    """An entry of /proc/self/status; the peak so far where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak
    return int(re.search(rf"{name}:\s+(\d+)", status.read_text()).group(1))


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Result of a function in a process of its own."""
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(LIBRARIES)
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *args).result()


def require_close(name: str, own: Any, other: Any, tolerance: float) -> float:
    """Largest difference from psalm's result; raises above the tolerance."""
    own, other = (np.asarray(values, dtype=np.float64) for values in (own, other))
    if own.shape != other.shape or not np.array_equal(np.isnan(own), np.isnan(other)):
        msg = f"{name}: psalm's result has shape {own.shape}, this one {other.shape}, or NaN in other places."
        raise ValueError(msg)
    worst = float(np.nanmax(np.abs(own - other), initial=0.0))
    if worst > tolerance:
        msg = f"{name}: differs from psalm's result by {worst:.3g}, more than {tolerance:g}. Nothing was timed."
        raise ValueError(msg)
    return worst


def arguments(doc: str, sizes: Mapping[str, int], rounds: int = ROUNDS) -> argparse.Namespace:
    """Command line of a script: sizes, rounds, threads and the table's file."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, value in {**sizes, "rounds": rounds, "threads": THREADS}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    add_out(parser)
    return parser.parse_args()


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that all scripts share."""
    parser.add_argument("--out", type=Path, help=f"write a CSV file with the columns {', '.join(COLUMNS)}")


def show(lines: Sequence[Line]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for line in lines:
        print(f"| {' | '.join(line.cells)} |")
    print(flush=True)


def write(lines: Iterable[Line], out: Path | None) -> None:
    """Write the table, if a file was asked for."""
    if out is None:
        return
    with out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(line.cells for line in lines)
