"""How many cells each treatment has in each modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _runs
from psalm._arguments import checked
from psalm.pl._axes import finish, height_for, legend_above, modality_colours, on_axes
from psalm.pl._names import labelled, short
from psalm.pl._rows import count_bars, row_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.pl._axes import OnAxes

KEPT, STATUS, CONTROL = "kept", "status", "control"
PALE = 0.3


@checked
def treatments(
    mdata: MuData,
    *,
    treatment: str = _keys.TREATMENT,
    log: bool = False,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Number of cells of each treatment in each modality; those that were left out are last, pale and say why.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.pp.treatment`.
    treatment
        ``key_added`` of :func:`psalm.pp.treatment`.
    log
        Count on a logarithmic scale, such as where controls outnumber the rest.
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
    KeyError
        There is no such table of treatments.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> figure = psalm.pl.treatments(mdata, return_fig=True)
    """
    table = _table(_access.container(mdata), treatment)
    modalities = [name for name in table.columns if name not in (STATUS, CONTROL)]
    figure, (axis,) = on_axes(ax, 1, 6.0, height_for(len(table), least=2.8))
    _bars(axis, table[modalities], (table[STATUS] == KEPT).to_numpy(), modality_colours(mdata))
    axis.set(xlabel="cells", xscale="log" if log else "linear")
    axis.set_xlim(left=0.8 if log else 0.0)
    said = f"{(table[STATUS] == KEPT).sum()} treatments kept of {len(table)}"
    row_axis(axis, [str(name) for name in table.index], said=said, remarks=_remarks(table))
    return finish(figure, axis, show=show, own=ax is None, return_fig=return_fig)


def _table(mdata: MuData, treatment: str) -> pd.DataFrame:
    """Counts with status, treatments that were kept first."""
    table = mdata.uns.get(treatment)
    if not isinstance(table, pd.DataFrame) or STATUS not in table:
        msg = (
            f"`treatment={treatment!r}`: there is no table of treatments in `mdata.uns[{treatment!r}]`. "
            f"Found: {_checks.listed(mdata.uns)}. Run `pp.treatment` first."
        )
        raise KeyError(msg)
    _runs.require_counted(mdata, treatment)
    return table.loc[(table[STATUS] != KEPT).sort_values(kind="stable").index]


def _remarks(table: pd.DataFrame) -> list[str]:
    """What sets each treatment apart: that it is the control, or why it was left out."""
    control = np.where(table[CONTROL].astype(bool), " (negative control)", "")
    return list(np.where(table[STATUS] == KEPT, control, " (" + table[STATUS].astype(str) + ")"))


def _bars(ax: Axes, counts: pd.DataFrame, kept: np.ndarray, of_modality: dict[str, str]) -> None:
    """A bar for every modality, side by side in the treatment's row."""
    from matplotlib.patches import Patch

    everything, n_modalities = np.arange(len(counts)), counts.shape[1]
    for position, name in enumerate(counts.columns):
        for shown, alpha in ((kept, 1.0), (~kept, PALE)):
            options = {"color": of_modality.get(name, "0.5"), "alpha": alpha}
            values, rows = counts[name].to_numpy()[shown], everything[shown]
            count_bars(ax, values, rows, len(counts), lane=(position, n_modalities), **options)
    handles = [Patch(color=of_modality.get(name, "0.5"), label=labelled(short(name))) for name in counts.columns]
    if not kept.all():
        handles.append(Patch(color="0.3", alpha=PALE, label="left out"))
    legend_above(ax, columns=3, handles=handles)
