"""What all plots share: axes to draw on, colours, and whether to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from psalm._scanpy import scanpy
from psalm.pl._names import add_legend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

OnAxes: TypeAlias = "Axes | Sequence[Axes] | None"
"""What ``ax`` takes: one axes, one for every panel, or nothing."""
OF_MODALITIES = ("#3b6ea8", "#e08a1e", "#4f9d69", "#9467bd", "#8c564b", "#d16ba5")
MANY_TREATMENTS = 40
"""Above this number of treatments, names no longer fit beside the bars."""


def height_for(n_rows: int, *, least: float) -> float:
    """Height in inches of a figure with one line per treatment, as long as lines have names."""
    return max(least, 0.22 * n_rows + 1.2 if n_rows <= MANY_TREATMENTS else 6.0)


def on_axes(ax: OnAxes, n_panels: int, width: float, height: float, *, gap: float = 0.02) -> tuple[Figure, list[Axes]]:
    """The axes that were passed, one for every panel, or those of a new figure with panels side by side."""
    return new_axes(n_panels, width, height, gap) if ax is None else given_axes(ax, n_panels)


def new_axes(n_panels: int, width: float, height: float, gap: float = 0.02) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side that leaves room for its own labels."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(width, height))
    figure.set_layout_engine("constrained", wspace=gap)
    axes = figure.subplots(1, n_panels, squeeze=False)
    return figure, list(axes[0])


def given_axes(ax: Any, n_panels: int) -> tuple[Figure, list[Axes]]:
    """The axes that were passed, of which there must be one for every panel."""
    import numpy as np
    from matplotlib.axes import Axes

    axes = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
    strange = [type(one).__name__ for one in axes if not isinstance(one, Axes)]
    example = f"`plt.subplots(1, {n_panels}, layout='constrained')[1]`"
    if strange:
        msg = f"`ax` holds {', '.join(strange[:3])}. Pass matplotlib axes, such as {example}."
        raise TypeError(msg)
    if len(axes) != n_panels:
        msg = (
            f"`ax` holds {len(axes)} axes, and this plot has {n_panels} panels. "
            f"Pass {n_panels}, such as {example}, or leave `ax` out."
        )
        raise ValueError(msg)
    figure: Any = axes[0].get_figure()
    return figure, axes


def modality_colours(mdata: MuData) -> dict[str, str]:
    """Colour of each modality, the same in all plots."""
    return {name: OF_MODALITIES[position % len(OF_MODALITIES)] for position, name in enumerate(mdata.mod)}


def legend_above(ax: Axes, *, columns: int = 2, **options: Any) -> None:
    """A legend over the axes, where it covers no data; the title moves above it."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": columns}
    add_legend(ax, frameon=False, fontsize="small", **(place | options))


def finish(figure: object, axes: Axes | list[Axes], *, show: bool | None, own: bool, return_fig: bool) -> object:
    """Show the figure, return it, or return its axes, as scanpy does."""
    import matplotlib.pyplot as plt

    if return_fig:
        return figure
    if show is None and own:
        show = bool(scanpy().settings.autoshow)
    if show:
        plt.show()
        return None
    return axes
