"""One joint embedding of the cells of several modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _access, _checks, _features, _keys, _matches, _runs, _scores
from psalm._calls import recorded

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray

STEP = "tl.embed"
KINDS = {"scores": (_keys.EMBEDDING, 2), "matched": (_keys.MATCHED_EMBEDDING, 50)}
"""Default slot and number of components."""


@recorded
def embed(
    mdata: MuData,
    *,
    kind: str = "scores",
    propensity_key: str = _keys.PROPENSITY,
    match_key: str = _keys.MATCH,
    use_rep: str | None = None,
    n_comps: int | None = None,
    key_added: str | None = None,
) -> None:
    """Embed the cells of all modalities in one space, for plots and for neighbours over modalities.

    The container takes it from there: ``sc.pp.neighbors(mdata, use_rep=key_added)``, ``sc.tl.umap(mdata)`` and
    ``sc.pl.umap(mdata, color=["treatment", key_added + "_modality"])``; ask for more than two components then.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`; for "matched" after :func:`psalm.tl.match`.
    kind
        - "scores": principal components of the pooled propensity scores. Shows what both modalities tell of the
          treatment, of every cell.
        - "matched": features of the match's target. Its cells are at their own place, the source's cells at the matched
          average of the target's features. An average over many matches lies near the mean of its treatment, so the
          source's cells cover less room than the target's: a UMAP shows them as a core or an island of their own
          even where every match is right. How well modalities mix in it is no measure of a match.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`, for "scores".
    match_key
        ``key_added`` of :func:`psalm.tl.match`, for "matched".
    use_rep
        Features of the target for "matched": "X", a key of ``obsm`` or of ``layers``.
        By default ``obsm["X_psalm"]`` where it exists, else ``X``.
    n_comps
        Number of components, by default 2 of scores and 50 of features. Of scores at most one fewer than treatments;
        features that are no more than this are taken as they are, others as components of the target's cells.
    key_added
        Name of the slots that are written, by default "X_propensity" for scores and "X_matched" for features.

    Returns
    -------
    None. Writes ``obsm[key_added]`` (n_cells, n_comps) of each modality (for "matched", of source and target);
    coordinates are comparable between them. ``mdata.obsm[key_added]`` (n_obs, n_comps) holds the same for all cells of
    the container, a cell of several modalities at the mean of its places; ``mdata.obs[key_added + "_modality"]`` says
    which modality a cell is of, joined by "+" where it is of several, and ``obs[key_added + "_run"]`` of each modality,
    by which embeddings of different calls are told apart where containers are joined.
    ``mdata.uns[key_added]``: ``params``.

    Raises
    ------
    KeyError
        Scores, match or features are missing.
    ValueError
        Unknown kind; cells that have no place, with how to leave them out; slots that something else wrote.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.embed(mdata)
    >>> mdata["b"].obsm["X_propensity"].shape, mdata.obsm["X_propensity"].shape
    ((300, 2), (600, 2))
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> psalm.tl.embed(mdata, kind="matched")
    >>> mdata["a"].obsm["X_matched"].shape
    (300, 30)
    """
    _checks.one_of("kind", kind, tuple(KINDS))
    name, most = KINDS[kind][0] if key_added is None else key_added, KINDS[kind][1] if n_comps is None else n_comps
    _access.claim(_access.container(mdata), name, STEP)
    _checks.whole_number("n_comps", most, least=1)
    _require_free(mdata, name)
    if kind == "scores":
        places, params = _by_scores(mdata, propensity_key, most), {"propensity_key": propensity_key}
    else:
        places, params = _by_match(mdata, match_key, use_rep, most)
    joint, origin = _joint(mdata, places)
    run = _access.identity([mdata.mod[modality] for modality in places], joint)
    for modality, adata in mdata.mod.items():
        if modality in places:
            adata.obsm[name] = places[modality]
            _runs.note(adata, name, run)
        elif name in adata.obsm:  # of an earlier call under this name
            del adata.obsm[name]
            adata.obs = adata.obs.drop(columns=_keys.run(name), errors="ignore")
    mdata.obsm[name], mdata.obs[_keys.origin(name)] = joint, origin
    mdata.uns[name] = {"params": {"step": STEP, "kind": kind, "n_comps": joint.shape[1], **params}, "run": run}


def _require_free(mdata: MuData, name: str) -> None:
    """Refuse to write over what this step did not write."""
    if name in mdata.mod:
        msg = f"`key_added={name!r}` is the name of a modality, whose cells `mdata.obsm` marks. Pass another name."
        raise ValueError(msg)
    taken = [f"mdata.obsm[{name!r}]"] if name in mdata.obsm else []
    taken += [f"mdata.obs[{_keys.origin(name)!r}]"] if _keys.origin(name) in mdata.obs else []
    taken += [f"mdata[{modality!r}].obsm[{name!r}]" for modality in mdata.mod if name in mdata.mod[modality].obsm]
    column = _keys.run(name)
    notes = [f"mdata[{modality!r}].obs[{column!r}]" for modality, adata in mdata.mod.items() if column in adata.obs]
    if notes and len(taken) > 1:  # all of them: of an embedding whose record was lost
        return
    taken += notes
    if taken and name not in mdata.uns:
        found = " and ".join(f"`{slot}`" for slot in taken)
        msg = f"`key_added={name!r}`: {found} was not written by `tl.embed` and would be lost. Pass another name."
        raise ValueError(msg)


def _by_scores(mdata: MuData, propensity_key: str, n_comps: int) -> dict[str, FloatArray]:
    """Components of the pooled scores, by modality."""
    from sklearn.decomposition import PCA

    _runs.require_one(mdata.mod, propensity_key)
    scores = {name: _scores.scores(mdata, name, propensity_key) for name in mdata.mod}
    pooled = np.vstack(list(scores.values()))
    rank = pooled.shape[1] - 1  # rows of centred log-odds sum to zero
    pca = PCA(min(n_comps, len(pooled), rank), svd_solver="full").fit(pooled)
    return {name: pca.transform(values).astype(np.float32) for name, values in scores.items()}


def _by_match(
    mdata: MuData, match_key: str, use_rep: str | None, n_comps: int
) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """The target's features, and their matched averages, with what they were made of."""
    run = _access.run(mdata, match_key, "tl.match", "match_key")["params"]
    source, target = str(run["source"]), str(run["target"])
    features = _features.features(mdata, target, use_rep)
    own = _components(features, n_comps)
    matched = _matches.coupling(mdata, match_key).pull(own.astype(np.float64))
    lonely = np.isnan(matched).any(axis=1)
    others = [name for name in mdata.mod if name not in (source, target)]
    unplaced = mdata.n_obs - len(mdata.mod[source].obs_names.union(mdata.mod[target].obs_names))
    if lonely.any() or unplaced:
        msg = (
            f"{int(lonely.sum())} cells of {source!r} are not matched, and {unplaced} cells are only in other "
            f"modalities ({_checks.listed(others)}): they have no place among the features of {target!r}. Leave them "
            f"out: `placed = mdata[{target!r}].obs_names.union(mdata[{source!r}].obs_names["
            f"mdata[{source!r}].obs[{_keys.MatchKeys(match_key).mass!r}] > 0])` and `mdata[placed].copy()`; "
            'or use `kind="scores"`, which has a place for every cell.'
        )
        raise ValueError(msg)
    places = {source: matched.astype(np.float32), target: own.astype(np.float32)}
    return places, {"match_key": match_key, "source": source, "target": target, "use_rep": features.key}


def _components(features: _features.Features, n_comps: int) -> FloatArray:
    """Features as they are, or components of them where they are more."""
    if features.values.shape[1] <= n_comps:
        return features.dense()
    from sklearn.decomposition import PCA

    most = min(n_comps, features.values.shape[0] - 1)
    solver = "arpack" if sparse.issparse(features.values) else "auto"
    return np.asarray(PCA(most, svd_solver=solver, random_state=0).fit_transform(features.values))


def _joint(mdata: MuData, places: dict[str, FloatArray]) -> tuple[FloatArray, pd.Categorical]:
    """Place of every cell of the container, and the modalities that it is of."""
    width = next(iter(places.values())).shape[1]
    total, count = np.zeros((mdata.n_obs, width)), np.zeros((mdata.n_obs, 1))
    origin = np.full(mdata.n_obs, "", dtype=object)
    for name, values in places.items():
        rows = _access.place(mdata, name)
        total[rows] += values
        count[rows] += 1
        origin[rows] += np.where(origin[rows] == "", name, f"+{name}")
    return (total / count).astype(np.float32), pd.Categorical(origin)
