"""What was predicted against what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys
from psalm._arguments import checked
from psalm.pl._axes import finish, given_axes, height_for, legend_above
from psalm.pl._colours import colours
from psalm.pl._names import LITERAL, shown
from psalm.pl._rows import point_size, row_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.pl._axes import OnAxes

ALL = "all"
FEW = 3
"""A correlation over fewer treatments says nothing."""


@checked
def prediction(
    mdata: MuData,
    *,
    target: str | None = None,
    key: str | None = None,
    features: Sequence[str] | None = None,
    n_features: int = 4,
    match_key: str = _keys.MATCH,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Predicted against measured features by treatment, and the loss of held-out cells against the treatment's mean.

    Predicted and measured cells are different cells, so a point is a treatment: the mean of its target cells against
    the mean that was predicted for its source cells. r is the correlation over treatments. Predictions that know the
    treatment (``use_treatment``) agree here by construction; what the source says beyond the treatment is in the last
    panel: filled points left of the open ones, the losses of the treatment's mean.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.predict`.
    target
        The modality that was predicted, by default the target of the match.
    key
        ``key_added`` of :func:`psalm.tl.predict`; by default ``f"{target}_predicted"``.
    features
        Names of the features to draw; by default those of the highest and of the lowest r, half each.
    n_features
        Number of features to draw where ``features`` does not name them.
    match_key
        ``key_added`` of :func:`psalm.tl.match`, for the target where neither ``target`` nor ``key`` is given.
    ax
        Axes to draw on, one for each feature and one for the losses.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of axes, those of the features first.

    Raises
    ------
    KeyError
        There is no such prediction, or a feature was not predicted.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=20, progress=False)
    >>> figure = psalm.pl.prediction(mdata, return_fig=True)
    """
    key = _key(_access.container(mdata), target, key, match_key)
    run = _access.run(mdata, key, "tl.predict", "key")
    means = _means(mdata, run)
    chosen = _chosen(means, features, n_features)
    losses = _in_order(run["table"], means.all_treatments)
    if ax is None:
        figure, axes = _layout(len(chosen), height_for(len(losses), least=3.0))
    else:
        figure, axes = given_axes(ax, len(chosen) + 1)
    of_treatment = colours(mdata, means.column, means.all_treatments, depth=4)
    titles = shown([str(means.features[position]) for position in chosen])
    for position, axis, title in zip(chosen, axes[:-1], titles, strict=True):
        _feature(axis, means, position, title, [of_treatment[name] for name in means.treatments])
        axis.set_ylabel("predicted mean\n(treatment known)" if run["params"]["use_treatment"] else "predicted mean")
    _held_out(axes[-1], losses, of_treatment)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


def _key(mdata: MuData, target: str | None, key: str | None, match_key: str) -> str:
    """Under which name the prediction is stored."""
    if key is not None:
        return key
    if target is None:
        target = str(_access.run(mdata, match_key, "tl.match", "match_key")["params"]["target"])
    return _keys.predicted(target)


@dataclass(frozen=True)
class Means:
    """Means by treatment.

    Parameters
    ----------
    measured, predicted
        (n_treatments, n_features) of target cells and of source cells.
    features, treatments
        Names.
    column, all_treatments
        Column of obs with the treatments, and its categories, those without cells included.
    """

    measured: FloatArray
    predicted: FloatArray
    features: pd.Index
    treatments: list[str]
    column: str
    all_treatments: list[str]

    @property
    def correlation(self) -> FloatArray:
        """(n_features,) over treatments; NaN where there are few, or no differences."""
        if len(self.treatments) < FEW:
            return np.full(len(self.features), np.nan)
        first, second = (values - values.mean(axis=0) for values in (self.measured, self.predicted))
        norms = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        known = norms > 0
        return np.where(known, (first * second).sum(axis=0) / np.where(known, norms, 1.0), np.nan)


def _means(mdata: MuData, run: dict[str, Any]) -> Means:
    params, stored = run["params"], run["means"]
    column = str(_access.run(mdata, str(params["match_key"]), "tl.match", "match_key")["params"]["treatment"])
    _, everything = _access.treatment_codes(mdata, str(params["target"]), column)
    treatments = pd.Index([str(name) for name in stored["treatments"]])
    order = np.argsort(everything.get_indexer(treatments), kind="stable")
    return Means(
        np.asarray(stored["measured"])[order],
        np.asarray(stored["predicted"])[order],
        pd.Index([str(name) for name in run["features"]]),
        list(treatments[order]),
        column,
        [str(name) for name in everything],
    )


def _chosen(means: Means, features: Sequence[str] | None, n_features: int) -> list[int]:
    """Positions of the features to draw: those named, or the best and the worst."""
    if features is not None:
        unknown = [name for name in features if name not in means.features]
        if unknown:
            msg = (
                f"`features` names {_checks.listed(unknown)}, which were not predicted. "
                f"Found: {_checks.listed(means.features)}. Correct the names."
            )
            raise KeyError(msg)
        return [int(np.flatnonzero(means.features == name)[0]) for name in features]
    _checks.whole_number("n_features", n_features, least=1)
    correlation = means.correlation
    order = np.argsort(-np.nan_to_num(correlation, nan=-2.0), kind="stable")
    n_best = min(n_features - n_features // 2, len(order))
    n_worst = min(n_features // 2, len(order) - n_best)
    return [int(position) for position in (*order[:n_best], *order[len(order) - n_worst :])]


def _in_order(losses: pd.DataFrame, treatments: list[str]) -> pd.DataFrame:
    """The losses in the order of treatments, those of all last."""
    places = pd.Index(treatments).get_indexer(losses["treatment"].astype(str))
    return losses.iloc[np.argsort(np.where(places < 0, len(treatments), places), kind="stable")]


def _layout(n_features: int, losses_height: float) -> tuple[Figure, list[Axes]]:
    """Features in two columns, the losses as tall as they are on the right."""
    import matplotlib.pyplot as plt

    n_columns = min(n_features, 2)
    n_rows = -(-n_features // n_columns)
    figure = plt.figure(figsize=(2.7 * n_columns + 4.4, max(2.7 * n_rows + 0.3, losses_height)))
    figure.set_layout_engine("constrained", hspace=0.08)
    grid = figure.add_gridspec(n_rows, n_columns + 1, width_ratios=[1.0] * n_columns + [1.1])
    panels = [figure.add_subplot(grid[place // n_columns, place % n_columns]) for place in range(n_features)]
    return figure, [*panels, figure.add_subplot(grid[:, n_columns])]


def _feature(ax: Axes, means: Means, position: int, title: str, point_colours: list[Any]) -> None:
    measured, predicted = means.measured[:, position], means.predicted[:, position]
    ax.scatter(measured, predicted, c=point_colours, s=point_size(len(measured)) + 8, linewidths=0, zorder=2)
    both = np.concatenate([measured, predicted])
    margin = 0.08 * (np.ptp(both) or 1.0)
    limits = both.min() - margin, both.max() + margin
    ax.axline((limits[0], limits[0]), slope=1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlim=limits, ylim=limits, xlabel="measured mean")
    ax.set_box_aspect(1)
    ax.locator_params(nbins=4)
    r = means.correlation[position]
    said = "" if np.isnan(r) else f"  r = {r:.2f}".replace("-", "−")
    ax.set_title(f"{title}{said}", fontsize="medium", **LITERAL)
    ax.spines[["top", "right"]].set_visible(False)


def _held_out(ax: Axes, losses: pd.DataFrame, of_treatment: dict[str, Any]) -> None:
    """One row per treatment, the last for all, in the treatments' colours: a key to the other panels."""
    names, places = losses["treatment"].astype(str), np.arange(len(losses))
    shades = ["black" if name == ALL else of_treatment.get(name, "0.5") for name in names]
    size = 1.6 * point_size(len(losses))
    ax.hlines(places, losses["loss_with_treatment"], losses["treatment_mean_loss"], color="0.8", linewidth=1, zorder=0)
    mean, alone = losses["treatment_mean_loss"], losses["loss"]
    ax.scatter(mean, places, s=size, facecolors="white", edgecolors="0.45", label="treatment's mean", zorder=2)
    ax.scatter(alone, places, s=2 * size, marker="|", color="0.45", label="from features alone", zorder=2)
    ax.scatter(losses["loss_with_treatment"], places, s=size, c=shades, linewidths=0, zorder=3)
    ax.scatter([], [], s=size, color="black", label="treatment known")
    ax.axhline(len(losses) - 1.5, color="0.8", linewidth=0.8)
    ax.set_xlabel("loss of held-out cells")
    row_axis(ax, list(names), said=f"{len(names) - 1} treatments, the last row for all")
    legend_above(ax, columns=2, columnspacing=0.8, handletextpad=0.2)
