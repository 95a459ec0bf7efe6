"""Predictions as an AnnData of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from psalm import _access, _checks, _keys
from psalm._arguments import checked

if TYPE_CHECKING:
    from mudata import MuData

STEP = "tl.predict"


@checked
def predicted(mdata: MuData, target: str | None = None, *, key: str | None = None) -> AnnData:
    """What :func:`psalm.tl.predict` wrote, as cells of the source with features of the target.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.predict`.
    target
        The modality that was predicted.
    key
        ``key_added`` of :func:`psalm.tl.predict`; by default ``f"{target}_predicted"``.

    Returns
    -------
    AnnData (n_source, n_features): ``X`` the predictions, float32; ``obs`` of the source; ``var`` of the target where
    its features were predicted, else the names only; ``layers`` "lower" and "upper" where intervals were asked for;
    ``uns["prediction"]`` the parameters. Everything is a copy.

    Raises
    ------
    KeyError
        There is no such prediction.
    ValueError
        Cells have been added to the source since.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=20, progress=False)
    >>> psalm.get.predicted(mdata, "b").shape
    (300, 30)
    """
    if key is None and target is None:
        msg = "Pass `target=`, the modality that was predicted, or `key=`, the `key_added` of `tl.predict`."
        raise ValueError(msg)
    name = key or _keys.predicted(str(target))
    run = _access.run(_access.container(mdata), name, STEP, "key")
    source = _access.modality(mdata, run["params"]["source"])
    layers = {}
    for slot, layer in ((name, None), (_keys.lower(name), "lower"), (_keys.upper(name), "upper")):
        if slot in source.obsm:
            layers[layer] = np.array(source.obsm[slot], dtype=np.float32)
    if None not in layers:
        msg = f"`mdata[{run['params']['source']!r}].obsm[{name!r}]` does not exist any more. Run `tl.predict` again."
        raise KeyError(msg)
    values = layers.pop(None)
    _checks.finite(values, f"`obsm[{name!r}]`")
    return AnnData(
        values,
        obs=source.obs.copy(),
        var=_features(mdata, run),
        layers=layers,
        uns={"prediction": dict(run["params"])},
    )


def _features(mdata: MuData, run: dict[str, Any]) -> pd.DataFrame:
    """The target's own table of features where they are what was predicted."""
    names = pd.Index([str(name) for name in run["features"]])  # zarr gives strings of another kind
    params: dict[str, str] = run["params"]
    if params["target"] in mdata.mod:
        var: pd.DataFrame = mdata.mod[params["target"]].var
        if names.equals(var.index.astype(str)):
            return var.copy()
    return pd.DataFrame(index=names)
