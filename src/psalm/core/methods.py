"""Matchers by name."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core.cost import COSTS, POSTERIOR
from psalm.core.epsilon import AUTO
from psalm.core.exact import ExactMatcher
from psalm.core.gromov import GromovMatcher
from psalm.core.nearest import MutualMatcher, NearestMatcher
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.partial import PartialMatcher
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psalm.core.matcher import Matcher

METHODS: dict[str, type] = {
    "ot": SinkhornMatcher,
    "unbalanced": UnbalancedMatcher,
    "partial": PartialMatcher,
    "exact": ExactMatcher,
    "snn": SharedNeighborMatcher,
    "fgw": GromovMatcher,
    "nearest": NearestMatcher,
    "mutual": MutualMatcher,
}
NUMBERS = {"epsilon", "epsilon_absolute", "tolerance", "relaxation", "fraction", "alpha", "n_neighbors", "memory_mb"}
MAY_BE_ZERO = {"alpha"}
AT_MOST_ONE = {"alpha", "fraction"}


def as_matcher(method: Any, options: Mapping[str, Any]) -> Matcher:
    """The matcher behind a name with its options, or the object itself.

    Parameters
    ----------
    method
        One of :data:`METHODS`, or a callable from two :class:`psalm.core.matcher.Side` to a
        :class:`psalm.core.matcher.Match`.
    options
        Fields of the named matcher.

    Raises
    ------
    TypeError
        The object cannot be called.
    ValueError
        Unknown name or option, or a value out of range.
    """
    if not isinstance(method, str):
        if isinstance(method, type):
            msg = f"`method` is the class {method.__name__}. Pass an object of it: `{method.__name__}(…)`."
            raise TypeError(msg)
        if not callable(method):
            msg = f"`method` is {type(method).__name__}. Pass one of {_listed(METHODS)} or a matcher object."
            raise TypeError(msg)
        if options:
            msg = f"`method` is an object, so {_listed(options)} would be ignored. Set them on the object."
            raise ValueError(msg)
        found: Matcher = method
        return found
    if method not in METHODS:
        msg = f"`method={method!r}` is not known. Pass one of {_listed(METHODS)}."
        raise ValueError(msg)
    allowed = [field.name for field in fields(METHODS[method])]
    foreign = [name for name in options if name not in allowed]
    if foreign:
        msg = f"{_listed(foreign)} cannot be set for `method={method!r}`. Its options are {_listed(allowed) or 'none'}."
        raise ValueError(msg)
    for name, value in options.items():
        _check(name, value)
    _check_together(options)
    named: Matcher = METHODS[method](**options)
    return named


def _check(name: str, value: Any) -> None:
    """Refuse an option out of range."""
    if name == "cost":
        if value not in COSTS:
            msg = f"`cost={value!r}` is not known. Pass one of {_listed(COSTS)}."
            raise ValueError(msg)
        return
    if value is None or (isinstance(value, str) and name not in NUMBERS) or (name == "epsilon" and value == AUTO):
        return
    pair = name == "relaxation" and isinstance(value, tuple) and len(value) == 2  # noqa: PLR2004, source and target
    for number in value if pair else (value,):
        if not _in_range(name, number):
            bounds = " and at most one" if name in AT_MOST_ONE else " or 'auto'" if name == "epsilon" else ""
            least = "of zero or above" if name in MAY_BE_ZERO else "above zero"
            msg = f"`{name}={value!r}` must be a finite number {least}{bounds}."
            raise ValueError(msg)
        if name.startswith(("n_", "max_")) and not isinstance(number, Integral):
            msg = f"`{name}={value!r}` must be a whole number."
            raise ValueError(msg)


def _in_range(name: str, number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, Real):
        return False
    value = float(number)
    low = value >= 0 if name in MAY_BE_ZERO else value > 0
    return bool(low and (np.isfinite(value) or name == "relaxation") and not (name in AT_MOST_ONE and value > 1))


def _check_together(options: Mapping[str, Any]) -> None:
    """Refuse options of which one would be ignored."""
    if options.get("epsilon") is not None and options.get("epsilon_absolute") is not None:
        msg = "`epsilon` is relative to the mean cost and `epsilon_absolute` is not. Pass one of them."
        raise ValueError(msg)
    if options.get("cost") == POSTERIOR:
        given = [name for name in ("epsilon", "epsilon_absolute") if options.get(name) is not None]
        if given:
            msg = f"The cost 'posterior' brings its own ε of 1, so {_listed(given)} would be ignored. Leave it out."
            raise ValueError(msg)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
