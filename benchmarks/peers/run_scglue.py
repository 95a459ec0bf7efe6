"""scglue: one embedding of genes and proteins, guided by which gene encodes which protein, with its default training.

The treatment is given as its supervision (`use_cell_type`), as every method here knows it. Genes are the 2,000 most
variable and those that are linked; encoders read the representations. Counts are negative binomial in both modalities.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import scanpy as sc
import scglue.graph
import scglue.models
import torch
from _files import Found, Modality, Problem, serve
from anndata import AnnData
from scipy import sparse

N_GENES = 2000


def align(problem: Problem, method: str, seed: int) -> Found:
    torch.set_num_threads(1)  # small networks are trained several times slower by two threads that share busy cores
    cells = {side.name: counts(side, problem.treatments, set(problem.links.ravel())) for side in problem.sides}
    for adata in cells.values():
        scglue.models.configure_dataset(adata, "NB", use_rep="X_features", use_cell_type="treatment")
    graph = guidance(problem, list(cells.values()))
    scglue.graph.check_graph(graph, list(cells.values()))
    with tempfile.TemporaryDirectory() as folder:
        model = scglue.models.fit_SCGLUE(
            cells, graph, init_kws={"random_seed": seed}, fit_kws={"directory": str(Path(folder))}
        )
        source, target = (model.encode_data(name, adata) for name, adata in cells.items())
    return Found(embedding=(source, target), notes={"nodes": graph.number_of_nodes(), "links": len(problem.links)})


def counts(side: Modality, treatments: tuple[str, ...], linked: set[str]) -> AnnData:
    """Counts of the features to use, with the treatment and the representation."""
    names = [f"{side.name}: {number}" for number in range(len(side.codes))]
    obs = pd.DataFrame({"treatment": np.array(treatments)[side.codes]}, index=names)
    adata = AnnData(
        sparse.csr_matrix(side.measured, dtype=np.float32),
        obs,
        pd.DataFrame(index=[f"{side.kind} {v}" for v in side.variables]),
    )
    adata.obsm["X_features"] = side.features.astype(np.float32)
    adata.var["highly_variable"] = side.kind == "protein"
    if side.kind == "rna":
        found = sc.pp.normalize_total(adata, copy=True)
        sc.pp.log1p(found)
        sc.pp.highly_variable_genes(found, n_top_genes=min(N_GENES, adata.n_vars))
        adata.var["highly_variable"] = found.var["highly_variable"].to_numpy() | np.isin(side.variables, list(linked))
    return adata[:, adata.var["highly_variable"]].copy()


def guidance(problem: Problem, cells: list[AnnData]) -> nx.MultiDiGraph:
    """Every feature with itself, and proteins with their genes in both directions."""
    graph = nx.MultiDiGraph()
    for adata in cells:
        for name in adata.var_names:
            graph.add_edge(name, name, weight=1.0, sign=1, type="loop")
    for pair in problem.links:
        one, other = (f"{side.kind} {variable}" for side, variable in zip(problem.sides, pair, strict=True))
        graph.add_edge(one, other, weight=1.0, sign=1, type="encodes")
        graph.add_edge(other, one, weight=1.0, sign=1, type="encodes")
    return graph


if __name__ == "__main__":
    serve(["scglue", "torch", "anndata"], align)
