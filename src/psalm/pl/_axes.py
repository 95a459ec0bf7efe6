"""What all plots share: axes to draw on, colours, and whether to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

QUALITATIVE, MANY = ("tab10", "tab20"), "turbo"
MANY_TREATMENTS = 40
"""Above this number of treatments, names no longer fit beside the bars."""


def height_for(n_treatments: int, *, least: float) -> float:
    """Height in inches of a figure with one line per treatment, as long as lines have names."""
    return max(least, 0.22 * n_treatments + 1.2 if n_treatments <= MANY_TREATMENTS else 6.0)


def new_axes(n_panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side that leaves room for its own labels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, n_panels, figsize=(width, height), layout="constrained", squeeze=False)
    return figure, list(axes[0])


def colours(mdata: MuData, key: str, names: Sequence[str]) -> dict[str, object]:
    """Colour of each name: from ``uns[key + "_colors"]`` where it fits, else spread over a colour map."""
    import matplotlib as mpl

    stored = mdata.uns.get(f"{key}_colors")
    if stored is not None and len(stored) >= len(names):
        return dict(zip(names, stored, strict=False))
    for palette in QUALITATIVE:
        if len(names) <= mpl.colormaps[palette].N:
            return {name: mpl.colormaps[palette](position) for position, name in enumerate(names)}
    return {name: mpl.colormaps[MANY](position / (len(names) - 1)) for position, name in enumerate(names)}


def legend_above(ax: Axes, *, columns: int = 2) -> None:
    """A legend over the axes, where it covers no data; the title moves above it."""
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def finish(figure: object, axes: Axes | list[Axes], *, show: bool | None, own: bool, return_fig: bool) -> object:
    """Show the figure, return it, or return its axes, as scanpy does."""
    import matplotlib.pyplot as plt

    if return_fig:
        return figure
    if show or (show is None and own):
        plt.show()
        return None
    return axes
