"""Prediction of one modality from another, trained on unpaired cells through their coupling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _matches
from psalm.core.losses import LOSSES
from psalm.model._setup import Setup, device_of, read, write

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.model._network import Perceptron


class CrossModal:
    """Predict the target modality's features from the source modality's, by a network trained on a coupling.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    source, target
        Modality to predict from, and modality to predict.
    match_key
        ``key_added`` of :func:`psalm.tl.match`; the match may have been made in either direction.
    use_rep, target_rep
        Features of source and target: "X", a key of ``obsm`` or of ``layers``.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.
    n_hidden, n_layers, dropout
        Width and number of hidden layers; share of hidden units left out in training.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> model = psalm.model.CrossModal(mdata, source="a", target="b")
    >>> model.train(max_epochs=2, progress=False)
    >>> model.predict(mdata).shape
    (300, 30)
    """

    def __init__(
        self,
        mdata: MuData,
        *,
        source: str,
        target: str,
        match_key: str = _keys.MATCH,
        use_rep: str | None = None,
        target_rep: str | None = None,
        n_hidden: int = 128,
        n_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        _access.two_modalities(_access.container(mdata), source, target)
        _checks.whole_number("n_hidden", n_hidden, least=1)
        _checks.whole_number("n_layers", n_layers, least=1)
        params = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
        if {source, target} != {params["source"], params["target"]}:
            msg = (
                f"The match {match_key!r} joins {params['source']!r} and {params['target']!r}, not {source!r} and "
                f"{target!r}. Pass `match_key=` of a match between them, or run `tl.match`."
            )
            raise ValueError(msg)
        inputs, outputs = _access.features(mdata, source, use_rep), _access.features(mdata, target, target_rep)
        self.setup = Setup(
            source=source,
            target=target,
            match_key=match_key,
            use_rep=inputs.key,
            space=inputs.space,
            input_names=list(inputs.names.astype(str)),
            output_names=list(outputs.names.astype(str)),
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout=dropout,
        )
        self.history: dict[str, list[float]] = {}
        self.device = "cpu"
        self._mdata: MuData | None = mdata
        self._target_rep = outputs.key
        self._network: Perceptron | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the model can predict."""
        return self._network is not None

    def train(
        self,
        *,
        loss: str = "barycentric",
        max_epochs: int = 200,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        validation_size: float = 0.1,
        patience: int = 20,
        device: str = "auto",
        rng: int | np.random.Generator | None = 0,
        progress: bool = True,
    ) -> None:
        """Train the network; training twice starts anew.

        Parameters
        ----------
        loss
            "barycentric": regression on the exact matched average; "mse": one draw of a partner per step;
            "unbiased": the paper's projected loss from two draws, whose value may fall below zero.
            Formulas: ``psalm.core.losses``.
        max_epochs, patience
            Passes over the cells; stop once the held-out loss has not fallen for ``patience`` of them.
        batch_size, learning_rate, weight_decay
            Of AdamW.
        validation_size
            Share of the cells held out for early stopping.
        device
            "auto" (CUDA where there is one, else CPU), or a torch device. ``model.device`` says which was used.
        rng
            Seed or generator of initial weights, batches and draws.
        progress
            Show a bar for what takes longer than a second.

        Raises
        ------
        ValueError
            Unknown loss, a number out of range, or a coupling that does not fit the cells any more.
        ArithmeticError
            The loss is not finite; the model is left as it was.
        """
        import torch

        from psalm.model._train import Pairs, Schedule, fit

        _checks.one_of("loss", loss, LOSSES)
        _checks.whole_number("max_epochs", max_epochs, least=1)
        _checks.whole_number("batch_size", batch_size, least=1)
        _checks.whole_number("patience", patience, least=1)
        for name, value in (("learning_rate", learning_rate), ("validation_size", validation_size)):
            _checks.positive(name, value)
        schedule = Schedule(loss, max_epochs, batch_size, learning_rate, weight_decay, validation_size, patience)
        generator = np.random.default_rng(rng)
        inputs, targets = self._training_features()
        pairs = Pairs.of(loss, inputs, targets, self._coupling(), generator)
        if max(1, round(validation_size * len(pairs.items))) >= len(pairs.items):
            msg = f"`validation_size={validation_size}` of {len(pairs.items)} matched cells leaves none to train on."
            raise ValueError(msg)
        torch_device = device_of(device)
        with torch.random.fork_rng():  # initial weights and dropout draw from torch's own stream
            torch.manual_seed(int(generator.integers(2**31)))
            network = self.setup.build()
            network.standardise(*(_tensor(values, "cpu") for values in (inputs, targets)))
            network.to(torch_device)
            history = fit(network, pairs, schedule, torch_device, progress=progress)
        self._network, self.history, self.device = network, history, str(torch_device)

    def predict(self, data: MuData | AnnData | None = None) -> pd.DataFrame:
        """Predict the target's features for the cells of the source modality.

        Parameters
        ----------
        data
            A MuData with the source modality, or an AnnData of it, with the features that the model was trained on.
            By default the training data.

        Returns
        -------
        DataFrame (n_source, n_outputs) in the units of the target's features; index the cell names.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The features are not those of the training data, or are coordinates in another space.
        """
        import torch

        if self._network is None:
            msg = "The model is not trained. Call `.train()` first."
            raise RuntimeError(msg)
        found, names = self._features_of(data)
        with torch.no_grad():
            values = self._network.predict(_tensor(found.dense(), self.device)).cpu().numpy()
        return pd.DataFrame(values, index=names, columns=self.setup.output_names)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the trained model into a folder.

        Parameters
        ----------
        path
            Folder; it is created.
        overwrite
            Replace a model that is already there.
        """
        if self._network is None:
            msg = "The model is not trained, so there is nothing to save. Call `.train()` first."
            raise RuntimeError(msg)
        write(path, self.setup, self._network, self.history, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> CrossModal:
        """Read a model that :meth:`save` wrote; it predicts on the CPU, bit for bit as before on the CPU.

        Parameters
        ----------
        path
            The folder.

        Raises
        ------
        FileNotFoundError
            There is no model.
        ValueError
            The model was written in another format.
        """
        model = cls.__new__(cls)
        model.setup, model._network, model.history = read(path)
        model.device, model._mdata, model._target_rep = "cpu", None, ""
        return model

    def _data(self) -> MuData:
        if self._mdata is None:
            msg = "The model was loaded from disk and holds no cells. Pass them to `.predict(data)`."
            raise RuntimeError(msg)
        return self._mdata

    def _training_features(self) -> tuple[FloatArray, FloatArray]:
        mdata, setup = self._data(), self.setup
        inputs = _access.features(mdata, setup.source, setup.use_rep)
        return inputs.dense(), _access.features(mdata, setup.target, self._target_rep).dense()

    def _coupling(self) -> Any:
        mdata, setup = self._data(), self.setup
        coupling = _matches.coupling(mdata, setup.match_key)
        params = _access.run(mdata, setup.match_key, "tl.match", "match_key")["params"]
        return coupling if params["source"] == setup.source else coupling.transpose

    def _features_of(self, data: MuData | AnnData | None) -> tuple[_access.Features, pd.Index]:
        from mudata import MuData

        mdata = self._data() if data is None else data
        source = self.setup.source
        adata = _access.modality(mdata, source) if isinstance(mdata, MuData) else mdata
        found = _access.features_of(adata, source, self.setup.use_rep)
        _access.same_space(found, self.setup.input_names, self.setup.space, source)
        return found, adata.obs_names


def _tensor(values: FloatArray, device: str) -> Any:
    import torch

    return torch.as_tensor(values, dtype=torch.float32, device=device)
