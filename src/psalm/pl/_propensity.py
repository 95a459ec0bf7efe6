"""Can the scores be trusted? Reliability curves and how well each treatment is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys
from psalm.pl._axes import MANY_TREATMENTS, finish, height_for, legend_above, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData


def propensity(
    mdata: MuData, *, propensity_key: str = _keys.PROPENSITY, show: bool | None = None, return_fig: bool = False
) -> object:
    """Reliability curves before and after calibration, and each treatment's out-of-fold AUC, per modality.

    A reliability curve on the diagonal means that a stated probability of 0.8 is right in 80 % of the cells.
    An AUC of 0.5 means that the modality cannot tell the treatment from the others.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    show
        Show the figure and return nothing; by default yes, unless ``return_fig``.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of two axes.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> figure = psalm.pl.propensity(mdata, return_fig=True)
    """
    stored = _access.run(_access.container(mdata), propensity_key, "tl.propensity", "propensity_key")
    if "calibration" not in stored:
        msg = f"The scores {propensity_key!r} come from `tl.score`, which has no report. Plot those of `tl.propensity`."
        raise ValueError(msg)
    modalities = stored["table"]["modality"].unique()
    names = _levels(stored["table"], modalities[0])
    figure, axes = new_axes(2, 10.0, height_for(len(names), least=4.2))
    for position, name in enumerate(modalities):
        _reliability(axes[0], stored, name, f"C{position}")
        _auc(axes[1], stored["table"], name, f"C{position}", position / len(modalities))
    axes[0].axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    axes[0].set(
        xlabel="predicted probability of the top treatment,\nbefore and after calibration",
        ylabel="how often it is right",
    )
    limit = 1.04 * float(stored["reliability"][["predicted", "observed"]].max().max())
    axes[0].set(xlim=(0, limit), ylim=(0, limit))
    _treatment_axis(axes[1], names)
    axes[1].axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
    axes[1].set(xlabel="out-of-fold AUC (0.5 = chance)")
    for ax in axes:
        legend_above(ax)
    return finish(figure, axes, show=show, own=True, return_fig=return_fig)


def _reliability(ax: Axes, stored: dict[str, pd.DataFrame], name: str, colour: str) -> None:
    curves = stored["reliability"][stored["reliability"]["modality"] == name]
    errors = stored["calibration"][stored["calibration"]["modality"] == name]
    for (_, error), marker in zip(errors.iterrows(), "osD^v<>" * len(errors), strict=False):
        factor = error.get("factor", "")
        of_factor = curves[curves["factor"] == factor] if factor else curves
        for when, style in (("before", ":"), ("after", "-")):
            curve = of_factor[of_factor["when"] == when]
            label = f"{name}{f' {factor}' if factor else ''} {when} (error {error[f'calibration_error_{when}']:.3f})"
            ax.plot(curve["predicted"], curve["observed"], style, color=colour, marker=marker, ms=3, label=label)


def _levels(table: pd.DataFrame, modality: str) -> list[str]:
    """What the rows of a modality stand for: treatments, or levels of factors."""
    rows = table[table["modality"] == modality]
    names = rows["treatment"].astype(str)
    return list(rows["factor"].astype(str) + "=" + names if "factor" in rows else names)


def _auc(ax: Axes, table: pd.DataFrame, name: str, colour: str, shift: float) -> None:
    rows = table[table["modality"] == name]
    ax.plot(rows["auc"], np.arange(len(rows)) + 0.3 * (shift - 0.25), "o", color=colour, markersize=4, label=name)


def _treatment_axis(ax: Axes, names: list[str]) -> None:
    """Names of the treatments beside the points, or their number where names do not fit."""
    if len(names) <= MANY_TREATMENTS:
        ax.set_yticks(range(len(names)), names, fontsize="small")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(names)} treatments")
    ax.set_ylim(len(names) - 0.5, -0.5)
