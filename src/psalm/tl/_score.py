"""Scores of new cells by models that were trained before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from psalm import _access, _checks, _ensembles, _estimate, _features, _keys, _obs, _scores, _spelling
from psalm._calls import recorded
from psalm._progress import bar
from psalm.core.propensity import as_rows
from psalm.core.scoring import Scores, score_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData

    from psalm.core._types import IntArray


@recorded
def score(
    data: MuData | AnnData,
    model: str | Path,
    *,
    modality: str | None = None,
    trusted: Sequence[str] = (),
    progress: bool = True,
    key_added: str = _keys.PROPENSITY,
) -> None:
    """Score new cells with the ensemble that :func:`psalm.tl.propensity` saved.

    Parameters
    ----------
    data
        New cells: a MuData with one or more of the model's modalities, or an AnnData of one of them.
        Where models were trained on ``X_psalm``, represent new cells by ``pp.represent(..., reference=)`` first.
    model
        File written by ``tl.propensity(..., save=)``. Reading it runs no code from it.
    modality
        Which modality an AnnData is; may be left out where the model has one.
    trusted
        Full names of types in the file that may be built although they are not known to be harmless: those of a
        classifier of yours. The error that asks for them lists them.
    progress
        Show a bar of the models that have scored the cells.
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes ``obsm[key_added]`` (n_cells, n_treatments) float32, centred log-odds in nats, and
    ``obs[key_added + "_own"]`` and ``obs[key_added + "_response"]``, as :func:`psalm.tl.propensity` does, where the
    treatment column of training is there (NaN elsewhere). ``obs[key_added + "_noise"]`` and
    ``obsm[key_added + "_error"]`` say how far the mean over all models may be off, by the jackknife over their folds;
    NaN and absent for models of one repeat. The draw of the error is one for all cells, scaled so that its squares add
    up to the noise of the cells that are scored together. ``obs[key_added + "_run"]`` is that of training, so that
    scores of one ensemble may be joined. In a MuData with two or more of the model's modalities also
    ``uns[key_added]`` with ``treatments``, ``params`` and ``fingerprint``, so that :func:`psalm.tl.match` can follow.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    MemoryError
        More is needed than is free.
    ValueError
        The file is another one or holds types that are not trusted, cells were trained on (their scores would be
        in-sample), features are not those of training or lie in another space, or slots are yours
        and would be overwritten.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> new = psalm.datasets.simulated(n_cells=300)["a"][:20].copy()
    >>> new.obs_names = [f"new_{name}" for name in new.obs_names]
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "models.skops"
    >>> psalm.tl.propensity(mdata, save=file, n_repeats=1, progress=False)
    >>> psalm.tl.score(new, file, modality="a")
    >>> new.obsm["propensity"].shape
    (20, 8)
    """
    _checks.slot_name(key_added)
    stored = _ensembles.read(model, trusted)
    cells = _cells(data, stored, modality)
    treatments = pd.Index(stored.reading.treatments)
    mdata = data if isinstance(data, MuData) and len(cells) > 1 else None
    if mdata is not None:
        _access.claim(mdata, key_added, _scores.STEP)
    written = isinstance(data, MuData) and _access.is_run(data, key_added, _scores.STEP)
    for name, adata in cells.items():
        _scores.claim(adata, name, key_added, written=written)
    found = {name: _scored(data, name, stored, treatments, progress=progress) for name in cells}
    for name, scores in found.items():
        labels = _obs.get(data, name, stored.treatment, joint=False)
        _scores.write(cells[name], key_added, scores, None if labels is None else labels.values, stored.run)
    if mdata is not None:
        mdata.uns[key_added] = {
            **stored.reading.to_uns(),
            "params": {"step": _scores.STEP, "treatment": stored.treatment, "model": str(model)},
            "fingerprint": _access.fingerprint(*(scores.values for scores in found.values())),
            "run": stored.run,
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


def _scored(
    data: MuData | AnnData, name: str, stored: _ensembles.Stored, treatments: pd.Index, *, progress: bool
) -> Scores:
    """Scores of one modality, once cells and features are known to fit."""
    adata = data.mod[name] if isinstance(data, MuData) else data
    seen = adata.obs_names.intersection(stored.trained[name])
    if len(seen):
        msg = (
            f"{len(seen)} cells of {name!r} were trained on, e.g. {seen[0]!r}: scored by models that have seen them, "
            "they would look better told than they are. Use their scores from `tl.propensity`, and pass new cells only."
        )
        raise ValueError(msg)
    part = stored.parts[name]
    features = _features.features_of(adata, name, part.use_rep, tensors=True)
    _features.same_space(features, part.feature_names, part.space, name)
    labels = _obs.get(data, name, stored.treatment, joint=False)
    codes = np.full(adata.n_obs, -1) if labels is None else _access.codes_of(labels.values, treatments)
    batches = _batches(data, name, part)
    needed = _estimate.of_new_scores(features.values, stored.reading.width)
    _estimate.require("tl.score", needed, "Score some of the cells at a time: `tl.score(adata[some].copy(), ...)`.")
    scores = Scores(stored.reading.layout, stored.reading.basis, part.reference, codes)

    @contextmanager
    def shown(total: int) -> Iterator[Callable[[], object]]:
        with bar(total, f"scores of {name}", unit="model", show=progress) as progress_bar:
            yield progress_bar.update

    score_new(part.ensembles, as_rows(features.values), batches, part.shift, scores, shown)
    return scores


def _batches(data: MuData | AnnData, name: str, part: _ensembles.Part) -> IntArray | None:
    """Batch of each cell by the numbers of training; a batch that no model has seen cannot be adjusted for."""
    if not part.batches:
        return None
    advice = f"The model was trained with the batches of {name!r}: add the column."
    read = _obs.find(data, name, part.batch_key, "batch_key", advice=advice)
    labels = read.labels()
    bare = int(labels.isna().sum())
    if bare:
        msg = f"{bare} cells of {name!r} have no batch in {read.said}. Give each cell one, or leave these cells out."
        raise ValueError(msg)
    unknown = labels.cat.categories.difference(part.batches)
    if len(unknown):
        msg = (
            f"Batches {_checks.listed(unknown)} of {name!r} were not seen in training, so their shift is unknown. "
            f"The model knows {_checks.listed(part.batches)}. {_spelling.suggestion(unknown, part.batches)}"
            "Train on cells of these batches, too."
        )
        raise ValueError(msg)
    return _access.codes_of(labels, pd.Index(part.batches))
