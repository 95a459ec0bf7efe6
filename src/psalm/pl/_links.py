"""Two embeddings, one of each modality, with the strongest matches drawn between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _obs
from psalm._arguments import checked
from psalm.pl._axes import finish, on_axes
from psalm.pl._clouds import NO_TREATMENT, draw_cloud, label_colours, legend_beside, palette, partners, points
from psalm.pl._colours import colours
from psalm.pl._names import LITERAL, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm._obs import Column
    from psalm.core._types import FloatArray
    from psalm.pl._axes import OnAxes
    from psalm.pl._clouds import Partners

UMAP = "X_umap"


@checked
def links(
    mdata: MuData,
    *,
    basis: str | Mapping[str, str] | None = None,
    match_key: str = _keys.MATCH,
    n_links: int = 200,
    color: str | None = None,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Source cells and target cells, each in an embedding of their own modality, with the strongest matches joined.

    The embeddings were made without the match, so lines that join like with like (the same cell type, the same state)
    say something of it, unlike those of :func:`psalm.pl.embedding`.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    basis
        Key in ``obsm`` of source and target, or a mapping from modality to key; the first two columns are drawn.
        By default "X_umap" where both have it, else "X_psalm".
    match_key
        ``key_added`` of :func:`psalm.tl.match`.
    n_links
        Number of lines: the source cells with the largest share of their mass on one target cell.
    color
        Column in ``obs`` of source and target, or of ``mdata``, to colour cells by, labels or numbers; by default the
        treatment.
    ax
        Two axes of one figure.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of two axes.

    Raises
    ------
    KeyError
        The match, the basis or the column is missing.
    ValueError
        ``ax`` does not hold two axes of one figure.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.pp.represent(mdata, "a", kind="features")
    >>> psalm.pp.represent(mdata, "b", kind="features")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> figure = psalm.pl.links(mdata, n_links=50, return_fig=True)
    """
    params = _access.run(_access.container(mdata), match_key, "tl.match", "match_key")["params"]
    _checks.whole_number("n_links", n_links, least=0)
    names = str(params["source"]), str(params["target"])
    bases = _bases(mdata, names, basis)
    places = [points(mdata, name, key) for name, key in zip(names, bases, strict=True)]
    column = str(params["treatment"]) if color is None else color
    columns = [_obs.find(mdata, name, column, "color") for name in names]
    figure, axes = on_axes(ax, 2, 9.5, 4.6, gap=0.15)
    if axes[0].get_figure() is not axes[1].get_figure():
        msg = "`ax` holds axes of two figures, but lines run between them. Pass two axes of one figure."
        raise ValueError(msg)
    for one, name, key in zip(axes, names, bases, strict=True):
        one.set_title(short(name), fontsize="medium", weight="bold", **LITERAL)
        one.set_xlabel(f"{short(key)} (1, 2)", **LITERAL)
        one.set(facecolor="none")
        one.margins(0.06)
    if color is not None and all(_is_scale(part) for part in columns):
        cell_colours = _draw_numbers(axes, places, [part.numbers() for part in columns], column)
    else:
        labels = [part.labels() for part in columns]
        cell_colours = _draw_labels(mdata, axes, places, labels, palette(mdata, match_key) if color is None else column)
    _join(axes, partners(mdata, match_key), n_links, places, cell_colours)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


def _bases(mdata: MuData, names: tuple[str, str], basis: str | Mapping[str, str] | None) -> list[str]:
    """Key in obsm of source and of target."""
    if isinstance(basis, Mapping):
        _access.by_modality(mdata, basis, "basis")
        missing = [name for name in names if name not in basis]
        if missing:
            msg = f"`basis` names no key for {_checks.listed(missing)}. Name one for both of {_checks.listed(names)}."
            raise KeyError(msg)
        return [basis[name] for name in names]
    if basis is None:
        basis = UMAP if all(UMAP in mdata.mod[name].obsm for name in names) else _keys.REPRESENTATION
    return [basis, basis]


def _is_scale(column: Column) -> bool:
    """Whether a column is drawn on a scale of colours; categories of numbers are labels."""
    return column.is_number and not isinstance(column.values.dtype, pd.CategoricalDtype)


def _draw_numbers(axes: list[Axes], places: list[FloatArray], numbers: list[FloatArray], label: str) -> list[Any]:
    """Both clouds on one colour scale, with its bar; cells without a number are grey."""
    import matplotlib as mpl

    both = np.concatenate(numbers)
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(np.nanmin(both), np.nanmax(both)), "viridis")
    cell_colours = [np.asarray(scale.to_rgba(part)) for part in numbers]
    for ax, cloud, part, shade in zip(axes, places, numbers, cell_colours, strict=True):
        shade[np.isnan(part)] = mpl.colors.to_rgba(NO_TREATMENT)
        draw_cloud(ax, cloud, shade)
    axes[0].figure.colorbar(scale, ax=axes, shrink=0.7).set_label(short(label), **LITERAL)
    return cell_colours


def _draw_labels(
    mdata: MuData, axes: list[Axes], places: list[FloatArray], values: list[pd.Series], by: str | dict[str, Any]
) -> list[Any]:
    """Both clouds coloured by label, the legend beside the second."""
    if isinstance(by, str):
        names = list(dict.fromkeys(str(name) for column in values for name in column.cat.categories))
        by, missing = colours(mdata, by, names), "missing"
    else:
        missing = "no treatment"
    cell_colours = [label_colours(part, by) for part in values]
    for ax, cloud, shade in zip(axes, places, cell_colours, strict=True):
        draw_cloud(ax, cloud, shade)
    legend_beside(axes[1], values, by, missing)
    return cell_colours


def _join(axes: list[Axes], found: Partners, n_links: int, places: list[FloatArray], cell_colours: list[Any]) -> None:
    """Lines under the points, in the colour of the source cell."""
    from matplotlib.patches import ConnectionPatch

    for ax in axes:
        ax.spines[:].set_visible(False)
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # lines are drawn first, and must not wait for limits
    strongest = np.argsort(-found.share, kind="stable")[:n_links]
    for source, target in zip(found.source[strongest], found.target[strongest], strict=True):
        line = ConnectionPatch(
            places[0][source],
            places[1][target],
            coordsA=axes[0].transData,
            coordsB=axes[1].transData,
            color=cell_colours[0][source],
            alpha=0.5,
            linewidth=0.6,
            zorder=-1,
        )
        line.set_in_layout(False)
        axes[0].figure.add_artist(line)
