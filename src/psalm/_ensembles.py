"""The file that holds the trained models of :func:`psalm.tl.propensity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psalm.core import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from psalm._features import Features
    from psalm._scores import Kept
    from psalm.core._types import FloatArray
    from psalm.core.ensemble import Ensemble
    from psalm.core.joint import Joint
    from psalm.core.scoring import Reference

FORMAT = 5


@dataclass(frozen=True)
class Part:
    """The models of one modality (per factor), what they take, and the shift of their log-odds to the prior.

    ``batches`` names the batches in the order of their codes; there are none without ``batch_key``.
    """

    ensembles: tuple[Ensemble, ...]
    use_rep: str
    feature_names: list[str]
    space: str
    shift: FloatArray
    batch_key: str
    batches: list[str]
    reference: Reference

    @classmethod
    def of(cls, joint: Joint, name: str, inputs: Features, batch_key: str | None, batches: list[str]) -> Part:
        """What the file keeps of one modality."""
        return cls(
            tuple(part.ensemble for part in joint.parts[name]),
            inputs.key,
            list(inputs.names.astype(str)),
            inputs.space,
            joint.shifts[name],
            batch_key or "",
            batches if len(batches) > 1 else [],
            joint.scores[name].reference,
        )


@dataclass(frozen=True)
class Stored:
    """All modalities, and the cells that were trained on; ``run`` is what the run's scores are noted as."""

    run: str
    treatment: str
    reading: Kept
    parts: dict[str, Part]
    trained: dict[str, pd.Index]


def write(path: str | Path, stored: Stored) -> None:
    """Write the models, as :mod:`psalm.core.files` does."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    names = {name: list(cells.astype(str)) for name, cells in stored.trained.items()}
    content = {
        "run": stored.run,
        "treatment": stored.treatment,
        "reading": stored.reading,
        "parts": stored.parts,
        "trained": names,
    }
    files.write(path, {"format": FORMAT, **content})


def read(path: str | Path, trusted: Iterable[str] = ()) -> Stored:
    """Read what :func:`write` wrote."""
    import pandas as pd

    if not Path(path).exists():
        msg = f"{path} does not exist. Pass the file that `tl.propensity(save=)` wrote."
        raise FileNotFoundError(msg)
    content: Any = files.read(path, trusted)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        msg = f"{path} was not written by this version of `tl.propensity(save=)`. Run it again."
        raise ValueError(msg)
    trained = {name: pd.Index(cells) for name, cells in content.pop("trained").items()}
    return Stored(**content, trained=trained)
