"""scanpy, loaded where it is used."""

from __future__ import annotations

from typing import Any


def scanpy() -> Any:
    """The package. Its compiled functions, too, need a folder to be kept in, or it cannot be loaded."""
    from psalm.core import compiled

    compiled.folder()
    import scanpy as loaded

    return loaded
