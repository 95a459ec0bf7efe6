"""Names and labels that are perhaps the same, spelled in two ways."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+(?![^\W_]))?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def composed(name: str) -> str:
    """The text in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name)


def number(name: str) -> float | None:
    """The number that a text spells, None where it spells none."""
    plain = unicodedata.normalize("NFKC", name).strip()
    plain = plain.replace(",", ".") if DECIMAL_COMMA.fullmatch(plain) else plain
    try:
        value = math.nan if "_" in plain else float(plain)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def same(first: str, second: str) -> bool:
    """Whether two names are spelled alike."""
    return bool(_spellings(first) & _spellings(second))


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ by the spelling of numbers, by case, blanks and punctuation, or by Unicode form."""
    groups: dict[object, list[str]] = {}
    for name in dict.fromkeys(names):
        for spelling in _spellings(name):
            groups.setdefault(spelling, []).append(name)
    return [list(group) for group in dict.fromkeys(tuple(group) for group in groups.values() if len(group) > 1)]


def shown(names: Iterable[str]) -> str:
    """Names in quotes, those with letters beyond ASCII also by their code points: two of them may look the same."""
    return ", ".join(repr(name) if name.isascii() else f"{name!r} ({name!a})" for name in names)


def suggestion(unknown: Iterable[str], known: Iterable[str]) -> str:
    """A sentence on what unknown names are perhaps meant to be; nothing where there is nothing like them."""
    wanted, there = list(unknown), list(known)
    groups = alike([*wanted, *there])
    pairs = [shown(group) for group in groups if set(group) & set(wanted) and set(group) & set(there)]
    return f"Spelled alike, so perhaps the same: {'; '.join(pairs)}. " if pairs else ""


def _spellings(name: str) -> set[object]:
    """What names that are alike have in common; numbers are compared as numbers."""
    value = number(name)
    if value is not None:
        return {value, _shortest(value)}
    plain = unicodedata.normalize("NFKC", name).casefold()
    numbers = tuple(float(found) for found in NUMBER.findall(plain))
    return {_letters(plain), (*map(_letters, NUMBER.split(plain)), *numbers)}


def _letters(plain: str) -> str:
    return re.sub(r"[\W_]+", "", plain)


def _shortest(value: float) -> float:
    """The number whose nearest in half or single precision this is, if it is one."""
    if value.is_integer():
        return value
    for narrow in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            near = narrow(value)
        if float(near) == value:
            return float(str(near))
    return value
