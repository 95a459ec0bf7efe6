"""The coupling itself: one treatment's cells against cells, or how spread the matches of all treatments are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _features, _keys, _matches, _obs
from psalm._arguments import checked
from psalm.pl._axes import finish, height_for, legend_above, modality_colours, on_axes
from psalm.pl._names import LITERAL, short, shown
from psalm.pl._rows import row_axis, spread_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.pl._axes import OnAxes

MOST_BINS = 500
DARKEST = 0.995
"""Quantile of the pixels that is darkest; a few beyond it would leave the rest pale."""
MOST_LABELS = 25


@checked
def coupling(
    mdata: MuData,
    *,
    treatment: str | None = None,
    match_key: str = _keys.MATCH,
    order_by: str | None = None,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """One treatment's block of the coupling as a heatmap, or the spread of matches in all treatments.

    In the heatmap a row is a source cell and a column is a target cell, both in the order of ``order_by``. The colour
    is the mass relative to an even spread over the block: 1 everywhere where the match decides nothing, a dark diagonal
    where cells are matched by what they are ordered by. Beyond 500 cells, rows and columns are binned: a pixel is the
    sum of the mass in its bin, over that of an even spread.

    Without ``treatment``, each treatment's row shows the effective number of matches of its cells, as a share of the
    cells they could be matched with: the median cell, the middle half (thick) and the middle nine tenths (thin). At 1
    a cell is matched with all of them evenly.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    treatment
        The treatment to draw; by default all are summarised.
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    order_by
        Column in ``obs`` of source and target, or of ``mdata``, to order cells by, numbers or labels; cells without a
        value are last.
        By default the first component of :func:`psalm.tl.embed` where it was run, else the first column of the scores.
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
        The match, the treatment or the column is missing.
    ValueError
        ``order_by`` is given without ``treatment``.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> figure = psalm.pl.coupling(mdata, return_fig=True)
    >>> figure = psalm.pl.coupling(mdata, treatment="control", return_fig=True)
    """
    stored = _access.run(_access.container(mdata), match_key, "tl.match", "match_key")
    if treatment is None:
        if order_by is not None:
            msg = f"`order_by={order_by!r}` orders the cells of one treatment. Pass `treatment=`, too, or leave it out."
            raise ValueError(msg)
        figure, (axis,) = on_axes(ax, 1, 6.0, height_for(len(stored["table"]), least=2.8))
        _summary(axis, mdata, stored, match_key)
    else:
        figure, (axis,) = on_axes(ax, 1, 6.0, 5.0)
        _heatmap(axis, mdata, match_key, treatment, order_by)
    return finish(figure, axis, show=show, own=ax is None, return_fig=return_fig)


def _summary(ax: Axes, mdata: MuData, stored: dict[str, Any], match_key: str) -> None:
    keys, table, of_modality = _keys.MatchKeys(match_key), stored["table"], modality_colours(mdata)
    for side, rivals, shift in (("source", "n_target", -0.18), ("target", "n_source", 0.18)):
        name = str(stored["params"][side])
        obs = mdata.mod[name].obs
        blocks = _matches.blocks_of(mdata, name, match_key)
        n_rivals = np.append(table[rivals].to_numpy(dtype=float), np.nan)[blocks]
        share = np.exp(obs[keys.entropy].to_numpy(dtype=float)) / n_rivals
        spread_lines(ax, share, blocks, colour=of_modality[name], shift=shift, label=f"cells of {short(name)}")
    ax.axvline(1, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    ax.set(xlabel="effective matches of a cell / cells it could be matched with", xlim=(-0.02, 1.04))
    row_axis(ax, list(_matches.block_names(table)))
    legend_above(ax)


@dataclass(frozen=True)
class Side:
    """The cells of one treatment in one modality, in drawing order.

    Parameters
    ----------
    name
        The modality.
    cells
        (n_cells,) positions in the modality.
    labels
        (n_cells,) what they are ordered by where it is labels, else None.
    """

    name: str
    cells: IntArray
    labels: FloatArray | None

    @property
    def bins(self) -> IntArray:
        """(n_cells,) the pixel of each cell."""
        n_cells = len(self.cells)
        return np.arange(n_cells) * min(n_cells, MOST_BINS) // max(n_cells, 1)


def _heatmap(ax: Axes, mdata: MuData, match_key: str, treatment: str, order_by: str | None) -> None:
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    names = str(params["source"]), str(params["target"])
    order, said = _order(mdata, names, str(params["propensity_key"]), order_by)
    source, target = (_side(mdata, name, match_key, treatment, order[name]) for name in names)
    mass = _matches.stored_coupling(mdata, match_key)[source.cells][:, target.cells]
    shade = _binned(mass, source.bins, target.bins)
    darkest = float(np.quantile(shade, DARKEST)) or float(np.max(shade))
    image = ax.imshow(shade, vmin=0, vmax=darkest, cmap="magma_r", aspect="auto", interpolation="nearest")
    beyond = "max" if np.max(shade) > darkest else "neither"
    ax.figure.colorbar(image, ax=ax, label="mass / that of an even spread", shrink=0.8, extend=beyond)
    ax.set_title(short(treatment), fontsize="medium", **LITERAL)
    for side, axis, lines in ((source, ax.yaxis, ax.axhline), (target, ax.xaxis, ax.axvline)):
        axis.set_label_text(f"{len(side.cells)} cells of {short(side.name)} by {short(said)}", **LITERAL)
        axis.set_ticks([])
        if side.labels is not None:
            _groups(side, axis, lines)


def _order(
    mdata: MuData, names: tuple[str, str], propensity_key: str, order_by: str | None
) -> tuple[dict[str, pd.Series], str]:
    """What the cells of each modality are ordered by, and how to call it."""
    if order_by is not None:
        advice = "Pass a column that source and target have."
        columns = [_obs.find(mdata, name, order_by, "order_by", advice=advice) for name in names]
        return dict(zip(names, _alike(columns), strict=True)), order_by
    embedded = all(_keys.EMBEDDING in mdata.mod[name].obsm for name in names)
    key, said = (_keys.EMBEDDING, "score PC 1") if embedded else (propensity_key, "first score")
    for name in names:
        _features.require_own(mdata.mod[name], name, key)
    return {name: pd.Series(np.asarray(mdata.mod[name].obsm[key])[:, 0]) for name in names}, said


def _alike(columns: list[_obs.Column]) -> list[pd.Series]:
    """Numbers as they are, labels as categories in one order."""
    if not any(isinstance(column.values.dtype, pd.CategoricalDtype) or not column.is_number for column in columns):
        return [pd.Series(column.numbers()) for column in columns]
    labels = [column.labels() for column in columns]
    names = list(dict.fromkeys(name for column in labels for name in column.cat.categories))
    return [column.cat.set_categories(names) for column in labels]


def _side(mdata: MuData, name: str, match_key: str, treatment: str, order: pd.Series) -> Side:
    """The matched cells of a treatment, in order."""
    stored = _access.run(mdata, match_key, "tl.match", "match_key")
    of_block = stored["table"]["treatment"].astype(str).to_numpy()
    chosen = np.append(of_block == treatment, False)  # cells that are not matched take the last
    cells = np.flatnonzero(chosen[_matches.blocks_of(mdata, name, match_key)])
    if not len(cells):
        msg = (
            f"`treatment={treatment!r}` has no matched cells of {name!r} in the match {match_key!r}. "
            f"Matched treatments: {_checks.listed(pd.unique(of_block))}. Pass one of these."
        )
        raise KeyError(msg)
    labelled = isinstance(order.dtype, pd.CategoricalDtype)
    values = order.reset_index(drop=True).iloc[cells].sort_values(kind="stable", na_position="last")
    return Side(name, values.index.to_numpy(), values.astype(object).to_numpy() if labelled else None)


def _binned(mass: sparse.csr_matrix, rows: IntArray, columns: IntArray) -> FloatArray:
    """Mass summed by pixel, over what the pixel would hold if the block's mass were spread evenly."""
    shape = int(rows[-1]) + 1, int(columns[-1]) + 1
    entries = mass.tocoo()
    found = sparse.csr_matrix((entries.data, (rows[entries.row], columns[entries.col])), shape=shape).toarray()
    even = np.outer(np.bincount(rows), np.bincount(columns)) * (found.sum() / (mass.shape[0] * mass.shape[1]))
    return np.asarray(found / np.where(even > 0, even, 1.0))


def _groups(side: Side, axis: Any, lines: Any) -> None:
    """Lines between labels, and their names where there are few."""
    labels = pd.Series(side.labels).fillna("missing").astype(str).to_numpy()
    begins = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    ends = np.append(begins[1:], len(labels))
    for begin in begins[1:]:
        lines(side.bins[begin] - 0.5, color="0.4", linewidth=0.6)
    if len(begins) <= MOST_LABELS:
        middles = (side.bins[begins] + side.bins[ends - 1]) / 2
        axis.set_ticks(middles, shown(labels[begins]), fontsize="small", **LITERAL)
        if axis.axis_name == "x":
            axis.set_tick_params(rotation=90)
