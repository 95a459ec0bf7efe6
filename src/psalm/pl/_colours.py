"""Colours of labels: those that were chosen, where it is certain which is whose."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _checks, _obs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

QUALITATIVE, MANY = ("tab10", "tab20"), "turbo"


def colours(mdata: MuData, key: str, names: Sequence[str], *, depth: int = 5) -> dict[str, Any]:
    """Colour of each name: from ``uns[key + "_colors"]``, one for each category in their order, else of a palette.

    ``depth`` is how far up the user's own line is, which a warning names.
    """
    slot = f"{key}_colors"
    if slot not in mdata.uns:
        return _spread(names)
    stored = mdata.uns[slot]
    chosen = [stored] if isinstance(stored, str) else [_plain(one) for one in np.asarray(stored, dtype=object)]
    known = [found for found in _categories(mdata, key, names) if set(names) <= set(found)]
    wrong = _wrong(chosen, [len(found) for found in known])
    if not wrong:
        ours = next(found for found in known if len(found) == len(chosen))
        return {name: colour for name, colour in zip(ours, chosen, strict=True) if name in set(names)}
    msg = (
        f"`mdata.uns[{slot!r}]` {wrong}, so none of it is used, and scanpy's default colours are. "
        f"Store one colour for each category of obs[{key!r}], in their order, or delete it."
    )
    warnings.warn(msg, UserWarning, stacklevel=depth)
    return _default(known[0] if known else names)


def _plain(colour: Any) -> Any:
    return colour.item() if isinstance(colour, np.generic) else colour


def _categories(mdata: MuData, key: str, names: Sequence[str]) -> list[list[str]]:
    """Everything that colours may have been chosen for, in order: categories of a column, and the names."""
    columns = [_obs.single(one.obs, key, "obs") for one in (mdata, *mdata.mod.values()) if key in one.obs]
    found = [list(map(str, column.astype("category").cat.categories)) for column in columns]
    return [*found, list(names)]


def _wrong(chosen: list[Any], lengths: list[int]) -> str:
    """What is wrong with colours of the user's; "" where nothing is."""
    from matplotlib.colors import is_color_like

    bad = [colour for colour in chosen if not is_color_like(colour)]
    if bad:
        return f"holds what is no colour: {_checks.listed(bad, 3)}"
    return "" if len(chosen) in lengths else f"holds {len(chosen)} colours for {lengths[0]} categories"


def _default(names: Sequence[str]) -> dict[str, Any]:
    """Scanpy's own colours, by the place of a name among all categories."""
    from scanpy.plotting import palettes

    for palette in (palettes.default_20, palettes.default_28, palettes.default_102):
        if len(names) <= len(palette):
            return dict(zip(names, palette, strict=False))
    return _spread(names)


def _spread(names: Sequence[str]) -> dict[str, Any]:
    import matplotlib as mpl

    for palette in QUALITATIVE:
        if len(names) <= mpl.colormaps[palette].N:
            return {name: mpl.colormaps[palette](position) for position, name in enumerate(names)}
    return {name: mpl.colormaps[MANY](position / (len(names) - 1)) for position, name in enumerate(names)}
