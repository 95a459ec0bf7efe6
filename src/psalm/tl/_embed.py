"""One joint embedding of the cells of two modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _checks, _keys, _scores

if TYPE_CHECKING:
    from mudata import MuData


def embed(
    mdata: MuData,
    *,
    propensity_key: str = _keys.PROPENSITY,
    n_comps: int = 2,
    key_added: str = _keys.EMBEDDING,
) -> None:
    """Embed the cells of all modalities in one space: principal components of their pooled propensity scores.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    n_comps
        Number of components; at most one fewer than treatments.
    key_added
        Name of the slot that is written.

    Returns
    -------
    None. Writes ``obsm[key_added]`` (n_cells, n_comps) of each modality; coordinates are comparable between them.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.embed(mdata)
    >>> mdata["b"].obsm["X_propensity"].shape
    (300, 2)
    """
    from sklearn.decomposition import PCA

    _access.container(mdata)
    _checks.slot_name(key_added)
    _checks.whole_number("n_comps", n_comps, least=1)
    scores = {name: _scores.scores(mdata, name, propensity_key) for name in mdata.mod}
    pooled = np.vstack(list(scores.values()))
    rank = pooled.shape[1] - 1  # rows of centred log-odds sum to zero
    pca = PCA(min(n_comps, len(pooled), rank), svd_solver="full").fit(pooled)
    for name, values in scores.items():
        mdata.mod[name].obsm[key_added] = pca.transform(values).astype(np.float32)
