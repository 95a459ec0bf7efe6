"""One categorical of shared treatments for all modalities."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys, _spelling
from psalm._calls import recorded
from psalm.pp import _columns, _labels, _strata
from psalm.pp._slots import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from psalm.pp._columns import Key
    from psalm.pp._labels import Control, Labels, Translation

KEPT, RARE, UNSHARED = "kept", "rare", "not shared"
MISSING_AS_TEXT = {"nan", "NaN", "None", "NA", "<NA>", "NaT", "null", "NULL"}
STATUS, CONTROL = "status", "control"


@recorded
def treatment(
    mdata: MuData,
    key: Key,
    *,
    mapping: Translation | None = None,
    control: Control | None = None,
    separator: str | None = None,
    within: Key | None = None,
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
        A list of columns, such as drug and dose, makes each combination a treatment, named ``"dex : 10"``.
        A cell with any part missing has none, and levels that are numbers ascend unless their categories are ordered.
        Labels are compared as text, of numbers the shortest of their type: 1, 1.0 and "1" are one label, and so are .1
        in single and in double precision. The text "1.0" is another one, and is named if it lacks a partner.
    mapping
        From label to treatment, such as guide to gene: a mapping, a Series, or a function that gets the label as text.
        A label that leads to None or NaN leaves its cells without treatment; a label that is not held is an error.
        A modality may also be labelled with treatments of the mapping: they pass as they are.
    control
        Label or labels of negative controls, as they are after ``mapping``; of several columns the combination,
        ``"DMSO : 0"``.
        A single one keeps its name; several become one treatment, "control".
    separator
        Where a label is split into the parts of a combination, such as "+".
        Parts are stripped, sorted and taken once, so "B+A" is "A+B" and "A+A" is "A", and controls drop out: with the
        control "NT", "A+NT" is "A".
        A mapping then holds parts or whole labels, the whole coming first; a function gets the parts.
    within
        Column with the stratum (donor, plate) inside which cells may be matched, given like ``key``.
        A cell without stratum gets no treatment.
    min_cells
        A treatment with fewer cells in any modality, all strata together, is rare.
        A classifier learns little from a handful of cells; lower it if you must keep small groups.
    key_added
        Name of the columns and the table that are written, and beginning of the names of the others.

    Returns
    -------
    None. Writes the categorical ``obs[key_added]`` of ``mdata`` and of each modality, with the same categories, and
    ``mdata.uns[key_added]``, a table of treatment × modality counts with the columns ``status``
    ("kept", "rare", "not shared") and ``control`` (bool, True for the negative control).

    With several columns or a separator, ``mdata.uns[key_added + "_factors"]``: a table with the columns ``treatment``,
    ``factor`` and ``level``, one row for each kept treatment and factor.
    Factors are the columns (named as in the first modality) with their values as levels, "control" where pooled
    controls differ; or the parts with the levels "present" and "absent".

    With ``within``, the categorical ``obs[key_added + "_within"]`` of each modality, with the same categories, and
    ``mdata.uns[key_added + "_within"]``: the number of ``cells`` by kept ``treatment``, ``stratum`` and ``modality``.
    What an earlier call wrote to slots that this call does not write is removed.

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        A treatment has an empty name, fewer than two treatments remain, a cell has different treatments in two
        modalities, a label or control is not known, no treatment has cells of all modalities in one stratum, or
        ``key_added`` is a column of yours that would change.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> mdata.uns["treatment"][["a", "b"]].sum().tolist()
    [300, 300]

    Guides in one modality and genes in the other, with a negative control:

    >>> guides = {f"{gene}_g1": gene for gene in mdata["a"].obs["perturbation"].cat.categories}
    >>> mdata["a"].obs["guide"] = mdata["a"].obs["perturbation"].astype(str) + "_g1"
    >>> psalm.pp.treatment(mdata, {"a": "guide", "b": "perturbation"}, mapping=guides, control="control")
    >>> mdata.uns["treatment"].query("control").index.tolist()
    ['control']
    """
    _access.container(mdata)
    _checks.whole_number("min_cells", min_cells, least=1)
    _checks.slot_name(key_added)
    _refuse_reserved(mdata)
    labels = _labels.read(mdata, key, mapping=mapping, control=control, separator=separator)
    strata = {} if within is None else _strata.read(mdata, within)
    usable = {name: _with_stratum(column, strata.get(name)) for name, column in labels.columns.items()}
    counts = _count(usable, labels.control, min_cells)
    kept = counts.index[counts[STATUS] == KEPT]
    if "" in kept:
        msg = "A treatment has the empty text as its name. Give it a name, or set these labels to None."
        raise ValueError(msg)
    if len(kept) < 2:  # noqa: PLR2004, nothing to tell apart
        raise ValueError(_too_few(counts, labels, usable, min_cells))
    columns = {name: one.cat.set_categories(kept) for name, one in usable.items()}
    pairs = _strata.count(columns, strata) if strata else None
    lacking = None if pairs is None else _strata.one_sided(pairs)

    slots = [
        Slot(key_added, [STATUS], counts, columns, _columns.joint(mdata, columns, "treatment")),
        Slot(_keys.factors(key_added), _labels.FACTORS, labels.factors(kept), {}),
        Slot(_keys.within(key_added), _strata.COUNTS, pairs, strata or dict.fromkeys(mdata.mod)),
    ]
    read = _columns.named(mdata, key, within)
    for slot in slots:
        slot.check(mdata, read)
    for slot in slots:
        slot.write(mdata, read)
    _report(labels, usable, columns, counts, lacking, min_cells)


def _refuse_reserved(mdata: MuData) -> None:
    """Require modalities that can stand beside the other columns of the table."""
    reserved = [name for name in mdata.mod if name in (STATUS, CONTROL)]
    if reserved:
        msg = (
            f"A modality is named {_checks.listed(reserved)}, as a column of the table of treatments is. "
            "Rename the modality."
        )
        raise ValueError(msg)


def _with_stratum(column: pd.Series, stratum: pd.Series | None) -> pd.Series:
    """The treatment of cells that have a stratum."""
    return column if stratum is None else column.where(stratum.notna())


def _count(columns: Mapping[str, pd.Series], control: str | None, min_cells: int) -> pd.DataFrame:
    """Treatment × modality counts with the status of each treatment."""
    names = next(iter(columns.values())).cat.categories
    counts = pd.DataFrame(
        {name: np.bincount(column.cat.codes[column.notna()], minlength=len(names)) for name, column in columns.items()},
        index=pd.Index(names.astype(str)),
    )
    counts = counts[(counts > 0).any(axis=1)]
    status = pd.Series(KEPT, index=counts.index)
    status[(counts < min_cells).any(axis=1)] = RARE
    status[(counts == 0).any(axis=1)] = UNSHARED
    return counts.assign(**{STATUS: status, CONTROL: counts.index == control})


def _too_few(counts: pd.DataFrame, labels: Labels, usable: Mapping[str, pd.Series], min_cells: int) -> str:
    n_kept = (counts[STATUS] == KEPT).sum()
    found = "; ".join(f"{name}: {_checks.listed(counts.index[counts[name] > 0])}" for name in usable)
    lost = _lost(labels, usable)
    alike = _spelled_alike(counts)
    return (
        f"Only {n_kept} treatments have at least {min_cells} cells in every modality, and two are needed. "
        f"Found in {found}. "
        + "".join(f"{reason[0].upper()}{reason[1:]}. " for reason in lost)
        + _advice(labels)
        + (f" {alike[0].upper()}{alike[1:]}." if alike else "")
    )


def _advice(labels: Labels) -> str:
    """What to do about too few treatments: where a modality has no label at all, its metadata did not reach it."""
    bare = [repr(name) for name, column in labels.columns.items() if column.isna().all()]
    if bare:
        return f"No cell of {' and '.join(bare)} has a label: was the metadata joined by the right names of cells?"
    return "Check the spelling of labels across modalities, or lower `min_cells`."


def _lost(labels: Labels, usable: Mapping[str, pd.Series]) -> list[str]:
    """Cells without label and without stratum, in words."""
    reasons = []
    bare = {name: int(column.isna().sum()) for name, column in labels.columns.items()}
    if any(bare.values()):
        nothing = {name: f" ({n} mapped to nothing)" if n else "" for name, n in labels.n_to_nothing.items()}
        reasons.append("no label: " + ", ".join(f"{n} cells in {name}{nothing[name]}" for name, n in bare.items() if n))
    astray = {name: int(column.isna().sum()) - bare[name] for name, column in usable.items()}
    if any(astray.values()):
        reasons.append("no stratum: " + ", ".join(f"{n} cells in {name}" for name, n in astray.items() if n))
    return reasons


def _report(
    labels: Labels,
    usable: Mapping[str, pd.Series],
    columns: Mapping[str, pd.Series],
    counts: pd.DataFrame,
    lacking: pd.DataFrame | None,
    min_cells: int,
) -> None:
    """One warning for everything that will not be matched."""
    sentences = []
    left = {name: int(column.isna().sum()) for name, column in columns.items()}
    if any(left.values()):
        reasons = [*_left_out(counts, min_cells), *_lost(labels, usable)]
        sentences.append(
            "These cells keep no treatment and will not be matched: "
            + ", ".join(f"{n} in {name}" for name, n in left.items())
            + ". Reasons: "
            + ". ".join(reasons)
            + ". Lower `min_cells` or correct the labels to include them."
        )
    texts = [name for name in counts.index[counts[STATUS] == KEPT] if name in MISSING_AS_TEXT]
    if texts:
        sentences.append(
            f"These treatments have the names of missing labels that became text: {_checks.listed(texts)}. "
            "If they are missing, set them to None first, for their cells are matched with each other now."
        )
    if lacking is not None and len(lacking):
        sentences.append(_strata.sentence(lacking))
    if sentences:
        warnings.warn(" ".join(sentences), UserWarning, stacklevel=4)


def _left_out(counts: pd.DataFrame, min_cells: int) -> list[str]:
    """Treatments that are not kept, in words."""
    reasons = [
        f"{status} ({explanation}): " + "; ".join(_with_counts(counts[counts[STATUS] == status]))
        for status, explanation in ((RARE, f"fewer than {min_cells} cells"), (UNSHARED, "missing in a modality"))
        if (counts[STATUS] == status).any()
    ]
    if alike := _spelled_alike(counts):
        reasons.append(alike)
    return reasons


def _spelled_alike(counts: pd.DataFrame) -> str:
    """Treatments that are perhaps the same, some of them not kept, in words; nothing where there are none."""
    kept = set(counts.index[counts[STATUS] == KEPT])
    groups = [_spelling.shown(group) for group in _spelling.alike(counts.index) if not kept.issuperset(group)]
    return "spelled alike, so perhaps the same: " + "; ".join(groups) if groups else ""


def _with_counts(counts: pd.DataFrame, limit: int = 12) -> list[str]:
    shown = [
        f"{name!r} " + "/".join(str(n) for n in row)
        for name, row in counts.drop(columns=[STATUS, CONTROL]).head(limit).iterrows()
    ]
    return [*shown, f"and {len(counts) - limit} more"] if len(counts) > limit else shown
