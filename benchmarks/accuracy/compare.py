"""psalm beside baselines and peers on the same cells, scored by the same function.

    python benchmarks/accuracy/compare.py DATA [--seeds 3] [--peer-seeds 1] [--peer-timeout 1800]
        [--groups psalm baselines moscot ...] [--methods ...] [--out compare.csv]

Every method sees the same features (`psalm.pp.represent`) and treatments, and no pairs; what it returns is put into the
container as a match and scored by `psalm.tl.evaluate` (`problem.py`). Each seed permutes and renames the target's
cells. Baselines are in `aligners/`, peers run in environments of their own (`../peers/`). A method that could not be
installed or lacks what it needs is a row with a note, not a gap.

FOSCTTM: within treatment, on the coupling; 0.5 is chance. r2: of the matched average within treatments; 0 is the
treatment's mean. Bounds are 95 % bootstrap intervals over cells. Seconds are those of the method with
its scores; where two methods share an embedding, the second's lack it.
With `--out`, finished rows are kept in the file and not run again; remove it to start anew.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligners.autoencoder import AdversarialAutoencoder
from aligners.contrastive import GroupContrastive
from aligners.gromov import LabelledGromov
from aligners.paper import PaperRecipe
from aligners.peers import PEERS, NotApplicable, NotInstalled
from aligners.scot import Scot
from aligners.simple import random_partner, treatment_mean
from problem import Embedded, problem_of, put
from tasks import PAIR, PERTURBED, TASKS, Task, prepare
from units import resumed

import psalm
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from mudata import MuData
    from problem import Aligner, Problem

OURS: dict[str, dict[str, Any]] = {
    "psalm, defaults": {},
    "psalm, refine=1": {"refine": 1},
    "psalm, snn": {"method": "snn"},
}
BASELINES: dict[str, Aligner] = {
    "random partner": random_partner,
    "treatment mean": treatment_mean,
    "paper's recipe, OT": PaperRecipe("ot"),
    "paper's recipe, SNN": PaperRecipe("snn"),
    "autoencoder, OT ε .2": Embedded(AdversarialAutoencoder(), SinkhornMatcher(0.2)),
    "autoencoder, OT ε .05": Embedded(AdversarialAutoencoder(), SinkhornMatcher(0.05)),
    "autoencoder, SNN": Embedded(AdversarialAutoencoder(), SharedNeighborMatcher(1)),
    "contrastive, OT ε .2": Embedded(GroupContrastive(), SinkhornMatcher(0.2)),
    "contrastive, OT ε .05": Embedded(GroupContrastive(), SinkhornMatcher(0.05)),
    "labelled GW, joint": LabelledGromov(),
    "labelled GW, per treatment": LabelledGromov(joint=False),
    "SCOT, per treatment": Scot(),
}
ONCE = ("treatment mean", "labelled GW, joint", "labelled GW, per treatment", "SCOT, per treatment")
"""Nothing is drawn in these, and they do not see the order of cells: one seed says it all."""
GROUPS: dict[str, list[str]] = {
    "psalm": list(OURS),
    "baselines": list(BASELINES),
    **{peer.name: [method for method in PEERS if PEERS[method].name == peer.name] for peer in PEERS.values()},
}
"""Methods by `--groups`; a peer's are its own group."""
FIGURES = ("foscttm", "r2", "trace", "lift", "recall")
BOUNDED = ("foscttm", "r2")
TASK_OF = {f"{task.folder}, {task.treatment}": task for task in (*TASKS, PERTURBED)}


@dataclass
class Case:
    """One data set and seed, prepared and scored once, when first asked for."""

    task: Task
    data: Path
    seed: int
    peer_timeout: float

    @cached_property
    def scored(self) -> tuple[MuData, float]:
        """Cells with psalm's scores, and the seconds of these."""
        mdata = prepare(self.task, self.data, self.seed)
        start = time.perf_counter()
        psalm.tl.propensity(mdata, rng=self.seed, progress=False)
        return mdata, time.perf_counter() - start

    @cached_property
    def problem(self) -> Problem:
        return problem_of(self.scored[0], self.task)

    def run(self, method: str) -> dict[str, Any]:
        """Figures of one method, or why there are none."""
        mdata, scoring = self.scored
        start = time.perf_counter()
        if method in OURS:
            names = {"source": self.task.source, "target": self.task.target}
            psalm.tl.match(mdata, **names, progress=False, **OURS[method])
            seconds = scoring + time.perf_counter() - start
            return self.figures(mdata) | {"seconds": seconds}
        try:
            plans, report = self.aligned(method)
        except (NotInstalled, NotApplicable) as reason:
            kind = "not installed" if isinstance(reason, NotInstalled) else "not applicable"
            return {"note": f"{kind}: {reason}"}
        except (FloatingPointError, TimeoutError, RuntimeError) as reason:
            return {"note": f"failed: {reason}"}
        seconds = time.perf_counter() - start
        put(mdata, self.problem, plans)
        return self.figures(mdata) | {"seconds": seconds} | report

    def aligned(self, method: str) -> tuple[Sequence[np.ndarray], dict[str, Any]]:
        """Plans, and what a peer says of itself: versions, the seconds of its own work, MB of its process."""
        if method not in PEERS:
            return BASELINES[method](self.problem, self.seed), {}
        result = replace(PEERS[method], timeout=self.peer_timeout).run(self.problem, self.seed)
        versions = ", ".join(f"{name} {number}" for name, number in result.report["versions"].items())
        own = {"own_seconds": result.report["seconds"], "peak_mb": result.report["peak_mb"]}
        return result.plans, own | {"versions": versions, "said": json.dumps(result.report["notes"])}

    def figures(self, mdata: MuData) -> dict[str, Any]:
        table = psalm.tl.evaluate(mdata, truth=PAIR)
        treatments, whole = table.iloc[:-1], table.iloc[-1]
        bounds = [f"{figure}_{end}" for figure in BOUNDED for end in ("lower", "upper")]
        found = {name: whole[name] for name in (*FIGURES, *bounds)}
        return found | {
            "cells": int(whole["n_pairs"]),
            "below_0": int((treatments["r2"] < 0).sum()),
            "treatments": len(treatments),
        }


def group_of(method: str) -> str:
    return "psalm" if method in OURS else "baseline" if method in BASELINES else "peer"


def seeds_of(method: str, arguments: argparse.Namespace) -> int:
    if method in ONCE:
        return 1
    return arguments.peer_seeds if method in PEERS else arguments.seeds


def main() -> None:
    methods = [method for group in GROUPS.values() for method in group]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1)
    parser.add_argument(
        "--peer-timeout", type=float, default=1800, help="seconds that a peer may take for one data set"
    )
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--methods", nargs="+", choices=methods, help="single methods, instead of groups")
    parser.add_argument("--out", type=Path, help="every row as CSV; rows in it are not run again")
    arguments = parser.parse_args()
    chosen = arguments.methods or [method for group in arguments.groups for method in GROUPS[group]]
    warnings.filterwarnings("ignore", category=UserWarning)  # findings about single treatments are not the subject
    units = [
        {"data": name, "seed": seed, "method": method}
        for name in TASK_OF
        for seed in range(arguments.seeds)
        for method in chosen
        if seed < seeds_of(method, arguments)
    ]
    case_of = lru_cache(maxsize=1)(lambda data, seed: Case(TASK_OF[data], arguments.data, seed, arguments.peer_timeout))

    def run(unit: dict[str, Any]) -> list[dict[str, Any]]:
        method = unit["method"]
        return [{"group": group_of(method)} | case_of(unit["data"], unit["seed"]).run(method)]

    table = resumed(units, run, arguments.out)
    for figure in table.columns.intersection(BOUNDED):  # none where nothing could be run
        medians = table.groupby(["method", "data"], sort=False)[figure].median().unstack("data")
        medians["mean of the seven"] = medians.iloc[:, : len(TASKS)].mean(axis=1)
        print(f"\n{figure}, median of seeds\n{medians.round(3).to_string()}")
    if "note" in table:
        print("\n" + table.loc[table["note"].notna(), [*units[0], "note"]].to_string(index=False))


if __name__ == "__main__":
    main()
