"""Which loss of tl.predict predicts held-out cells best, beside the same network trained on the true pairs.

    python benchmarks/accuracy/losses.py DATA [--seeds 3]

A fifth of the cells, in both modalities, takes no part in scoring, matching and training. Their target features are
then predicted from their source features. R² is total (against the mean of all held-out cells) and within treatment.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from tasks import PAIR, TASKS, Task, prepare

import psalm
from psalm.core.losses import LOSSES
from psalm.core.matcher import Match, Side
from psalm.core.plan import SparsePlan

HELD_OUT = 0.2


def hide(mdata: object, seed: int) -> dict[str, pd.Series]:
    """Take the treatment from a fifth of the pairs; returns their treatment by modality, indexed by pair."""
    pairs = next(iter(mdata.mod.values())).obs[PAIR].to_numpy()
    hidden = np.random.default_rng(seed).permutation(pairs)[: int(HELD_OUT * len(pairs))]
    labels = {}
    for name, adata in mdata.mod.items():
        cells = adata.obs[PAIR].isin(hidden).to_numpy() & adata.obs["treatment"].notna().to_numpy()
        labels[name] = adata.obs.loc[cells, ["treatment", PAIR]].copy()
        adata.obs.loc[cells, "treatment"] = np.nan
    return labels


class TruePairs:
    """The oracle: sends each source cell's mass to its partner."""

    needs_features = True  # the pairs' numbers, given as `use_rep`

    def __call__(self, source: Side, target: Side) -> Match:
        mass = sparse.csr_matrix((source.features == target.features.T).astype(float) / len(source))
        return Match(SparsePlan(mass))


def r2(task: Task, mdata: object, hidden: dict[str, pd.Series], predicted: pd.DataFrame) -> tuple[float, float]:
    """Total and within-treatment R² over the held-out cells, in the target's representation."""
    labels = hidden[task.source]
    truth = pd.DataFrame(mdata[task.target].obsm["X_psalm"], index=mdata[task.target].obs[PAIR]).loc[labels[PAIR]]
    truth, guess = truth.to_numpy(), predicted.loc[labels.index].to_numpy()
    error = ((truth - guess) ** 2).sum()
    means = pd.DataFrame(truth).groupby(labels["treatment"].to_numpy(), observed=True).transform("mean").to_numpy()
    return 1 - error / ((truth - truth.mean(axis=0)) ** 2).sum(), 1 - error / ((truth - means) ** 2).sum()


def rows(task: Task, data: Path, seed: int) -> list[dict[str, object]]:
    mdata = prepare(task, data, seed)
    hidden = hide(mdata, seed)
    psalm.tl.propensity(mdata, rng=seed, progress=False)
    ends = {"source": task.source, "target": task.target}
    psalm.tl.match(mdata, **ends, progress=False)
    numbers = pd.Index(mdata[task.source].obs[PAIR])
    for name in ends.values():
        mdata[name].obsm["pair"] = numbers.get_indexer(mdata[name].obs[PAIR])[:, None]
    psalm.tl.match(mdata, **ends, method=TruePairs(), use_rep="pair", key_added="truth", progress=False)
    found = []
    for name, key, loss in [*((loss, "match", loss) for loss in LOSSES), ("true pairs", "truth", "barycentric")]:
        model = psalm.tl.predict(mdata, **ends, match_key=key, loss=loss, rng=seed, progress=False)
        total, within = r2(task, mdata, hidden, model.predict())
        epochs = len(model.history["train_loss"])
        found.append(
            {"task": f"{task.folder}, {task.treatment}", "loss": name, "r2": total, "within": within}
            | {"epochs": epochs}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="psalm|__main__|tasks")
    seeds = range(arguments.seeds)
    table = pd.DataFrame([row for task in TASKS for seed in seeds for row in rows(task, arguments.data, seed)])
    means = table.groupby(["task", "loss"], sort=False)[["r2", "within", "epochs"]].mean().unstack("loss")
    means.loc["mean"] = means.mean()
    print(f"held-out cells, mean of {arguments.seeds} seeds\n{means.round(3).T.to_string()}")


if __name__ == "__main__":
    main()
