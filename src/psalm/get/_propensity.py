"""Propensity scores with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from psalm import _access, _keys

if TYPE_CHECKING:
    from mudata import MuData


def propensity(mdata: MuData, modality: str, key: str = _keys.PROPENSITY) -> pd.DataFrame:
    """Centred log-odds of every treatment for every cell of one modality.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    modality
        Which one.
    key
        ``key_added`` of :func:`psalm.tl.propensity`.

    Returns
    -------
    DataFrame (n_cells, n_treatments), in nats; rows sum to 0; index the cell names, columns the treatments.

    Raises
    ------
    KeyError
        Unknown modality, or there are no scores.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300, n_treatments=3)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.get.propensity(mdata, "a").shape
    (300, 3)
    """
    adata = _access.modality(_access.container(mdata), modality)
    treatments = _access.run(mdata, key, "tl.propensity", "key")["treatments"]
    return pd.DataFrame(_access.scores(mdata, modality, key), index=adata.obs_names, columns=list(treatments))
