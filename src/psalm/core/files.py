"""Trained models in files that run nothing when they are read.

A pickle runs whatever its author wrote. Here psalm's own objects and torch's layers become names and values, and names
are looked up among psalm's and torch's classes only; scikit-learn's estimators are written by skops, which builds no
type that it does not know, unless told to.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OWN = ("psalm.core.", "psalm._ensembles", "psalm._scores")
LAYERS = ("psalm.core.", "torch.nn.modules.")
"""Modules whose dataclasses and layers are built."""
OBJECT, LAYER, TUPLE = "object", "layer", "tuple"
"""First entry of the tuples that stand for what is not plain."""
PLAIN = (bool, int, float, str, type(None))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another place to write to, which becomes the file once all is written: it is there whole or not at all."""
    part = path.with_suffix(f".{getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # what is left of a file that could not be written
            part.unlink(missing_ok=True)


def require_file(argument: str, path: str | Path) -> None:
    """Try to write a file, before what it is to hold is computed; what it holds is left as it is.

    Parameters
    ----------
    argument
        What the user called the path.
    path
        The file; folders that are missing are made.

    Raises
    ------
    OSError
        It cannot be written, and the system's reason.
    """
    with _in_words(argument, path, "a file in a folder"):
        place = Path(path).resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        existed = place.exists()
        with place.open("ab"):
            pass
        if not existed:
            place.unlink()


def require_folder(argument: str, path: str | Path) -> None:
    """The same for a folder, which is made where it is missing."""
    with _in_words(argument, path, "a folder"):
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


@contextmanager
def optional(argument: str, what: str) -> Iterator[None]:
    """Within it something is kept that only saves time later: where it cannot be, a warning says so, and no more.

    Parameters
    ----------
    argument
        What the user called the place.
    what
        What is not kept.
    """
    try:
        yield
    except OSError as reason:
        msg = (
            f"`{argument}=` cannot keep {what} ({reason.strerror or reason}). The work goes on; what is not kept is "
            "computed again by the next call."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)


@contextmanager
def _in_words(argument: str, path: str | Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        said = str(reason.strerror or reason)
        if isinstance(reason, FileExistsError):
            said += " where a folder is needed"
        msg = (
            f"`{argument}={str(path)!r}` cannot be written: {said}. Nothing was computed. Pass {what} that you may "
            "write to."
        )
        raise type(reason)(msg) from reason


def write(path: str | Path, value: Any) -> None:
    """Write an object of dataclasses, containers, arrays, torch layers and estimators.

    Raises
    ------
    TypeError
        It holds something that cannot be written without running code when read.
    """
    Path(path).write_bytes(_content(value))


def require_writable(classifier: Any) -> None:
    """Refuse, before it is trained, a classifier whose models could not be written.

    Raises
    ------
    TypeError
        As :func:`write`.
    """
    _content(classifier)


def _content(value: Any) -> bytes:
    import skops.io

    try:
        return bytes(skops.io.dumps(encoded(value), compression=zipfile.ZIP_DEFLATED))
    except (TypeError, RuntimeError, AttributeError, NotImplementedError, ValueError) as reason:
        msg = (
            f"These models cannot be written: {reason}. Files hold psalm's own classifiers, scikit-learn's and what is "
            'like them, but no networks of other packages, as reading these would run code from the file. Use "mlp" or '
            '"image", or score new cells in the same session.'
        )
        raise TypeError(msg) from reason


def read(path: str | Path, trusted: Iterable[str] = ()) -> Any:
    """Read what :func:`write` wrote.

    Parameters
    ----------
    path
        The file.
    trusted
        Full names of types that are to be built although skops does not know them to be harmless.

    Raises
    ------
    ValueError
        It is no such file, or holds a type that is not known and not trusted.
    """
    import skops.io

    if not zipfile.is_zipfile(path):
        msg = f"{path} is not a file of models: it is not a zip archive."
        raise ValueError(msg)
    unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trusted))
    if unknown:
        msg = (
            f"{path} holds types that may run code when they are built: {', '.join(unknown)}. If you know the file, "
            f"pass `trusted={unknown}`."
        )
        raise ValueError(msg)
    return decoded(skops.io.load(path, trusted=list(trusted)))


def encoded(value: Any) -> Any:
    """Plain containers in the place of psalm's objects and torch's layers."""
    if is_dataclass(value) and not isinstance(value, type):
        return OBJECT, _name(value), {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return TUPLE, [encoded(one) for one in value]
    if isinstance(value, list):
        return [encoded(one) for one in value]
    if isinstance(value, dict):
        return {key: encoded(one) for key, one in value.items()}
    if hasattr(value, "named_children"):
        return _encoded_layer(value)
    return value


def decoded(value: Any) -> Any:
    """The opposite of :func:`encoded`."""
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if isinstance(value, dict):
        return {key: decoded(one) for key, one in value.items()}
    if not isinstance(value, tuple):
        return value
    kind, *content = value
    if kind == TUPLE:
        return tuple(decoded(one) for one in content[0])
    if kind == LAYER:
        return _decoded_layer(*content)
    known: Any = _class(content[0], OWN)
    if not (isinstance(known, type) and is_dataclass(known)):
        msg = f"{content[0]!r} is not a kind of object that files of models hold."
        raise ValueError(msg)
    return known(**decoded(content[1]))


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _class(name: str, places: tuple[str, ...]) -> Any:
    """The class of a name, if it is in one of these places."""
    module, _, of_class = name.partition(":")
    if module.startswith(places) and of_class.isidentifier():
        with suppress(ImportError, AttributeError):
            return getattr(import_module(module), of_class)
    msg = f"{name!r} is not a kind of object that files of models hold."
    raise ValueError(msg)


def _encoded_layer(layer: Any) -> tuple[str, str, dict[str, Any]]:
    """Name, plain attributes and arrays of a layer, and its layers."""
    attributes = {
        name: encoded(value) for name, value in vars(layer).items() if not name.startswith("_") and _is_plain(value)
    }
    return (
        LAYER,
        _name(layer),
        {
            "attributes": attributes,
            "parameters": {name: _array(one) for name, one in layer.named_parameters(recurse=False)},
            "strides": {name: list(one.stride()) for name, one in layer.named_parameters(recurse=False)},
            "buffers": {name: _array(one) for name, one in layer.named_buffers(recurse=False)},
            "missing": [name for name, one in layer._parameters.items() if one is None],
            "layers": {name: encoded(one) for name, one in layer.named_children()},
        },
    )


def _decoded_layer(name: str, content: dict[str, Any]) -> Any:
    import torch
    from torch import nn

    known = _class(name, LAYERS)
    if not (isinstance(known, type) and issubclass(known, nn.Module)):
        msg = f"{name!r} is not a layer."
        raise ValueError(msg)
    layer: Any = object.__new__(known)
    nn.Module.__init__(layer)
    for key, value in content["attributes"].items():
        setattr(layer, key, decoded(value))
    for key, value in content["parameters"].items():
        placed = torch.empty_strided(value.shape, content["strides"][key], dtype=torch.as_tensor(value).dtype)
        layer.register_parameter(key, nn.Parameter(placed.copy_(torch.as_tensor(value))))
    for key in content["missing"]:
        layer.register_parameter(key, None)
    for key, value in content["buffers"].items():
        layer.register_buffer(key, torch.as_tensor(value))
    for key, value in content["layers"].items():
        layer.add_module(key, decoded(value))
    return layer


def _array(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(one) for one in value)
    return isinstance(value, PLAIN)
