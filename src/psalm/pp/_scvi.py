"""Embedding of counts by scVI (Lopez et al., Nature Methods 2018), through scvi-tools."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from psalm._lightning import seeded

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, Matrix

TRAINING = 0.9
"""Share of the cells that weights are fitted to; scvi-tools' own default."""


def fit(counts: Matrix, n_latent: int, max_epochs: int | None, seed: int, *, progress: bool) -> dict[str, FloatArray]:
    """Train a model; returns its weights.

    Parameters
    ----------
    counts
        (n_cells, n_genes).
    n_latent
        Dimension of the embedding.
    max_epochs
        Passes over the cells; None leaves it to scvi-tools.
    seed
        Of weights, split and batches. The global streams are left as they were.
    progress
        Show scvi-tools' bar.
    """
    training = math.ceil(TRAINING * counts.shape[0])
    with seeded(seed):
        # the split that scvi-tools would draw if its global setting, which is the user's, held this seed
        order = np.random.RandomState(seed).permutation(counts.shape[0])
        model = _model(counts, n_latent)
        model.train(
            max_epochs=max_epochs,
            accelerator="auto",
            datasplitter_kwargs={"external_indexing": [order[-training:], order[:-training]]},
            enable_progress_bar=progress,
            logger=False,
            check_val_every_n_epoch=None,
        )
        return {name: value.cpu().numpy() for name, value in model.module.state_dict().items()}


def embed(counts: Matrix, n_latent: int, weights: dict[str, Any]) -> FloatArray:
    """Mean of the embedding (n_cells, n_latent) under given weights; nothing is random.

    Parameters
    ----------
    counts
        (n_cells, n_genes), the genes that were trained on.
    n_latent, weights
        As fitted.
    """
    import torch

    with seeded(0):
        model = _model(counts, n_latent)
        model.module.load_state_dict({name: torch.as_tensor(np.asarray(value)) for name, value in weights.items()})
        model.is_trained_ = True
        model.module.eval()
        return np.asarray(model.get_latent_representation())


def _model(counts: Matrix, n_latent: int) -> Any:
    import scvi

    cells = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    scvi.model.SCVI.setup_anndata(cells)
    return scvi.model.SCVI(cells, n_latent=n_latent)
