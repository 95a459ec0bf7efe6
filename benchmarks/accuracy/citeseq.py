"""The paper's experiment on CITE-seq: alignment of test cells and prediction of one modality from the other.

    python benchmarks/accuracy/citeseq.py [--data bmmc] [--seeds 3] [--out citeseq.csv]

Data: "bmmc", the paper's (`psalm.datasets.bmmc_citeseq`, several GB), or the path of a data set of `tasks.py`. Split:
`is_train`, "train" against "iid_holdout" ("test" is the paper's validation set and takes no part); where there is none,
a fifth of the cells at random by seed. RNA is 200 components fitted on the training cells, proteins are all of them,
treatments are cell types. Scores are trained on the training cells; test cells are scored by `tl.score` and matched
within cell type. CrossModal is trained on the matches of the training cells and predicts the test cells. Pairs are used
for the oracle and to score: the cells of one modality are permuted and renamed.

Rows of the coupling are proteins and columns RNA, as in the authors' code. With `--out`, finished rows are kept in the
file and not run again; remove it to start anew.

What differs from the paper (Xi et al., NeurIPS 2024, and its code, github.com/valence-labs/prop-score-pairing):

- FOSCTTM. The paper draws a partner from each cell's row and counts the drawn partners that are nearer to the true one
  than the cell's own, in each method's own scores; ties count nothing. Each method brings its own ruler, and collapse
  is rewarded: if all scores are the same, it is 0. Ours ("foscttm") counts on the coupling itself, ties one half: 0.5
  is chance whatever the scores are. "foscttm_own" is the paper's, for comparison with its numbers only.
- Means. The paper's are over cell types, the same weight for 10 cells and for 3,000: "trace_types" is comparable with
  its trace. "foscttm" and "trace" are over cells.
- RNA: the paper's 200 components are of all genes, scaled, fitted on all cells; here of 2,000 variable genes, not
  scaled, on training cells. Proteins: the paper's are those of the file's X, here centred log counts, scaled.
- Scores: the paper's are the logits of one deep network, in-sample on training cells. Here they are centred
  log-odds, out of fold on training cells and the mean of the folds' models on test cells. "paper" settings are as near
  as options come: classifier "mlp" (one hidden layer), no calibration, each modality's own prior, one repeat, ε = 0.05
  in units of the scores, one shared neighbour (the paper's SNN goes by angles, ours by distances).
- "defaults": ε is 0.2 of the mean cost on test cells, as the noise of their scores is not known; cell types with fewer
  than 10 training cells are left out.
- R² is of components of RNA (z-scores of proteins) against the mean of the test cells, "r2" from features alone, as in
  the paper; "r2_known" where the cell type is known. The paper's are medians over ten seeds, from proteins to RNA.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial.distance import cdist
from tasks import PAIR, PERTURBED, TASKS, Task
from tqdm.auto import tqdm

import psalm
from psalm import _matches
from psalm._containers import stack
from psalm.core.matcher import Match, Side
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from mudata import MuData

BMMC = Task("bmmc", "rna", "protein", "cell_type", ("rna", "protein"))
N_COMPS = 200
HELD_OUT = 0.2
TREATMENT = "treatment"
DEFAULTS, PAPER, TRUE = "defaults", "paper", "true pairs"
SCORES: dict[str, dict[str, Any]] = {
    DEFAULTS: {},
    PAPER: {"classifier": "mlp", "calibration": "none", "prior": "own", "n_repeats": 1},
}
MATCHES: dict[tuple[str, str], dict[str, Any]] = {
    (DEFAULTS, "ot"): {},
    (DEFAULTS, "snn"): {"method": "snn"},
    (PAPER, "ot"): {"epsilon_absolute": 0.05},
    (PAPER, "snn"): {"method": "snn", "n_neighbors": 1},
}
LOSSES = [(DEFAULTS, loss) for loss in ("mse", "unbiased", "barycentric")]
LOSSES += [(PAPER, "mse"), (PAPER, "unbiased"), (TRUE, "mse")]
PUBLISHED_MATCH = {"ot": (0.3049, 0.1163), "snn": (0.3126, 0.0941)}
"""FOSCTTM and trace of propensity scores on bone marrow: Xi et al., table 1."""
PUBLISHED_VAE = {"vae, ot": (0.3953, 0.0814), "vae, snn": (0.3816, 0.0612)}
PUBLISHED_R2 = {"mse": 0.217, "unbiased": 0.233, TRUE: 0.224}
"""R² on bone marrow, from proteins to RNA: Xi et al., table 2."""
NOT_RUN = "vae: not run. Missing: an autoencoder of both modalities (the authors': matching/models/vae.py), trained."
MATCHED = ["foscttm", "trace", "trace_types", "foscttm_own", "lift", "recall", "within", "not_converged"]
PREDICTED = ["r2", "r2_known", "epochs"]
KEY = ["data", "seed", "part", "setting", "method", "direction"]


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


class TruePairs:
    """The oracle: sends each source cell's mass to its partner."""

    needs_features = True  # the pairs' numbers, given as `use_rep`

    def __call__(self, source: Side, target: Side) -> Match:
        partner = pd.Index(target.features[:, 0]).get_indexer(source.features[:, 0])
        known = np.flatnonzero(partner >= 0)
        mass = np.full(len(known), 1 / len(source))
        return Match(SparsePlan(sparse.csr_matrix((mass, (known, partner[known])), (len(source), len(target)))))


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
        if setting not in self.made:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "models.joblib"
                options = {"save": file, "rng": self.seed, "key_added": setting, "progress": self.data.path is None}
                psalm.tl.propensity(self.cells["train"], **SCORES[setting], **options)
                psalm.tl.score(self.cells["test"], file, key_added=setting)
            self.made.add(setting)
        return self.cells

    def matched(self, part: str, setting: str, method: str) -> tuple[MuData, str]:
        """Cells with a match, and its key."""
        key = f"{setting}_{method}".replace(" ", "_")
        scores = DEFAULTS if setting == TRUE else setting
        mdata = self.scored(scores)[part]
        if f"{part} {key}" not in self.made:
            options = {"method": TruePairs(), "use_rep": "pair"} if setting == TRUE else MATCHES[setting, method]
            options = options | {"propensity_key": scores, "key_added": key, "progress": self.data.path is None}
            psalm.tl.match(mdata, source=self.ends[0], target=self.ends[1], **options)
            self.made.add(f"{part} {key}")
        return mdata, key


def own_foscttm(mdata: MuData, key: str, scores: str, names: tuple[str, str], rng: np.random.Generator) -> float:
    """The paper's FOSCTTM: in the target's scores, between each cell's true partner and one drawn from its row."""
    coupling = _matches.coupling(mdata, key)
    values = np.asarray(mdata[names[1]].obsm[scores], dtype=np.float64)
    drawn = coupling.transpose.sample(1, rng)[:, 0]
    partner = pd.Index(mdata[names[1]].obs[PAIR]).get_indexer(mdata[names[0]].obs[PAIR])
    found = []
    for block in coupling.blocks:
        if len(block.source) > 1:
            distances = cdist(values[partner[block.source]], values[drawn[block.source]])
            own = np.diag(distances)
            nearer = [(distances < own[:, None]).sum(axis=1), (distances < own).sum(axis=0)]
            found.append(np.mean(nearer) / (len(own) - 1))
    return float(np.mean(found))


def match_row(experiment: Experiment, setting: str, method: str) -> dict[str, float]:
    mdata, key = experiment.matched("test", setting, method)
    table = psalm.tl.evaluate(mdata, match_key=key, truth=PAIR, n_bootstrap=0)
    whole, types = table.iloc[-1], table.iloc[:-1]
    rng = np.random.default_rng(experiment.seed)
    return {name: whole[name] for name in ("foscttm", "trace", "lift", "recall")} | {
        "trace_types": types["trace"].mean(),
        "foscttm_own": own_foscttm(mdata, key, setting, experiment.ends, rng),
        "within": whole["r2"],
        "not_converged": int((~psalm.get.report(mdata, key)["converged"]).sum()),
        "cells": int(whole["n_pairs"]),
    }


def predict_row(experiment: Experiment, setting: str, loss: str, ends: tuple[str, str]) -> dict[str, float]:
    """R² on the test cells of a model trained on the match of the training cells."""
    train, key = experiment.matched("train", setting, "ot")
    test, source, target = experiment.cells["test"], *ends
    options = {"source": source, "target": target, "match_key": key, "loss": loss, "key_added": "guess"}
    model = psalm.tl.predict(train, **options, rng=experiment.seed, progress=False)
    cells = test[source][test[source].obs[TREATMENT].notna().to_numpy()].copy()
    truth = pd.DataFrame(test[target].obsm["X_psalm"], index=test[target].obs[PAIR]).loc[cells.obs[PAIR]].to_numpy()
    total = ((truth - truth.mean(axis=0)) ** 2).sum()
    errors = [((truth - model.predict(cells, use_treatment=known).to_numpy()) ** 2).sum() for known in (False, True)]
    found = {"r2": 1 - errors[0] / total, "r2_known": 1 - errors[1] / total}
    return found | {"epochs": model.best_epoch + 1, "cells": cells.n_obs}


def planned(data: Data, seeds: int) -> list[dict[str, Any]]:
    """What is to be run, as the first columns of the table."""
    ends = data.task.target, data.task.source
    directions = [" to ".join(pair) for pair in (ends, ends[::-1])]
    parts = [("match", *match, directions[0]) for match in MATCHES]
    parts += [("predict", *model, direction) for direction in directions for model in LOSSES]
    return [dict(zip(KEY, (data.task.folder, seed, *part), strict=True)) for seed in range(seeds) for part in parts]


def run(experiment: Experiment, row: dict[str, Any]) -> dict[str, Any]:
    """The row with what was found; its seconds include scores and matches that no row before it asked for."""
    start, what = time.perf_counter(), (row["setting"], row["method"])
    if row["part"] == "match":
        found = match_row(experiment, *what)
    else:
        found = predict_row(experiment, *what, tuple(row["direction"].split(" to ")))
    return row | found | {"seconds": time.perf_counter() - start}


def everything(data: Data, seeds: int, file: Path | None) -> pd.DataFrame:
    """All rows; those that the file lacks are run, and written as they come."""
    found = pd.read_csv(file).to_dict("records") if file is not None and file.exists() else []
    done = {tuple(row[name] for name in KEY) for row in found}
    rows = planned(data, seeds)
    experiment = Experiment(data, 0)
    for row in tqdm([row for row in rows if tuple(row.values()) not in done], desc="rows"):
        if row["seed"] != experiment.seed:
            experiment = Experiment(data, row["seed"])
        found.append(run(experiment, row))
        if file is not None:
            part = file.with_suffix(".part")
            pd.DataFrame(found).to_csv(part, index=False)
            part.replace(file)
    wanted = {tuple(row.values()) for row in rows}
    return pd.DataFrame([row for row in found if tuple(row[name] for name in KEY) in wanted])


def of_match(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with the paper's numbers and the rows that cannot be run."""
    shown = table[table["part"] == "match"].groupby(["setting", "method"], sort=False)[MATCHED].mean().round(4)
    for method in PUBLISHED_VAE:
        shown.loc[("not run", method), :] = np.nan
    paper = PUBLISHED_MATCH | PUBLISHED_VAE
    for place, column in enumerate(("paper: foscttm_own", "paper: trace_types")):
        shown[column] = [paper[method][place] for _, method in shown.index]
    return shown


def of_predict(table: pd.DataFrame) -> pd.DataFrame:
    groups = table[table["part"] == "predict"].groupby(["direction", "setting", "method"], sort=False)
    shown = groups[PREDICTED].mean().round(4)
    shown["paper: r2"] = [
        PUBLISHED_R2.get(TRUE if setting == TRUE else method) if direction == "protein to rna" else None
        for direction, setting, method in shown.index
    ]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=BMMC.folder, help="'bmmc', or the folder of a data set with pairs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="every row as CSV; rows in it are not run again")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # findings about single cell types are not the subject
    known = {task.folder: task for task in (PERTURBED, *reversed(TASKS))}
    name = Path(arguments.data).name
    if arguments.data != BMMC.folder and name not in known:
        parser.error(f"--data is 'bmmc' or a folder named {', '.join(known)}; got {arguments.data!r}")
    data = Data(BMMC, None) if arguments.data == BMMC.folder else Data(known[name], Path(arguments.data))
    table = everything(data, arguments.seeds, arguments.out)
    n_cells = int(table["cells"].iloc[0])
    print(f"{name}: {n_cells} test cells, mean of {arguments.seeds} seeds; the paper's numbers are of bone marrow")
    print(f"\nalignment\n{of_match(table).to_string(na_rep='')}\n{NOT_RUN}")
    print(f"\nprediction, R² on test cells\n{of_predict(table).to_string(na_rep='')}")


if __name__ == "__main__":
    main()
