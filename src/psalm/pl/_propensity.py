"""Can the scores be trusted? Reliability curves and how well each treatment is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _keys
from psalm._arguments import checked
from psalm.pl._axes import finish, height_for, legend_above, modality_colours, on_axes
from psalm.pl._names import labelled, short
from psalm.pl._rows import point_size, row_axis, spread_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.pl._axes import OnAxes


@checked
def propensity(
    mdata: MuData,
    *,
    propensity_key: str = _keys.PROPENSITY,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Reliability curves, each treatment's out-of-fold AUC, and the probability of the own treatment, per modality.

    A reliability curve on the diagonal means that a stated probability of 0.8 is right in 80 % of the cells.
    An AUC of 0.5 means that the modality cannot tell the treatment from the others. The probability that cells give
    their own treatment is drawn as the median cell, the middle half (thick) and the middle nine tenths (thin).
    Which treatments are taken for which is in :func:`psalm.pl.overlap`.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    ax
        Three axes to draw on.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of three axes.

    Raises
    ------
    ValueError
        Scores of :func:`psalm.tl.score`, which have no report.

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
    modalities = [str(name) for name in stored["table"]["modality"].unique()]
    levels, treatments = _levels(stored["table"], modalities[0]), [str(name) for name in stored["treatments"]]
    figure, axes = on_axes(ax, 3, 11.5, height_for(max(len(levels), len(treatments)), least=4.2))
    of_modality = modality_colours(mdata)
    for position, name in enumerate(modalities):
        shift = 0.3 * (position / max(len(modalities) - 1, 1) - 0.5)
        _reliability(axes[0], stored, name, of_modality[name])
        _auc(axes[1], stored["table"], name, of_modality[name], shift)
        _own(axes[2], mdata.mod[name].obs, propensity_key, treatments, (name, of_modality[name], shift))
    _square(axes[0], float(stored["reliability"][["predicted", "observed"]].max().max()))
    axes[1].axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
    axes[1].set(xlabel="out-of-fold AUC\n(0.5: chance)")
    axes[2].set(xlabel="probability of the own treatment", xlim=(0, None))
    row_axis(axes[1], levels, said=None if levels == treatments else f"{len(levels)} levels of factors")
    row_axis(axes[2], treatments, named=levels != treatments)
    legend_above(axes[0], columns=1)
    for one in axes[1:]:
        legend_above(one)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


def _square(ax: Axes, largest: float) -> None:
    """Equal scales from 0 on, and the diagonal."""
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    limit = min(1.04 * largest, 1.02)
    ax.set(xlim=(0, limit), ylim=(0, limit))
    ax.set_box_aspect(1)
    ax.set(xlabel="predicted probability\nof the top treatment", ylabel="how often it is right")


def _reliability(ax: Axes, stored: dict[str, pd.DataFrame], name: str, colour: str) -> None:
    curves = stored["reliability"][stored["reliability"]["modality"] == name]
    errors = stored["calibration"][stored["calibration"]["modality"] == name]
    for (_, error), marker in zip(errors.iterrows(), "osD^v<>" * len(errors), strict=False):
        factor = error.get("factor", "")
        of_factor = curves[curves["factor"] == factor] if factor else curves
        for when, style in (("before", ":"), ("after", "-")):
            curve = of_factor[of_factor["when"] == when]
            of_what = f"{short(name)}{f' {short(factor)}' if factor else ''}"
            label = labelled(f"{of_what} {when} (error {error[f'calibration_error_{when}']:.3f})")
            ax.plot(curve["predicted"], curve["observed"], style, color=colour, marker=marker, ms=3, label=label)


def _levels(table: pd.DataFrame, modality: str) -> list[str]:
    """What the rows of a modality stand for: treatments, or levels of factors."""
    rows = table[table["modality"] == modality]
    names = rows["treatment"].astype(str)
    return list(rows["factor"].astype(str) + "=" + names if "factor" in rows else names)


def _auc(ax: Axes, table: pd.DataFrame, name: str, colour: str, shift: float) -> None:
    rows = table[table["modality"] == name]
    size = point_size(len(rows)) ** 0.5
    ax.plot(rows["auc"], np.arange(len(rows)) + shift, "o", color=colour, markersize=size, label=labelled(short(name)))


def _own(ax: Axes, obs: pd.DataFrame, propensity_key: str, treatments: list[str], line: tuple[str, str, float]) -> None:
    keys, (name, colour, shift) = _keys.PropensityKeys(propensity_key), line
    rows = _access.codes_of(obs[keys.treatment], pd.Index(treatments))
    spread_lines(ax, obs[keys.own].to_numpy(dtype=float), rows, colour=colour, shift=shift, label=short(name))
