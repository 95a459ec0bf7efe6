"""How near the scores come to the true propensity, for more and more cells, with and without calibration.

    python benchmarks/accuracy/calibration.py [--seeds 3] [--sizes 250 500]
    python benchmarks/accuracy/calibration.py --causes [--seeds 3]

Simulated cells whose log-odds of every treatment are known (`psalm.datasets.simulated`, modality "a", 8 treatments).
Figures are mean absolute errors per entry of centred log-odds, in nats, with standard errors over seeds; each seed is
another simulation, and smaller sizes are its first cells. "calibrated" and "uncalibrated" are out of fold, with one
repeat; calibrated scores are capped. A temperature above one says that the classifier is over-confident.

`--causes` changes one thing at a time in the default, with its five repeats, and adds what a linear score could reach.
Its "linear, 20,000 other cells" is a logistic regression without ridge, and "nearest linear score" a least-squares
fit to the truth itself, both on 20,000 cells that are scored nowhere.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from recipes import AT_ITS_WORD, N_REPEATS, NETWORK, Cells, Recipe, deals, forget, out_of_fold, scores_of

import psalm
from psalm.core.calibration import TemperatureCalibrator
from psalm.core.cross_fit import CrossFit
from psalm.core.estimator import EstimatorClassifier
from psalm.core.kernel import KernelClassifier
from psalm.core.log_odds import centre
from psalm.core.logistic import LogisticClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core.classifier import Classifier

SIZES = (250, 500, 1000, 2000, 4000, 8000)
N_OTHER = 20_000
LOOSE = LogisticClassifier(C=1e3, balance=0, max_iter=10_000)
KERNEL = KernelClassifier(equal_scales=True)
"""What `psalm.tl.propensity` takes by default for features that are no representation."""
DEFAULT = Recipe(KERNEL, out_of_fold=True, calibrator=TemperatureCalibrator(), centred=True, capped=True)


def classifiers() -> dict[str, Classifier]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    deep = MLPClassifier((128, 128), alpha=0)
    return {
        "kernel (default)": KERNEL,
        "logistic": LogisticClassifier(),
        "logistic, C = 1,000": LOOSE,
        "mlp": NETWORK,
        "deep network": EstimatorClassifier(make_pipeline(StandardScaler(), deep)),
        "random forest": EstimatorClassifier(RandomForestClassifier(100)),
    }


@dataclass(frozen=True)
class Simulation:
    """Features, treatments and true log-odds; a smaller one is the first cells of a larger one."""

    features: np.ndarray
    codes: np.ndarray
    truth: np.ndarray

    @property
    def n_treatments(self) -> int:
        return self.truth.shape[1]

    def part(self, cells: slice) -> Simulation:
        return Simulation(self.features[cells], self.codes[cells], self.truth[cells])

    def cells(self, seed: int) -> Cells:
        rng = np.random.default_rng(seed)
        places = np.arange(len(self.codes))
        return Cells(self.features, self.codes, places, self.n_treatments, deals(self.codes, rng))

    def error(self, scores: np.ndarray) -> float:
        return float(np.abs(scores - self.truth).mean())


def simulate(seed: int, n_cells: int) -> Simulation:
    adata = psalm.datasets.simulated(n_cells=n_cells, rng=seed)["a"]
    codes = adata.obs["perturbation"].cat.codes.to_numpy().astype(int)
    return Simulation(np.asarray(adata.X, dtype=float), codes, np.asarray(adata.obsm["propensity_true"]))


def compared(largest: Simulation, n_cells: int, seed: int) -> Iterator[dict[str, Any]]:
    """Every classifier with and without calibration."""
    sample = largest.part(slice(n_cells))
    cells = sample.cells(seed)
    for name, classifier in classifiers().items():
        full = replace(DEFAULT, classifier=classifier)
        as_it_is = replace(full, calibrator=AT_ITS_WORD, capped=False)
        evidence = out_of_fold(cells, classifier, 0)
        found = TemperatureCalibrator().fit(evidence.log_likelihood, cells.codes, evidence.log_prior)
        errors = {
            "calibrated": sample.error(scores_of(full, [cells])[0]),
            "uncalibrated": sample.error(scores_of(as_it_is, [cells])[0]),
            "in_sample": sample.error(scores_of(replace(as_it_is, out_of_fold=False), [cells])[0]),
        }
        ratio = errors["calibrated"] / errors["uncalibrated"]
        yield {"classifier": name, "cells": n_cells, "temperature": 1 / float(found.weight), **errors, "ratio": ratio}
    forget()


def check(sample: Simulation, seed: int, scores: np.ndarray) -> None:
    """The recipe with all parts is the package's own."""
    rng = np.random.default_rng(seed)
    own = CrossFit(KERNEL)(sample.features, sample.codes, sample.n_treatments, rng).log_odds
    np.testing.assert_allclose(scores, own, atol=1e-8)


def limits(largest: Simulation) -> dict[str, np.ndarray]:
    """Scores of all cells by linear models of other cells: of their treatments, and of the truth itself."""
    from sklearn.linear_model import LinearRegression

    other = largest.part(slice(-N_OTHER, None))
    linear = LOOSE.fit(other.features, other.codes, other.n_treatments)
    nearest = LinearRegression().fit(other.features, other.truth)
    return {
        "linear, 20,000 other cells": centre(linear.log_likelihood(largest.features)),
        "nearest linear score": nearest.predict(largest.features),
    }


def causes(largest: Simulation, limit: dict[str, np.ndarray], n_cells: int, seed: int) -> Iterator[dict[str, Any]]:
    """The default with one thing changed, and the limits of a linear score."""
    sample = largest.part(slice(n_cells))
    cells, default = sample.cells(seed), replace(DEFAULT, n_repeats=N_REPEATS)
    recipes = {
        "default": default,
        "one repeat": DEFAULT,
        "no cap": replace(default, capped=False),
        "no calibration, no cap": replace(default, calibrator=AT_ITS_WORD, capped=False),
        "not balanced": replace(default, classifier=replace(KERNEL, balance=0)),
        "C = 0.3": replace(default, classifier=replace(KERNEL, C=0.3)),
        "C = 3": replace(default, classifier=replace(KERNEL, C=3.0)),
        "logistic, no kernel": replace(default, classifier=LogisticClassifier()),
    }
    found = {name: scores_of(recipe, [cells])[0] for name, recipe in recipes.items()}
    check(sample, seed, found["default"])
    found["the simulation's frequencies"] = centre(found["default"] - np.log(cells.shares))
    found |= {name: scores[:n_cells] for name, scores in limit.items()}
    for name, scores in found.items():
        yield {"default with": name, "cells": n_cells, "error": sample.error(scores)}
    forget()


def with_errors(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Means over seeds, with standard errors."""
    grouped = rows.groupby(keys, sort=False)
    means, errors = grouped.mean(), grouped.sem()
    parts = [means[name].map("{:.3f}".format) + errors[name].map(" ± {:.3f}".format) for name in means]
    return pd.concat(parts, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--causes", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations", category=UserWarning)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        largest = simulate(seed, max(SIZES) + N_OTHER)  # whatever the sizes: the same simulation
        limit = limits(largest) if arguments.causes else {}
        for n_cells in arguments.sizes:
            if arguments.causes:
                rows += causes(largest, limit, n_cells, seed)
            else:
                rows += compared(largest, n_cells, seed)
    if arguments.causes:
        table = with_errors(pd.DataFrame(rows), ["default with", "cells"])["error"].unstack("cells")
        print(table.reindex([row["default with"] for row in rows[: len(table)]]).to_string())
    else:
        print(with_errors(pd.DataFrame(rows), ["classifier", "cells"]).sort_index().to_string())


if __name__ == "__main__":
    main()
