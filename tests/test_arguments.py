"""Every public function refuses arguments of other types than its signature names, and says so in words."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import psalm
from psalm._arguments import KINDS, checked, kinds_of

FUNCTIONS = [
    getattr(room, name)
    for room in (psalm.pp, psalm.tl, psalm.get, psalm.pl)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name))
]
PARAMETERS = [(function, name) for function in FUNCTIONS for name in kinds_of(inspect.signature(function))]


def name_of(value):
    return value if isinstance(value, str) else f"{value.__module__.split('.')[1]}.{value.__name__}"


@pytest.mark.parametrize(("function", "name"), PARAMETERS, ids=name_of)
def test_another_type_is_refused_before_anything_else(function, name):
    """The container is None: whoever looks at it first raises something else."""
    needed = {
        key: "x"
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    container = next(iter(inspect.signature(function).parameters))
    with pytest.raises(TypeError, match=rf"`{name}=.*` is of type Odd\. Pass "):
        function(**needed | {container: None, name: Odd()})


class Odd:
    """Nothing that any signature names."""


def test_every_name_and_switch_is_looked_at():
    """Independent: counted from the signatures themselves, by annotation alone."""
    plain = [
        (function, name)
        for function in FUNCTIONS
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.annotation in {"str", "bool", "str | None", "bool | None"}
    ]
    assert len(plain) > 80
    assert set(plain) <= set(PARAMETERS)


@pytest.mark.parametrize(
    ("kind", "fitting", "other"),
    [
        ("str", ["", "x", np.str_("x")], [b"x", None, ["x"], 1]),
        ("bool", [True, np.bool_(False)], [0, 1, "no", None]),
        ("Path", [Path("x")], ["x"]),
        ("Mapping[str, str]", [{}, {"a": "b"}], [{"a": 1}, {1: "a"}, "ab", ["ab"]]),
        ("Sequence[str]", ["ab", ["a"], ("a",), np.array(["a"])], [b"a", {"a": "b"}, 1, None]),
        ("float", [1, 1.5, np.float32(1)], [True, "1", 1j, (1,)]),
    ],
)
def test_what_an_annotation_holds(kind, fitting, other):
    assert all(KINDS[kind].holds(value) for value in fitting)
    assert not any(KINDS[kind].holds(value) for value in other)


def test_only_annotations_that_are_known_in_full_are_looked_at():
    def given(
        a: "str", b: "int", c: "float | None", d: "str | Path", e: "float | str", f: "str | int", **rest: "str"
    ) -> None: ...

    assert set(kinds_of(inspect.signature(given))) == {"a", "d", "e"}


def test_a_long_value_is_shortened_and_the_function_keeps_its_name():
    @checked
    def given(a: "str") -> str:
        """Says it."""
        return a

    assert given("x") == "x"
    assert (given.__name__, given.__doc__) == ("given", "Says it.")
    with pytest.raises(TypeError, match=r"^`a=\[0, 1, .{52}…` is of type list\. Pass a string\.$"):
        given(list(range(100)))
