"""For all tests and docstrings' examples: figures are closed behind them, and libraries use one thread each."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a busy machine threads of torch wait for each other


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    """Close all figures."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
