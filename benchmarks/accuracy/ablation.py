"""What each part of the recipe is worth: from the paper's recipe to the package's defaults, and out of the defaults.

    python benchmarks/accuracy/ablation.py DATA [--seeds 3] [--only scgem177] [--markdown FILE]

The first table adds one part at a time to the paper's recipe; the last step is the package's defaults, and the script
stops if `psalm.tl.propensity` and `psalm.tl.match` say anything else. The second takes one part at a time out of the
defaults. Seeds are those of `real.py`; pairs are used for scoring only. Sinkhorn runs that stop before the marginals
are right are counted in `stopped`, and `error` is the largest marginal error.

On the real tasks both modalities have the same cells, thus the same treatment frequencies, and the shared prior changes
nothing by construction; one simulation has unequal frequencies. `recipes.py` holds the parts.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from recipes import (
    AT_ITS_WORD,
    N_REPEATS,
    NETWORK,
    AbsoluteSinkhorn,
    Cells,
    PlainTemperature,
    Recipe,
    cells_of,
    forget,
    scores_of,
)
from tasks import PAIR, PERTURBED, TASKS, prepare

import psalm
from psalm._containers import stack
from psalm.core import metrics
from psalm.core.calibration import TemperatureCalibrator
from psalm.core.kernel import KernelClassifier
from psalm.core.logistic import LogisticClassifier
from psalm.core.matching import Cells as Matched
from psalm.core.matching import match_within
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

    from psalm.core.matcher import Matcher

FIGURES = ("foscttm", "lift", "r2")
FIRST, SECOND = "each step adds to the one before", "the defaults, with one part changed"
TRUTH = "propensity_true"
KEPT = 0.4
"""Share of the target's cells of every other treatment that the simulation of unequal frequencies keeps."""
LEAST = 0.001
"""Differences below this count neither as better nor as worse."""
SEVEN = [f"{task.folder}, {task.treatment}" for task in TASKS]

STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("paper's recipe", {}),
    ("+ ε relative to mean cost", {"matcher": SinkhornMatcher()}),
    ("+ out of fold", {"out_of_fold": True}),
    ("+ temperature", {"calibrator": PlainTemperature()}),
    ("+ centred", {"centred": True}),
    ("+ logistic, firm ridge", {"classifier": LogisticClassifier(balance=0)}),
    ("+ softly balanced", {"classifier": LogisticClassifier()}),
    ("+ cap, smoothed labels", {"capped": True, "calibrator": TemperatureCalibrator()}),
    ("+ five repeats", {"n_repeats": N_REPEATS}),
    ("+ shared prior", {"shared_prior": True}),
    ("+ kernel = defaults", {"classifier": KernelClassifier()}),
)
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("absolute ε of 0.05", {"matcher": AbsoluteSinkhorn()}),
    ("in-sample", {"out_of_fold": False}),
    ("no calibration", {"calibrator": AT_ITS_WORD}),
    ("log-probabilities, not centred", {"centred": False}),
    ("network, one repeat", {"classifier": NETWORK, "n_repeats": 1}),
    ("logistic, no kernel", {"classifier": LogisticClassifier()}),
    ("logistic, loose ridge (C = 1)", {"classifier": LogisticClassifier(C=1.0)}),
    ("loose ridge (C = 1)", {"classifier": KernelClassifier(C=1.0)}),
    ("features on equal scales", {"classifier": KernelClassifier(equal_scales=True)}),
    ("treatments not balanced", {"classifier": KernelClassifier(balance=0)}),
    ("no cap, labels not smoothed", {"capped": False, "calibrator": PlainTemperature()}),
    ("no cap, no calibration", {"capped": False, "calibrator": AT_ITS_WORD}),
    ("one repeat", {"n_repeats": 1}),
    ("each modality's own prior", {"shared_prior": False}),
)


def recipes() -> Iterator[tuple[str, str, Recipe]]:
    """Table, name and recipe of every row."""
    recipe = Recipe()
    for name, change in STEPS:
        recipe = replace(recipe, **change)
        yield FIRST, name, recipe
    yield SECOND, "defaults", recipe
    for name, change in CHANGES:
        yield SECOND, name, replace(recipe, **change)


@dataclass(frozen=True)
class Case:
    """Unpaired cells of a source and a target."""

    name: str
    source: str
    target: str
    make: Callable[[int], MuData]


def simulate(seed: int, *, thinned: bool = False, **options: Any) -> MuData:
    """A paired simulation of 12 treatments, made unpaired as the real tasks are."""
    mdata = psalm.datasets.simulated(n_treatments=12, n_latent=4, paired=True, rng=seed, **options)
    rng = np.random.default_rng(seed)
    pairs = np.array([f"pair_{number}" for number in range(mdata.n_obs)])
    order = rng.permutation(mdata.n_obs)
    if thinned:
        every_other = mdata["b"].obs["perturbation"].cat.codes.to_numpy()[order] % 2 == 1
        order = order[~every_other | (rng.random(len(order)) < KEPT)]
    parts = {"a": mdata["a"].copy(), "b": mdata["b"][order].copy()}
    parts["a"].obs[PAIR], parts["b"].obs[PAIR] = pairs, pairs[order]
    for name, adata in parts.items():
        adata.obs_names = [f"{name}_{number}" for number in range(adata.n_obs)]
    unpaired = stack(parts)
    psalm.pp.treatment(unpaired, "perturbation")
    for name, adata in parts.items():
        psalm.pp.represent(unpaired, name, kind="features", n_comps=adata.n_vars)
    return unpaired


SIMULATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("simulation, 1,000 cells", {}),
    ("simulation, over-confident", {"n_cells": 300, "n_private": 40, "n_features": (200, 150)}),
    ("simulation, unequal frequencies", {"thinned": True}),
)


def cases(data: Path) -> list[Case]:
    tasks = zip([*SEVEN, PERTURBED.folder], (*TASKS, PERTURBED), strict=True)
    real = [Case(name, t.source, t.target, lambda seed, t=t: prepare(t, data, seed)) for name, t in tasks]
    made = [Case(name, "a", "b", lambda seed, o=options: simulate(seed, **o)) for name, options in SIMULATIONS]
    return real + made


@dataclass(frozen=True)
class Problem:
    """One case with one seed: both sides, who is whose partner, and the features that are predicted."""

    sides: list[Cells]
    partner: np.ndarray
    features: np.ndarray

    def judge(self, scores: list[np.ndarray], matcher: Matcher) -> dict[str, Any]:
        """Match and score."""
        rounded = [np.asarray(s, dtype=np.float32).astype(np.float64) for s in scores]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no number at a small ε: AbsoluteSinkhorn answers
            sides = [Matched(values, side.codes) for values, side in zip(rounded, self.sides, strict=True)]
            coupling, found = match_within(*sides, matcher)
        ranks = metrics.pair_ranks(coupling, self.partner)
        return {
            "foscttm": ranks.foscttm.mean(),
            "lift": ranks.lift.mean(),
            "r2": metrics.r_squared(metrics.matched_average_errors(coupling, ranks, self.features)),
            "stopped": sum(not result.match.converged for result in found),
            "treatments": len(found),
            "error": max(result.match.marginal_error for result in found),
        }


def problem(case: Case, mdata: MuData, seed: int) -> Problem:
    streams = np.random.default_rng(seed).spawn(len(mdata.mod))
    sides = [cells_of(mdata, name, stream) for name, stream in zip(mdata.mod, streams, strict=True)]
    pairs = [
        pd.Index(mdata[name].obs[PAIR].to_numpy()[side.places]) for name, side in zip(mdata.mod, sides, strict=True)
    ]
    partner = pairs[1].get_indexer(pairs[0])
    return Problem(sides, partner, np.asarray(mdata[case.target].obsm["X_psalm"], dtype=float)[sides[1].places])


def package(case: Case, mdata: MuData, seed: int) -> dict[str, float]:
    """What the package's own steps say at the fixed ε, as in `real.py --epsilon 0.2`."""
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    psalm.tl.match(mdata, source=case.source, target=case.target, epsilon=SinkhornMatcher().epsilon, progress=False)
    result = psalm.tl.evaluate(mdata, truth=PAIR).iloc[-1]
    return {name: float(result[name]) for name in FIGURES}


def same(case: Case, ours: dict[str, Any], theirs: dict[str, float]) -> None:
    difference = max(abs(ours[name] - theirs[name]) for name in FIGURES)
    if difference > 1e-5:  # noqa: PLR2004
        msg = f"{case.name}: the last step is not what the package does; they differ by {difference:.2g}."
        raise RuntimeError(msg)


def rows(case: Case, seed: int) -> Iterator[dict[str, Any]]:
    mdata = case.make(seed)
    task = problem(case, mdata, seed)
    for table, name, recipe in recipes():
        row = task.judge(scores_of(recipe, task.sides), recipe.matcher)
        if name == "defaults":
            same(case, row, package(case, mdata, seed))
        yield {"task": case.name, "seed": seed, "table": table, "recipe": name, **row}
    if TRUTH in mdata[case.source].obsm:
        truth = [mdata[name].obsm[TRUTH][side.places] for name, side in zip(mdata.mod, task.sides, strict=True)]
        row = task.judge(truth, SinkhornMatcher())
        yield {"task": case.name, "seed": seed, "table": SECOND, "recipe": "true propensity", **row}
    forget()


def per_task(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds; `stopped` and `error` are the worst."""
    grouped = table.groupby(["task", "recipe"], sort=False)
    return grouped[list(FIGURES)].mean().join(grouped[["stopped", "treatments", "error"]].max())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of the seven tasks, its standard error over seeds, and on how many tasks the row beats its reference.

    The reference is the row before in the first table, the defaults in the second.
    """
    by_seed = table.groupby(["recipe", "seed"], sort=False)[list(FIGURES)].mean().groupby("recipe", sort=False)
    found = by_seed.mean().join(by_seed.sem().add_suffix("_se"))
    for name, sign in (("foscttm", -1), ("r2", 1)):
        values = table.groupby(["recipe", "task"], sort=False)[name].mean().unstack("task")
        reference = values.shift() if table["table"].iloc[0] == FIRST else values.loc["defaults"]
        found[f"{name}_better"] = (sign * (values - reference) > LEAST).sum(axis=1)
        found[f"{name}_worse"] = (sign * (values - reference) < -LEAST).sum(axis=1)
    totals = table.groupby(["recipe", "seed"], sort=False)[["stopped", "treatments"]].sum()
    return found.join(totals.groupby("recipe", sort=False).max())


def markdown(frame: pd.DataFrame, index: str) -> str:
    """A table for the docs."""
    lines = [[index, *frame.columns], ["---"] * (1 + frame.shape[1])]
    lines += [[str(name), *values] for name, values in zip(frame.index, frame.to_numpy().tolist(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted(found: pd.DataFrame, figure: str) -> list[str]:
    """On how many tasks a row is better and worse; nothing for the row that others are compared with."""
    pairs = list(zip(found[f"{figure}_better"], found[f"{figure}_worse"], strict=True))
    return ["", *(f"{better} / {worse}" for better, worse in pairs[1:])]


def signed(values: pd.Series) -> pd.Series:
    return values.map("{:+.3f}".format).str.replace("-", "−")


def documented(table: pd.DataFrame) -> str:
    """Mean of the seven, where they were run, then FOSCTTM / R² of every case."""
    parts, means = [], per_task(table)
    if set(SEVEN) <= set(table["task"]):
        found = summary(table[table["task"].isin(SEVEN)])
        shown = {
            "FOSCTTM": found["foscttm"].map("{:.3f}".format),
            "better / worse": counted(found, "foscttm"),
            "within-treatment R²": signed(found["r2"]),
            "R² better / worse": counted(found, "r2"),
            "lift": found["lift"].map("{:.2f}".format),
            "not converged": [f"{s} of {n}" for s, n in zip(found["stopped"], found["treatments"], strict=True)],
        }
        parts.append(markdown(pd.DataFrame(shown, index=found.index), "mean of the seven"))
    cells = means["foscttm"].map("{:.3f}".format) + " / " + signed(means["r2"])
    wide = cells.unstack("task").reindex(columns=table["task"].unique(), index=table["recipe"].unique()).fillna("")
    parts.append(markdown(wide, "FOSCTTM / R²"))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    found = []
    for case in cases(arguments.data):
        if arguments.only in case.name:
            part = pd.DataFrame([row for seed in range(arguments.seeds) for row in rows(case, seed)])
            print(f"\n{case.name}\n{per_task(part).droplevel('task').round(4).to_string()}", flush=True)
            found.append(part)
    table = pd.concat(found, ignore_index=True)
    parts = [table[table["table"] == name] for name in (FIRST, SECOND)]
    for name, part in zip((FIRST, SECOND), parts, strict=True):
        seven = part[part["task"].isin(SEVEN)]
        if set(SEVEN) == set(seven["task"]):
            print(f"\nmean of the seven: {name}\n{summary(seven).round(4).to_string()}")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(documented(part) for part in parts), encoding="utf-8")


if __name__ == "__main__":
    main()
