"""What a model is besides its weights, and the file that holds both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psalm.model._network import Perceptron

FILE = "model.pt"
FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """Enough to build the network anew and to find its inputs."""

    source: str
    target: str
    match_key: str
    use_rep: str
    space: str
    input_names: list[str]
    output_names: list[str]
    n_hidden: int
    n_layers: int
    dropout: float

    def build(self) -> Perceptron:
        """A network with initial weights."""
        from psalm.model._network import Perceptron

        return Perceptron(len(self.input_names), len(self.output_names), self.n_hidden, self.n_layers, self.dropout)


def write(
    path: str | Path, setup: Setup, network: Perceptron, history: dict[str, list[float]], *, overwrite: bool
) -> None:
    """Write a model into a folder."""
    import torch

    file = Path(path) / FILE
    if file.exists() and not overwrite:
        msg = f"{file} exists. Pass `overwrite=True` to replace it, or another folder."
        raise FileExistsError(msg)
    file.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    torch.save({"format": FORMAT, "setup": asdict(setup), "weights": weights, "history": history}, file)


def read(path: str | Path) -> tuple[Setup, Perceptron, dict[str, list[float]]]:
    """Read a model from a folder, onto the CPU."""
    import torch

    file = Path(path) / FILE
    if not file.exists():
        msg = f"{file} does not exist. Pass the folder that `.save()` was given."
        raise FileNotFoundError(msg)
    stored: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if stored.get("format") != FORMAT:
        msg = f"{file} has format {stored.get('format')!r}; this version of psalm reads {FORMAT}. Train it again."
        raise ValueError(msg)
    setup = Setup(**stored["setup"])
    network = setup.build()
    network.load_state_dict(stored["weights"])
    network.eval()
    return setup, network, stored["history"]


def device_of(name: str) -> Any:
    """The torch device of a name; "auto" is CUDA where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        msg = f"`device={name!r}` is not available here ({error}). Pass 'auto', 'cpu', or a device that torch sees."
        raise ValueError(msg) from error
    return torch.device(name)
