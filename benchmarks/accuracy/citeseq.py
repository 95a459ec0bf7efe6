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
- "autoencoder": that of `aligners/autoencoder.py`, trained on the training cells; optimal transport with ε 0.05 of the
  mean distance, one shared neighbour. The paper's numbers beside it are of its own.
- "defaults": ε is 0.2 of the mean cost on test cells, as the noise of their scores is not known; cell types with fewer
  than 10 training cells are left out.
- R² is of components of RNA (z-scores of proteins) against the mean of the test cells, "r2" from features alone, as in
  the paper; "r2_known" where the cell type is known. The paper's are medians over ten seeds, from proteins to RNA.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from held_out import AUTOENCODER, BMMC, DEFAULTS, MATCHES, PAPER, TREATMENT, TRUE, Data, Experiment
from scipy.spatial.distance import cdist
from tasks import PAIR, PERTURBED, TASKS
from units import resumed

import psalm
from psalm import _matches

if TYPE_CHECKING:
    from mudata import MuData

LOSSES = [(DEFAULTS, loss) for loss in ("mse", "unbiased", "barycentric")]
LOSSES += [(PAPER, "mse"), (PAPER, "unbiased"), (TRUE, "mse")]
PUBLISHED_MATCH = {
    (PAPER, "ot"): (0.3049, 0.1163),
    (PAPER, "snn"): (0.3126, 0.0941),
    (AUTOENCODER, "ot"): (0.3953, 0.0814),
    (AUTOENCODER, "snn"): (0.3816, 0.0612),
}
"""FOSCTTM and trace of propensity scores and of the paper's autoencoder on bone marrow: Xi et al., table 1."""
PUBLISHED_R2 = {"mse": 0.217, "unbiased": 0.233, TRUE: 0.224}
"""R² on bone marrow, from proteins to RNA: Xi et al., table 2."""
MATCHED = ["foscttm", "trace", "trace_types", "foscttm_own", "lift", "recall", "within", "not_converged"]
PREDICTED = ["r2", "r2_known", "epochs"]
KEY = ["data", "seed", "part", "setting", "method", "direction"]


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
    """What was found; its seconds include scores and matches that no row before it asked for."""
    start, what = time.perf_counter(), (row["setting"], row["method"])
    if row["part"] == "match":
        found = match_row(experiment, *what)
    else:
        found = predict_row(experiment, *what, tuple(row["direction"].split(" to ")))
    return found | {"seconds": time.perf_counter() - start}


def of_match(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with the paper's numbers."""
    shown = table[table["part"] == "match"].groupby(["setting", "method"], sort=False)[MATCHED].mean().round(4)
    for place, column in enumerate(("paper: foscttm_own", "paper: trace_types")):
        shown[column] = [PUBLISHED_MATCH.get(setting, (np.nan, np.nan))[place] for setting in shown.index]
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
    experiment_of = lru_cache(maxsize=1)(partial(Experiment, data))
    table = resumed(planned(data, arguments.seeds), lambda row: [run(experiment_of(row["seed"]), row)], arguments.out)
    n_cells = int(table["cells"].iloc[0])
    print(f"{name}: {n_cells} test cells, mean of {arguments.seeds} seeds; the paper's numbers are of bone marrow")
    print(f"\nalignment\n{of_match(table).to_string(na_rep='')}")
    print(f"\nprediction, R² on test cells\n{of_predict(table).to_string(na_rep='')}")


if __name__ == "__main__":
    main()
