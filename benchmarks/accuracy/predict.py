"""Held-out prediction by models trained on matches, beside the same network trained on the true pairs.

    python benchmarks/accuracy/predict.py DATA [--seeds 3] [--out predict.csv]

Seven real tasks and a simulation, both directions. A fifth of the cells, in both modalities, takes no part in scoring,
matching and training; their target features are then predicted from their source features. R² is taken against the mean
of all held-out cells ("r2"), and against the mean of the treatment's other cells ("within"). Predictors: models
trained on the match with each loss, on the true pairs, and the mean of the treatment's training cells. Models are
scored twice: from features alone, and told the held-out cell's treatment ("… + treatment"), as that mean is. Pairs are
used for the oracle and to score.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tasks import PAIR, TASKS, Task, TruePairs, prepare
from units import resumed

import psalm
from psalm.core.losses import LOSSES

HELD_OUT = 0.2
MEAN, TRUE, TOLD = "treatment mean", "true pairs", " + treatment"
SIMULATION = Task("simulation", "a", "b", "perturbation")
WORTH = 0.1
"""R² of the model on true pairs from which the ratio counts."""


def simulation(seed: int) -> object:
    mdata = psalm.datasets.simulated(n_cells=2000, n_treatments=12, paired=True, rng=seed)
    adata = mdata["b"][np.random.default_rng(seed).permutation(mdata["b"].n_obs)].copy()
    for name, part in (("a", mdata["a"]), ("b", adata)):
        part.obs[PAIR] = part.obs_names
        part.obs_names = [f"{name}_{number}" for number in range(part.n_obs)]
    from psalm._containers import stack

    mdata = stack({"a": mdata["a"], "b": adata})
    psalm.pp.treatment(mdata, "perturbation")
    for name in ("a", "b"):
        psalm.pp.represent(mdata, name, kind="features")
    return mdata


def hide(mdata: object, seed: int) -> dict[str, pd.DataFrame]:
    """Take the treatment from a fifth of the pairs; returns their treatment and pair by modality."""
    pairs = np.sort(next(iter(mdata.mod.values())).obs[PAIR].to_numpy().astype(str))
    hidden = np.random.default_rng(seed).permutation(pairs)[: int(HELD_OUT * len(pairs))]
    labels = {}
    for name, adata in mdata.mod.items():
        cells = adata.obs[PAIR].isin(hidden).to_numpy() & adata.obs["treatment"].notna().to_numpy()
        labels[name] = adata.obs.loc[cells, ["treatment", PAIR]].copy()
        adata.obs.loc[cells, "treatment"] = np.nan
    return labels


def r2(truth: np.ndarray, means: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Total and within-treatment R² over the held-out cells, in the target's representation.

    ``means`` are those of each cell's treatment over the other cells: a few held-out cells are nearer to their own mean
    than anything that has not seen them can be.
    """
    error = ((truth - guess) ** 2).sum()
    total, within = ((truth - truth.mean(axis=0)) ** 2).sum(), ((truth - means) ** 2).sum()
    return {"r2": 1 - error / total, "within": 1 - error / within}


def one_direction(mdata: object, ends: tuple[str, str], hidden: pd.DataFrame, seed: int) -> list[dict[str, object]]:
    source, target = ends
    features, cells = mdata[target].obsm["X_psalm"], mdata[target].obs
    truth = pd.DataFrame(features, index=cells[PAIR].astype(str)).loc[hidden[PAIR].astype(str)].to_numpy()
    treatment = hidden["treatment"].astype(str).to_numpy()
    of_treatment = pd.DataFrame(features).groupby(cells["treatment"].astype(str).to_numpy()).mean()
    means = of_treatment.loc[treatment].to_numpy()
    found = [{"predictor": MEAN} | r2(truth, means, means)]
    for name, key, loss in [*((loss, "match", loss) for loss in LOSSES), (TRUE, "truth", "barycentric")]:
        model = psalm.tl.predict(
            mdata, source=source, target=target, match_key=key, loss=loss, rng=seed, progress=False, key_added="guess"
        )
        cells = mdata[source][hidden.index].copy()
        cells.obs["treatment"] = hidden["treatment"]
        for told in (False, True):
            guess = model.predict(cells, use_treatment=told).to_numpy()
            about = {"predictor": name + TOLD * told, "epochs": model.best_epoch + 1, "slope": model.slope}
            found.append(about | r2(truth, means, guess))
    return found


def rows(task: Task, data: Path, seed: int) -> list[dict[str, object]]:
    mdata = simulation(seed) if task is SIMULATION else prepare(task, data, seed)
    hidden = hide(mdata, seed)
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    ends = (task.source, task.target)
    psalm.tl.match(mdata, source=task.source, target=task.target, progress=False)
    numbers = pd.Index(mdata[task.source].obs[PAIR].astype(str))
    for name in ends:
        mdata[name].obsm["pair"] = numbers.get_indexer(mdata[name].obs[PAIR].astype(str))[:, None]
    options = {"method": TruePairs(), "use_rep": "pair", "key_added": "truth", "progress": False}
    psalm.tl.match(mdata, source=task.source, target=task.target, **options)
    found = []
    for pair in (ends, ends[::-1]):
        about = {"direction": f"{pair[0]} to {pair[1]}"}
        found += [about | row for row in one_direction(mdata, pair, hidden[pair[0]], seed)]
    return found


def summary(table: pd.DataFrame) -> str:
    """R² by predictor, ratio to the true pairs' model, and margin over the treatment's mean."""
    means = table.groupby(["task", "direction", "predictor"], sort=False)[["r2", "within"]].mean().unstack("predictor")
    of = means["r2"].copy()
    best = of.index[of[TRUE] >= WORTH]
    lines = [of.round(3).to_string(), "", "within treatment", means["within"].round(3).to_string(), ""]
    for loss in (*LOSSES, *(loss + TOLD for loss in LOSSES)):
        ratio = of.loc[best, loss] / of.loc[best, TRUE + TOLD * loss.endswith(TOLD)]
        below = of[loss] - of[MEAN]
        lines.append(
            f"{loss}: R² ÷ that on true pairs {ratio.mean():.3f} (mean of {len(best)}; {ratio.min():.3f} to "
            f"{ratio.max():.3f}); R² less the treatment mean's {below.mean():+.3f} (least {below.min():+.3f})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="every row as CSV; what is in it is not run again")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="psalm|__main__|tasks|predict")
    tasks = {f"{task.folder} {task.treatment}": task for task in (*TASKS, SIMULATION)}
    units = [{"task": name, "seed": seed} for seed in range(arguments.seeds) for name in tasks]
    table = resumed(units, lambda unit: rows(tasks[unit["task"]], arguments.data, unit["seed"]), arguments.out)
    print(f"held-out cells, mean of {arguments.seeds} seeds\n{summary(table)}")


if __name__ == "__main__":
    main()
