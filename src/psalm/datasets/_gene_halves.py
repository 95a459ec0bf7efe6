"""Real cells with known pairing and no download: one panel of genes against another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from psalm import _checks
from psalm._containers import stack
from psalm._scanpy import scanpy

if TYPE_CHECKING:
    from mudata import MuData

LABELS = "bulk_labels"


def gene_halves(*, rng: int | np.random.Generator | None = 0) -> MuData:
    """700 blood cells whose 765 genes are split at random into two panels, as if they were two modalities.

    The cells are scanpy's bundled ``pbmc68k_reduced`` (Zheng et al., Nat. Commun. 2017). Everything that was computed
    from all genes is dropped (obsm, varm, obsp, uns, raw and all columns but the labels), so that neither panel knows
    the other. ``X`` is scaled expression: represent it with ``kind="features"``.

    Parameters
    ----------
    rng
        Seed or generator of the split.

    Returns
    -------
    MuData of modalities "panel1" and "panel2" with the same cells (the pairing, for evaluation only) and
    ``obs["bulk_labels"]``, ten cell types to serve as treatments. One of them has only 8 cells, which
    :func:`psalm.pp.treatment` reports as too rare.

    Examples
    --------
    >>> import psalm
    >>> psalm.datasets.gene_halves().shape
    (700, 765)
    """
    sc = scanpy()

    cells = sc.datasets.pbmc68k_reduced()
    order = _checks.generator(rng).permutation(cells.n_vars)
    values = np.asarray(cells.X, dtype=np.float32)
    panels = {"panel1": np.sort(order[::2]), "panel2": np.sort(order[1::2])}
    return stack(
        {
            name: AnnData(values[:, genes], obs=cells.obs[[LABELS]].copy(), var=cells.var.iloc[genes, :0].copy())
            for name, genes in panels.items()
        }
    )
