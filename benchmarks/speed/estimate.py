"""What `tl.match(dry_run=True)` foretells beside what the match then takes.

    python benchmarks/speed/estimate.py [--out speed_estimate.csv]

Mixtures of ten centres with 20 columns of scores, each case in a process of its own. "ratio" is foretold over measured;
memory is refused by what is foretold, so that a ratio below one is the worse mistake. Compiled code and libraries are
loaded before.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch  # noqa: F401, which blocks above ten million pairs would import
from timing import forget_peak, fresh, kilobytes, quiet
from tqdm.auto import tqdm

from psalm.core.estimate import estimate
from psalm.core.matching import Cells, find_places, match_within
from psalm.core.methods import METHODS

COLUMNS, CENTRES, THREADS = 20, 10, 2
CASES = (
    *(("ot", {"epsilon": "auto"}, cells, blocks) for cells, blocks in ((5000, 1), (20_000, 1), (300, 40))),
    ("ot", {"cost": "posterior"}, 20_000, 1),
    ("unbalanced", {"epsilon": 0.2}, 5000, 1),
    *(("exact", {}, cells, blocks) for cells, blocks in ((3000, 1), (10_000, 1), (300, 40))),
    *(("snn", {}, cells, blocks) for cells, blocks in ((5000, 1), (300, 40))),
    ("fgw", {}, 1000, 2),
    ("nearest", {}, 20_000, 1),
)


def cells(n_cells: int, n_blocks: int, rng: np.random.Generator) -> Cells:
    centres = np.random.default_rng(1).normal(size=(CENTRES, COLUMNS))
    scores = centres[rng.integers(CENTRES, size=n_cells * n_blocks)] + rng.normal(size=(n_cells * n_blocks, COLUMNS))
    return Cells(
        scores, np.repeat(np.arange(n_blocks), n_cells), features=scores, noise=np.full(len(scores), COLUMNS / 4)
    )


def measure(method: str, options: dict[str, Any], n_cells: int, n_blocks: int) -> dict[str, Any]:
    """Foretold and measured; meant for a fresh process."""
    rng = np.random.default_rng(0)
    matcher, sides = METHODS[method](**options), (cells(n_cells, n_blocks, rng), cells(n_cells, n_blocks, rng))
    if options.get("cost") == "posterior":
        sides = tuple(Cells(np.exp(-(side.scores**2)), side.codes) for side in sides)
    places = find_places(sides[0].codes, sides[1].codes)
    with quiet():
        found = estimate(places, sides, matcher, THREADS, timed=True)
        before, start = forget_peak(), time.perf_counter()
        match_within(*sides, matcher, n_jobs=THREADS)
        seconds, peak = time.perf_counter() - start, (kilobytes("VmHWM") - before) * 1024 / 1e9
    foretold = sum(one.seconds for one in found), max(one.working_bytes for one in found) / 1e9
    row = {"method": " ".join([method, *map(str, options.values())]), "cells": n_cells, "blocks": n_blocks}
    row |= {"seconds": seconds, "seconds_foretold": foretold[0], "seconds_ratio": foretold[0] / seconds}
    return row | {"gb": peak, "gb_foretold": foretold[1], "gb_ratio": foretold[1] / max(peak, 1e-3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = pd.DataFrame([fresh(measure, *case) for case in tqdm(CASES, unit="case")]).round(3)
    if given.out is not None:
        table.to_csv(given.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
