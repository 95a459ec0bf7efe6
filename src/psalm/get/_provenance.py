"""What was done to a container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from psalm import _access, _calls
from psalm._arguments import checked

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData


@checked
def provenance(mdata: MuData) -> pd.DataFrame:
    """Every call that wrote to the container, with all its arguments and the versions that it ran with.

    Parameters
    ----------
    mdata
        One AnnData per modality, after any step of psalm.

    Returns
    -------
    A row per finished call, oldest first: "step" (such as "tl.match"); "call", the call as Python, with the defaults it
    used, seeds included; "repeatable", whether that text says all (not where a classifier, a matcher or a generator was
    passed as an object, or ``rng=None``); and a column per version: "python", "psalm" and the packages that results
    depend on. Calls that failed, or only estimated (``dry_run``), wrote nothing and have no row.

    Raises
    ------
    ValueError
        The slot, ``mdata.uns["psalm_calls"]``, holds something else.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> print(psalm.get.provenance(mdata)["call"][0][:44])
    psalm.pp.treatment(mdata, key='perturbation'
    """
    calls = _calls.record(_access.container(mdata))
    found = calls.drop(columns="versions").assign(repeatable=calls["repeatable"] == "True")
    for name in _calls.versions():
        found[name] = [json.loads(text).get(name, "") for text in calls["versions"]]
    return found
