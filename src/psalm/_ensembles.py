"""The file that holds the trained models of :func:`psalm.tl.propensity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from psalm._access import Features
    from psalm._scores import Kept
    from psalm.core._types import FloatArray
    from psalm.core.ensemble import Ensemble
    from psalm.core.joint import Joint
    from psalm.core.scoring import Reference

FORMAT = 2


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
    """All modalities, and the cells that were trained on."""

    treatment: str
    reading: Kept
    parts: dict[str, Part]
    trained: dict[str, pd.Index]


def write(path: str | Path, stored: Stored) -> None:
    """Write the models with joblib."""
    import joblib

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    joblib.dump({"format": FORMAT, "stored": stored}, path, compress=3)


def read(path: str | Path) -> Stored:
    """Read what :func:`write` wrote. The file is a pickle: only open files that you trust."""
    import joblib

    if not Path(path).exists():
        msg = f"{path} does not exist. Pass the file that `tl.propensity(save=)` wrote."
        raise FileNotFoundError(msg)
    content: Any = joblib.load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        msg = f"{path} was not written by this version of `tl.propensity(save=)`. Run it again."
        raise ValueError(msg)
    stored: Stored = content["stored"]
    return stored
