"""Does what a match says of itself agree with the truth? Over data sets and methods.

    python benchmarks/accuracy/truth_free.py DATA [--seeds 1] [--out truth_free.csv]

Eight real tasks with known pairing, made unpaired, and six methods: the defaults, shared nearest neighbours, the
paper's settings (a network's uncalibrated scores, ε = 0.05 absolute; scores are out of fold, unlike the paper's),
nearest neighbours, exact transport, and random partners. `psalm.tl.diagnose` sees no pair; `psalm.tl.evaluate` does.
The figure is the Spearman correlation of the expected R² with the true R² within treatments.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.stats import spearmanr
from tasks import PAIR, PERTURBED, TASKS, prepare
from units import resumed

import psalm
from psalm.core import methods
from psalm.core.matcher import Match
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData
    from tasks import Task

    from psalm.core.matcher import Side

PAPER = "paper"
NAMED = ("defaults", "snn", "paper's settings", "random")
CHECKS = ("score agreement", "stability", "expected R²", "hubness")


@dataclass(frozen=True)
class RandomMatcher:
    """One random partner for each source cell, others in every call."""

    def __call__(self, source: Side, target: Side) -> Match:
        n = len(source)
        partner = np.random.default_rng().integers(len(target), size=n)
        return Match(SparsePlan(sparse.csr_matrix((np.ones(n) / n, (np.arange(n), partner)), shape=(n, len(target)))))


METHODS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "snn": {"method": "snn"},
    "paper's settings": {"epsilon_absolute": 0.05, "propensity_key": PAPER},
    "random": {"method": "random"},
    "nearest": {"method": "nearest"},
    "exact": {"method": "exact"},
}


def scored(mdata: MuData, seed: int) -> None:
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    options = {"classifier": "mlp", "calibration": "none", "prior": "own", "n_repeats": 2}
    psalm.tl.propensity(mdata, **options, rng=seed, progress=False, key_added=PAPER)


def rows(task: Task, data: Path, seed: int) -> list[dict[str, Any]]:
    mdata, found = prepare(task, data, seed), []
    scored(mdata, seed)
    for name, options in METHODS.items():
        psalm.tl.match(mdata, source=task.source, target=task.target, progress=False, **options)
        verdicts = psalm.tl.diagnose(mdata, progress=False).set_index("check")["value"]
        truth = psalm.tl.evaluate(mdata, truth=PAIR, n_bootstrap=0).iloc[-1]
        about = {"method": name, "r2": truth["r2"], "foscttm": truth["foscttm"]}
        found.append(about | {check: verdicts[check] for check in CHECKS})
    return found


def summary(table: pd.DataFrame) -> str:
    lines = []
    for title, part in (("the four named first", table[table["method"].isin(NAMED)]), ("all six", table)):
        found = ", ".join(f"{check} {spearmanr(part[check], part['r2'])[0]:.3f}" for check in CHECKS)
        lines.append(f"Spearman with the true R² over {len(part)} matches, {title}: {found}")
    by_method = {name: spearmanr(part["expected R²"], part["r2"])[0] for name, part in table.groupby("method")}
    lines.append("expected R² over data sets, by method: " + ", ".join(f"{k} {v:.2f}" for k, v in by_method.items()))
    error = (table["expected R²"] - table["r2"]).groupby(table["method"])
    lines.append(
        "expected less true R², by method (mean, least, largest):\n"
        + error.agg(["mean", "min", "max"]).round(3).to_string()
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="every row as CSV; what is in it is not run again")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    methods.METHODS["random"] = RandomMatcher  # a name, so that the match can be made again
    tasks = {f"{task.folder}, {task.treatment}": task for task in (*TASKS, PERTURBED)}
    units = [{"task": name, "seed": seed} for name in tasks for seed in range(arguments.seeds)]
    table = resumed(units, lambda unit: rows(tasks[unit["task"]], arguments.data, unit["seed"]), arguments.out)
    print(f"{table.round(3).to_string(index=False)}\n\n{summary(table)}")


if __name__ == "__main__":
    main()
