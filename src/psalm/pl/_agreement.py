"""Whether the modalities' scores agree within each treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys
from psalm._arguments import checked
from psalm.pl._axes import finish, height_for, legend_above, on_axes
from psalm.pl._names import labelled, short
from psalm.pl._rows import point_size, row_axis

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.pl._axes import OnAxes

FIRST_COLOUR = 4
"""Pairs are not coloured as modalities are."""


@checked
def agreement(
    mdata: MuData,
    *,
    propensity_key: str = _keys.PROPENSITY,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Energy distance between the modalities' scores within each treatment: 0 where they have one distribution.

    Filled points lie above what 99 of 100 random splits of the same cells show, so that few cells alone do not explain
    the distance. This is no test of the method's model: errors of estimation, which all scores of a modality share,
    lift the distance as well, and many points are filled where the model holds. Read the size: a large one says that
    one modality sees an effect which the other does not see, and that matches there are rough.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    ax
        Axes to draw on.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) the axes.

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
    >>> figure = psalm.pl.agreement(mdata, return_fig=True)
    """
    stored = _access.run(_access.container(mdata), propensity_key, "tl.propensity", "propensity_key")
    if "agreement" not in stored:
        msg = f"The scores {propensity_key!r} come from `tl.score`, which has no report. Plot those of `tl.propensity`."
        raise ValueError(msg)
    names = [str(name) for name in stored["treatments"]]
    figure, (axis,) = on_axes(ax, 1, 6.0, height_for(len(names), least=3.0))
    pairs = stored["agreement"].groupby(["modality_1", "modality_2"], sort=False, observed=True)
    size, clear_anywhere = point_size(len(names)), False
    for position, ((first, second), rows) in enumerate(pairs):
        colour, places = f"C{FIRST_COLOUR + position}", np.arange(len(rows))
        clear = (rows["energy_share"] > rows["random_split_share"]).to_numpy()
        clear_anywhere |= bool(clear.any())
        label = labelled(f"{short(first)}, {short(second)}")
        axis.scatter(rows["energy_share"], places, edgecolors=colour, facecolors="none", s=size, label=label)
        axis.scatter(rows["energy_share"][clear], places[clear], color=colour, s=size)
    if clear_anywhere:
        axis.scatter([], [], color="0.3", s=size, label="filled: above random splits")
    axis.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axis.set(xlabel="energy distance of scores\n(0: same distribution, 1: two points)")
    row_axis(axis, names)
    legend_above(axis)
    return finish(figure, axis, show=show, own=ax is None, return_fig=return_fig)
