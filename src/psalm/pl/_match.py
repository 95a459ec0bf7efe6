"""How the match went, treatment by treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys, _matches
from psalm._arguments import checked
from psalm.pl._axes import finish, height_for, legend_above, modality_colours, on_axes
from psalm.pl._names import labelled, short
from psalm.pl._rows import count_bars, point_size, row_axis, spread_lines

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.pl._axes import OnAxes

FINE, FLAGGED = "0.45", "#c8102e"
LEAST_SPREAD = 0.9
"""The axis of entropies begins here at the latest."""


@checked
def match(
    mdata: MuData,
    *,
    match_key: str = _keys.MATCH,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Size, effective matches, entropy and marginal error of every treatment; red where it did not converge.

    Effective matches close to the number of target cells (a bar at 1) mean that scores say little within the treatment.
    The entropy is that of each source cell over its largest possible: the median cell, the middle half (thick) and the
    middle nine tenths (thin). A treatment without cells on one side has no bar.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    ax
        Four axes to draw on.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of four axes.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> figure = psalm.pl.match(mdata, return_fig=True)
    """
    stored = _access.run(_access.container(mdata), match_key, "tl.match", "match_key")
    table, params = stored["table"], stored["params"]
    names = list(_matches.block_names(table))
    figure, axes = on_axes(ax, 4, 11.5, height_for(len(table), least=2.8))
    _cells(axes[0], mdata, table, (str(params["source"]), str(params["target"])))
    _bars(axes[1], table, table["effective_matches"] / table["n_target"], "effective matches / target cells")
    axes[1].axvline(1, color="0.4", linewidth=0.8, linestyle="--", label="uniform match")
    _entropy(axes[2], mdata, str(params["source"]), table, match_key)
    _marginal_error(axes[3], table, params["settings"].get("tolerance"))
    for position, one in enumerate(axes):
        row_axis(one, names, named=position == 0)
        if position != 2:  # noqa: PLR2004, the entropies, coloured as the bars
            legend_above(one, columns=1)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


def _cells(ax: Axes, mdata: MuData, table: pd.DataFrame, sides: tuple[str, str]) -> None:
    rows, of_modality = np.arange(len(table)), modality_colours(mdata)
    for position, (name, column) in enumerate(zip(sides, ("n_source", "n_target"), strict=True)):
        options = {"color": of_modality[name], "label": labelled(short(name))}
        count_bars(ax, table[column].to_numpy(), rows, len(table), lane=(position, 2), **options)
    ax.set_xlabel("cells")
    ax.set_xlim(left=0)


def _entropy(ax: Axes, mdata: MuData, source: str, table: pd.DataFrame, match_key: str) -> None:
    """Entropy of each source cell's matches over that of a uniform match; a single target cell leaves no choice."""
    blocks = _matches.blocks_of(mdata, source, match_key)
    largest = np.log(np.append(table["n_target"].to_numpy(dtype=float), np.nan).clip(min=1))[blocks]
    entropy = mdata.mod[source].obs[_keys.MatchKeys(match_key).entropy].to_numpy(dtype=float)
    share = np.divide(entropy, largest, out=np.full(len(entropy), np.nan), where=largest > 0)
    flags = np.append(table["converged"].to_numpy(dtype=bool), True)[blocks]
    for colour, shown in ((FINE, flags), (FLAGGED, ~flags)):
        spread_lines(ax, share, np.where(shown, blocks, -1), colour=colour, shift=0.0, label="")
    ax.axvline(1, color="0.4", linewidth=0.8, linestyle="--")
    lowest = float(share[np.isfinite(share)].min(initial=1.0))
    ax.set_xlim(min(lowest, LEAST_SPREAD) - 0.02, 1.02)  # also where all matches are uniform
    ax.set_xlabel("entropy of a cell / largest")


def _bars(ax: Axes, table: pd.DataFrame, lengths: pd.Series, label: str) -> None:
    ax.barh(np.arange(len(table)), lengths.fillna(0), color=_flags(table), height=0.7)
    ax.set_xlabel(label)


def _marginal_error(ax: Axes, table: pd.DataFrame, tolerance: float | None) -> None:
    """Points on a logarithmic scale; an error of zero is drawn at the smallest that float64 tells from it."""
    smallest = float(np.finfo(np.float64).eps)
    size, errors = point_size(len(table)), table["marginal_error"].clip(lower=smallest)
    ax.scatter(errors, np.arange(len(table)), c=_flags(table), s=size, zorder=2)
    for colour, label, wanted in ((FINE, "converged", True), (FLAGGED, "not converged", False)):
        if (table["converged"].astype(bool) == wanted).any():
            ax.scatter([], [], c=colour, s=size, label=label)
    ax.set_xscale("log")
    shown = [error for error in (*table["marginal_error"], tolerance) if error is not None and error > 0]
    if shown:  # at least two decades, so that ticks stay apart
        ax.set_xlim(min([*shown, max(shown) / 100]) / 2, max(shown) * 2)
    if tolerance is not None:
        ax.axvline(float(tolerance), color="0.4", linewidth=0.8, linestyle="--", label="tolerance")
    ax.set_xlabel("marginal error (L1)")


def _flags(table: pd.DataFrame) -> list[str]:
    return [FINE if converged else FLAGGED for converged in table["converged"].astype(bool)]
