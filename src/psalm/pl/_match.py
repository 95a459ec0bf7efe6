"""How the match went, treatment by treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys, _matches
from psalm.pl._axes import MANY_TREATMENTS, finish, height_for, legend_above, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData

FINE, FLAGGED = "C0", "C3"


def match(mdata: MuData, *, match_key: str = _keys.MATCH, show: bool | None = None, return_fig: bool = False) -> object:
    """Size, effective number of matches and marginal error of every treatment; red where it did not converge.

    Effective matches close to the number of target cells (a bar at 1) mean that scores say little within the treatment.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    show
        Show the figure and return nothing; by default yes, unless ``return_fig``.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of three axes.

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
    figure, axes = new_axes(3, 11.0, height_for(len(table), least=2.8))
    _cells(axes[0], table, str(params["source"]), str(params["target"]))
    _bars(axes[1], table, table["effective_matches"] / table["n_target"], "effective matches / target cells")
    axes[1].axvline(1, color="0.4", linewidth=0.8, linestyle="--", label="uniform: scores decide nothing")
    _marginal_error(axes[2], table, params["settings"].get("tolerance"))
    for ax in axes:
        legend_above(ax)
    return finish(figure, axes, show=show, own=True, return_fig=return_fig)


def _cells(ax: Axes, table: pd.DataFrame, source: str, target: str) -> None:
    rows = np.arange(len(table))
    ax.barh(rows - 0.2, table["n_source"], height=0.4, color="0.35", label=source)
    ax.barh(rows + 0.2, table["n_target"], height=0.4, color="0.7", label=target)
    ax.set_xlabel("cells")
    if len(table) <= MANY_TREATMENTS:
        ax.set_yticks(rows, _matches.block_names(table), fontsize="small")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(table)} treatments")
    ax.set_ylim(len(table) - 0.5, -0.5)


def _bars(ax: Axes, table: pd.DataFrame, lengths: pd.Series, label: str) -> None:
    ax.barh(np.arange(len(table)), lengths.fillna(0), color=_flags(table), height=0.7)
    ax.set_xlabel(label)
    ax.set_yticks([])
    ax.set_ylim(len(table) - 0.5, -0.5)


def _marginal_error(ax: Axes, table: pd.DataFrame, tolerance: float | None) -> None:
    """Points on a logarithmic scale; an error of zero is drawn at the smallest that float64 tells from it."""
    smallest = float(np.finfo(np.float64).eps)
    ax.scatter(table["marginal_error"].clip(lower=smallest), np.arange(len(table)), c=_flags(table), s=22, zorder=2)
    for colour, label, wanted in ((FINE, "converged", True), (FLAGGED, "not converged", False)):
        if (table["converged"].astype(bool) == wanted).any():
            ax.scatter([], [], c=colour, s=22, label=label)
    ax.set_xscale("log")
    shown = [error for error in (*table["marginal_error"], tolerance) if error is not None and error > 0]
    if shown:  # at least two decades, so that ticks stay apart
        ax.set_xlim(min([*shown, max(shown) / 100]) / 2, max(shown) * 2)
    if tolerance is not None:
        ax.axvline(float(tolerance), color="0.4", linewidth=0.8, linestyle="--", label="tolerance")
    ax.set_xlabel("marginal error (L1)")
    ax.set_yticks([])
    ax.set_ylim(len(table) - 0.5, -0.5)


def _flags(table: pd.DataFrame) -> list[str]:
    return [FINE if converged else FLAGGED for converged in table["converged"].astype(bool)]
