"""Seconds and memory of `tl.transfer` beside products with the dense plan, and nearest neighbours, for the same match.

    python benchmarks/speed/transfer.py [--cells 5000 --genes 2000 --rounds 5 --out transfer.csv]

Carried from source to target: a label, by the mass of its cells, and a sparse matrix of counts (5 % of the entries),
as averages by mass. Cells are in eight treatments; all methods work within treatments.

- psalm: `tl.transfer`, which computes the plan anew from scores and potentials, a tile at a time.
- dense plan made: the same plan, float64, by `cdist` and `exp` one treatment at a time, then ``P.T @ X``; once with
  X dense, once with X sparse. Labels are one-hot columns.
- dense plans at hand: as POT returns them. Their seconds are those of the product alone, their memory all plans.
- scikit-learn: 15 nearest cells by scores, weights 1 ÷ distance; no optimal transport, so another result. Its labels
  are compared with the truth, as psalm's are.

The first three must agree: averages and shares of mass to 1e-4, labels but for ties. Methods alternate in one process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matched import COUNTS, LABEL, SOURCE, TARGET, Data, files, load
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from timing import Comparison, arguments, require_close, show, write

import psalm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psalm.core._types import FloatArray, IntArray

    Average = Callable[[FloatArray, Any], FloatArray]

SIZES = {"cells": 5_000, "genes": 2_000}
PSALM, MADE, KEPT, SPARSE = "psalm", "dense plan made", "dense plans at hand", "dense plan made, X sparse"
NEAREST, N_NEIGHBORS = "scikit-learn, 15 nearest", 15
TOLERANCE, TIES = 1e-4, 1e-3


def psalm_labels(data: Data) -> tuple[IntArray, FloatArray]:
    """Codes, and their share of the mass."""
    psalm.tl.transfer(data.mdata, keys=LABEL, source=SOURCE, target=TARGET)
    obs, name = data.mdata[TARGET].obs, f"{LABEL}_from_{SOURCE}"
    return obs[name].cat.codes.to_numpy(), obs[f"{name}_confidence"].to_numpy()


def psalm_features(data: Data) -> FloatArray:
    psalm.tl.transfer(data.mdata, keys=COUNTS, source=SOURCE, target=TARGET)
    return data.mdata[TARGET].obsm[f"{COUNTS}_from_{SOURCE}"]


def averages(data: Data, values: Any, average: Average, *, at_hand: bool) -> FloatArray:
    """Of every target cell, by the mass of the source's cells."""
    found = np.full((data.mdata[TARGET].n_obs, values.shape[1]), np.nan, np.float32)
    for number, block in enumerate(data.blocks):
        plan = data.plans[number] if at_hand else block.plan()
        found[block.target] = average(plan, values[block.source]) / plan.sum(axis=0)[:, None]
    return found


def by_dense(plan: FloatArray, values: Any) -> FloatArray:
    return plan.T @ (values.toarray() if sparse.issparse(values) else values)


def by_sparse(plan: FloatArray, values: Any) -> FloatArray:
    return (values.T @ plan).T


def dense_features(data: Data, *, average: Average = by_dense, at_hand: bool = False) -> FloatArray:
    return averages(data, data.mdata[SOURCE].obsm[COUNTS], average, at_hand=at_hand)


def dense_labels(data: Data, *, at_hand: bool = False) -> tuple[IntArray, FloatArray]:
    codes = data.mdata[SOURCE].obs[LABEL].cat.codes.to_numpy()
    shares = averages(data, np.eye(codes.max() + 1)[codes], by_dense, at_hand=at_hand)
    return shares.argmax(axis=1), shares.max(axis=1)


def nearest_labels(data: Data) -> tuple[IntArray, FloatArray]:
    codes = data.mdata[SOURCE].obs[LABEL].cat.codes.to_numpy()
    found, shares = np.full(data.mdata[TARGET].n_obs, -1), np.full(data.mdata[TARGET].n_obs, np.nan)
    for block in data.blocks:
        model = KNeighborsClassifier(N_NEIGHBORS, weights="distance").fit(block.x, codes[block.source])
        probability = model.predict_proba(block.y)
        found[block.target] = model.classes_[probability.argmax(axis=1)]
        shares[block.target] = probability.max(axis=1)
    return found, shares


def nearest_features(data: Data) -> FloatArray:
    values = data.mdata[SOURCE].obsm[COUNTS]
    found = np.full((data.mdata[TARGET].n_obs, values.shape[1]), np.nan, np.float32)
    for block in data.blocks:
        distance, near = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(block.x).kneighbors(block.y)
        weight = 1 / np.maximum(distance, 1e-12)
        weight /= weight.sum(axis=1, keepdims=True)
        ends = np.arange(len(near) + 1) * N_NEIGHBORS
        shape = len(near), len(block.x)
        found[block.target] = (
            sparse.csr_matrix((weight.ravel(), near.ravel(), ends), shape) @ values[block.source]
        ).toarray()
    return found


def check_labels(data: Data, results: Mapping[str, tuple[IntArray, FloatArray]]) -> dict[str, str]:
    """Labels and shares of all methods that use the plan are the same; how many labels are true, of all."""
    own_codes, own_shares = results[PSALM]
    for name, (codes, shares) in results.items():
        if name != NEAREST:
            require_close(name, own_shares, shares, TOLERANCE)
            require_close(f"{name}, share of other labels", 0.0, np.mean(own_codes != codes), TIES)
    truth = data.mdata[TARGET].obs[LABEL].cat.codes.to_numpy()
    notes = {name: f"{np.mean(codes == truth):.1%} of labels true" for name, (codes, _) in results.items()}
    return notes | {NEAREST: f"another result: {notes[NEAREST]}"}


def check_features(data: Data, results: Mapping[str, FloatArray]) -> dict[str, str]:
    """Averages of all methods that use the plan are the same."""
    notes = {NEAREST: "another result"}
    for name, values in results.items():
        if name not in {PSALM, NEAREST}:
            notes[name] = f"differs by {require_close(name, results[PSALM], values, TOLERANCE):.0e} at most"
    return notes


LABELS = {
    PSALM: psalm_labels,
    MADE: dense_labels,
    KEPT: partial(dense_labels, at_hand=True),
    NEAREST: nearest_labels,
}
FEATURES = {
    PSALM: psalm_features,
    MADE: dense_features,
    SPARSE: partial(dense_features, average=by_sparse),
    KEPT: partial(dense_features, at_hand=True),
    NEAREST: nearest_features,
}


def main() -> None:
    """Print a table."""
    given = arguments(__doc__, SIZES)
    size = f"{given.cells} + {given.cells} cells"
    lines = []
    with files(given.cells, given.genes) as paths:
        lines += Comparison("transfer", f"a label, {size}", LABELS, load, check_labels)(*paths, given)
        case = f"{given.genes} sparse features, {size}"
        lines += Comparison("transfer", case, FEATURES, load, check_features)(*paths, given)
    show(lines)
    write(lines, given.out)


if __name__ == "__main__":
    main()
