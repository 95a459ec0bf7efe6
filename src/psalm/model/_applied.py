"""A trained network on cells that are read some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from psalm import _access, _checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.rows import Rows

    Function = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
    """From inputs and codes of treatments, both of n_cells, to values of n_cells."""


def treatment_codes(adata: AnnData, column: str, treatments: tuple[str, ...], *, use: bool) -> IntArray:
    """Code of each cell's treatment; −1 where it is not to be used, not known, or was not trained on."""
    if not use or column not in adata.obs:
        return np.full(adata.n_obs, -1)
    return _access.codes_of(adata.obs[column], pd.Index(treatments))


def by_portion(function: Function, inputs: Rows, codes: IntArray, device: torch.device, size: int) -> list[FloatArray]:
    """What a function gives for all cells."""
    _checks.whole_number("batch_size", size, least=1)
    found: list[FloatArray] = []
    for start in range(0, max(1, inputs.shape[0]), size):
        cells = slice(start, min(start + size, inputs.shape[0]))
        given = torch.from_numpy(inputs.take(cells)).to(device), torch.as_tensor(codes[cells], device=device)
        values = [value.float().cpu().numpy() for value in function(*given)]
        if not found:
            found = [np.empty((inputs.shape[0], value.shape[1]), np.float32) for value in values]
        for whole, value in zip(found, values, strict=True):
            whole[cells] = value
    return found
