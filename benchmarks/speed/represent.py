"""Seconds and memory of `pp.represent` beside the scanpy calls that it makes: the ratio should be about one.

    python benchmarks/speed/represent.py [--cells 5000 --genes 5000 --proteins 100 --rounds 3 --out represent.csv]

"rna": CSR counts of cells in ten clusters; scanpy's ``normalize_total``, ``log1p``, ``highly_variable_genes`` (2,000)
and ``pca`` (50 components) with psalm's seed, on a copy of the counts. Components must be psalm's to 1e-3 of their
spread, up to their sign. psalm also checks that the counts are counts, and keeps what places new cells in the same
space. "protein": CSR counts; ``log1p``, each cell minus its mean, ``sc.pp.scale``. The result must be psalm's to 1e-4;
scanpy divides by the standard deviation with n − 1, which is allowed for. Methods alternate in one process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import mudata
import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from timing import Comparison, arguments, require_close, show, write

import psalm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mudata import MuData

    from psalm.core._types import FloatArray

SIZES = {"cells": 5_000, "genes": 5_000, "proteins": 100}
FEW = 300
PSALM, SCANPY = "psalm", "scanpy"
MODALITY, CLUSTERS, PORTION = "cells", 10, 1_000
DEPTH = {"rna": 0.1, "protein": 5.0}
"""Counts of a feature in a cell, on average."""
SEED = int(np.random.default_rng(0).integers(2**31))
"""What `pp.represent` makes of ``rng=0``."""
TOLERANCE, TOLERANCE_PROTEIN = 1e-3, 1e-4


def load(kind: str, size: tuple[int, int]) -> MuData:
    """CSR counts (n_cells, n_features) float32 of cells in clusters; in portions, so that making them takes little."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, size[1]))  # of clusters on a plane and a direction within them
    centres = rng.normal(size=(CLUSTERS, 3))
    parts = []
    for start in range(0, size[0], PORTION):
        n_cells = min(PORTION, size[0] - start)
        places = centres[rng.integers(CLUSTERS, size=n_cells)] + 0.3 * rng.normal(size=(n_cells, 3))
        counts = rng.poisson(DEPTH[kind] * np.exp(0.5 * places @ weights))
        parts.append(sparse.csr_matrix(counts.astype(np.float32)))
    return mudata.MuData({MODALITY: AnnData(sparse.vstack(parts, format="csr"))})


def by_psalm(mdata: MuData, *, kind: str) -> FloatArray:
    psalm.pp.represent(mdata, MODALITY, kind=kind)
    return mdata[MODALITY].obsm["X_psalm"]


def scanpy_rna(mdata: MuData) -> FloatArray:
    cells = AnnData(mdata[MODALITY].X.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    if cells.n_vars > 2000:  # noqa: PLR2004, as psalm does
        sc.pp.highly_variable_genes(cells, n_top_genes=2000)
        cells = cells[:, cells.var["highly_variable"]].copy()
    sc.pp.pca(cells, n_comps=50, random_state=SEED)
    return cells.obsm["X_pca"]


def scanpy_protein(mdata: MuData) -> FloatArray:
    logged = np.log1p(mdata[MODALITY].X.toarray())
    cells = AnnData(logged - logged.mean(axis=1, keepdims=True))
    sc.pp.scale(cells)
    return cells.X


def check_rna(_: MuData, results: Mapping[str, FloatArray]) -> dict[str, str]:
    own, other = (values.astype(float) for values in (results[PSALM], results[SCANPY]))
    sign = np.sign((own * other).sum(axis=0))
    worst = require_close(SCANPY, own / own.std(axis=0), sign * other / own.std(axis=0), TOLERANCE)
    return {SCANPY: f"differs by {worst:.0e} at most, in units of each component's spread"}


def check_protein(_: MuData, results: Mapping[str, FloatArray]) -> dict[str, str]:
    n_cells = len(results[PSALM])
    worst = require_close(SCANPY, results[PSALM], results[SCANPY] * np.sqrt(n_cells / (n_cells - 1)), TOLERANCE_PROTEIN)
    return {SCANPY: f"differs by {worst:.0e} at most"}


METHODS: dict[str, dict[str, Callable[[MuData], FloatArray]]] = {
    "rna": {PSALM: partial(by_psalm, kind="rna"), SCANPY: scanpy_rna},
    "protein": {PSALM: partial(by_psalm, kind="protein"), SCANPY: scanpy_protein},
}


def main() -> None:
    """Print a table."""
    given = arguments(__doc__, SIZES, rounds=3)
    lines = []
    for kind, n_features, check in (("rna", given.genes, check_rna), ("protein", given.proteins, check_protein)):
        case = f"{kind}, {given.cells} cells, {n_features} features"
        compare = Comparison("represent", case, METHODS[kind], partial(load, kind), check)
        lines += compare((given.cells, n_features), (FEW, n_features), given)
    show(lines)
    write(lines, given.out)


if __name__ == "__main__":
    main()
