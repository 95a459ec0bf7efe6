"""The paper's experiment on synthetic pictures: two objects in two views, twelve interventions.

    python benchmarks/accuracy/images.py [--cells 4000] [--size 32] [--seeds 3] [--out images.csv]
    python benchmarks/accuracy/images.py --cells 20000 --size 128 --pool 4 --epochs 3 --folds 2 --repeats 12
    python benchmarks/accuracy/images.py --cells 20000 --train 20000 --size 128 --pool 4 --epochs 3 --folds 2
        --repeats 24

The pictures are those of `psalm.datasets.interventional_images`, each seen in both views; names are the pairs. Scores
are those of a small convolutional network on the pictures, out of fold, or with `--train` those of all networks that
were trained on so many other pictures, as in the paper. Kinds: "hard" is the paper's, "soft" has treatments that
overlap and a known propensity, "A1 violated" also tints one view by the treatment. Rows: psalm's matchers on these
scores; the paper's settings on the same network (uncalibrated scores, ε = 0.05 absolute, or one shared neighbour by
angles; the paper's scores are in-sample); the autoencoder of `aligners/`, convolutional here; SCOT on the pixels;
random partners; the treatment's mean; and for "soft" the true propensity.

Figures: "mse_ratio" is the mean squared error of the matched average of the latent over that of the treatment's mean
(the uniform coupling), "trace" and "lift" as in `psalm.tl.evaluate`. The paper's, 20,000 test pictures of 128 pixels,
medians of ten seeds: MSE .0316 where the uniform coupling has .0354, that is .89, and trace 18.3e-3 where it has .6e-3.
Its sizes are the other two commands: with `--pool`, all methods see means over squares of so many pixels, which makes
two cores enough. With `--out`, finished rows are kept in the file and not run again; remove it to start anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from aligners.autoencoder import AdversarialAutoencoder
from aligners.scot import Scot
from aligners.simple import random_partner, treatment_mean
from problem import Embedded, Modality, Problem, match_blocks, put
from sklearn.preprocessing import normalize
from units import resumed

import psalm
from psalm.core.image import ImageClassifier
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher

if TYPE_CHECKING:
    from mudata import MuData
    from problem import Aligner

KINDS: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"intervention": "soft"},
    "A1 violated": {"intervention": "soft", "shared": False},
}
ENDS = ("view1", "view2")
PAPER = "paper"
FIRST_TRAINING_SEED = 1000
"""Of pictures that are trained on and not matched: other ones than those of any seed that is matched."""
OURS: dict[str, dict[str, Any]] = {
    "psalm, defaults": {},
    "psalm, snn": {"method": "snn"},
    "psalm, OT ε .05": {"epsilon_absolute": 0.05},
    "psalm, squared distances": {"cost": "sqeuclidean"},
    "psalm, squared distances, ε .05": {"cost": "sqeuclidean", "epsilon_absolute": 0.05},
    "paper's settings, OT": {"epsilon_absolute": 0.05, "propensity_key": PAPER},
}
PAPER_SNN, ORACLE = "paper's settings, SNN", "true propensity, OT ε .05"
AUTOENCODER = ("autoencoder, OT ε .05", "autoencoder, SNN")
METHODS = (*OURS, PAPER_SNN, *AUTOENCODER, "SCOT", "random partner", "treatment mean", ORACLE)
FIGURES = ("mse_ratio", "trace", "lift", "foscttm", "expected")


@dataclass
class Case:
    """Pictures of one kind and seed, made and scored once, when first asked for."""

    kind: str
    seed: int
    arguments: argparse.Namespace

    @cached_property
    def mdata(self) -> MuData:
        mdata = self._pictures(self.arguments.cells, self.seed)
        other = None
        if self.arguments.train:
            other = self._pictures(self.arguments.train, FIRST_TRAINING_SEED + self.seed)
            for name in ENDS:
                other[name].obs_names = "train_" + other[name].obs_names
            other.update()
        plain = {"n_repeats": 1, "calibration": "none", "prior": "own", "key_added": PAPER}
        for options in ({"n_repeats": self.arguments.repeats}, plain):
            self._score(mdata, other, **options)
        return mdata

    def _pictures(self, n_cells: int, seed: int) -> MuData:
        given = self.arguments
        mdata = psalm.datasets.interventional_images(
            n_cells, size=given.size, paired=True, rng=seed, **KINDS[self.kind]
        )
        for name in ENDS:
            mdata[name].obsm["image"] = pooled(mdata[name].obsm["image"], given.pool)
        psalm.pp.treatment(mdata, "intervention")
        return mdata

    def _score(self, mdata: MuData, other: MuData | None, **options: Any) -> None:
        """Out of fold; or, where there are other pictures, by all networks that are trained on these."""
        given = self.arguments
        options |= {"classifier": ImageClassifier(max_epochs=given.epochs), "checkpoint": given.checkpoint}
        options |= {"use_rep": "image", "n_folds": given.folds, "progress": False, "rng": self.seed}
        if other is None:
            psalm.tl.propensity(mdata, **options)
            return
        key = options.pop("key_added", "propensity")
        with tempfile.TemporaryDirectory() as folder:
            psalm.tl.propensity(other, save=Path(folder) / "models", key_added=key, **options)
            psalm.tl.score(mdata, Path(folder) / "models", key_added=key)

    @cached_property
    def problem(self) -> Problem:
        sides = []
        for name in ENDS:
            pixels = self.mdata[name].obsm["image"].reshape(self.mdata.n_obs, -1).astype(np.float64)
            codes = self.mdata[name].obs["treatment"].cat.codes.to_numpy().astype(int)
            variables = np.arange(pixels.shape[1]).astype(str)
            scores = self.mdata[name].obsm["propensity"].astype(np.float64)
            sides.append(Modality(name, "features", pixels, codes, pixels, variables, scores))
        return Problem(self.kind, *sides, tuple(self.mdata[ENDS[0]].obs["treatment"].cat.categories))

    def run(self, method: str) -> dict[str, Any]:
        """Figures of one method; its seconds are those of the match."""
        mdata, names = self.mdata, dict(zip(("source", "target"), ENDS, strict=True))
        start = time.perf_counter()
        if method in OURS:
            psalm.tl.match(mdata, **names, progress=False, **OURS[method])
        else:
            put(mdata, self.problem, aligners(self)[method](self.problem, self.seed))
        seconds = time.perf_counter() - start
        whole = psalm.tl.evaluate(mdata, use_rep="latent", n_bootstrap=0).iloc[-1]
        found = {"mse_ratio": 1 - whole["r2"], "seconds": seconds, "expected": np.nan}
        if method in OURS:
            said = psalm.tl.diagnose(mdata, use_rep="latent", progress=False).set_index("check")["value"]
            found["expected"] = 1 - said["expected R²"]
        return found | {figure: whole[figure] for figure in ("trace", "lift", "foscttm")}


def pooled(images: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of pixels, (n_cells, channels, height / side, width / side)."""
    if side == 1:
        return images
    n_cells, channels, height, width = images.shape
    means = np.empty((n_cells, channels, height // side, width // side), dtype=np.float32)
    squares = images.reshape(n_cells, channels, height // side, side, width // side, side)
    squares.mean(axis=(3, 5), dtype=np.float32, out=means)
    return means


def aligners(case: Case) -> dict[str, Aligner]:
    """The methods that are not psalm's own, by name."""
    size = case.arguments.size // case.arguments.pool
    autoencoder = AdversarialAutoencoder(image_shape=(3, size, size))
    return {
        PAPER_SNN: lambda problem, _: by_angles(problem, [case.mdata[name].obsm[PAPER] for name in ENDS]),
        AUTOENCODER[0]: Embedded(autoencoder, SinkhornMatcher(0.05)),
        AUTOENCODER[1]: Embedded(autoencoder, SharedNeighborMatcher(1)),
        "SCOT": Scot(),
        "random partner": random_partner,
        "treatment mean": treatment_mean,
        ORACLE: lambda problem, _: by_truth(problem, [case.mdata[name].obsm["propensity_true"] for name in ENDS]),
    }


def by_angles(problem: Problem, logits: list[np.ndarray]) -> list[np.ndarray]:
    """One shared neighbour of scores that are scaled to length 1: the paper's."""
    first, second = (normalize(np.asarray(side, dtype=np.float64)) for side in logits)
    return match_blocks(SharedNeighborMatcher(n_neighbors=1), problem, (first, second))


def by_truth(problem: Problem, scores: list[np.ndarray]) -> list[np.ndarray]:
    """A sharp match by the true propensity: what no estimate of it can beat by much."""
    return match_blocks(SinkhornMatcher(0.05), problem, (scores[0], scores[1]))


def planned(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What is to be run; the true propensity is known for "soft" only."""
    names = ("cells", "train", "size", "pool", "epochs", "folds", "repeats")
    sizes = {name: getattr(arguments, name) for name in names}
    return [
        sizes | {"kind": kind, "seed": seed, "method": method}
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for kind in arguments.kinds
        for method in arguments.methods
        if method != ORACLE or kind == "soft"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--train", type=int, default=0, help="other pictures to train on; 0: those matched, in folds")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--pool", type=int, default=1, help="side in pixels of the squares averaged; divides --size")
    parser.add_argument("--epochs", type=int, default=30, help="the most that the scores' network is trained for")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, help="folder that keeps trained networks for other calls")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path, help="every row as CSV; rows in it are not run again")
    arguments = parser.parse_args()
    if arguments.pool < 1 or arguments.size % arguments.pool:
        parser.error(f"--pool {arguments.pool} does not divide --size {arguments.size}: squares must tile the picture")
    warnings.filterwarnings("ignore", category=UserWarning)
    case_of = lru_cache(maxsize=1)(lambda kind, seed: Case(kind, seed, arguments))
    units = planned(arguments)
    table = resumed(units, lambda unit: [case_of(unit["kind"], unit["seed"]).run(unit["method"])], arguments.out)
    medians = table.groupby(["kind", "method"], sort=False)[list(FIGURES)].median().round(4)
    print(f"{arguments.cells} pictures of {arguments.size} pixels, median of {arguments.seeds} seeds")
    print(medians.to_string())


if __name__ == "__main__":
    main()
