"""The table of a match."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psalm import _access, _keys
from psalm._arguments import checked

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData


@checked
def report(mdata: MuData, key: str = _keys.MATCH) -> pd.DataFrame:
    """How the match went, one row per treatment (and stratum).

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.match`.
    key
        ``key_added`` of :func:`psalm.tl.match`.

    Returns
    -------
    A copy of the table in ``mdata.uns[key]``, indexed by treatment (and stratum, where there are strata); columns as
    :func:`psalm.tl.match` lists them.

    Raises
    ------
    KeyError
        There is no such match.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> psalm.get.report(mdata)["n_source"].sum().item()
    300
    """
    table = _access.run(_access.container(mdata), key, "tl.match", "key")["table"]
    return table.set_index(["treatment", "within"] if "within" in table else "treatment")
