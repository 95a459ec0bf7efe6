"""Progress bars of long steps; silent for what is done within a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def bar(total: int, description: str, *, unit: str = "it", show: bool = True) -> tqdm:
    """A tqdm bar; use it as a context manager."""
    if show:
        from tqdm.auto import tqdm
    else:  # that of notebooks complains where widgets are missing, also of a bar that is not shown
        from tqdm import tqdm

    return tqdm(total=total, desc=description, unit=unit, delay=1.0, disable=not show)
