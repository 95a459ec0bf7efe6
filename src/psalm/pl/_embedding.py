"""Two clouds in one space of scores, with matched cells joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _checks, _keys, _obs
from psalm._arguments import checked
from psalm.pl._axes import finish, on_axes
from psalm.pl._clouds import draw_cloud, label_colours, legend_beside, palette, partners, points
from psalm.pl._names import LITERAL, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.pl._axes import OnAxes
    from psalm.pl._clouds import Partners


@checked
def embedding(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    basis: str = _keys.EMBEDDING,
    n_links: int = 200,
    ax: OnAxes = None,
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
    places = [points(mdata, name, basis) for name in names]
    places[1] = places[1] + [_gap(*places), 0.0]
    figure, (axis,) = on_axes(ax, 1, 9.0, 5.0)
    _draw_links(axis, partners(mdata, match_key), n_links, *places)
    of_treatment = palette(mdata, match_key)
    labels = [_obs.find(mdata, name, str(params["treatment"]), "treatment", joint=False).labels() for name in names]
    for cloud, column in zip(places, labels, strict=True):
        draw_cloud(axis, cloud, label_colours(column, of_treatment))
    two = mdata.mod[names[0]].obsm[basis].shape[1] > 1
    said = "score PC" if basis == _keys.EMBEDDING else basis
    _annotate(axis, names, places, (f"{said} 1", f"{said} 2") if two else ("spread", f"{said} 1"))
    legend_beside(axis, labels, of_treatment, "no treatment")
    return finish(figure, axis, show=show, own=ax is None, return_fig=return_fig)


def _gap(source: FloatArray, target: FloatArray) -> float:
    """How far the target cloud is moved to the right so that the clouds stand beside each other."""
    width = max(np.ptp(source[:, 0]), np.ptp(target[:, 0]))
    return float(np.max(source[:, 0]) - np.min(target[:, 0]) + 0.35 * width)


def _draw_links(ax: Axes, found: Partners, n_links: int, source: FloatArray, target: FloatArray) -> None:
    """Lines from some source cells, evenly spread over the matched ones, to their partners."""
    from matplotlib.collections import LineCollection

    n_matched = len(found.source)
    some = np.unique(np.linspace(0, n_matched - 1, min(n_links, n_matched)).astype(int))
    ends = np.stack([source[found.source[some]], target[found.target[some]]], axis=1)  # (n_links, 2 ends, 2)
    lines = LineCollection(list(ends), colors="0.3", linewidths=0.5, zorder=1)
    lines.set_alpha(found.decided[some].tolist() or None)
    ax.add_collection(lines)


def _annotate(ax: Axes, names: tuple[str, str], places: list[FloatArray], said: tuple[str, str]) -> None:
    top = max(float(np.max(cloud[:, 1])) for cloud in places)
    for name, cloud in zip(names, places, strict=True):
        middle = (np.max(cloud[:, 0]) + np.min(cloud[:, 0])) / 2
        where: dict[str, Any] = {"xytext": (0, 10), "textcoords": "offset points", "ha": "center"}
        ax.annotate(short(name), (middle, top), weight="bold", **where, **LITERAL)
    ax.set_xlabel(said[0], **LITERAL)
    ax.set_ylabel(said[1], **LITERAL)
