"""How good is the match: with the truth, and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys
from psalm._arguments import checked
from psalm.pl._axes import MANY_TREATMENTS, OF_MODALITIES, finish, given_axes, height_for, legend_above, new_axes
from psalm.pl._names import add_legend, labelled, short
from psalm.pl._rows import point_size, row_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.core._types import BoolArray, FloatArray
    from psalm.pl._axes import OnAxes

MOST_PANELS, FEWEST_METRICS = 6, 3
FIRST_CHECKS = ("expected R²", "stability", "reliability")
"""Shown before others where there is no room for all."""
SIGNIFICANT = 0.05
ALL, OVERALL = "all", ""
"""Scope of the row for all treatments, and what stands there in place of a treatment."""
SIZE_OF_ALL = 28.0
COLOUR, MARKERS = OF_MODALITIES[0], "xs^v*"
METRICS: dict[str, tuple[str, str, float | str | None]] = {
    "foscttm": ("FOSCTTM", "0: true partner first", 0.5),
    "recall": ("recall", "1: all partners found", "recall_chance"),
    "r2": ("R² within treatments", "1: exact", 0.0),
    "latent_error": ("latent error", "0: exact", 1.0),
    "label_accuracy": ("label accuracy", "1: all agree", "label_chance"),
    "lift": ("lift of true partner", "higher is better", 1.0),
    "foscttm_features": ("FOSCTTM of features", "0: true partner first", 0.5),
    "r2_total": ("R² in all", "1: exact", None),
    "trace": ("mass on true partner", "1: all of it", None),
}
"""Column of the table: title, what to read it by, and its value by chance or the column that holds it."""


@dataclass(frozen=True)
class Shown:
    """What one panel shows, a row for every treatment and a last one for all.

    Parameters
    ----------
    title, scale
        What it is, and how to read it.
    value, lower, upper
        (n_rows,) numbers with their interval; NaN where there is none.
    chance, chance_lower, chance_upper
        (n_rows,) the value by chance, and its band.
    clear
        (n_rows,) whether the value differs from chance by more than chance.
    """

    title: str
    scale: str
    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    chance: FloatArray
    chance_lower: FloatArray
    chance_upper: FloatArray
    clear: BoolArray


@checked
def evaluation(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    metrics: Sequence[str] | None = None,
    baselines: Sequence[str] = (),
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Metrics of the match and checks without truth, by treatment, with intervals, against chance.

    Points are treatments, the last one (diamond) is all cells, and lines are 95 % intervals. Dashed marks and grey
    bands are what chance gives. Points are filled where the value differs from chance: p ≤ 0.05 for checks, an interval
    that leaves chance out for metrics. The reliability of scores is a share that chance is not asked about.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.evaluate` or :func:`psalm.tl.diagnose`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    metrics
        Columns of the table of :func:`psalm.tl.evaluate` and names of checks of :func:`psalm.tl.diagnose`, one panel
        each; by default at most six of those that have numbers.
    baselines
        ``key_added`` of further matches of the same cells that were evaluated, drawn as grey marks.
    ax
        Axes to draw on, as many as panels.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of axes.

    Raises
    ------
    KeyError
        The match was not evaluated, or a metric is not there.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> table = psalm.tl.evaluate(mdata, latent="latent")
    >>> figure = psalm.pl.evaluation(mdata, return_fig=True)
    """
    found = _stored(_access.container(mdata), match_key)
    names = _names(found)
    panels = {name: _shown(found, name, names) for name in _chosen(found, metrics)}
    others = {key: _stored(mdata, key) for key in baselines}
    width = min(1.6 + 2.4 * len(panels), 12.0)
    height = height_for(len(names), least=3.2) + 0.3
    figure, axes = new_axes(len(panels), width, height) if ax is None else given_axes(ax, len(panels))
    for position, (axis, (name, panel)) in enumerate(zip(axes, panels.items(), strict=True)):
        _draw(axis, panel)
        for marker, (key, other) in zip(MARKERS * len(others), others.items(), strict=False):
            if _has(other, name):
                _draw_baseline(axis, _shown(other, name, names).value, marker, key)
        said = f"{len(names) - 1} treatments, the last row for all"
        row_axis(axis, [*names[:-1], ALL], named=position == 0, said=said)
    _key_to_marks(figure, axes[0], others, own=ax is None)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


@dataclass(frozen=True)
class Stored:
    """Tables of a match; either may be empty."""

    metrics: pd.DataFrame
    checks: pd.DataFrame


def _stored(mdata: MuData, match_key: str) -> Stored:
    keys = _keys.MatchKeys(match_key)
    metrics, diagnosis = mdata.uns.get(keys.evaluation), mdata.uns.get(keys.diagnosis)
    if metrics is None and diagnosis is None:
        msg = (
            f"`match_key={match_key!r}`: there is nothing in `mdata.uns[{keys.evaluation!r}]` and "
            f"`mdata.uns[{keys.diagnosis!r}]`. Run `tl.evaluate` or `tl.diagnose` first."
        )
        raise KeyError(msg)
    if _access.is_run(mdata, match_key, "tl.match"):
        _access.run(mdata, match_key, "tl.match", "match_key")  # refuses tables of other cells
    empty = pd.DataFrame({"treatment": pd.Series(dtype=object), "check": pd.Series(dtype=object)})
    table = empty if metrics is None else metrics.copy()
    if metrics is not None:
        table["treatment"] = np.where(table["scope"] == ALL, OVERALL, table["treatment"].astype(str))
    checks = empty if diagnosis is None else diagnosis["table"]
    return Stored(table, checks.assign(treatment=checks["treatment"].astype(str)))


def _names(found: Stored) -> list[str]:
    """Treatments in the order of the tables, then all of them together."""
    names = dict.fromkeys([*found.metrics["treatment"], *found.checks["treatment"]])
    return [str(name) for name in names if name != OVERALL] + [OVERALL]


def _has(found: Stored, name: str) -> bool:
    """Whether there are numbers of a metric or check."""
    if name in METRICS and name in found.metrics:
        return bool(found.metrics[name].notna().any())
    return bool(found.checks.loc[found.checks["check"] == name, "value"].notna().any()) if len(found.checks) else False


def _chosen(found: Stored, metrics: Sequence[str] | None) -> list[str]:
    """Metrics and checks to draw: those named, or the first that have numbers."""
    known = [name for name in METRICS if _has(found, name)]
    checks = [str(name) for name in found.checks["check"].unique() if _has(found, str(name))]
    checks.sort(key=lambda name: FIRST_CHECKS.index(name) if name in FIRST_CHECKS else len(FIRST_CHECKS))
    if metrics is None:
        return [*known[: max(FEWEST_METRICS, MOST_PANELS - len(checks))], *checks][:MOST_PANELS]
    unknown = [name for name in metrics if name not in known and name not in checks]
    if unknown or not len(metrics):
        msg = (
            f"`metrics` names {_checks.listed(unknown)}, which have no numbers here. "
            f"Found: {_checks.listed([*known, *checks])}. Pass some of these."
        )
        raise KeyError(msg)
    return list(metrics)


def _shown(found: Stored, name: str, names: list[str]) -> Shown:
    """The numbers of one panel, a row for each name."""
    if name in METRICS and name in found.metrics:
        title, scale, chance = METRICS[name]
        table = found.metrics.set_index("treatment").reindex(names)
        value, lower, upper = (_numbers(table, column) for column in (name, f"{name}_lower", f"{name}_upper"))
        by_chance = _numbers(table, chance) if isinstance(chance, str) else _constant(len(names), chance)
        clear = (lower > by_chance) | (upper < by_chance)
        blank = _constant(len(names), None)
        return Shown(title, scale, value, lower, upper, by_chance, blank, blank, clear)
    rows = found.checks[found.checks["check"] == name]
    table = rows.drop_duplicates("treatment").set_index("treatment").reindex(names)
    value, null, lower, upper, p_value = (
        _numbers(table, column) for column in ("value", "null", "null_lower", "null_upper", "p_value")
    )
    blank = _constant(len(names), None)
    if np.isnan(null).all():  # a share that nothing is compared with
        return Shown(name, "1: all of it", value, blank, blank, blank, blank, blank, np.ones(len(names), dtype=bool))
    return Shown(name, "grey: by chance", value, blank, blank, null, lower, upper, p_value <= SIGNIFICANT)


def _numbers(table: pd.DataFrame, column: str) -> FloatArray:
    return table[column].to_numpy(dtype=float) if column in table else _constant(len(table), None)


def _constant(n_rows: int, value: float | None) -> FloatArray:
    return np.full(n_rows, np.nan if value is None else value)


def _draw(ax: Axes, panel: Shown) -> None:
    n_rows = len(panel.value)
    places, few = np.arange(n_rows), n_rows <= MANY_TREATMENTS
    _draw_chance(ax, panel)
    ax.axvline(panel.value[-1], color="0.15", linewidth=0.8, zorder=1)
    ax.hlines(places, panel.lower, panel.upper, colors=COLOUR, linewidth=1.2 if few else 0.5, zorder=2)
    _draw_points(ax, panel, slice(-1), "o", COLOUR)
    _draw_points(ax, panel, slice(-1, None), "D", "black")
    ax.hlines(places[-1], panel.lower[-1], panel.upper[-1], colors="black", linewidth=2.0, zorder=2)
    ax.axhline(n_rows - 1.5, color="0.8", linewidth=0.8, zorder=0)
    ax.set_title(panel.title, fontsize="medium")
    ax.set_xlabel(panel.scale, fontsize="small")
    ax.locator_params(axis="x", nbins=3)
    ax.margins(x=0.08)


def _draw_points(ax: Axes, panel: Shown, rows: slice, marker: str, colour: str) -> None:
    """Points of some rows, filled where they are clear of chance."""
    places = np.arange(len(panel.value))
    faces = [colour if clear else "white" for clear in panel.clear[rows]]
    size = point_size(len(places)) if marker == "o" else SIZE_OF_ALL
    ax.scatter(
        panel.value[rows], places[rows], s=size, c=faces, edgecolors=colour, linewidths=0.8, marker=marker, zorder=3
    )


def _draw_chance(ax: Axes, panel: Shown) -> None:
    """A line where chance is the same for all treatments, else a mark and a band in each row."""
    places = np.arange(len(panel.value))
    known = panel.chance[np.isfinite(panel.chance)]
    if len(known) and np.ptp(known) == 0 and not np.isfinite(panel.chance_lower).any():
        ax.axvline(known[0], color="0.5", linewidth=0.9, linestyle="--", zorder=1)
        return
    ax.barh(
        places, panel.chance_upper - panel.chance_lower, left=panel.chance_lower, height=0.8, color="0.87", zorder=0
    )
    ax.vlines(panel.chance, places - 0.4, places + 0.4, colors="0.5", linewidth=0.9, linestyles="--", zorder=1)


def _draw_baseline(ax: Axes, value: FloatArray, marker: str, label: str) -> None:
    size = point_size(len(value))
    ax.scatter(
        value,
        np.arange(len(value)),
        s=size,
        marker=marker,
        color="0.45",
        linewidths=0.8,
        label=labelled(label),
        zorder=2,
    )


def _key_to_marks(figure: Any, ax: Axes, others: Mapping[str, Stored], *, own: bool) -> None:
    """What marks mean, above the panels."""
    from matplotlib.lines import Line2D

    def point(marker: str, colour: str, face: str, label: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, ms=5, color=colour, markerfacecolor=face, label=label)

    handles = [
        point("o", COLOUR, COLOUR, "treatment, clear of chance"),
        point("o", COLOUR, "white", "not clear of chance"),
        point("D", "black", "black", "all cells"),
        Line2D([], [], color="0.5", linestyle="--", label="chance"),
        *(
            point(marker, "0.45", "0.45", labelled(short(key)))
            for marker, key in zip(MARKERS * len(others), others, strict=False)
        ),
    ]
    if own:
        columns = min(len(handles), max(2, len(figure.axes)))
        add_legend(figure, handles, loc="outside upper center", ncols=columns, frameon=False, fontsize="small")
    else:
        legend_above(ax, handles=handles, columns=1, borderaxespad=2.4)  # over the title
