"""Which values are NaN or infinite, said in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import IntArray

    Names = Sequence[Any] | IntArray | None

N_NAMED = 5


def is_finite(values: Any) -> bool:
    """Whether no value of an array, dense or sparse, is NaN or infinite."""
    return bool(np.isfinite(values.data if sparse.issparse(values) else values).all())


def account(values: Any, features: Names = None, cells: Names = None) -> str:
    """How many values are NaN or infinite, in which cells and features, and of which features no cell has a value.

    Parameters
    ----------
    values
        (n_cells, n_features, ...), dense or sparse; of images, the channels are the features.
    features, cells
        Their names; positions by default.
    """
    rows, columns = _places(values)
    n_cells = values.shape[0]
    pairs = np.unique(columns.astype(np.int64) * n_cells + rows)  # a channel has many pixels
    found, counts = np.unique(pairs // n_cells, return_counts=True)
    said = (
        f"{len(rows)} values that are NaN or infinite, in {len(np.unique(rows))} cells "
        f"({_named(np.unique(rows), cells)}) and {len(found)} features ({_named(found, features)})."
    )
    whole = found[counts == n_cells]
    if len(whole) and n_cells > 1:
        said += f" {len(whole)} features have no finite value in any of {n_cells} cells: {_named(whole, features)}."
        said += " Drop them."
    return said


def _places(values: Any) -> tuple[IntArray, IntArray]:
    """Cell and feature of each value that is not finite."""
    if sparse.issparse(values):
        entries = values.tocoo()
        wrong = ~np.isfinite(entries.data)
        return entries.row[wrong], entries.col[wrong]
    places = np.nonzero(~np.isfinite(values))
    return places[0], places[1] if len(places) > 1 else np.zeros(len(places[0]), dtype=int)


def _named(positions: IntArray, names: Names) -> str:
    found = [position if names is None else names[position] for position in positions[:N_NAMED].tolist()]
    shown = [str(name) if isinstance(name, int | np.integer) else repr(str(name)) for name in found]
    return ", ".join(shown) + (", …" if len(positions) > N_NAMED else "")
