"""The split of the CITE-seq experiment: paired cells made unpaired, with the scores and matches of each setting."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from aligners.autoencoder import AdversarialAutoencoder
from problem import ByFeatures, Modality, Problem
from tasks import PAIR, Task, TruePairs

import psalm
from psalm._containers import stack
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from mudata import MuData

BMMC = Task("bmmc", "rna", "protein", "cell_type", ("rna", "protein"))
N_COMPS = 200
HELD_OUT = 0.2
TREATMENT = "treatment"
DEFAULTS, PAPER, AUTOENCODER, TRUE = "defaults", "paper", "autoencoder", "true pairs"
SCORES: dict[str, dict[str, Any]] = {
    DEFAULTS: {},
    PAPER: {"classifier": "mlp", "calibration": "none", "prior": "own", "n_repeats": 1},
}
MATCHES: dict[tuple[str, str], dict[str, Any]] = {
    (DEFAULTS, "ot"): {},
    (DEFAULTS, "snn"): {"method": "snn"},
    (PAPER, "ot"): {"epsilon_absolute": 0.05},
    (PAPER, "snn"): {"method": "snn", "n_neighbors": 1},
    (AUTOENCODER, "ot"): {"method": ByFeatures(SinkhornMatcher(0.05)), "use_rep": AUTOENCODER},
    (AUTOENCODER, "snn"): {"method": ByFeatures(SharedNeighborMatcher(1)), "use_rep": AUTOENCODER},
}


@dataclass(frozen=True)
class Data:
    """Where cells come from, and what they are."""

    task: Task
    path: Path | None  # None: the paper's set

    def read(self) -> tuple[anndata.AnnData, anndata.AnnData]:
        if self.path is None:
            mdata = psalm.datasets.bmmc_citeseq()
            return mdata[self.task.source], mdata[self.task.target]
        names = self.task.source, self.task.target
        first, second = (anndata.read_h5ad(self.path / f"{name}.h5ad") for name in names)
        return first, second


def split(obs: pd.DataFrame, seed: int) -> dict[str, np.ndarray]:
    """Positions of training and test cells."""
    if "is_train" in obs:
        names = {"train": "train", "test": "iid_holdout"}
        return {part: np.flatnonzero(obs["is_train"] == name) for part, name in names.items()}
    order = np.random.default_rng(seed).permutation(len(obs))
    n_test = int(HELD_OUT * len(obs))
    return {"train": np.sort(order[n_test:]), "test": np.sort(order[:n_test])}


def unpaired(data: Data, seed: int) -> dict[str, MuData]:
    """Training and test cells, those of the second modality permuted; ``obs[PAIR]`` is known to the scoring only."""
    parts: dict[str, dict[str, anndata.AnnData]] = {"train": {}, "test": {}}
    for order, (name, adata) in enumerate(zip((data.task.source, data.task.target), data.read(), strict=True)):
        for part, cells in split(adata.obs, seed).items():
            places = np.random.default_rng([seed, 1]).permutation(cells) if order else cells
            chosen = adata[places].copy()
            chosen.obs = pd.DataFrame(
                {PAIR: places, data.task.treatment: chosen.obs[data.task.treatment].to_numpy()},
                index=[f"{name}_{part}_{number}" for number in range(len(places))],
            )
            parts[part][name] = chosen
    return {part: stack(modalities) for part, modalities in parts.items()}


@dataclass
class Experiment:
    """Cells of one split, with the scores and matches that rows ask for, each made once."""

    data: Data
    seed: int
    made: set[str] = field(default_factory=set)

    @property
    def ends(self) -> tuple[str, str]:
        """Rows and columns of couplings."""
        return self.data.task.target, self.data.task.source

    @cached_property
    def cells(self) -> dict[str, MuData]:
        found = unpaired(self.data, self.seed)
        train, test = found["train"], found["test"]
        psalm.pp.treatment(train, self.data.task.treatment)
        for name, kind in zip(self.ends[::-1], self.data.task.kinds, strict=True):
            psalm.pp.represent(train, name, kind=kind, n_comps=N_COMPS, rng=self.seed)
            psalm.pp.represent(test, name, kind=kind, reference=train)
            known = train[name].obs[TREATMENT].cat.categories
            labels = test[name].obs[self.data.task.treatment].astype(str)
            test[name].obs[TREATMENT] = pd.Categorical(labels.where(labels.isin(known)), categories=known)
            for mdata in found.values():
                mdata[name].obsm["pair"] = mdata[name].obs[PAIR].to_numpy()[:, None]
        return found

    def scored(self, setting: str) -> dict[str, MuData]:
        """Cells with scores under the setting's name: out of fold in training, by the saved models in test."""
        if setting not in self.made and setting == AUTOENCODER:
            self.embed()
        elif setting not in self.made:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "models.joblib"
                options = {"save": file, "rng": self.seed, "key_added": setting, "progress": self.data.path is None}
                psalm.tl.propensity(self.cells["train"], **SCORES[setting], **options)
                psalm.tl.score(self.cells["test"], file, key_added=setting)
        self.made.add(setting)
        return self.cells

    def embed(self) -> None:
        """Latents of the autoencoder in both parts; test cells have no label there, and train nothing."""
        parts, sides = [self.cells[part] for part in ("train", "test")], []
        for name in self.ends:
            features = np.concatenate([mdata[name].obsm["X_psalm"] for mdata in parts]).astype(np.float64)
            codes = parts[0][name].obs[TREATMENT].cat.codes.to_numpy().astype(int)
            codes = np.concatenate([codes, np.full(parts[1][name].n_obs, -1)])
            nothing = np.empty((len(codes), 0))
            sides.append(Modality(name, "features", features, codes, nothing, np.empty(0, dtype=str), nothing))
        treatments = tuple(parts[0][self.ends[0]].obs[TREATMENT].cat.categories.astype(str))
        latents = AdversarialAutoencoder()(Problem(self.data.task.folder, *sides, treatments), self.seed)
        for name, latent in zip(self.ends, latents, strict=True):
            train, test = (mdata[name] for mdata in parts)
            train.obsm[AUTOENCODER], test.obsm[AUTOENCODER] = latent[: train.n_obs], latent[train.n_obs :]

    def matched(self, part: str, setting: str, method: str) -> tuple[MuData, str]:
        """Cells with a match, and its key."""
        key = f"{setting}_{method}".replace(" ", "_")
        scores = DEFAULTS if setting in {TRUE, AUTOENCODER} else setting
        mdata = self.scored(scores)[part]
        if setting == AUTOENCODER:
            self.scored(setting)
        if f"{part} {key}" not in self.made:
            options = {"method": TruePairs(), "use_rep": "pair"} if setting == TRUE else MATCHES[setting, method]
            options = options | {"propensity_key": scores, "key_added": key, "progress": self.data.path is None}
            psalm.tl.match(mdata, source=self.ends[0], target=self.ends[1], **options)
            self.made.add(f"{part} {key}")
        return mdata, key
