"""Two clouds in one space of scores, with matched cells joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _checks, _keys, _matches
from psalm.pl._axes import MANY_TREATMENTS, colours, finish, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray

LEGEND_ROWS = 20
NO_TREATMENT = "0.85"
GOLDEN_RATIO = (5**0.5 - 1) / 2


def embedding(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    basis: str = _keys.EMBEDDING,
    n_links: int = 200,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Source cells (left) and target cells (right) in the space of scores, coloured by treatment, best matches joined.

    Both clouds are drawn in the same coordinates, the target's moved to the right. Where the modalities agree, the
    clouds have the same shape. A line is as dark as its match is decided: a cell whose mass is spread evenly over its
    treatment has no visible line. Level lines alone prove nothing, since cells are matched by these very scores.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match` and :func:`psalm.tl.embed`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    basis
        Key in ``obsm`` of source and target, comparable between them, by default that of :func:`psalm.tl.embed`.
    n_links
        Source cells, evenly spread over the matched ones, that are joined with the target cell they send most mass to.
    ax
        Axes to draw on.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or the axes.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> psalm.tl.embed(mdata)
    >>> figure = psalm.pl.embedding(mdata, return_fig=True)
    """
    params = _access.run(_access.container(mdata), match_key, "tl.match", "match_key")["params"]
    _checks.whole_number("n_links", n_links, least=0)
    names = str(params["source"]), str(params["target"])
    points = [_points(mdata, name, basis) for name in names]
    labels = [mdata.mod[name].obs[str(params["treatment"])] for name in names]
    points[1] = points[1] + [_gap(*points), 0.0]
    own = ax is None
    if ax is None:
        _, (ax,) = new_axes(1, 9.0, 5.0)
    _draw_links(ax, _links(mdata, match_key, n_links), *points)
    scored = _access.run(mdata, str(params["propensity_key"]), "tl.propensity", "propensity_key")
    treatments = [str(name) for name in scored["treatments"]]
    palette = colours(mdata, str(params["treatment"]), treatments)
    present = set(labels[0].dropna()) | set(labels[1].dropna())
    for cloud, label in zip(points, labels, strict=True):
        _draw_cloud(ax, cloud, label.astype(object), palette)
    _annotate(ax, names, points, two=mdata.mod[names[0]].obsm[basis].shape[1] > 1)
    shown = {name: colour for name, colour in palette.items() if name in present}
    unmatched = any(label.isna().any() for label in labels)
    _legend(ax, shown | ({"no treatment": NO_TREATMENT} if unmatched else {}))
    return finish(ax.figure, ax, show=show, own=own, return_fig=return_fig)


def _points(mdata: MuData, name: str, basis: str) -> FloatArray:
    adata = mdata.mod[name]
    if basis not in adata.obsm:
        msg = (
            f"`basis={basis!r}` is not in `mdata[{name!r}].obsm`. Found: {_checks.listed(adata.obsm)}. Run `tl.embed`."
        )
        raise KeyError(msg)
    values = np.asarray(adata.obsm[basis], dtype=float)
    if values.shape[1] > 1:
        return values[:, :2]
    # one component, as with two treatments: it runs upwards, and cells are spread sideways, which means nothing
    return np.column_stack([np.arange(len(values)) * GOLDEN_RATIO % 1, values])


def _gap(source: FloatArray, target: FloatArray) -> float:
    """How far the target cloud is moved to the right so that the clouds stand beside each other."""
    width = max(np.ptp(source[:, 0]), np.ptp(target[:, 0]))
    return float(source[:, 0].max() - target[:, 0].min() + 0.35 * width)


def _links(mdata: MuData, match_key: str, n_links: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Some source cells, the target cell that each sends most mass to, and how decided each match is.

    0: spread evenly over the treatment's target cells; 1: all on one.
    """
    mass = _matches.stored_coupling(mdata, match_key)
    matched = np.flatnonzero(np.diff(mass.indptr))
    source = matched[np.unique(np.linspace(0, len(matched) - 1, min(n_links, len(matched))).astype(int))]
    stored = _access.run(mdata, match_key, "tl.match", "match_key")
    obs = mdata.mod[stored["params"]["source"]].obs.iloc[source]
    sizes = stored["table"].set_index("treatment")["n_target"]
    n_target = sizes.loc[obs[stored["params"]["treatment"]].astype(str)].to_numpy()
    spread = np.exp(obs[_keys.MatchKeys(match_key).entropy].to_numpy()) / np.maximum(n_target, 1)
    return source, np.asarray(mass[source].argmax(axis=1)).ravel(), np.clip(1 - spread, 0, 1)


def _draw_links(ax: Axes, links: tuple[IntArray, IntArray, FloatArray], source: FloatArray, target: FloatArray) -> None:
    from matplotlib.collections import LineCollection

    ends = np.stack([source[links[0]], target[links[1]]], axis=1)  # (n_links, 2 ends, 2 coordinates)
    lines = LineCollection(list(ends), colors="0.3", linewidths=0.5, zorder=1)
    lines.set_alpha(links[2].tolist() or None)
    ax.add_collection(lines)


def _draw_cloud(ax: Axes, points: FloatArray, labels: pd.Series, palette: dict[str, object]) -> None:
    size = float(np.clip(8000 / len(points), 3, 18))
    colour = [palette.get(str(label), NO_TREATMENT) for label in labels]
    ax.scatter(points[:, 0], points[:, 1], s=size, c=colour, linewidths=0, zorder=2)


def _annotate(ax: Axes, names: tuple[str, str], points: list[FloatArray], *, two: bool) -> None:
    top = max(float(cloud[:, 1].max()) for cloud in points)
    for name, cloud in zip(names, points, strict=True):
        middle = (cloud[:, 0].max() + cloud[:, 0].min()) / 2
        ax.annotate(name, (middle, top), xytext=(0, 10), textcoords="offset points", ha="center", weight="bold")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel("score PC 1" if two else "spread")
    ax.set_ylabel("score PC 2" if two else "score PC 1")
    ax.spines[["top", "right"]].set_visible(False)


def _legend(ax: Axes, palette: dict[str, object]) -> None:
    """Treatments beside the data; above a few dozen a legend says nothing and is left out."""
    from matplotlib.lines import Line2D

    if len(palette) > MANY_TREATMENTS:
        return
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=name)
        for name, colour in palette.items()
    ]
    columns = -(-len(handles) // LEGEND_ROWS)
    ax.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small", ncols=columns
    )
