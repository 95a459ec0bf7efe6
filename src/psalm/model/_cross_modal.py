"""Prediction of one modality from another, trained on unpaired cells through their coupling."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass

from psalm import _access, _checks, _keys
from psalm._lightning import require_accelerator
from psalm.model import _fit, _setup
from psalm.model._pairs import pairs_of
from psalm.model._predictions import Predictions
from psalm.model._reading import AUTO, coupling_of, input_rows, loss_of, masses_of, setup_of, sizes_of, target_rows
from psalm.model._training import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Collection

    from anndata import AnnData
    from mudata import MuData

    from psalm.core.coupling import Coupling
    from psalm.model._fit import Fitted
    from psalm.model._network import Network
    from psalm.model._setup import Setup

_DEFAULTS = {"match_key": _keys.MATCH, "use_rep": None, "target_rep": None, "likelihood": AUTO}


class CrossModal(Predictions, BaseModelClass):
    """Predict the target modality's features from the source modality's, by a network trained on a coupling.

    A model of scvi-tools in how it is used and trained. Two things are its own, as cells of the two modalities are
    different cells: what it reads is not registered with an ``AnnDataManager``, whose fields for MuData refuse cells
    that are not in all modalities, but checked at the door of this package; and files are written without pickled
    objects.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    source, target
        Modality to predict from, and modality to predict; by default those that :meth:`setup_mudata` was given.
    match_key
        ``key_added`` of :func:`psalm.tl.match`; the match may have been made in either direction.
    use_rep, target_rep
        Features of source and target: "X", a key of ``obsm`` or of ``layers``. By default ``obsm["X_psalm"]`` where it
        exists, else ``X``. Images, (n_cells, channels, height, width) in the source's ``obsm``, are read by
        convolutions. Counts of the source are log-normalised in the network. Values may lie in a file (backed AnnData,
        h5py, zarr, dask) and are then read batch by batch.
    likelihood
        Of the target's features: "gaussian", "poisson", "nb" (negative binomial), "bernoulli", or "auto": by what the
        values are (:func:`psalm.core.likelihoods.suited`). ``model.likelihood`` says which. The size factors of counts
        are the target cells' totals over their median.
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
    >>> model.train(max_epochs=20, progress=False)
    >>> model.predict(mdata).shape
    (300, 30)
    """

    _setups: ClassVar[WeakKeyDictionary[MuData, dict[str, Any]]] = WeakKeyDictionary()

    def __init__(
        self,
        mdata: MuData,
        *,
        source: str | None = None,
        target: str | None = None,
        match_key: str | None = None,
        use_rep: str | None = None,
        target_rep: str | None = None,
        likelihood: str | None = None,
        n_hidden: int = 128,
        n_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        given = {"source": source, "target": target, "match_key": match_key, "use_rep": use_rep}
        given |= {"target_rep": target_rep, "likelihood": likelihood}
        chosen = self._setups.get(_access.container(mdata), {}) | {k: v for k, v in given.items() if v is not None}
        if "source" not in chosen or "target" not in chosen:
            msg = "`source` and `target` are not given. Pass them, or call `CrossModal.setup_mudata` with them first."
            raise ValueError(msg)
        _checks.whole_number("n_hidden", n_hidden, least=1)
        _checks.whole_number("n_layers", n_layers, least=1)
        if not 0 <= dropout < 1:
            msg = f"`dropout={dropout!r}` must be at least 0 and less than 1."
            raise ValueError(msg)
        setup = setup_of(mdata, **_DEFAULTS | chosen, n_hidden=n_hidden, n_layers=n_layers, dropout=dropout)
        self._begin(setup, mdata)

    def _begin(self, setup: Setup, mdata: MuData | None) -> None:
        registry = {"scvi_version": version("scvi-tools"), "model_name": "CrossModal", "field_registries": {}}
        registry |= {
            "setup_method_name": "setup_mudata",
            "setup_args": {"source": setup.source, "target": setup.target},
        }
        super().__init__(registry=registry)
        self._adata = mdata
        self.setup = setup
        self.module: Network | None = None
        self._fitted: Fitted | None = None
        self._model_summary_string = (
            f"CrossModal: {setup.source} ({len(setup.input_names)} features of {setup.use_rep}"
            f"{', log-normalised' if setup.log_counts else ''}) to {setup.target} ({len(setup.output_names)} features "
            f"of {setup.target_rep}, likelihood {setup.likelihood}), n_hidden: {setup.n_hidden}, n_layers: "
            f"{setup.n_layers}, dropout: {setup.dropout}"
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        source: str,
        target: str,
        match_key: str = _keys.MATCH,
        use_rep: str | None = None,
        target_rep: str | None = None,
        likelihood: str = AUTO,
    ) -> None:
        """Say once what models of this container predict; ``CrossModal(mdata)`` then needs no more.

        Parameters
        ----------
        mdata
            One AnnData per modality, after :func:`psalm.tl.match`. Nothing is written to it.
        source, target, match_key, use_rep, target_rep, likelihood
            As the model takes them.

        Raises
        ------
        KeyError, ValueError
            As the model does.
        """
        given: dict[str, Any] = {"source": source, "target": target, "match_key": match_key, "use_rep": use_rep}
        given |= {"target_rep": target_rep, "likelihood": likelihood}
        setup_of(_access.container(mdata), **given, n_hidden=1, n_layers=1, dropout=0.0)
        cls._setups[mdata] = given

    @classmethod
    def setup_anndata(cls, adata: AnnData, **given: Any) -> NoReturn:
        """Two modalities are two AnnData: use :meth:`setup_mudata`."""
        msg = "CrossModal needs two modalities in a MuData. Call `CrossModal.setup_mudata(mdata, source=, target=)`."
        raise TypeError(msg)

    def train(
        self,
        max_epochs: int = 200,
        *,
        loss: str = AUTO,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        validation_size: float = 0.1,
        early_stopping: bool = True,
        early_stopping_patience: int = 20,
        exclude: Collection[str] = (),
        rng: int | np.random.Generator | None = 0,
        progress: bool = True,
        checkpoint_dir: str | Path | None = None,
        ckpt_path: str | Path | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the network; training twice starts anew. The weights of the best epoch are kept.

        Parameters
        ----------
        max_epochs
            Passes over the cells.
        loss
            "barycentric": regression on the exact matched average; "mse": a partner drawn anew each epoch;
            "unbiased": the paper's projected loss from two draws, whose value may fall below zero; formulas in
            ``psalm.core.losses``. "auto": "barycentric", but "mse" for the likelihood "nb", for which the average is
            not enough, and where averages would take more than 2 GiB. ``model.loss`` says which.
        accelerator, devices
            As Lightning takes them; "auto" is the GPU where there is one.
        batch_size, learning_rate, weight_decay
            Of AdamW.
        validation_size
            Share of the matched cells held out: for early stopping, for the comparison with the treatment's mean, and
            for the calibration of intervals.
        early_stopping, early_stopping_patience
            Stop once the held-out loss has not fallen for so many epochs.
        exclude
            Treatments that take no part.
        rng
            Seed or generator of initial weights, batches and draws.
        progress
            Show scvi-tools' bar.
        checkpoint_dir
            Where to write a checkpoint after every epoch. By default one is written every ten seconds to
            "psalm_checkpoints" in the working directory; where that cannot be written to, a warning says so, and none
            is. It is taken away when training ends well.
        ckpt_path
            A checkpoint of training that was interrupted, to go on from with the same arguments: the result is that of
            training without a break.
        trainer_kwargs
            Further arguments of scvi-tools' and Lightning's trainer: ``precision="bf16-mixed"``, ``callbacks``,
            ``gradient_clip_val``, ... On several devices (``devices=2, strategy="ddp"``, from a script) each takes a
            part of every epoch's batches, and a step is one batch of each.

        Raises
        ------
        ValueError
            Unknown loss, a loss that the likelihood does not allow, a number out of range, a device that is not there,
            or a coupling that does not fit the cells any more.
        OSError
            ``checkpoint_dir`` cannot be written to, or there is no ``ckpt_path``; before anything is computed.
        ArithmeticError
            The loss is not finite; the model is left as it was.

        Warns
        -----
        UserWarning
            Held-out cells are predicted no better than by the mean of their treatment, even where it is known. Or
            checkpoints cannot be written.
        """
        _check_numbers(
            {"max_epochs": max_epochs, "batch_size": batch_size, "early_stopping_patience": early_stopping_patience},
            {"learning_rate": learning_rate, "validation_size": validation_size},
        )
        require_accelerator(accelerator, devices)
        _require_checkpoint(ckpt_path)
        schedule = _fit.Schedule(
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            validation_size=validation_size,
            early_stopping=early_stopping,
            early_stopping_patience=early_stopping_patience,
            accelerator=accelerator,
            devices=devices,
            checkpoint=Checkpoint.begin(checkpoint_dir),
            ckpt_path=ckpt_path,
            trainer=trainer_kwargs,
        )
        coupling, treatments = coupling_of(self._data(), self.setup, exclude)
        self._train_on(coupling, treatments, loss, schedule, _checks.generator(rng), progress=progress)
        _fit.warn_if_useless(self._trained()[1].held_out, self.setup)

    def _train_on(
        self,
        coupling: Coupling,
        names: list[str],
        loss: str,
        schedule: _fit.Schedule,
        rng: np.random.Generator,
        *,
        progress: bool,
    ) -> None:
        """Train on a coupling from source to target, with the treatment of each of its blocks."""
        mdata, setup = self._data(), self.setup
        loss = loss_of(loss, setup, coupling)
        seeds = [int(seed) for seed in rng.integers(2**31, size=2)]
        features = input_rows(_access.modality(mdata, setup.source), setup), target_rows(mdata, setup)
        numbers, treatments = pd.factorize(np.asarray(names))
        target_cells = sizes_of(features[1], coupling, setup), masses_of(mdata, setup)
        pairs = pairs_of(loss, features, coupling, target_cells, numbers, seeds[0])
        if max(1, round(schedule.validation_size * len(pairs.items))) >= len(pairs.items):
            share, n_cells = schedule.validation_size, len(pairs.items)
            msg = f"`validation_size={share}` of {n_cells} matched cells leaves none to train on. Hold out fewer."
            raise ValueError(msg)
        with torch.random.fork_rng():
            torch.manual_seed(seeds[1])
            network = setup.build()
        source, target = (np.concatenate([getattr(b, side) for b in coupling.blocks]) for side in ("source", "target"))
        _fit.prepare(network, pairs, np.sort(source), np.sort(target))
        fitted = _fit.fit(network, pairs, schedule, seeds[1], [str(name) for name in treatments], progress=progress)
        self.module, self._fitted, self.is_trained_, self.loss = network, fitted, True, loss

    def save(self, dir_path: str | Path, *, overwrite: bool = False) -> None:
        """Write the trained model into a folder.

        Parameters
        ----------
        dir_path
            Folder; it is created.
        overwrite
            Replace a model that is already there.
        """
        if self.module is None or self._fitted is None:
            msg = "The model is not trained, so there is nothing to save. Call `.train()` first."
            raise RuntimeError(msg)
        content = _setup.packed(self.setup, self.module, self._fitted) | {"loss": self.loss}
        _setup.write(dir_path, content, overwrite=overwrite)

    @classmethod
    def load(cls, dir_path: str | Path, adata: MuData | None = None) -> CrossModal:
        """Read a model that :meth:`save` wrote; it predicts on the CPU, bit for bit as before on the CPU.

        Parameters
        ----------
        dir_path
            The folder. Nothing in its file is executed.
        adata
            A MuData to predict and train on where a method is given none.

        Raises
        ------
        FileNotFoundError
            There is no model.
        ValueError
            The model was written in another format.

        Warns
        -----
        UserWarning
            Another version of psalm wrote it.
        """
        stored = _setup.read(dir_path)
        model = cls.__new__(cls)
        setup, network, fitted = _setup.unpacked(stored)
        model._begin(setup, None if adata is None else _access.container(adata))
        model.module, model._fitted, model.is_trained_, model.loss = network, fitted, True, stored["loss"]
        return model


def _require_checkpoint(path: str | Path | None) -> None:
    if path is not None and not Path(path).is_file():
        msg = f"`ckpt_path={str(path)!r}` is no file. Pass the checkpoint that the interrupted training named."
        raise FileNotFoundError(msg)


def _check_numbers(whole: dict[str, object], positive: dict[str, object]) -> None:
    for name, value in whole.items():
        _checks.whole_number(name, value, least=1)
    for name, value in positive.items():
        _checks.positive(name, value)
