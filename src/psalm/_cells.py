"""What a match takes from each cell besides its scores: its mass, and the noise of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_complex_dtype, is_numeric_dtype

from psalm import _access, _checks, _keys

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
    obs = mdata.mod[name].obs
    if column not in obs:
        msg = f"`mass={column!r}` is not in `mdata[{name!r}].obs`. Found: {_checks.listed(obs)}. Pass one of these."
        raise KeyError(msg)
    try:
        if not is_numeric_dtype(obs[column]) or is_complex_dtype(obs[column]):
            raise TypeError
        values = obs[column].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"`mdata[{name!r}].obs[{column!r}]` is {obs[column].dtype}, but masses must be positive numbers."
        raise ValueError(msg) from error
    bad = int((~(np.isfinite(values) & (values > 0)) & (codes >= 0)).sum())
    if bad:
        msg = (
            f"`mdata[{name!r}].obs[{column!r}]` is not a positive finite number for {bad} cells to be matched. "
            "Give each a mass, or take its treatment label away to leave it out."
        )
        raise ValueError(msg)
    return np.asarray(np.where(codes >= 0, values, 0.0))


def noise(mdata: MuData, name: str, propensity_key: str) -> FloatArray | None:
    """Error variance of each cell's scores, where it is known."""
    column = _keys.PropensityKeys(propensity_key).noise
    obs = mdata.mod[name].obs
    return obs[column].to_numpy(dtype=np.float64) if column in obs else None
