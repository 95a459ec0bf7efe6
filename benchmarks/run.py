"""All benchmarks in one command: tables as CSV, and the page of the docs.

    python benchmarks/run.py DATA [--only compare images ...] [--results benchmarks/results] [--page docs/benchmarks.md]

The small setting, for two cores. What is in the results already is not run again: an interrupted run goes on where it
was; remove a file to run it anew. The larger settings are in the docstrings of the scripts. `DATA` is the folder of
data sets with known pairs (see `README.md`).
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from page import render
from tqdm.auto import tqdm

HERE = Path(__file__).parent
PACKAGES = (
    *("psalm", "numpy", "scipy", "scikit-learn", "torch", "POT", "anndata", "mudata", "scanpy", "scvi-tools"),
    *("numba", "joblib"),
)


@dataclass(frozen=True)
class Stage:
    """One script with its small setting.

    Parameters
    ----------
    name, script
        Of its table, and where it is.
    options
        `{data}` is the folder of data sets.
    goes_on
        Whether the script itself finds out what its table has; else it is run only where there is no table.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    goes_on: bool = True

    def command(self, data: Path, results: Path) -> list[str]:
        given = [option.format(data=data) for option in self.options]
        return [sys.executable, str(HERE / self.script), *given, "--out", str(self.file(results))]

    def file(self, results: Path) -> Path:
        return results / f"{self.name}.csv"


LIGHT_STEPS = ("transfer", "evaluate", "diagnose", "small")
STAGES = (
    Stage("compare", "accuracy/compare.py", ("{data}", "--seeds", "3", "--peer-seeds", "1")),
    Stage("images", "accuracy/images.py", ("--cells", "1500", "--size", "24", "--seeds", "3")),
    Stage("citeseq", "accuracy/citeseq.py", ("--data", "{data}/citeseq_pbmc_inhouse1372", "--seeds", "3")),
    Stage("predict", "accuracy/predict.py", ("{data}", "--seeds", "1")),
    Stage("truth_free", "accuracy/truth_free.py", ("{data}", "--seeds", "1")),
    Stage("speed_represent", "speed/represent.py", ("--rounds", "3"), goes_on=False),
    Stage(
        "speed_propensity",
        "speed/propensity.py",
        ("--cells", "5000", "--features", "50", "--treatments", "20", "--rounds", "2"),
        goes_on=False,
    ),
    Stage("speed_match", "speed/matching.py", ("--small",), goes_on=False),
    Stage(
        "speed_predict", "speed/predict.py", ("--cells", "4000", "--rounds", "3", "--memory", "20000"), goes_on=False
    ),
    *(Stage(f"speed_{step}", f"speed/{step}.py", ("--rounds", "3"), goes_on=False) for step in LIGHT_STEPS),
)


def run(stage: Stage, data: Path, results: Path) -> bool:
    """Run one stage; its progress goes through, its tables into a file beside the CSV."""
    results.mkdir(parents=True, exist_ok=True)
    with (results / f"{stage.name}.txt").open("w") as printed:
        return subprocess.run(stage.command(data, results), stdout=printed, check=False).returncode == 0


def about() -> dict[str, object]:
    """Date, machine and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def main() -> int:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    record = arguments.results / "run.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    failed = []
    chosen = [stage for stage in STAGES if stage.name in arguments.only]
    for stage in tqdm(chosen, desc="stages", unit="stage"):
        start, fresh = time.perf_counter(), not stage.file(arguments.results).exists()
        if not fresh and not stage.goes_on:
            continue
        if not run(stage, arguments.data, arguments.results):
            failed.append(stage.name)
            continue
        before = 0.0 if fresh else known.get(stage.name, {}).get("seconds", 0.0)
        known[stage.name] = about() | {"seconds": round(before + time.perf_counter() - start)}
        record.write_text(json.dumps(known, indent=1) + "\n")
    arguments.page.write_text(render(arguments.results))
    if failed:
        print(f"These stages failed, and the page lacks their rows: {', '.join(failed)}. Their output is in the .txt.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
