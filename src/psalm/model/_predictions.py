"""What a trained CrossModal gives: predictions, intervals, and what held-out cells said."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from psalm import _access
from psalm.core.likelihoods import LIKELIHOODS
from psalm.core.rows import LARGEST_CHUNK
from psalm.model._applied import by_portion, predict, treatment_codes
from psalm.model._reading import input_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import BoolArray, FloatArray
    from psalm.model._applied import Function
    from psalm.model._fit import Fitted
    from psalm.model._network import Network
    from psalm.model._setup import Setup


class Predictions:
    """Readers of a trained model; :class:`psalm.model.CrossModal` sets the attributes."""

    setup: Setup
    module: Network | None
    _fitted: Fitted | None
    _adata: MuData | None

    @property
    def likelihood(self) -> str:
        """The likelihood of the target's features."""
        return self.setup.likelihood

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Losses by epoch, "train_loss_epoch" and "validation_loss"."""
        return {} if self._fitted is None else self._fitted.history

    @property
    def best_epoch(self) -> int:
        """Epoch whose weights were kept, counted from 0."""
        return self._trained()[1].best_epoch

    def predict(
        self, data: MuData | AnnData | None = None, *, use_treatment: bool = True, batch_size: int = LARGEST_CHUNK
    ) -> pd.DataFrame:
        """Predict the target's features for the cells of the source modality.

        Parameters
        ----------
        data
            A MuData with the source modality, or an AnnData of it, with the features that the model was trained on.
            By default the training data.
        use_treatment
            Cells whose treatment (the column of ``obs`` that was matched by) is one of those trained on are predicted
            around the mean that the target measured for it: the network's prediction is moved by the difference
            between that mean and its own mean for the treatment, and its deviations are shrunk as far as held-out
            cells ask for. All other cells, among them those that the match left out and those of treatments with fewer
            than five target cells, and all cells if False, are predicted from their features alone. Then
            differences between treatments are what the features say; else they are those measured in the target.
        batch_size
            Cells at a time.

        Returns
        -------
        DataFrame (n_source, n_outputs) in the units of the target's features; index the cell names. Counts are those
        of a cell of median size.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The features are not those of the training data, or are coordinates in another space.
        """
        network, fitted = self._trained()

        def function(inputs: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return predict(network, inputs, move=partial(fitted.anchors, codes=codes))

        names, _, (mean,) = self._by_portion(data, function, batch_size, use_treatment=use_treatment)
        return pd.DataFrame(mean, index=names, columns=self.setup.output_names)

    def get_intervals(
        self,
        data: MuData | AnnData | None = None,
        *,
        coverage: float = 0.9,
        use_treatment: bool = True,
        batch_size: int = LARGEST_CHUNK,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Intervals that hold a cell's true features with a given probability; :meth:`get_coverage` says what in.

        Parameters
        ----------
        data, use_treatment, batch_size
            As :meth:`predict` takes them.
        coverage
            Probability, feature by feature.

        Returns
        -------
        Lower and upper bounds, each a DataFrame as :meth:`predict` returns.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            As :meth:`predict`; or too few cells were held out for this coverage.
        """
        network, fitted = self._trained()
        quantiles = [r.quantile(coverage).astype(np.float32) for r in (fitted.residuals, fitted.residuals_known)]

        def function(inputs: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return predict(network, inputs, 0, partial(fitted.anchors, codes=codes))

        names, known, (mean, spread) = self._by_portion(data, function, batch_size, use_treatment=use_treatment)
        spread[~known] *= quantiles[0]
        spread[known] *= quantiles[1]
        bounds = LIKELIHOODS[self.likelihood].bounds
        ends = (np.clip(mean + sign * spread, *bounds) for sign in (-1, 1))
        lower, upper = (pd.DataFrame(end, index=names, columns=self.setup.output_names) for end in ends)
        return lower, upper

    def get_latent_representation(self, data: MuData | AnnData | None = None) -> FloatArray:
        """Last hidden layer (n_source, n_hidden): what the prediction is linear in.

        Parameters
        ----------
        data
            As :meth:`predict` takes it.
        """
        network, _ = self._trained()

        def hidden(inputs: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor]:
            with torch.no_grad():
                return (network.hidden(inputs),)

        return self._by_portion(data, hidden, LARGEST_CHUNK, use_treatment=False)[2][0]

    def get_held_out(self) -> pd.DataFrame:
        """How well held-out cells are predicted, beside their treatment's mean.

        Returns
        -------
        DataFrame with one row per treatment and "all": ``n_cells``, and means over cells and features (squares in
        standard units for "gaussian", else the likelihood's loss): ``loss`` of predictions from features alone,
        ``loss_with_treatment`` where the treatment is known (the shrinkage of each half of the cells is chosen on the
        other), ``treatment_mean_loss``.
        """
        return self._trained()[1].held_out.copy()

    @property
    def slope(self) -> float:
        """How far deviations from the treatment's mean are kept where it is known, from 0 (not at all) to 1."""
        return self._trained()[1].anchors.slope

    @property
    def uses_treatment(self) -> bool:
        """Whether knowing a cell's treatment changes its prediction; not where features alone did best, held out."""
        known = self._trained()[1].anchors.known
        return known is None or any(known)

    def get_treatment_means(self) -> pd.DataFrame:
        """What the target measured for each treatment that was trained on.

        Returns
        -------
        DataFrame (n_treatments, n_outputs), means by the cells' mass, at median size for counts.
        """
        network, fitted = self._trained()
        with torch.no_grad():
            means = network.expected(fitted.anchors.measured.to(network.location.weight.device)).cpu().numpy()
        return pd.DataFrame(means, index=list(fitted.anchors.treatments), columns=self.setup.output_names)

    def get_coverage(self, coverage: float = 0.9, *, use_treatment: bool = True) -> pd.DataFrame:
        """Do intervals cover what they say? Counted on held-out cells that calibrated nothing.

        Intervals are ``μ ± q·s``. s joins three things: the noise of the features and the uncertainty of the match,
        which a second head of the network learns from the spread of matches, and that of the network (20 passes with
        dropout). q is the conformal quantile of each feature over half of the held-out cells: whatever their number, on
        average over which cells these are, the interval of a feature covers at least what it says of cells like them.
        That is a statement on one feature at a time. The held-out cells have also chosen the epoch and the shrinkage,
        three numbers or so, which it leaves out of account. A held-out cell's true partner is not
        known; one drawn from the match stands for it. So coverage is that of the match's draws, and where the match is
        wrong it says so of the match only.

        Parameters
        ----------
        coverage
            What the intervals shall cover.
        use_treatment
            Of cells with known treatment, or of predictions from features alone.

        Returns
        -------
        DataFrame (n_outputs rows): ``coverage``, counted; ``quantile``, q; ``n_cells`` that coverage was counted on.
        """
        fitted = self._trained()[1]
        residuals = fitted.residuals_known if use_treatment else fitted.residuals
        return pd.DataFrame(
            {
                "coverage": residuals.coverage(coverage),
                "quantile": residuals.quantile(coverage),
                "n_cells": len(residuals.test),
            },
            index=self.setup.output_names,
        )

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, list[str]]:  # noqa: FBT001, FBT002
        """Names of the features of source and target."""
        return {self.setup.source: self.setup.input_names, self.setup.target: self.setup.output_names}

    def _trained(self) -> tuple[Network, Fitted]:
        if self.module is None or self._fitted is None:
            msg = "The model is not trained. Call `.train()` first."
            raise RuntimeError(msg)
        return self.module, self._fitted

    def _data(self) -> MuData:
        if self._adata is None:
            msg = "The model was loaded from disk and holds no cells. Pass them to the method, or to `.load(adata=)`."
            raise RuntimeError(msg)
        return self._adata

    def _by_portion(
        self, data: MuData | AnnData | None, function: Function, size: int, *, use_treatment: bool
    ) -> tuple[pd.Index, BoolArray, list[FloatArray]]:
        """Names of the source cells, whether their treatment is used, and what a function gives for them."""
        from mudata import MuData

        network, fitted = self._trained()
        mdata = self._data() if data is None else data
        adata = _access.modality(mdata, self.setup.source) if isinstance(mdata, MuData) else mdata
        inputs = input_rows(adata, self.setup)
        codes = treatment_codes(adata, self.setup, fitted.anchors, use=use_treatment)
        found = by_portion(function, inputs, codes, network.location.weight.device, size)
        return adata.obs_names, codes >= 0, found
