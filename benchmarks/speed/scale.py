"""Time and memory of every step as cells grow: what fits on this machine, and with which exponent it grows.

    python benchmarks/speed/scale.py [--cells 10000 30000 100000] [--per-block 1000] [--treatments 10]
        [--components 50] [--classifier kernel] [--folds 5] [--repeats 5] [--compress-above 256] [--out scale.csv]

Cells of a simulation, given as components, with so many cells of each modality in every block that is matched. Blocks
are treatments, whose number then grows with the cells; with `--treatments` there are so many, each in as many strata
(plates) as the cells ask for, so that scores have the same columns at every size. Every size runs in a fresh process,
after all steps with few cells, which import and compile. Memory is the highest resident size while a step runs, less
the size before it. "exponent" is the slope of log seconds on log cells between a size and the one before.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from timing import forget_peak, fresh, kilobytes, quiet

import psalm
from psalm.core.classifiers import CLASSIFIERS

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {"source": "a", "target": "b"}
HIDDEN = 10
STEPS: dict[str, Callable[[MuData, dict[str, Any]], Any]] = {
    "pp.treatment": lambda mdata, _: psalm.pp.treatment(mdata, "perturbation", within=mdata.uns.get("within")),
    "tl.propensity": lambda mdata, scoring: psalm.tl.propensity(mdata, progress=False, **scoring),
    "tl.match": lambda mdata, _: psalm.tl.match(mdata, **NAMES, progress=False),
    "tl.transfer": lambda mdata, _: psalm.tl.transfer(mdata, keys="score", **NAMES),
    "tl.predict, one epoch": lambda mdata, _: psalm.tl.predict(mdata, **NAMES, max_epochs=1, progress=False),
    "tl.diagnose": lambda mdata, _: psalm.tl.diagnose(mdata, n_permutations=99, progress=False),
}


@dataclass(frozen=True)
class Design:
    """Cells of each block, treatments (0: one per block), and components of each modality."""

    per_block: int
    treatments: int
    components: int


def cells(n_cells: int, design: Design) -> MuData:
    """Two modalities of different cells: linear views of a Gaussian state that treatments move, with noise."""
    rng = np.random.default_rng(0)
    n_blocks = max(4, n_cells // design.per_block)
    n_treatments = min(design.treatments or n_blocks, n_blocks)
    means = rng.normal(size=(n_treatments, HIDDEN))
    modalities = {}
    for name in NAMES.values():
        block = np.arange(n_cells) % n_blocks
        codes = block % n_treatments
        state = means[codes] + rng.normal(size=(n_cells, HIDDEN))
        seen = state @ rng.normal(size=(HIDDEN, design.components)) / np.sqrt(HIDDEN)
        labels = pd.Categorical.from_codes(codes, categories=[f"t{number}" for number in range(n_treatments)])
        plates = [f"p{number}" for number in range(n_blocks // n_treatments + 1)]
        plate = pd.Categorical.from_codes(block // n_treatments, categories=plates)
        columns = {"perturbation": labels, "plate": plate, "score": state[:, 0]}
        obs = pd.DataFrame(columns, index=[f"{name}{i}" for i in range(n_cells)])
        modalities[name] = AnnData((seen + rng.normal(size=seen.shape)).astype(np.float32), obs=obs)
    mdata = MuData(modalities)
    if n_treatments < n_blocks:
        mdata.uns["within"] = "plate"
    return mdata


def measure(n_cells: int, design: Design, steps: tuple[str, ...], scoring: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per step; meant for a fresh process."""
    rows = []
    with quiet():
        few = cells(400, replace(design, per_block=100))
        for step in steps:  # imports, and compiles
            STEPS[step](few, scoring)
        mdata = cells(n_cells, design)
        for step in steps:
            before, start = forget_peak(), time.perf_counter()
            STEPS[step](mdata, scoring)
            seconds, peak = time.perf_counter() - start, (kilobytes("VmHWM") - before) / 2**20
            row = {"step": step, "cells": n_cells, "blocks": max(4, n_cells // design.per_block)}
            row["score_columns"] = mdata["a"].obsm["propensity"].shape[1] if "propensity" in mdata["a"].obsm else 0
            rows.append(row | {"seconds": round(seconds, 2), "peak_gb": round(peak, 2)})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--per-block", type=int, default=1000)
    parser.add_argument("--treatments", type=int, default=0, help="0: as many as blocks")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--classifier", default="kernel", choices=CLASSIFIERS)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compress-above", type=int, default=256)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    scoring = {"classifier": given.classifier, "n_folds": given.folds, "n_repeats": given.repeats}
    scoring["compress_above"] = given.compress_above
    design = Design(given.per_block, given.treatments, given.components)
    rows = []
    for n_cells in sorted(given.cells):
        rows += fresh(measure, n_cells, design, tuple(given.steps), scoring)
        table = pd.DataFrame(rows)
        logs = np.log(table[["seconds", "cells"]].clip(lower=1e-2))
        steps = logs.groupby(table["step"])
        table["exponent"] = (steps["seconds"].diff() / steps["cells"].diff()).round(2)
        if given.out is not None:
            table.to_csv(given.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
