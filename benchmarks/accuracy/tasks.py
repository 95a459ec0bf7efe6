"""The seven real tasks with known pairing, made unpaired: the target's cells are permuted and renamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

import psalm
from psalm._containers import stack
from psalm.core.matcher import Match
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

    from psalm.core.matcher import Side

PAIR = "true_pair"


@dataclass(frozen=True)
class Task:
    """A data set, its two modalities with their kinds, and the column that serves as treatment."""

    folder: str
    source: str
    target: str
    treatment: str
    kinds: tuple[str, str] = ("features", "features")
    quick_trial: tuple[float, float] = (float("nan"), float("nan"))  # FOSCTTM and R² of the project's first prototype


TASKS = (
    Task("scgem177", "rna", "methylation", "cell_type", quick_trial=(0.432, 0.060)),
    Task("snareseq_cellmix1047", "rna_pca", "atac_topics", "cell_type", quick_trial=(0.455, -0.095)),
    Task("citeseq_pbmc_inhouse1372", "rna", "protein", "cell_type", ("rna", "protein"), (0.436, 0.250)),
    Task("patchseq_motor1208", "rna", "ephys", "cell_type", ("rna", "features"), (0.423, 0.008)),
    Task("patchseq_motor1208", "rna", "ephys", "cell_family", ("rna", "features"), (0.432, 0.009)),
    Task("citeseq_pbmc5000_mme", "rna", "protein", "celltype_rna_derived", ("rna", "protein"), (0.453, 0.076)),
    Task("eccite_pbmc3762_specter", "rna_pca", "protein", "citefuse_cluster", quick_trial=(0.331, 0.020)),
)

PERTURBED = Task("scicar_a549_uhler1874", "rna", "atac", "treatment_time", ("rna", "atac"))
"""Real treatments rather than cell types: hours of dexamethasone. Reported beside the seven, not in their mean."""


def load(task: Task, data: Path, seed: int) -> MuData:
    """Both modalities as unpaired cells; ``obs["true_pair"]`` marks the pairs, for scoring."""
    source, target = (anndata.read_h5ad(data / task.folder / f"{name}.h5ad") for name in (task.source, task.target))
    for adata in (source, target):
        adata.obs[PAIR] = [f"pair_{number}" for number in range(adata.n_obs)]
        adata.obs = adata.obs[[PAIR, task.treatment]]
    target = target[np.random.default_rng(seed).permutation(target.n_obs)].copy()
    for name, adata in ((task.source, source), (task.target, target)):
        adata.obs_names = [f"{name}_{number}" for number in range(adata.n_obs)]
    return stack({task.source: source, task.target: target})


def prepare(task: Task, data: Path, seed: int) -> MuData:
    """Unpaired cells with treatments of at least ten cells and each modality's representation."""
    mdata = load(task, data, seed)
    psalm.pp.treatment(mdata, task.treatment)
    for name, kind in zip((task.source, task.target), task.kinds, strict=True):
        psalm.pp.represent(mdata, name, kind=kind)
    return mdata


class TruePairs:
    """The oracle: sends each source cell's mass to its partner."""

    needs_features = True  # the pairs' numbers, given as `use_rep`

    def __call__(self, source: Side, target: Side) -> Match:
        partner = pd.Index(target.features[:, 0]).get_indexer(source.features[:, 0])
        known = np.flatnonzero(partner >= 0)
        mass = np.full(len(known), 1 / len(source))
        return Match(SparsePlan(sparse.csr_matrix((mass, (known, partner[known])), (len(source), len(target)))))
