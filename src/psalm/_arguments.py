"""Arguments are of the types that signatures name, and who passes others is told so, not a library's inner error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


class Kind(NamedTuple):
    """What an annotation stands for: whether a value is of it, and what it is called."""

    holds: Callable[[Any], bool]
    said: str


def _of_texts(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, bytes | Mapping)


def _text_to_text(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)


KINDS = {
    "str": Kind(lambda value: isinstance(value, str), "a string"),
    "bool": Kind(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    "None": Kind(lambda value: value is None, "None"),
    "Path": Kind(lambda value: isinstance(value, Path), "a path"),
    "Mapping[str, str]": Kind(_text_to_text, "a mapping from string to string"),
    "Sequence[str]": Kind(_of_texts, "a list of strings"),
    "Iterable[str]": Kind(_of_texts, "a list of strings"),
    "float": Kind(lambda value: isinstance(value, Real) and not isinstance(value, bool), "a number"),
}
NUMBERS = {"float", "None"}
"""Annotations of these alone are left to the functions, which know the range, too."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Require, before a function runs, that its arguments are of the types that its signature names."""
    signature = inspect.signature(function)
    kinds = kinds_of(signature)

    @wraps(function)
    def and_checked(*args: P.args, **kwargs: P.kwargs) -> R:
        require(kinds, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return and_checked


def kinds_of(signature: inspect.Signature) -> dict[str, list[Kind]]:
    """Per parameter what it may be, for those whose annotation says it in full."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = {
        key: str(parameter.annotation).split(" | ")
        for key, parameter in signature.parameters.items()
        if parameter.kind not in several
    }
    return {
        key: [KINDS[name] for name in alternatives]
        for key, alternatives in names.items()
        if KINDS.keys() >= set(alternatives) and not set(alternatives) <= NUMBERS
    }


def require(kinds: Mapping[str, list[Kind]], given: Mapping[str, Any]) -> None:
    """Refuse the first argument that is of another type.

    Raises
    ------
    TypeError
        Says what came and what is allowed.
    """
    for name, value in given.items():
        allowed = kinds.get(name)
        if allowed and not any(kind.holds(value) for kind in allowed):
            *first, last = dict.fromkeys(kind.said for kind in allowed)
            said = f"{', '.join(first)} or {last}" if first else last
            msg = f"`{name}={_short(value)}` is of type {type(value).__name__}. Pass {said}."
            raise TypeError(msg)


def _short(value: Any, limit: int = 60) -> str:
    """A value in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
