"""Scores of new cells by models that were trained before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from psalm import _access, _checks, _ensembles, _keys
from psalm.core.log_odds import change_prior
from psalm.core.propensity import as_rows
from psalm.tl._propensity import STEP, write_scores

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from psalm.core._types import FloatArray


def score(
    data: MuData | AnnData,
    model: str | Path,
    *,
    modality: str | None = None,
    key_added: str = _keys.PROPENSITY,
) -> None:
    """Score new cells with the ensemble that :func:`psalm.tl.propensity` saved.

    Parameters
    ----------
    data
        New cells: a MuData with one or more of the model's modalities, or an AnnData of one of them.
        Where models were trained on ``X_psalm``, represent new cells by ``pp.represent(..., reference=)`` first.
    model
        File written by ``tl.propensity(..., save=)``. It is a pickle: only open files that you trust.
    modality
        Which modality an AnnData is; may be left out where the model has one.
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes ``obsm[key_added]`` (n_cells, n_treatments) float32, centred log-odds in nats, and
    ``obs[key_added + "_own"]``, the probability of the cell's own treatment where the treatment column of training is
    there (NaN elsewhere). In a MuData with two or more of the model's modalities also ``uns[key_added]`` with
    ``treatments``, ``params`` and ``fingerprint``, so that :func:`psalm.tl.match` can follow.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Cells were trained on (their scores would be in-sample), or features are not those of training or lie in another
        space.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300, n_treatments=3)
    >>> new = psalm.datasets.simulated(n_cells=300, n_treatments=3)["a"][:20].copy()
    >>> new.obs_names = [f"new_{name}" for name in new.obs_names]
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "models.joblib"
    >>> psalm.tl.propensity(mdata, save=file, n_repeats=1, progress=False)
    >>> psalm.tl.score(new, file, modality="a")
    >>> new.obsm["propensity"].shape
    (20, 3)
    """
    _checks.slot_name(key_added)
    stored = _ensembles.read(model)
    cells = _cells(data, stored, modality)
    found = {name: _log_odds(adata, name, stored) for name, adata in cells.items()}
    if isinstance(data, MuData) and len(found) > 1:
        _access.claim(data, key_added, STEP)
    keys, treatments = _keys.PropensityKeys(key_added), pd.Index(stored.treatments)
    for name, log_odds in found.items():
        adata = cells[name]
        known = stored.treatment in adata.obs
        codes = _access.codes_of(adata.obs[stored.treatment], treatments) if known else np.full(adata.n_obs, -1)
        write_scores(adata, keys, log_odds, codes)
    if isinstance(data, MuData) and len(found) > 1:
        data.uns[keys.uns] = {
            "treatments": treatments.to_numpy(dtype=object),
            "params": {"step": STEP, "treatment": stored.treatment, "model": str(model)},
            "fingerprint": _access.fingerprint(*(cells[name].obsm[keys.scores] for name in found)),
        }


def _cells(data: MuData | AnnData, stored: _ensembles.Stored, modality: str | None) -> dict[str, AnnData]:
    """The modalities to score."""
    if isinstance(data, MuData):
        mdata = _access.container(data)
        names = [name for name in mdata.mod if name in stored.parts] if modality is None else [modality]
        cells = {name: _access.modality(mdata, name) for name in names}
    else:
        name = modality or (next(iter(stored.parts)) if len(stored.parts) == 1 else "")
        cells = {name: data}
    if not cells or not stored.parts.keys() >= cells.keys():
        msg = (
            f"The model knows modalities {_checks.listed(stored.parts)}, got {_checks.listed(cells)}. Pass `modality=`."
        )
        raise ValueError(msg)
    return cells


def _log_odds(adata: AnnData, name: str, stored: _ensembles.Stored) -> FloatArray:
    """Scores of one modality, once cells and features are known to fit."""
    seen = adata.obs_names.intersection(stored.trained[name])
    if len(seen):
        msg = (
            f"{len(seen)} cells of {name!r} were trained on, e.g. {seen[0]!r}: scored by models that have seen them, "
            "they would look better told than they are. Use their scores from `tl.propensity`, and pass new cells only."
        )
        raise ValueError(msg)
    part = stored.parts[name]
    features = _access.features_of(adata, name, part.use_rep)
    _access.same_space(features, part.feature_names, part.space, name)
    return change_prior(part.ensemble.log_odds(as_rows(features.values)), part.shift)
