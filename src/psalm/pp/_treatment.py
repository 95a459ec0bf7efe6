"""One categorical of shared treatments for all modalities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys

if TYPE_CHECKING:
    from mudata import MuData

KEPT, RARE, UNSHARED = "kept", "rare", "not shared"


def treatment(
    mdata: MuData,
    key: str | Mapping[str, str],
    *,
    min_cells: int = 10,
    key_added: str = _keys.TREATMENT,
) -> None:
    """Make one categorical of the treatments that all modalities share.

    Cells of rare, unshared or missing treatments get NaN: they stay in the object, are scored later, are never matched,
    and are reported in one warning.

    Parameters
    ----------
    mdata
        One AnnData per modality; cells may be disjoint, shared or the same.
    key
        Column with the treatment (perturbation, dose, cell type) in the ``obs`` of each modality or of ``mdata``,
        or a mapping from modality to column where names differ.
    min_cells
        A treatment with fewer cells in any modality is rare.
        A classifier learns little from a handful of cells; lower it if you must keep small groups.
    key_added
        Name of the columns and the table that are written.

    Returns
    -------
    None. Writes the categorical ``obs[key_added]`` of ``mdata`` and of each modality, with the same categories, and
    ``mdata.uns[key_added]``, a table of treatment × modality counts with a column ``status``
    ("kept", "rare", "not shared").

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        Fewer than two treatments remain, a cell has different treatments in two modalities, or ``key_added`` is a
        column of yours that would change.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300, n_treatments=3)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> mdata.uns["treatment"][["a", "b"]].sum().tolist()
    [300, 300]
    """
    _access.container(mdata)
    _checks.whole_number("min_cells", min_cells, least=1)
    _checks.slot_name(key_added)
    if isinstance(key, Mapping):
        _access.by_modality(mdata, key, "key")
    labels = {name: _labels(mdata, name, key) for name in mdata.mod}
    counts = _count(labels, min_cells)
    kept = counts.index[counts["status"] == KEPT]
    if len(kept) < 2:  # noqa: PLR2004, nothing to tell apart
        raise ValueError(_too_few(counts, labels, min_cells))
    columns = {
        name: pd.Series(pd.Categorical(column, categories=kept), column.index) for name, column in labels.items()
    }
    joint = _joint(mdata, columns)
    if not _is_ours(mdata, key, key_added):
        for name, column in columns.items():
            _refuse_loss(mdata.mod[name].obs, column, key_added, f"mdata[{name!r}]")
        _refuse_loss(mdata.obs, joint, key_added, "mdata")

    for name, column in columns.items():
        mdata.mod[name].obs[key_added] = column
    mdata.obs[key_added] = joint
    mdata.uns[key_added] = counts
    _report(labels, columns, counts, min_cells)


def _labels(mdata: MuData, name: str, key: str | Mapping[str, str]) -> pd.Series:
    """Treatment of each cell of a modality as a string, NaN where missing."""
    if isinstance(key, Mapping) and name not in key:
        msg = f"`key` names no column for modality {name!r}. It names {_checks.listed(key)}: add {name!r}."
        raise KeyError(msg)
    column = key[name] if isinstance(key, Mapping) else key
    adata = mdata.mod[name]
    if column in adata.obs:
        found = adata.obs[column]
    elif column in mdata.obs:
        found = mdata.obs.loc[adata.obs_names, column]
    else:
        msg = (
            f"`key={column!r}` is neither in `mdata[{name!r}].obs` nor in `mdata.obs`. "
            f"Found: {_checks.listed(adata.obs)}. Pass one of these, or a mapping from modality to column."
        )
        raise KeyError(msg)
    labels = found.astype("category").cat
    names = [_text(category) for category in labels.categories]
    distinct = list(dict.fromkeys(names))
    positions = np.array([*map(distinct.index, names), -1])  # code −1, missing, takes the last
    return pd.Series(pd.Categorical.from_codes(positions[labels.codes], categories=distinct), index=adata.obs_names)


def _text(label: object) -> str:
    """A label as text; 1 and 1.0, which a missing value makes of it, are the same dose."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _count(labels: Mapping[str, pd.Series], min_cells: int) -> pd.DataFrame:
    """Treatment × modality counts with the status of each treatment."""
    counts = pd.DataFrame({name: column.value_counts(sort=False) for name, column in labels.items()})
    first = next(iter(labels.values())).cat.categories
    order = [*first, *sorted(set(counts.index) - set(first))]
    counts = counts.reindex(order).fillna(0).astype(int)
    counts = counts[(counts > 0).any(axis=1)]
    status = pd.Series(KEPT, index=counts.index)
    status[(counts < min_cells).any(axis=1)] = RARE
    status[(counts == 0).any(axis=1)] = UNSHARED
    counts.index = pd.Index(counts.index.astype(str), name=None)
    return counts.assign(status=status.to_numpy())


def _joint(mdata: MuData, columns: Mapping[str, pd.Series]) -> pd.Series:
    """Treatment of each cell of the container."""
    joint = np.full(mdata.n_obs, -1)
    for name, column in columns.items():
        known = np.flatnonzero(column.notna())
        rows, codes = mdata.obs_names.get_indexer(column.index[known]), column.cat.codes.to_numpy()[known]
        clash = (joint[rows] >= 0) & (joint[rows] != codes)
        if clash.any():
            msg = (
                f"{int(clash.sum())} cells of modality {name!r} have another treatment than the cells of the same name "
                f"in another modality, e.g. {column.index[known][clash][0]!r}. The same name means the same cell: "
                "rename the cells of one modality, or correct the labels."
            )
            raise ValueError(msg)
        joint[rows] = codes
    categories = next(iter(columns.values())).cat.categories
    return pd.Series(pd.Categorical.from_codes(joint, categories=categories), index=mdata.obs_names)


def _is_ours(mdata: MuData, key: str | Mapping[str, str], key_added: str) -> bool:
    """Whether the slots were written by an earlier call, from other columns than the ones to be written."""
    table = mdata.uns.get(key_added)
    ours = isinstance(table, pd.DataFrame) and "status" in table
    if table is not None and not ours:
        msg = f"`mdata.uns[{key_added!r}]` is an entry of yours and would be lost. Pass another `key_added=`."
        raise ValueError(msg)
    read = set(key.values()) if isinstance(key, Mapping) else {key}
    return ours and key_added not in read


def _refuse_loss(obs: pd.DataFrame, column: pd.Series, key_added: str, where: str) -> None:
    """Refuse to overwrite a column of the user's that holds something else."""
    if key_added not in obs:
        return
    old = obs[key_added].astype(object)
    same = (old.astype(str) == column.astype(object).astype(str)) | (old.isna() & column.isna())
    if not same.all():
        msg = (
            f"`{where}.obs[{key_added!r}]` is a column of yours, and {int((~same).sum())} of its values would be lost. "
            "Pass another `key_added=`, and the same name as `treatment=` to `tl.propensity`."
        )
        raise ValueError(msg)


def _too_few(counts: pd.DataFrame, labels: Mapping[str, pd.Series], min_cells: int) -> str:
    kept = counts.index[counts["status"] == KEPT]
    found = "; ".join(f"{name}: {_checks.listed(counts.index[counts[name] > 0])}" for name in labels)
    return (
        f"Only {len(kept)} treatments have at least {min_cells} cells in every modality, and two are needed. "
        f"Found in {found}. Check the spelling of labels across modalities, or lower `min_cells`."
    )


def _report(
    labels: Mapping[str, pd.Series], columns: Mapping[str, pd.Series], counts: pd.DataFrame, min_cells: int
) -> None:
    """One warning for everything that will not be matched."""
    left = {name: int(columns[name].isna().sum()) for name in labels}
    if not any(left.values()):
        return
    reasons = [
        f"{status} ({explanation}): " + "; ".join(_with_counts(counts[counts["status"] == status]))
        for status, explanation in ((RARE, f"fewer than {min_cells} cells"), (UNSHARED, "missing in a modality"))
        if (counts["status"] == status).any()
    ]
    alike = _alike(counts.index[counts["status"] == UNSHARED])
    if alike:
        reasons.append("spelled alike, so perhaps the same: " + "; ".join(alike))
    unlabelled = {name: int(column.isna().sum()) for name, column in labels.items() if column.isna().any()}
    if unlabelled:
        reasons.append("no label: " + ", ".join(f"{n} cells in {name}" for name, n in unlabelled.items()))
    msg = (
        "These cells keep no treatment and will not be matched: "
        + ", ".join(f"{n} in {name}" for name, n in left.items())
        + ". Reasons: "
        + ". ".join(reasons)
        + ". Lower `min_cells` or correct the labels to include them."
    )
    warnings.warn(msg, UserWarning, stacklevel=3)


def _alike(names: pd.Index) -> list[str]:
    """Groups of labels that differ only by case, blanks and punctuation."""
    plain = names.str.casefold().str.replace(r"[\W_]+", "", regex=True)
    groups = pd.Series(names, index=plain).groupby(level=0).agg(list)
    return [_checks.listed(group) for group in groups if len(group) > 1]


def _with_counts(counts: pd.DataFrame, limit: int = 12) -> list[str]:
    shown = [
        f"{name!r} " + "/".join(str(n) for n in row)
        for name, row in counts.drop(columns="status").head(limit).iterrows()
    ]
    return [*shown, f"and {len(counts) - limit} more"] if len(counts) > limit else shown
