"""Counts, told from other values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import FloatArray


def counts(values: FloatArray) -> bool:
    """Whether all values are whole numbers, none is negative, and not all are zero."""
    return bool(values.size and (values >= 0).all() and values.any() and (values == np.floor(values)).all())
