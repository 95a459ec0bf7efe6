"""What `tl.diagnose` costs, in matches, and beside one of its checks by hand.

    python benchmarks/speed/diagnose.py [--cells 4000 --rounds 5 --out diagnose.csv]

Cells of eight treatments, matched, without known pairs. The table's ratio is to `tl.diagnose`; the note says how many
times one `tl.match` it takes. It makes the match twice, by scores with independent errors, so that less than two
matches is not to be had; but `tl.match` also stores its result, which `tl.diagnose` does not.

By hand: the check "stability", as one would write it with psalm's functions. Scores plus and minus their error in two
copies of the container, `tl.match` of each, `get.coupling` with ``exact=True``, matched averages, and their
correlation within treatments. It must give the value that `tl.diagnose` gives, to 1e-3. No p-value, no other check.
Methods alternate in one process.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from matched import SOURCE, TARGET, Data, files, load
from timing import Comparison, Line, arguments, require_close, show, write

import psalm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mudata import MuData

    from psalm.core._types import FloatArray

SIZES = {"cells": 4_000}
PSALM, MATCH, BY_HAND = "psalm, tl.diagnose", "psalm, tl.match", "stability by hand"
TOLERANCE = 1e-3


def diagnose(data: Data) -> pd.DataFrame:
    return psalm.tl.diagnose(data.mdata, progress=False)


def match(data: Data) -> pd.DataFrame:
    psalm.tl.match(data.mdata, source=SOURCE, target=TARGET, progress=False)
    return data.mdata.uns["match"]["table"]


def by_hand(data: Data) -> float:
    """Correlation within treatments of the averages of two matches."""
    features = np.asarray(data.mdata[TARGET].X, dtype=float)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    first, second = (_averages(data.mdata, sign, features) for sign in (1, -1))
    sums = np.zeros(3)
    for block in data.blocks:
        u, v = (values[block.source] - values[block.source].mean(axis=0) for values in (first, second))
        sums += (u * v).sum(), (u * u).sum(), (v * v).sum()
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def _averages(mdata: MuData, sign: int, features: FloatArray) -> FloatArray:
    other = mdata.copy()
    for adata in other.mod.values():
        adata.obsm["propensity"] = adata.obsm["propensity"] + sign * adata.obsm["propensity_error"]
    psalm.tl.match(other, source=SOURCE, target=TARGET, progress=False)
    return psalm.get.coupling(other, normalize="source", exact=True) @ features


def check(_: Data, results: Mapping[str, pd.DataFrame | float]) -> dict[str, str]:
    """Stability by hand is that of the table, and the match converged."""
    verdicts = results[PSALM].set_index("check")["value"]
    require_close(BY_HAND, verdicts["stability"], results[BY_HAND], TOLERANCE)
    if not results[MATCH]["converged"].all():
        msg = "Some treatments did not converge, so the cost of a match says little."
        raise ValueError(msg)
    return {BY_HAND: f"{results[BY_HAND]:.4f}, of tl.diagnose {verdicts['stability']:.4f}"}


METHODS = {PSALM: diagnose, MATCH: match, BY_HAND: by_hand}


def in_matches(lines: Sequence[Line]) -> list[Line]:
    """The same lines, psalm's with its multiple of a match."""
    by_name = {line.method: line for line in lines}
    multiple = median(by_name[PSALM].seconds) / median(by_name[MATCH].seconds)
    return [replace(line, note=f"{multiple:.1f} times tl.match") if line.method == PSALM else line for line in lines]


def main() -> None:
    """Print a table."""
    given = arguments(__doc__, SIZES)
    with files(given.cells) as paths:
        case = f"{given.cells} + {given.cells} cells"
        lines = in_matches(Comparison("diagnose", case, METHODS, load, check)(*paths, given))
    show(lines)
    write(lines, given.out)


if __name__ == "__main__":
    main()
