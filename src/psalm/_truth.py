"""Which cells are known to be the same: by their names, or by a column of obs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _obs

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import IntArray


def partners(mdata: MuData, source: str, target: str, truth: str | None) -> IntArray:
    """Position of each source cell's true partner among the target cells, −1 where it has none."""
    keys = [_identity(mdata, name, truth) for name in (source, target)]
    known = [np.flatnonzero(key.notna()) for key in keys]
    found = np.append(known[1], -1)[keys[1][known[1]].get_indexer(keys[0][known[0]])]
    partner = np.full(len(keys[0]), -1)
    partner[known[0]] = found
    return partner


def _identity(mdata: MuData, name: str, truth: str | None) -> pd.Index:
    adata = _access.modality(mdata, name)
    if truth is None:
        return adata.obs_names
    read = _obs.find(mdata, name, truth, "truth")
    values = pd.Index(read.labels().astype(object))
    known = values.dropna()
    if not known.is_unique:
        twice = known[known.duplicated()].unique()
        msg = (
            f"{read.said} has {len(twice)} values that occur more than once: "
            f"{_checks.listed(twice, 5)}. `truth` must name each cell once."
        )
        raise ValueError(msg)
    return values


def require_pairs(partner: IntArray, names: tuple[str, str], truth: str | None) -> None:
    """Refuse to go on where no pair is known."""
    if (partner >= 0).any():
        return
    by = "names" if truth is None else f"values of obs[{truth!r}]"
    msg = (
        f"Modalities {names[0]!r} and {names[1]!r} have no {by} in common, so no true pairs are known. Pass `truth=` "
        "with an obs column that marks the same cell in both, or `latent=` with true latents in obsm (simulations). "
        "`tl.diagnose` says what can be said without."
    )
    raise ValueError(msg)
