"""Clouds of cells: where cells lie, how they are coloured, and the best match of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _features, _keys, _matches, _matrix
from psalm.pl._axes import MANY_TREATMENTS
from psalm.pl._colours import colours
from psalm.pl._names import add_legend, labelled, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray

LEGEND_ROWS = 20
NO_TREATMENT = "0.85"
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Partners:
    """Source cells, the target cell that each sends most mass to, and what the match says of them.

    Parameters
    ----------
    source, target
        (n_links,) positions of the cells in their modalities.
    share
        (n_links,) share of the source cell's mass that goes to its partner.
    decided
        (n_links,) 0: the mass is spread evenly over the treatment's target cells; 1: all on one.
    """

    source: IntArray
    target: IntArray
    share: FloatArray
    decided: FloatArray


def partners(mdata: MuData, match_key: str) -> Partners:
    """The best match of every matched source cell."""
    mass = _matches.stored_coupling(mdata, match_key)
    source = np.flatnonzero(np.diff(mass.indptr))
    stored = _access.run(mdata, match_key, "tl.match", "match_key")
    keys, obs = _keys.MatchKeys(match_key), mdata.mod[stored["params"]["source"]].obs.iloc[source]
    n_target = stored["table"]["n_target"].to_numpy()[obs[keys.block].to_numpy(dtype=int)]
    spread = np.exp(obs[keys.entropy].to_numpy(dtype=float)) / np.maximum(n_target, 1)
    rows = mass[source]
    share = rows.max(axis=1).toarray().ravel() / np.asarray(rows.sum(axis=1)).ravel()
    return Partners(source, np.asarray(rows.argmax(axis=1)).ravel(), share, np.clip(1 - spread, 0, 1))


def points(mdata: MuData, name: str, basis: str) -> FloatArray:
    """The first two coordinates of each cell (n_cells, 2)."""
    adata = mdata.mod[name]
    if basis not in adata.obsm:
        step = f" Run `{BY_STEP[basis]}` first." if basis in BY_STEP else ""
        msg = f"`basis={basis!r}` is not in `mdata[{name!r}].obsm`. Found: {_checks.listed(adata.obsm)}.{step}"
        raise KeyError(msg)
    _features.require_own(adata, name, basis)
    values = _matrix.numeric(adata.obsm[basis], f"`mdata[{name!r}].obsm[{basis!r}]`")
    values = np.asarray(values.toarray() if sparse.issparse(values) else values)
    if values.shape[1] > 1:
        return values[:, :2]
    # one component, as with two treatments: it runs upwards, and cells are spread sideways, which means nothing
    return np.column_stack([np.arange(len(values)) * GOLDEN_RATIO % 1, values])


BY_STEP = {_keys.EMBEDDING: "tl.embed", _keys.REPRESENTATION: "pp.represent"}


def palette(mdata: MuData, match_key: str) -> dict[str, Any]:
    """Colour of each treatment that was matched by."""
    params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    scored = _access.run(mdata, str(params["propensity_key"]), "tl.propensity", "propensity_key")
    return colours(mdata, str(params["treatment"]), [str(name) for name in scored["treatments"]])


def draw_cloud(ax: Axes, places: FloatArray, cell_colours: Any, **options: Any) -> None:
    """Points that shrink as there are more of them."""
    size = float(np.clip(8000 / len(places), 3, 18))
    ax.scatter(places[:, 0], places[:, 1], s=size, c=cell_colours, linewidths=0, zorder=2, **options)
    ax.set(xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)


def label_colours(labels: pd.Series, of_label: dict[str, Any]) -> list[Any]:
    """Colour of each cell by its label."""
    return [NO_TREATMENT if pd.isna(label) else of_label.get(str(label), NO_TREATMENT) for label in labels]


def legend_beside(ax: Axes, labels: list[pd.Series], of_label: dict[str, Any], missing: str) -> None:
    """The labels that cells have, beside the data; above a few dozen a legend says nothing and is left out."""
    from matplotlib.lines import Line2D

    present = {str(label) for column in labels for label in column.dropna().unique()}
    names = [name for name in of_label if name in present]
    rows = [(name, of_label[long]) for name, long in zip(shown(names), names, strict=True)]
    if any(column.isna().any() for column in labels):
        rows.append((missing, NO_TREATMENT))
    if len(rows) > MANY_TREATMENTS:
        return
    point: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5}
    handles = [Line2D([], [], color=colour, label=labelled(name), **point) for name, colour in rows]
    place: dict[str, Any] = {
        "loc": "center left",
        "bbox_to_anchor": (1.0, 0.5),
        "ncols": -(-len(handles) // LEGEND_ROWS),
    }
    add_legend(ax, handles, frameon=False, fontsize="small", **place)
