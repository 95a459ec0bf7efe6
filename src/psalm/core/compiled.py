"""How psalm compiles arithmetic: with numba, once per machine, and anew whenever any compiled file changes.

Numba's own cache looks at the file of a function only, so that a function would keep the old version of what it calls
in another file. Compiled code is therefore kept in a folder named after all compiled files together.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import pooch
from numba import config

if TYPE_CHECKING:
    from collections.abc import Callable

REORDERED = {"contract", "reassoc", "nsz", "arcp"}
"""What the compiler may do to float arithmetic so that sums vectorise; NaN and infinity keep their meaning."""


@cache
def _folder() -> str:
    """Folder of the compiled code, below ``NUMBA_CACHE_DIR`` where that is set."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_bytes()
        if b"psalm.core.compiled" in text or path == Path(__file__):
            digest.update(text)
    base = Path(config.CACHE_DIR) if config.CACHE_DIR else Path(pooch.os_cache("psalm")) / "compiled"
    return str(base / digest.hexdigest()[:16])


def compiled(*, reordered: bool = False) -> Callable[[Any], Any]:
    """Compile a function, without the interpreter's lock and with its result kept on disk.

    Parameters
    ----------
    reordered
        Sums may be taken in another order, and products be fused with sums.
    """

    def decorate(function: Any) -> Any:
        before = config.CACHE_DIR
        config.CACHE_DIR = _folder()
        try:
            options = {"fastmath": REORDERED} if reordered else {}
            return numba.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate
