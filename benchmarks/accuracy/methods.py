"""Every matcher on the same scores, on eight real data sets with known pairing.

    python benchmarks/accuracy/methods.py DATA [--seeds 3] [--methods auto posterior ...]

Scores are computed once per data set and seed, with the defaults. Pairs are used for scoring only. FOSCTTM and R² as in
`real.py`; "below 0" counts treatments whose matched average is worse than their mean, over all data sets and seeds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tasks import PAIR, PERTURBED, TASKS, Task, prepare

import psalm

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS: dict[str, dict[str, Any]] = {
    "ot, ε auto": {},
    "ot, ε 0.2": {"epsilon": 0.2},
    "ot, sqeuclidean, ε auto": {"cost": "sqeuclidean"},
    "ot, posterior": {"cost": "posterior"},
    "ot, one refinement": {"refine": 1},
    "ot, two refinements": {"refine": 2},
    "unbalanced": {"method": "unbalanced"},
    "partial, 0.9": {"method": "partial"},
    "exact": {"method": "exact"},
    "snn": {"method": "snn"},
    "snn, csls": {"method": "snn", "hubness": "csls"},
    "fgw": {"method": "fgw"},
    "nearest": {"method": "nearest"},
    "mutual": {"method": "mutual"},
}


def rows(task: Task, data: Path, seed: int, chosen: list[str]) -> Iterator[dict[str, Any]]:
    mdata = prepare(task, data, seed)
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    for name in chosen:
        start = time.perf_counter()
        psalm.tl.match(mdata, source=task.source, target=task.target, progress=False, **METHODS[name])
        seconds = time.perf_counter() - start
        table = psalm.tl.evaluate(mdata, truth=PAIR)
        treatments, total = table.iloc[:-1], table.iloc[-1]
        yield {
            "task": f"{task.folder}, {task.treatment}",
            "seed": seed,
            "method": name,
            "foscttm": total["foscttm"],
            "r2": total["r2"],
            "below_0": int((treatments["r2"] < 0).sum()),
            "treatments": len(treatments),
            "not_converged": int((~psalm.get.report(mdata)["converged"]).sum()),
            "seconds": seconds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # findings about single treatments are not the subject
    tasks = [(task, seed) for task in (*TASKS, PERTURBED) for seed in range(arguments.seeds)]
    found = pd.DataFrame([row for task, seed in tasks for row in rows(task, arguments.data, seed, arguments.methods)])
    perturbed = found["task"].str.startswith(PERTURBED.folder)
    means = found[~perturbed].groupby("method", sort=False)[["foscttm", "r2"]].mean()
    counts = found.groupby("method", sort=False)[["below_0", "treatments", "not_converged", "seconds"]].sum()
    by_task = found.groupby(["method", "task"], sort=False)["r2"].mean().unstack("task")
    places = found.groupby(["method", "task"], sort=False)["foscttm"].mean().unstack("task")
    print(f"mean of the first seven, and counts over all\n{means.join(counts).round(4).to_string()}")
    print(f"\nR²\n{by_task.round(3).to_string()}\n\nFOSCTTM\n{places.round(3).to_string()}")


if __name__ == "__main__":
    main()
