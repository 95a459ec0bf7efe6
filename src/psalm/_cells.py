"""What a match takes from each cell besides its scores: its mass, and the noise of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _keys, _obs

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray


def masses(mdata: MuData, name: str, mass: Any, codes: IntArray) -> FloatArray | None:
    """Weight of each cell, positive where it takes part; None where all weigh the same."""
    if isinstance(mass, Mapping):
        _access.by_modality(mdata, mass, "mass")
    column = mass.get(name) if isinstance(mass, Mapping) else mass
    if column is None:
        return None
    read = _obs.find(mdata, name, column, "mass")
    if not read.is_number:
        msg = f"{read.said} is {read.values.dtype}, but masses must be positive numbers."
        raise ValueError(msg)
    values = read.numbers()
    bad = int((~(np.isfinite(values) & (values > 0)) & (codes >= 0)).sum())
    if bad:
        msg = (
            f"{read.said} is not a positive finite number for {bad} cells to be matched. "
            "Give each a mass, or take its treatment label away to leave it out."
        )
        raise ValueError(msg)
    return np.asarray(np.where(codes >= 0, values, 0.0))


def noise(mdata: MuData, name: str, propensity_key: str) -> FloatArray | None:
    """Error variance of each cell's scores, where it is known."""
    keys, obs = _keys.PropensityKeys(propensity_key), mdata.mod[name].obs
    return obs[keys.noise].to_numpy(dtype=np.float64) if keys.noise in obs else None
