"""What a model is besides its weights, and the file that holds both."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from psalm.core import files
from psalm.core.conformal import Residuals
from psalm.model._anchors import Anchors
from psalm.model._network import Network

if TYPE_CHECKING:
    from psalm.core._types import FloatArray
    from psalm.model._fit import Fitted

FILE = "model.pt"
FORMAT = 3


@dataclass(frozen=True)
class Setup:
    """Enough to build the network anew and to find its inputs.

    Parameters
    ----------
    source, target, match_key
        Modalities, and the match between them.
    treatment
        Column of ``obs`` with the treatments that were matched.
    use_rep, space, input_names, input_shape
        Features of the source: key, fingerprint of the space they are coordinates in, names, shape of one cell's.
    target_rep, output_names
        Features of the target.
    log_counts
        Whether inputs are counts, whose logarithm the network takes.
    likelihood
        Of the target's features.
    n_hidden, n_layers, dropout
        Of the network.
    """

    source: str
    target: str
    match_key: str
    treatment: str
    use_rep: str
    space: str
    input_names: list[str]
    input_shape: tuple[int, ...]
    target_rep: str
    output_names: list[str]
    log_counts: bool
    likelihood: str
    n_hidden: int
    n_layers: int
    dropout: float

    def build(self) -> Network:
        """A network with initial weights."""
        return Network(
            tuple(self.input_shape),
            len(self.output_names),
            n_hidden=self.n_hidden,
            n_layers=self.n_layers,
            dropout=self.dropout,
            likelihood=self.likelihood,
            log_counts=self.log_counts,
        )


def write(path: str | Path, content: dict[str, Any], *, overwrite: bool) -> None:
    """Write plain values and tensors into a folder."""
    file = Path(path) / FILE
    if file.exists() and not overwrite:
        msg = f"{file} exists. Pass `overwrite=True` to replace it, or another folder."
        raise FileExistsError(msg)
    files.require_file("dir_path", file)
    with files.whole(file) as part:
        torch.save({"format": FORMAT, "version": version("scpsalm"), **content}, part)


def read(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write` wrote, onto the CPU; nothing in the file is executed."""
    file = Path(path) / FILE
    if not file.exists():
        msg = f"{file} does not exist. Pass the folder that `.save()` was given."
        raise FileNotFoundError(msg)
    stored: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if stored.get("format") != FORMAT:
        msg = f"{file} has format {stored.get('format')!r}; this version of psalm reads {FORMAT}. Train it again."
        raise ValueError(msg)
    if stored["version"].split(".")[:2] != version("scpsalm").split(".")[:2]:
        msg = (
            f"{file} was written by psalm {stored['version']} and is read by {version('scpsalm')}: predictions may "
            "differ. Train it again, or install the version that wrote it."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    return stored


def packed(setup: Setup, network: Network, fitted: Fitted) -> dict[str, Any]:
    """A trained model as plain values and tensors."""
    table = fitted.held_out.reset_index()
    return {
        "setup": asdict(setup),
        "weights": {name: value.cpu() for name, value in network.state_dict().items()},
        "history": {name: [list(map(int, t.index)), t[name].tolist()] for name, t in fitted.history.items()},
        "best_epoch": fitted.best_epoch,
        "held_out": {name: table[name].tolist() for name in table},
        "residuals": {
            known: [torch.as_tensor(part) for part in (found.calibration, found.test)]
            for known, found in (("features", fitted.residuals), ("treatment", fitted.residuals_known))
        },
        "anchors": asdict(fitted.anchors)
        | {"treatments": list(fitted.anchors.treatments), "known": list(fitted.anchors.known or ())},
    }


def unpacked(stored: dict[str, Any]) -> tuple[Setup, Network, Fitted]:
    """A trained model of plain values and tensors."""
    from psalm.model._fit import Fitted

    setup = Setup(**stored["setup"] | {"input_shape": tuple(stored["setup"]["input_shape"])})
    network = setup.build()
    network.load_state_dict(stored["weights"])
    network.eval()
    history = {}
    for name, (epochs, losses) in stored["history"].items():
        history[name] = pd.DataFrame({name: losses}, index=pd.Index(epochs, name="epoch"))
    table = pd.DataFrame(stored["held_out"]).set_index("treatment")
    alone, known = (Residuals(*map(_array, stored["residuals"][name])) for name in ("features", "treatment"))
    anchors = Anchors(**stored["anchors"] | {name: tuple(stored["anchors"][name]) for name in ("treatments", "known")})
    return setup, network, Fitted(history, stored["best_epoch"], table, alone, known, anchors, "cpu")


def _array(values: torch.Tensor) -> FloatArray:
    return np.asarray(values.numpy())
