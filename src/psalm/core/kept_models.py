"""Trained models kept in a folder, so that scoring that was interrupted goes on where it was.

A model's file is named by a hash of all that its training depends on: the classifier with its settings, the cells, the
seed, and versions. What is found under that name is what would be trained. Reading a file runs no code from it
(:mod:`psalm.core.files`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

from psalm.core import files
from psalm.core.ensemble import Member

if TYPE_CHECKING:
    from pathlib import Path

    from psalm.core._types import BoolArray

LIBRARIES = ("scpsalm", "numpy", "scikit-learn", "torch")


@dataclass(frozen=True)
class KeptModels:
    """Where the models of one classifier and one set of cells are kept.

    Parameters
    ----------
    folder
        Made where it is missing.
    trained_on
        Hash of classifier and cells.
    """

    folder: Path
    trained_on: str

    @classmethod
    def of(cls, folder: Path, classifier: Any, *cells: Any) -> KeptModels:
        """A place for models of this classifier, trained on some of these cells.

        Raises
        ------
        TypeError
            The classifier's settings cannot be told.
        """
        from joblib import hash as hash_of

        versions = [version(library) for library in LIBRARIES]
        try:
            settings = hash_of(classifier)
        except (PicklingError, AttributeError, TypeError) as reason:
            msg = (
                f"`checkpoint` cannot tell the settings of the classifier {classifier!r}: {reason.args[0]}. "
                "Functions in it must be defined in a module. Or leave `checkpoint` out."
            )
            raise TypeError(msg) from reason
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, str(hash_of([*versions, settings, *cells])))

    def path(self, training: BoolArray, seed: int) -> Path:
        """File of the model that is trained on these cells with this seed."""
        digest = blake2b(f"{self.trained_on} {seed}".encode(), digest_size=16)
        digest.update(training.tobytes())
        return self.folder / f"{digest.hexdigest()}.model"

    def read(self, training: BoolArray, seed: int) -> Member | None:
        """The model, or None where it is not kept.

        Raises
        ------
        ValueError
            The file holds something else.
        """
        path = self.path(training, seed)
        if not path.exists():
            return None
        found = files.read(path)
        if not isinstance(found, Member):
            msg = f"{path} holds a {type(found).__name__} and no model. Remove it, or pass another `checkpoint=`."
            raise ValueError(msg)
        return found

    def write(self, training: BoolArray, seed: int, member: Member) -> None:
        """Keep a model.

        Raises
        ------
        TypeError
            It cannot be written without running code when read.
        """
        try:
            with files.optional("checkpoint", "trained models"), files.whole(self.path(training, seed)) as part:
                files.write(part, member)
        except TypeError as reason:
            msg = f"`checkpoint` cannot keep the models of this classifier; leave it out. {reason}"
            raise TypeError(msg) from reason
