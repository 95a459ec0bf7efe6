"""Names of the user's in figures: literal, short, and never two alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_NAME, TAIL, ENDS = 24, 8, 4
LITERAL: dict[str, Any] = {"parse_math": False, "usetex": False}
"""For every text with a name in it: "$" is a dollar."""
MARK = "\u2060"
"""Goes before labels of artists, since matplotlib leaves those that begin with "_" out of legends."""


def shown(names: Sequence[str]) -> list[str]:
    """How names are written in a figure: long ones cut in the middle, and different ones differently."""
    plain = [_printable(str(name)) for name in names]
    cut = [_cut(name, LONGEST_NAME - 1 - TAIL) for name in plain]
    for alike in _alike(cut, plain):
        different = _first_difference([plain[position] for position in alike])
        for position in alike:
            cut[position] = _around(plain[position], different)
    for alike in _alike(cut, plain):  # they differ in several places
        number = {name: count for count, name in enumerate(dict.fromkeys(plain[position] for position in alike), 1)}
        for position in alike:
            cut[position] = f"{cut[position]} #{number[plain[position]]}"
    return cut


def short(name: str) -> str:
    """How one name is written where no other can be taken for it."""
    return shown([name])[0]


def labelled(text: str) -> str:
    """A label that legends show whatever it begins with."""
    return MARK + text


def add_legend(place: Axes | Figure, handles: Sequence[Any] | None = None, **options: Any) -> None:
    """A legend that shows labels as they are."""
    if handles is None:
        handles = place.get_legend_handles_labels()[0]  # type: ignore[union-attr]
    labels = [str(handle.get_label()).removeprefix(MARK) for handle in handles]
    legend = place.legend(list(handles), ["label"] * len(labels), **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, **LITERAL)


def _printable(name: str) -> str:
    """Line breaks and the like as they are written in Python; an empty name as two quotes."""
    parts = [sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name]
    return "".join(parts) or '""'


def _cut(name: str, head: int) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:head]}…{name[-TAIL:]}"


def _around(name: str, place: int) -> str:
    """Both ends of a name, and what is around a place in it."""
    width = LONGEST_NAME - 2 * ENDS - 2
    begin = min(max(place - width // 3, ENDS), len(name) - ENDS - width)
    return f"{name[:ENDS]}…{name[begin : begin + width]}…{name[-ENDS:]}" if len(name) > LONGEST_NAME else name


def _first_difference(names: Sequence[str]) -> int:
    signs = zip(*names, strict=False)
    return next((place for place, found in enumerate(signs) if len(set(found)) > 1), min(map(len, names)))


def _alike(cut: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Positions of names that differ and are written alike."""
    groups: dict[str, list[int]] = {}
    for position, text in enumerate(cut):
        groups.setdefault(text, []).append(position)
    return [group for group in groups.values() if len({names[position] for position in group}) > 1]
