"""Panels with one row per treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.pl._axes import MANY_TREATMENTS
from psalm.pl._names import LITERAL, labelled, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from psalm.core._types import FloatArray, IntArray

MOST_BARS = 100
"""Rows above which bars are thinner than what a screen shows."""


def row_axis(
    ax: Axes, names: Sequence[str], *, named: bool = True, said: str | None = None, remarks: Sequence[str] = ()
) -> None:
    """Names beside the rows, or their number (or what is ``said``) where names do not fit; the first row is on top."""
    if len(names) <= MANY_TREATMENTS:
        remarks = remarks or [""] * len(names)
        labels = [f"{name}{remark}" if named else "" for name, remark in zip(shown(names), remarks, strict=True)]
        ax.set_yticks(range(len(names)), labels, **LITERAL)
        ax.tick_params(axis="y", labelsize="small", length=0 if not named else 3)
    else:
        ax.set_yticks([])
        ax.set_ylabel((said or f"{len(names)} treatments") if named else "")
    margin = 0.5 if len(names) <= MANY_TREATMENTS else 0.5 + 0.01 * len(names)
    ax.set_ylim(len(names) - 1 + margin, -margin)
    ax.spines[["top", "right"]].set_visible(False)


def point_size(n_rows: int) -> float:
    """Area of points in rows, so that neighbours do not cover each other."""
    return float(np.clip(900 / n_rows, 4, 24))


def count_bars(
    ax: Axes, counts: FloatArray, rows: IntArray, n_rows: int, *, lane: tuple[int, int], **options: Any
) -> None:
    """Counts of some of ``n_rows`` rows, as the first, second, ... of several bars; as points where bars are too thin.

    ``lane`` is which bar of how many it is.
    """
    height = 0.8 / lane[1]
    places = rows + (lane[0] - (lane[1] - 1) / 2) * height
    if n_rows <= MOST_BARS:
        ax.barh(places, counts, height=height, **options)
    else:
        ax.scatter(counts, places, s=2 * point_size(n_rows), linewidths=0, **options)


def spread_lines(ax: Axes, values: FloatArray, rows: IntArray, *, colour: Any, shift: float, label: str) -> None:
    """Median, middle half (thick) and middle nine tenths (thin) of the values of every row; rows below 0 are left out.

    Of more than a hundred rows the middle half is not drawn.

    Parameters
    ----------
    values, rows
        (n_cells,) value of each cell, and the row that it belongs to.
    colour, shift, label
        Of the lines; how far they lie below the middle of their row.
    """
    shown = np.isfinite(values) & (rows >= 0)
    values, rows = values[shown], rows[shown]
    present, begins = np.unique(np.sort(rows, kind="stable"), return_index=True)
    parts = np.split(values[np.argsort(rows, kind="stable")], begins[1:]) if len(values) else []
    cuts = np.array([np.quantile(part, (0.05, 0.25, 0.5, 0.75, 0.95)) for part in parts]).reshape(-1, 5)
    places, few = present + shift, len(present) <= MANY_TREATMENTS
    crowded = len(present) > MOST_BARS
    ax.hlines(places, cuts[:, 0], cuts[:, 4], colors=[colour], linewidth=1.0 if few else 0.5, alpha=1 - 0.6 * crowded)
    if not crowded:
        ax.hlines(places, cuts[:, 1], cuts[:, 3], colors=[colour], linewidth=3.0 if few else 1.2)
    size = point_size(len(present)) if len(present) else 1.0
    ax.scatter(
        cuts[:, 2],
        places,
        s=size,
        color="white",
        edgecolors=[colour],
        linewidths=1,
        zorder=3,
        label=labelled(label) if label else "",
    )
