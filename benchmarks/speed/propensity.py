"""Seconds, memory and held-out log loss of psalm's cross-fitted scores beside scikit-learn's ``cross_val_predict``.

    python benchmarks/speed/propensity.py [--cells 100000 --features 50 --treatments 50 --rounds 2 --out propensity.csv]

With ``--max-logits 0`` psalm trains by minibatches whatever the size. Methods alternate in one process, on one thread;
the shortest of the rounds is printed. Memory is the highest resident size (``resource.getrusage``) of a fresh process
that runs the method once, less what it was once the data were there. The table's ratio is to psalm's medians, with one
repeat, which is what scikit-learn does.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from timing import Line, add_out, write

from psalm.core.cross_fit import CrossFit
from psalm.core.log_odds import log_loss, log_probabilities
from psalm.core.logistic import LogisticClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray

N_FOLDS = 5
METHODS = ("scikit-learn, 1 repeat", "psalm, 1 repeat", "psalm, 5 repeats")
REFERENCE = METHODS[1]


def simulate(n_cells: int, n_features: int, n_treatments: int) -> tuple[FloatArray, IntArray]:
    """Gaussian cells around the mean of their treatment."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(n_cells) % n_treatments)
    return 0.3 * rng.normal(size=(n_treatments, n_features))[codes] + rng.normal(size=(n_cells, n_features)), codes


def by_scikit_learn(features: FloatArray, codes: IntArray) -> FloatArray:
    """Out-of-fold log-probabilities as one would get them without psalm."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    return log_probabilities(cross_val_predict(model, features, codes, cv=folds, method="predict_proba"))


def by_psalm(features: FloatArray, codes: IntArray, n_repeats: int, max_logits: int) -> FloatArray:
    """Out-of-fold, calibrated log-odds, portion by portion, kept as float32."""
    n_treatments = int(codes.max()) + 1
    cross_fit = CrossFit(LogisticClassifier(max_logits=max_logits), N_FOLDS, n_repeats)
    fitted = cross_fit(features, codes, n_treatments, np.random.default_rng(0))
    found = np.empty((len(codes), n_treatments), dtype=np.float32)
    for cells in fitted.chunks():
        found[cells] = fitted.rows(cells).log_odds
    return found


def run(method: str, features: FloatArray, codes: IntArray, max_logits: int) -> FloatArray:
    """Scores by one of :data:`METHODS`, on one thread."""
    with threadpool_limits(limits=1):
        if method.startswith("scikit-learn"):
            return by_scikit_learn(features, codes)
        return by_psalm(features, codes, 5 if method.endswith("repeats") else 1, max_logits)


def peak_gigabytes(method: str, size: tuple[int, int, int], max_logits: int) -> float:
    """Highest resident size less that with the data; meant for a fresh process."""
    features, codes = simulate(*size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(method, features, codes, max_logits)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6


def peaks(size: tuple[int, int, int], max_logits: int) -> dict[str, float]:
    """Of each method; to be asked for first, because a process starts from its parent's peak."""
    found = {}
    for method in METHODS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            found[method] = fresh.submit(peak_gigabytes, method, size, max_logits).result()
    return found


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"cells": 100_000, "features": 50, "treatments": 50, "rounds": 2}
    for name, value in (*defaults.items(), ("max-logits", LogisticClassifier.max_logits)):
        parser.add_argument(f"--{name}", type=int, default=value)
    add_out(parser)
    given = parser.parse_args()
    size = given.cells, given.features, given.treatments
    peak = peaks(size, given.max_logits)
    features, codes = simulate(*size)
    run(METHODS[1], features[:1000], codes[:1000] % 2, given.max_logits)  # loads what is loaded once
    seconds, losses = {method: [] for method in METHODS}, {}
    for _ in range(given.rounds):
        for method in METHODS:
            start = time.perf_counter()
            found = run(method, features, codes, given.max_logits)
            seconds[method].append(time.perf_counter() - start)
            losses[method] = log_loss(log_softmax(found.astype(np.float64), axis=1), codes)
    case = f"{given.cells} cells, {given.features} features, {given.treatments} treatments"
    print(f"{case}, {N_FOLDS} folds")
    least = {method: min(times) for method, times in seconds.items()}
    for method in METHODS:
        print(
            f"{method:24} {least[method]:8.1f} s, {least[METHODS[0]] / least[method]:6.2f} times as fast, "
            f"peak {peak[method]:6.2f} GB, held-out log loss {losses[method]:.4f}"
        )
    write(lines(case, seconds, peak, losses), given.out)


def lines(
    case: str, seconds: dict[str, list[float]], peak: dict[str, float], losses: dict[str, float]
) -> Iterator[Line]:
    """Rows of the table."""
    own = median(seconds[REFERENCE])
    for method, times in seconds.items():
        note = f"held-out log loss {losses[method]:.4f}"
        yield Line("propensity", case, method, tuple(times), median(times) / own, peak[method], note)


if __name__ == "__main__":
    main()
