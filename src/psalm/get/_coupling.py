"""The coupling as a matrix in each modality's own cell order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm import _access, _checks, _keys, _matches

if TYPE_CHECKING:
    from mudata import MuData


def coupling(
    mdata: MuData, key: str = _keys.MATCH, *, normalize: str | None = None, exact: bool = False
) -> sparse.csr_matrix:
    """Transported mass between source and target cells.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`; possibly read from disk, subset or reordered since.
    key
        ``key_added`` of :func:`psalm.tl.match`.
    normalize
        None: mass, as stored. "source": each source cell's row sums to 1. "target": each target cell's column does.
    exact
        Recompute every entry from the potentials, where the stored coupling is a compact view.
        Takes memory in the number of pairs within treatments.

    Returns
    -------
    CSR (n_source, n_target) in the order of ``mdata[source].obs_names`` and ``mdata[target].obs_names``.

    Raises
    ------
    KeyError
        There is no such coupling.
    ValueError
        The coupling does not fit the cells any more, with what to run again.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> mass = psalm.get.coupling(mdata)
    >>> mass.shape, round(float(mass.sum()), 6)
    ((300, 300), 1.0)
    """
    if normalize is not None:
        _checks.one_of("normalize", normalize, ("source", "target"))
    _access.container(mdata)
    mass = _matches.coupling(mdata, key).to_csr() if exact else _matches.stored_coupling(mdata, key)
    if normalize is None:
        return mass
    axis = 1 if normalize == "source" else 0
    sums = np.asarray(mass.sum(axis=axis)).ravel()
    scale = sparse.diags(np.divide(1.0, sums, where=sums > 0, out=np.zeros_like(sums)))
    return sparse.csr_matrix(scale @ mass if normalize == "source" else mass @ scale)
