"""All benchmarks in one command: tables as CSV, and the page of the docs.

    python benchmarks/run.py DATA [--only compare images ...] [--jobs 2] [--results benchmarks/results]
        [--page docs/benchmarks.md]

The small setting, for two cores: stages of accuracy run `--jobs` at a time with an equal part of the cores each, then
those of speed, one by one. What is in the results already is not run again: an interrupted run goes on where it was;
remove a file to run it anew. The larger settings are in the docstrings of the scripts. `DATA` is the folder of data
sets with known pairs (see `README.md`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

from page import render
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
PACKAGES = (
    *("scpsalm", "numpy", "scipy", "scikit-learn", "torch", "POT", "anndata", "mudata", "scanpy", "scvi-tools"),
    *("numba", "joblib"),
)


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
"""What libraries, and psalm, ask for how many threads they may use."""


@dataclass(frozen=True)
class Stage:
    """One script with its small setting.

    Parameters
    ----------
    name, script
        Of its table, and where it is.
    options
        `{data}` is the folder of data sets.
    times
        Whether it is about seconds: it then runs alone, on all cores, and only where there is no table yet. The others
        find out themselves what their tables have.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    times: bool = False

    def command(self, data: Path, results: Path) -> list[str]:
        given = [option.format(data=data) for option in self.options]
        return [sys.executable, str(HERE / self.script), *given, "--out", str(self.file(results))]

    def file(self, results: Path) -> Path:
        return results / f"{self.name}.csv"


def of_peer(peer: str) -> Stage:
    """The comparison's rows of a peer: a table and an environment of its own, and a limit of seconds per run."""
    options = ("{data}", "--groups", peer, "--seeds", "1", "--peer-timeout", "1200")
    return Stage(f"compare_{peer}", "accuracy/compare.py", options)


LIGHT_STEPS = ("transfer", "evaluate", "diagnose", "small")
STAGES = (
    of_peer("scglue"),  # what takes longest comes first, so that it is not left alone at the end
    Stage("compare", "accuracy/compare.py", ("{data}", "--groups", "psalm", "baselines", "--seeds", "3")),
    *(of_peer(peer) for peer in ("moscot", "pot", "ott", "maxfuse")),
    Stage("citeseq", "accuracy/citeseq.py", ("--data", "{data}/citeseq_pbmc_inhouse1372", "--seeds", "3")),
    Stage("images", "accuracy/images.py", ("--cells", "1500", "--size", "24", "--seeds", "3")),
    Stage("predict", "accuracy/predict.py", ("{data}", "--seeds", "1")),
    Stage("truth_free", "accuracy/truth_free.py", ("{data}", "--seeds", "1")),
    Stage("speed_represent", "speed/represent.py", ("--rounds", "3"), times=True),
    Stage(
        "speed_propensity",
        "speed/propensity.py",
        ("--cells", "5000", "--features", "50", "--treatments", "20", "--rounds", "2"),
        times=True,
    ),
    Stage("speed_match", "speed/matching.py", ("--small",), times=True),
    Stage("speed_predict", "speed/predict.py", ("--cells", "4000", "--rounds", "3", "--memory", "20000"), times=True),
    *(Stage(f"speed_{step}", f"speed/{step}.py", ("--rounds", "3"), times=True) for step in LIGHT_STEPS),
)


@dataclass(frozen=True)
class Done:
    """A stage that ended: whether well, and after how many seconds."""

    stage: Stage
    well: bool
    seconds: float


def run(stage: Stage, arguments: argparse.Namespace, rows: Queue[int], threads: int | None) -> Done:
    """Run one stage; its progress has a row of the terminal, its tables go into a file beside the CSV."""
    row, start = rows.get(), time.perf_counter()
    shown = {"TQDM_POSITION": str(row), "TQDM_LEAVE": "0", "TQDM_DESC": stage.name}
    limits = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    with (arguments.results / f"{stage.name}.txt").open("w") as printed:
        command = stage.command(arguments.data, arguments.results)
        done = subprocess.run(command, stdout=printed, env=os.environ | shown | limits, check=False)
    rows.put(row)
    return Done(stage, done.returncode == 0, time.perf_counter() - start)


def together(stages: Sequence[Stage], arguments: argparse.Namespace, jobs: int, threads: int | None) -> Iterator[Done]:
    """Stages as they end, some at a time. An interrupt stops what runs and starts nothing more."""
    rows: Queue[int] = Queue()
    for row in range(1, jobs + 1):
        rows.put(row)
    pool = ThreadPoolExecutor(jobs)
    try:
        running: list[Future[Done]] = [pool.submit(run, stage, arguments, rows, threads) for stage in stages]
        yield from (future.result() for future in as_completed(running))
    finally:
        pool.shutdown(cancel_futures=True)


def about() -> dict[str, object]:
    """Date, machine and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


class Record:
    """`run.json`: when and with what each stage was run, and how long each call of this command took."""

    def __init__(self, results: Path) -> None:
        self.file = results / "run.json"
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.stages, self.calls = known.get("stages", {}), known.get("calls", [])
        self.start, self.here = time.perf_counter(), []

    def add(self, done: Done, *, anew: bool) -> None:
        before = 0.0 if anew else self.stages.get(done.stage.name, {}).get("seconds", 0.0)
        self.stages[done.stage.name] = about() | {"seconds": round(before + done.seconds)}
        self.here.append(done.stage.name)

    def write(self, jobs: int) -> None:
        call = {"date": datetime.now(UTC).date().isoformat(), "jobs": jobs, "stages": self.here}
        call["seconds"] = round(time.perf_counter() - self.start)
        self.file.write_text(json.dumps({"stages": self.stages, "calls": [*self.calls, call]}, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=2, help="stages of accuracy at a time")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    arguments.results.mkdir(parents=True, exist_ok=True)
    record, failed = Record(arguments.results), []
    chosen = [stage for stage in STAGES if stage.name in arguments.only]
    there = {stage.name for stage in chosen if stage.file(arguments.results).exists()}
    accuracy = [stage for stage in chosen if not stage.times]
    speed = [stage for stage in chosen if stage.times and stage.name not in there]
    threads = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    try:
        with tqdm(total=len(accuracy) + len(speed), desc="stages", unit="stage", position=0) as progress:
            for stages, jobs, each in ((accuracy, arguments.jobs, threads), (speed, 1, None)):
                for done in together(stages, arguments, jobs, each):
                    progress.update()
                    if done.well:
                        record.add(done, anew=done.stage.name not in there)
                    else:
                        failed.append(done.stage.name)
                    record.write(arguments.jobs)
    finally:  # also of a call that is interrupted
        record.write(arguments.jobs)
    arguments.page.write_text(render(arguments.results))
    if failed:
        print(
            f"These stages failed, and the page lacks rows of theirs: {', '.join(failed)}. Their output is in the .txt."
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
