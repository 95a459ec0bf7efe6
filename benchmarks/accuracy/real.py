"""Accuracy of the defaults on seven real data sets with known pairing.

    python benchmarks/accuracy/real.py DATA [--seeds 3] [--method ot] [--epsilon auto] [--cost euclidean] [--refine 0]

Each seed permutes and renames the target's cells and draws the folds anew. Pairs are used for scoring only.
FOSCTTM: within treatment, 0.5 is chance; r2: within-treatment R² of the matched average, 0 is the treatment mean.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import pandas as pd
from tasks import PAIR, PERTURBED, TASKS, Task, prepare

import psalm


def score(task: Task, data: Path, seed: int, **options: object) -> dict[str, object]:
    mdata = prepare(task, data, seed)
    start = time.perf_counter()
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    psalm.tl.match(mdata, source=task.source, target=task.target, progress=False, **options)
    seconds = time.perf_counter() - start
    result = psalm.tl.evaluate(mdata, truth=PAIR).iloc[-1]
    return {
        "task": f"{task.folder}, {task.treatment}",
        "seed": seed,
        "cells": result["n_pairs"],
        "foscttm": result["foscttm"],
        "r2": result["r2"],
        "lift": result["lift"],
        "not_converged": int((~psalm.get.report(mdata)["converged"]).sum()),
        "seconds": seconds,
        "trial_foscttm": task.quick_trial[0],
        "trial_r2": task.quick_trial[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="ot")
    parser.add_argument("--epsilon", default="auto")
    parser.add_argument("--cost", default="euclidean")
    parser.add_argument("--refine", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # findings about single treatments are not the subject
    options = {"method": arguments.method, "refine": arguments.refine}
    if arguments.epsilon != "auto":
        options["epsilon"] = float(arguments.epsilon)
    if arguments.cost != "euclidean":
        options["cost"] = arguments.cost
    seeds = range(arguments.seeds)
    rows = pd.DataFrame(
        [score(task, arguments.data, seed, **options) for task in (*TASKS, PERTURBED) for seed in seeds]
    )
    print(rows.round(4).to_string(index=False))
    means = rows.groupby("task", sort=False)[["foscttm", "r2", "lift", "seconds", "trial_foscttm", "trial_r2"]].mean()
    means.loc["mean of the first seven"] = means.iloc[: len(TASKS)].mean()
    print(f"\nmean of {arguments.seeds} seeds\n{means.round(4).to_string()}")


if __name__ == "__main__":
    main()
