"""Many random small problems through every step: no warning of a library, nothing that is not finite.

    python benchmarks/soak.py [--problems 500] [--seed 0]

Treatments, cells, features, their scale (1e-6 to 1e6), constant and duplicated features, duplicated cells, cells
without a treatment, classifiers, calibrations, matchers, costs and masses are drawn at random. Psalm's own warnings, in
words about the data, are expected and counted; any other warning, any error and any number that is not finite where one
is promised is printed with the seed that makes it again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from typing import Any

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from tqdm.auto import tqdm

import psalm
from psalm.core.calibration import CALIBRATORS
from psalm.core.methods import METHODS

NAMES = {"source": "a", "target": "b"}
NO_COST = ("snn", "nearest", "mutual", "fgw")
RARELY, OFTEN, UNLABELLED = 0.2, 0.5, 0.03


def drawn(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def problem(rng: np.random.Generator) -> MuData:
    n_treatments, modalities = rng.integers(2, 7), {}
    scale = 10.0 ** rng.uniform(-6, 6)
    for name in NAMES.values():
        n_cells, n_features = rng.integers(12, 30) * n_treatments, rng.integers(2, 9)
        codes = rng.permutation(np.arange(n_cells) % n_treatments)
        effects = rng.normal(size=(n_treatments, n_features)) * rng.uniform(0, 3)
        features = effects[codes] + rng.normal(size=(n_cells, n_features))
        if drawn(rng, RARELY):
            features[:, 0] = 1.0
        if drawn(rng, RARELY):
            features[:, -1] = features[:, 0]
        if drawn(rng, RARELY):
            features[1::2] = features[: n_cells - n_cells // 2][: n_cells // 2]
        labels = pd.Series(np.array([f"t{code}" for code in codes], dtype=object))
        labels[rng.random(n_cells) < UNLABELLED] = None
        obs = pd.DataFrame(
            {"perturbation": labels.to_numpy(), "weight": rng.uniform(0.1, 9, n_cells)},
            index=[f"{name}{number}" for number in range(n_cells)],
        )
        modalities[name] = AnnData(features * scale, obs=obs)
    return MuData(modalities)


def choices(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the scores and of the match."""
    scoring = {
        "classifier": str(rng.choice(["kernel", "logistic"])),
        "calibration": str(rng.choice(list(CALIBRATORS))),
        "n_folds": int(rng.integers(2, 5)),
        "n_repeats": int(rng.integers(1, 4)),
        "prior": str(rng.choice(["shared", "own"])),
    }
    method = str(rng.choice(list(METHODS)))
    matching: dict[str, Any] = {"method": method}
    if method not in NO_COST and drawn(rng, OFTEN):
        matching["cost"] = "sqeuclidean"
    if method in {"ot", "unbalanced", "partial"} and (scoring["n_repeats"] == 1 or drawn(rng, OFTEN)):
        matching["epsilon"] = float(10.0 ** rng.uniform(-2, 1))
    if method in {"ot", "exact", "unbalanced"} and drawn(rng, OFTEN):
        matching["mass"] = "weight"
    return scoring, matching


def run(mdata: MuData, scoring: dict[str, Any], matching: dict[str, Any]) -> list[str]:
    """What is not finite, by name."""
    psalm.pp.treatment(mdata, "perturbation", min_cells=4)
    psalm.tl.propensity(mdata, progress=False, **scoring)
    psalm.tl.match(mdata, progress=False, **NAMES, **matching)
    psalm.tl.transfer(mdata, keys=["weight", "perturbation", "X"], **NAMES)
    labelled = mdata["b"].obs["treatment"].notna().to_numpy()
    partner = labelled & (mdata["b"].obs["match_mass"].fillna(0).to_numpy() > 0)
    promised = {
        **{f"scores of {name}": mdata[name].obsm["propensity"] for name in NAMES.values()},
        "coupling": mdata.obsp["match"].data,
        "exact coupling": psalm.get.coupling(mdata).data,
        "weights transferred": mdata["b"].obs["weight_from_a"].to_numpy()[partner],
        "features transferred": mdata["b"].obsm["X_from_a"][partner],
    }
    return [name for name, values in promised.items() if not np.isfinite(values).all()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if hasattr(mudata, "set_options"):  # mudata 0.3; since 0.4 it is the default
        mudata.set_options(pull_on_update=False)
    counts, faults = Counter(), []
    for seed in tqdm(range(given.seed, given.seed + given.problems), unit="problem"):
        rng = np.random.default_rng(seed)
        mdata, (scoring, matching) = problem(rng), choices(rng)
        counts[matching["method"]] += 1
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            try:
                found = run(mdata, scoring, matching)
            except Exception as error:  # noqa: BLE001, every failure is a finding
                found = [f"{type(error).__name__}: {error}"]
        for warning in seen:
            if warning.category is UserWarning and warning.filename == __file__:
                counts["warnings of psalm"] += 1
            else:
                found.append(f"{warning.category.__name__}: {warning.message} ({warning.filename}:{warning.lineno})")
        faults += [f"seed {seed} {scoring} {matching}: {fault}" for fault in found]
    print("\n".join(faults))
    print(f"{given.problems} problems, {len(faults)} faults; {dict(counts)}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
