"""How psalm compiles arithmetic: with numba, once per machine, and anew whenever any compiled file changes.

Numba's own cache looks at the file of a function only, so that a function would keep the old version of what it calls
in another file. Compiled code is therefore kept in a folder named after all compiled files together.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import warnings
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


TRIAL = bytes(2**16)
"""What is written to see whether compiled code could be: an empty file fits on a full disk."""


@cache
def folder() -> Path | None:
    """Folder of the compiled code, below ``NUMBA_CACHE_DIR`` where that is set.

    Numba refuses to compile what it cannot keep. Where the folder cannot be written to, as in batch jobs without a
    home, a temporary one takes its place, for all that this process and its workers compile; None where there is not
    even that.
    """
    named = _named_folder()
    try:
        named.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=named) as trial:
            trial.write(TRIAL)
    except OSError as reason:
        found = _temporary()
        msg = (
            f"Compiled code cannot be kept in {named} ({reason.strerror or reason}), so that every session compiles "
            "anew, which takes about a minute; results are the same. Set NUMBA_CACHE_DIR to a folder that you may "
            "write to."
        )
        warnings.warn(msg, UserWarning, stacklevel=4)
        return found
    return named


def _temporary() -> Path | None:
    """A folder for this session, which numba is told of."""
    try:
        found = tempfile.mkdtemp(prefix="psalm-compiled-")
    except OSError:
        return None
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = found
    return Path(found)


def _named_folder() -> Path:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_bytes()
        if b"psalm.core.compiled" in text or path == Path(__file__):
            digest.update(text)
    base = Path(config.CACHE_DIR) if config.CACHE_DIR else Path(pooch.os_cache("psalm")) / "compiled"
    return base / digest.hexdigest()[:16]


def compiled(*, reordered: bool = False) -> Callable[[Any], Any]:
    """Compile a function, without the interpreter's lock and with its result kept on disk where that is possible.

    Parameters
    ----------
    reordered
        Sums may be taken in another order, and products be fused with sums.
    """

    def decorate(function: Any) -> Any:
        place = folder()
        before = config.CACHE_DIR
        config.CACHE_DIR = before if place is None else str(place)
        try:
            options = {"fastmath": REORDERED} if reordered else {}
            return numba.njit(nogil=True, cache=place is not None, error_model="numpy", **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate
