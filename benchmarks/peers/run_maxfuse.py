"""MaxFuse: matched pairs of cells from linked features, here genes and the proteins that they encode.

Each treatment with at least 100 cells on both sides is a problem of its own; the smaller ones get the uniform plan, as
the package clusters, smooths and takes canonical correlations within it. Settings are those of a copy of its tutorial
for CITE-seq, with as many components as there are features. A linked pair of variables is a shared feature. Mass is
proportional to the score of a pair; a source cell without a match gets a uniform row.
"""

from __future__ import annotations

import numpy as np
import scanpy as sc
from _files import Found, Problem, serve
from anndata import AnnData
from maxfuse.model import Fusor
from scipy import sparse

FEWEST_CELLS, MANY = 100, 1000
N_COMPONENTS, SHARED_COMPONENTS, WEIGHT = 30, (25, 20), 0.7


def align(problem: Problem, method: str, seed: int) -> Found:
    np.random.seed(seed)  # noqa: NPY002  the package draws from the global state
    plans, unmatched = [], []
    for rows, columns in problem.blocks():
        plan = np.zeros((len(rows), len(columns)))
        if min(plan.shape) >= FEWEST_CELLS:
            sources, targets, scores = fused(problem, (rows, columns), seed)
            np.add.at(plan, (sources, targets), np.maximum(scores, np.finfo(float).tiny))
        alone = plan.sum(axis=1) == 0
        plan[alone] = 1
        plans.append(plan / plan.sum(axis=1, keepdims=True) / len(plan))
        unmatched.append(int(alone.sum()))
    return Found(plans, notes={"source cells without a match": unmatched, "cells": [len(plan) for plan in plans]})


def fused(
    problem: Problem, block: tuple[np.ndarray, np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source cells, target cells and scores of the pairs of one treatment, by position in it."""
    counts = [sparse.csr_matrix(side.measured)[cells] for side, cells in zip(problem.sides, block, strict=True)]
    shared, active = linked(problem, counts), [every(each) for each in counts]
    most = [min(N_COMPONENTS, *(n - 1 for n in x.shape)) for x in active]
    few = [min(best, *(n - 1 for n in x.shape)) for best, x in zip(SHARED_COMPONENTS, shared, strict=True)]
    options = {"svd_components1": most[0], "svd_components2": most[1], "verbose": False}
    weights = {"wt1": WEIGHT, "wt2": WEIGHT}
    fusor = Fusor(*shared, *active)
    fusor.split_into_batches(max_outward_size=5000, matching_ratio=3, metacell_size=2, seed=seed, verbose=False)
    fusor.construct_graphs(resolution1=2, resolution2=2, leiden_seed=seed, **options)
    fusor.find_initial_pivots(**weights, svd_components1=few[0], svd_components2=few[1], verbose=False)
    fusor.refine_pivots(**weights, cca_components=min(20, *most), n_iters=3, **options)
    fusor.filter_bad_matches(target="pivot", filter_prop=0.3, verbose=False)
    fusor.propagate(**weights, **options)
    fusor.filter_bad_matches(target="propagated", filter_prop=0.0, verbose=False)
    return tuple(np.asarray(column) for column in fusor.get_matching(order=(1, 2), target="full_data"))


def linked(problem: Problem, counts: list[sparse.csr_matrix]) -> list[np.ndarray]:
    """Features in the order of the links, both modalities scaled to the same total."""
    shared = []
    for place, (side, each) in enumerate(zip(problem.sides, counts, strict=True)):
        position = {name: number for number, name in enumerate(side.variables)}
        shared.append(each[:, [position[name] for name in problem.links[:, place]]])
    total = np.mean([np.median(each.sum(axis=1)) for each in shared])
    logs = [logged(each, total).X.toarray() for each in shared]
    varies = np.all([x.std(axis=0) > 0 for x in logs], axis=0)
    return [standard(x[:, varies]) for x in logs]


def every(counts: sparse.csr_matrix) -> np.ndarray:
    """All features that vary; of many, the variable ones."""
    adata = logged(counts, None)
    if adata.n_vars > MANY:
        sc.pp.highly_variable_genes(adata, subset=True)
    x = adata.X.toarray()
    return standard(x[:, x.std(axis=0) > 0])


def logged(counts: sparse.csr_matrix, total: float | None) -> AnnData:
    """Counts by total, in logarithms."""
    adata = AnnData(counts.astype(np.float64))
    sc.pp.normalize_total(adata, target_sum=total)
    sc.pp.log1p(adata)
    return adata


def standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


if __name__ == "__main__":
    serve(["maxfuse", "scanpy", "leidenalg"], align)
