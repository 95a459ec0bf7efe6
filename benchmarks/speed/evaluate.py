"""Seconds and memory of `tl.evaluate` beside the usual dense code for the same numbers.

    python benchmarks/speed/evaluate.py [--cells 5000 --rounds 5 --out evaluate.csv]

The same cells in both modalities, in eight treatments, matched; scores of a match whose pairs are known. psalm computes
the plan anew from scores and potentials, a tile at a time, and returns FOSCTTM by mass and by features, recall, trace
and R², by treatment and over all, with 200 bootstrap samples unless it says "no intervals". The dense code has one
float64 plan per treatment, at hand, as a solver returns it; its seconds are those of the metrics alone:

- comparison: FOSCTTM as ``(P > diag(P)).mean()`` along rows and columns, which is how scglue does it with distances,
  and R² of ``P @ Y``.
- argsort: the same two numbers, by ranks.
- cell by cell: the same two numbers, by a loop over cells.
- every metric: also recall, trace and FOSCTTM by distances between matched averages and features; no intervals.
- comparison, plan made: the first with the plan made anew from scores and potentials.

All must give psalm's numbers: FOSCTTM to 1e-6 (without ties), the others to 1e-4. Methods alternate in one process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matched import TARGET, Data, files, load
from scipy.spatial.distance import cdist
from timing import Comparison, arguments, require_close, show, write

import psalm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psalm.core._types import FloatArray

    Foscttm = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

SIZES = {"cells": 5_000}
PSALM, NO_INTERVALS = "psalm", "psalm, no intervals"
K = 10
TOLERANCES = {"foscttm": 1e-6, "r2": 1e-4, "recall": 1e-4, "trace": 1e-6, "foscttm_features": 1e-4}


def by_psalm(data: Data, *, n_bootstrap: int = 200) -> dict[str, float]:
    return psalm.tl.evaluate(data.mdata, n_bootstrap=n_bootstrap, k=K).iloc[-1].to_dict()


def comparison(affinity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shares of cells above the true pair, which is on the diagonal, in rows and columns."""
    own, n_others = affinity.diagonal(), len(affinity) - 1
    return (affinity > own[:, None]).sum(axis=1) / n_others, (affinity > own).sum(axis=0) / n_others


def argsort(affinity: FloatArray) -> tuple[FloatArray, FloatArray]:
    ranks = [np.argsort(np.argsort(-side, axis=1), axis=1).diagonal() for side in (affinity, affinity.T)]
    return ranks[0] / (len(affinity) - 1), ranks[1] / (len(affinity) - 1)


def cell_by_cell(affinity: FloatArray) -> tuple[FloatArray, FloatArray]:
    cells, n_others = range(len(affinity)), len(affinity) - 1
    rows = [(affinity[i] > affinity[i, i]).sum() / n_others for i in cells]
    columns = [(affinity[:, i] > affinity[i, i]).sum() / n_others for i in cells]
    return np.array(rows), np.array(columns)


def dense(data: Data, *, foscttm: Foscttm = comparison, at_hand: bool = True, more: bool = False) -> dict[str, float]:
    """Means over cells, and R² with sums pooled."""
    features = np.asarray(data.mdata[TARGET].X, dtype=float)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    found: dict[str, list[FloatArray]] = {"foscttm": [], "recall": [], "trace": [], "foscttm_features": []}
    errors = np.zeros(2)
    for number, block in enumerate(data.blocks):
        plan, y = data.plans[number] if at_hand else block.plan(), features[block.target]
        average = plan @ y / plan.sum(axis=1, keepdims=True)
        errors += ((y - average) ** 2).sum(), ((y - y.mean(axis=0)) ** 2).sum()
        rows, columns = foscttm(plan)
        found["foscttm"].append((rows + columns) / 2)
        if more:
            found["recall"].append(np.rint(rows * (len(plan) - 1)) < K)
            found["trace"].append(plan.diagonal() / plan.sum(axis=1))
            found["foscttm_features"].append(np.mean(foscttm(-cdist(average, y)), axis=0))
    means = {name: float(np.concatenate(values).mean()) for name, values in found.items() if values}
    return means | {"r2": 1 - errors[0] / errors[1]}


def check(data: Data, results: Mapping[str, dict[str, float]]) -> dict[str, str]:
    """Pairs are on the diagonal, and every number is psalm's."""
    if not all(np.array_equal(block.source, block.target) for block in data.blocks):
        msg = "Cells of source and target are not in one order: the dense code would score wrong pairs."
        raise ValueError(msg)
    own = results[PSALM]
    for name, values in results.items():
        for metric, tolerance in TOLERANCES.items():
            if metric in values:
                require_close(f"{name}, {metric}", own[metric], values[metric], tolerance)
    return {
        name: ", ".join(f"{metric} {values[metric]:.4f}" for metric in TOLERANCES if metric in values)
        for name, values in results.items()
    }


METHODS = {
    PSALM: by_psalm,
    NO_INTERVALS: partial(by_psalm, n_bootstrap=0),
    "numpy, comparison": dense,
    "numpy, argsort": partial(dense, foscttm=argsort),
    "numpy, cell by cell": partial(dense, foscttm=cell_by_cell),
    "numpy, every metric": partial(dense, more=True),
    "numpy, comparison, plan made": partial(dense, at_hand=False),
}


def main() -> None:
    """Print a table."""
    given = arguments(__doc__, SIZES)
    with files(given.cells, paired=True) as paths:
        lines = Comparison("evaluate", f"{given.cells} pairs", METHODS, load, check)(*paths, given)
    show(lines)
    write(lines, given.out)


if __name__ == "__main__":
    main()
