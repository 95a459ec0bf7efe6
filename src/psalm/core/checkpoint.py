"""Finished blocks kept in a folder, so that a match that was interrupted goes on where it was.

A block's file is named by a hash of all that its match depends on: psalm's version, the matcher with its settings, and
both sides. What is found under that name is what would be computed. Files hold arrays and JSON, never pickled objects.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import sparse

from psalm.core import files
from psalm.core.matcher import BatchMatcher, Match
from psalm.core.plan import EntropicPlan, SparsePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from psalm.core.matcher import Matcher, Side

ENTRIES = ("data", "indices", "indptr")
POTENTIALS = ("source_potential", "target_potential")
COORDINATES = ("source_scores", "target_scores")


def keeping(matcher: Any, folder: Path) -> Matcher:
    """The same matcher, which keeps what it has found in a folder and looks there first.

    Parameters
    ----------
    matcher
        One whose settings are the fields of a dataclass, and whose plans are entries or potentials.
    folder
        Made where it is missing.

    Raises
    ------
    TypeError
        The matcher is no dataclass, so that its settings cannot be told.
    """
    if not is_dataclass(matcher):
        msg = (
            f"A {type(matcher).__name__} is not a dataclass, so `checkpoint` cannot tell whether kept blocks were made "
            "with the same settings. Make the matcher a frozen dataclass, or leave `checkpoint` out."
        )
        raise TypeError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    kind = KeepingMany if isinstance(matcher, BatchMatcher) else Keeping
    return kind(cast("Matcher", matcher), folder)


@dataclass(frozen=True)
class Keeping:
    """A matcher that keeps blocks one at a time."""

    matcher: Matcher
    folder: Path

    def __call__(self, source: Side, target: Side) -> Match:
        """Match one block, or read it."""
        path = self.folder / name_of(self.matcher, source, target)
        found = read(path, source, target)
        if found is None:
            found = self.matcher(source, target)
            write(path, found, source, target)
        return found


@dataclass(frozen=True)
class KeepingMany(Keeping):
    """The same for a matcher that takes many blocks in one call."""

    def match_many(
        self, blocks: Sequence[tuple[Side, Side]], n_threads: int, tick: Callable[[float], object] | None = None
    ) -> list[Match]:
        """Match the blocks that are not kept, and keep them."""
        paths = [self.folder / name_of(self.matcher, *block) for block in blocks]
        found = [read(path, *block) for path, block in zip(paths, blocks, strict=True)]
        missing = [position for position, match in enumerate(found) if match is None]
        if missing:
            new = cast("BatchMatcher", self.matcher).match_many([blocks[k] for k in missing], n_threads, tick)
            for position, match in zip(missing, new, strict=True):
                write(paths[position], match, *blocks[position])
                found[position] = match
        return [match for match in found if match is not None]


def name_of(matcher: Matcher, source: Side, target: Side) -> str:
    """Name of a block's file."""
    digest = blake2b(f"{version('scpsalm')} {matcher!r}".encode(), digest_size=16)
    for side in (source, target):
        for values in (side.scores, side.mass, side.features, side.noise):
            array = np.empty(0) if values is None else np.ascontiguousarray(values)
            digest.update(f"{array.shape} {array.dtype.str}".encode())
            digest.update(array.tobytes())
    return f"{digest.hexdigest()}.npz"


def write(path: Path, match: Match, source: Side, target: Side) -> None:
    """Keep a match."""
    plan = match.plan
    if isinstance(plan, SparsePlan):
        mass = sparse.csr_matrix(plan.mass)
        arrays: dict[str, Any] = {name: getattr(mass, name) for name in ENTRIES} | {"shape": np.array(mass.shape)}
        about: dict[str, Any] = {"plan": "entries"}
    elif isinstance(plan, EntropicPlan):
        arrays = {name: getattr(plan, name) for name in POTENTIALS}
        for name, side in zip(COORDINATES, (source, target), strict=True):
            if getattr(plan, name) is not side.scores:
                arrays[name] = getattr(plan, name)
        about = {"plan": "potentials", "epsilon": plan.epsilon, "cost": plan.cost}
    else:
        msg = (
            f"A {type(plan).__name__} cannot be kept: `checkpoint` holds plans that are entries (`SparsePlan`) or "
            "potentials (`EntropicPlan`). Leave `checkpoint` out, or return one of these."
        )
        raise TypeError(msg)
    about["match"] = {field.name: _plain(getattr(match, field.name)) for field in fields(match) if field.name != "plan"}
    kept = files.optional("checkpoint", "finished treatments")
    with kept, files.whole(path) as part, part.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def read(path: Path, source: Side, target: Side) -> Match | None:
    """The match that a file holds; None where there is none."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    about = json.loads(str(arrays.pop("about")))
    if about["plan"] == "entries":
        mass = sparse.csr_matrix(tuple(arrays[name] for name in ENTRIES), shape=tuple(arrays["shape"]))
        return Match(SparsePlan(mass), **about["match"])
    first, second = (arrays.get(name, side.scores) for name, side in zip(COORDINATES, (source, target), strict=True))
    f, g = (arrays[name] for name in POTENTIALS)
    return Match(EntropicPlan(first, second, f, g, about["epsilon"], about["cost"]), **about["match"])


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    return value.item() if isinstance(value, np.generic) else value
