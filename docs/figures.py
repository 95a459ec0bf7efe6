"""Draw the figures of "Why propensity scores" (a simulation) and of "Reading the diagnostics" (blood cells)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

import psalm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

IMAGES = Path(__file__).parent / "images"
COLOURS = np.array(["#9a9a9a", "#3b6ea8", "#e08a1e", "#4f9d69"])
MODALITIES = ("a", "b")


def cells() -> MuData:
    """Two modalities of the same cells under four treatments of a hidden state with two dimensions, matched."""
    mdata = psalm.datasets.simulated(
        n_cells=700, n_treatments=4, n_latent=2, n_private=2, n_features=(30, 30), strength=2.5, paired=True, rng=3
    )
    psalm.pp.treatment(mdata, "perturbation")
    for modality in MODALITIES:
        psalm.pp.represent(mdata, modality, kind="features")
    psalm.tl.propensity(mdata, progress=False)
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    return mdata


def points(ax: Axes, xy: np.ndarray, codes: np.ndarray, title: str, **style: object) -> None:
    ax.scatter(*xy.T, c=COLOURS[codes], s=9, linewidths=0.6, alpha=0.8, **style)
    ax.set_title(title, fontsize=11)
    ax.set(xticks=[], yticks=[])


def idea(mdata: MuData) -> None:
    """Hidden state, what each modality shows of it, and the scores of both."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.5), layout="constrained")
    codes = mdata["a"].obs["treatment"].cat.codes.to_numpy()
    points(axes[0], mdata["a"].obsm["latent"], codes, "hidden state of the cells")
    for ax, name, label in zip(axes[1:3], MODALITIES, ("first modality", "second modality"), strict=True):
        points(ax, PCA(2).fit_transform(mdata[name].X), codes, f"{label}, principal components")
    scores = [psalm.get.propensity(mdata, name).to_numpy() for name in MODALITIES]
    plane = PCA(2).fit(np.vstack(scores))
    for of, marker in zip(scores, "ox", strict=True):
        points(axes[3], plane.transform(of), codes, "propensity scores of both", marker=marker)
    names = mdata["a"].obs["treatment"].cat.categories
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for colour in COLOURS]
    axes[0].legend(handles, names, fontsize=8, frameon=False, loc="best", handletextpad=0.1)
    kinds = [plt.Line2D([], [], marker=marker, linestyle="", color="black", markersize=5) for marker in "ox"]
    axes[3].legend(kinds, ["first", "second"], fontsize=8, frameon=False, loc="best", handletextpad=0.1)
    figure.savefig(IMAGES / "idea.png", dpi=90)


def within(mdata: MuData, treatment: str = "t1", n_shown: int = 25) -> None:
    """One treatment: who is matched with whom, and what the matched average says of the hidden state."""
    shown = (mdata["a"].obs["treatment"] == treatment).to_numpy()
    coupling = psalm.get.coupling(mdata)[shown][:, shown].toarray()
    scores = [psalm.get.propensity(mdata, name).to_numpy()[shown] for name in MODALITIES]
    plane = PCA(2).fit(np.vstack(scores))
    first, second = (plane.transform(of) for of in scores)
    latent = mdata["b"].obsm["latent"][shown]
    averages = coupling @ latent / coupling.sum(axis=1, keepdims=True)

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
    some = np.random.default_rng(0).choice(len(first), n_shown, replace=False)
    for cell in some:
        for partner in np.argsort(-coupling[cell])[:5]:
            share = coupling[cell, partner] / coupling[cell].max()
            left.plot(
                *np.stack([first[cell], second[partner]]).T, color="black", linewidth=0.8, alpha=0.15 + 0.45 * share
            )
    left.scatter(*first[some].T, s=22, color=COLOURS[1], zorder=3, label="first modality (some)")
    left.scatter(*second.T, s=14, color=COLOURS[2], marker="x", linewidths=0.8, label="second modality (all)")
    left.set_title(f"cells of {treatment}, by their scores; lines to the five likeliest partners", fontsize=10)
    left.set(xticks=[], yticks=[])
    left.legend(fontsize=8, frameon=False)
    axis = PCA(1).fit(latent)
    right.scatter(axis.transform(mdata["a"].obsm["latent"][shown]), axis.transform(averages), s=10, color=COLOURS[1])
    right.axhline(0, color="black", linewidth=0.8, linestyle=":")
    right.set_title("is the match right? hidden truth, along its first component", fontsize=10)
    right.set(xlabel="cell of the first modality", ylabel="average of its partners in the second")
    figure.savefig(IMAGES / "within.png", dpi=110)


def diagnostics() -> None:
    """The plots of real cells, as `pl` draws them."""
    mdata = psalm.datasets.gene_halves()
    psalm.pp.treatment(mdata, "bulk_labels")
    for panel in ("panel1", "panel2"):
        psalm.pp.represent(mdata, panel, kind="features")
    psalm.tl.propensity(mdata, progress=False)
    psalm.tl.match(mdata, source="panel1", target="panel2", progress=False)
    for name in ("propensity", "agreement", "overlap", "match"):
        getattr(psalm.pl, name)(mdata, return_fig=True).savefig(IMAGES / f"{name}.png", dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    plt.switch_backend("agg")
    simulated = cells()
    idea(simulated)
    within(simulated)
    diagnostics()
