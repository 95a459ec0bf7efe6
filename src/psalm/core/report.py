"""Tables of what was found about the scores: per treatment, per modality, and between modalities."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm.core import diagnostics, findings
from psalm.core.agreement import effective_dimensions, energy_agreement
from psalm.core.batch import predictability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.diagnostics import Tallies
    from psalm.core.joint import Joint
    from psalm.core.layout import Factor, Layout
    from psalm.core.propensity import Propensity


def tables(layout: Layout, treatments: Sequence[str], joint: Joint, rng: np.random.Generator) -> dict[str, Any]:
    """Everything that is said about the scores, by name.

    Parameters
    ----------
    layout
        The factors.
    treatments
        Names, in code order.
    joint
        Scores of all modalities.
    rng
        Source of permutations.
    """
    rows: dict[str, list[pd.DataFrame]] = {"table": [], "calibration": [], "reliability": []}
    found: dict[str, Any] = {}
    for name, of_factors in joint.tallies.items():
        for factor, part, tallies in zip(layout.factors, joint.parts[name], of_factors, strict=True):
            rows["table"].append(treatments_table(name, factor, tallies, part))
            rows["calibration"].append(calibration_table(name, factor.name, part, tallies))
            rows["reliability"].append(curves_table(name, factor.name, tallies))
        if len(layout.factors) == 1 and of_factors[0].after.confusion is not None:
            found.setdefault("confusion", {})[name] = of_factors[0].after.mean_probabilities()
    found |= {key: pd.concat(parts, ignore_index=True) for key, parts in rows.items()}
    values = {name: scores.values for name, scores in joint.scores.items()}
    found["dimensions"] = dimensions_table(values, joint.codes, layout.n_columns - len(layout.factors))
    found["agreement"] = agreement_table(values, joint.codes, treatments, rng)
    found["findings"] = findings.find(*(found[key] for key in ("table", "calibration", "dimensions", "agreement")))
    return found


def treatments_table(modality: str, factor: Factor, tallies: Tallies, part: Propensity) -> pd.DataFrame:
    """One row per treatment (or level of a factor) of one modality.

    Parameters
    ----------
    modality
        Name.
    factor
        Whose levels are the rows.
    tallies
        Of the factor.
    part
        The factor's cross-fit.
    """
    after, before = tallies.after, tallies.before
    table = pd.DataFrame({"modality": modality, "treatment": np.array(factor.levels, dtype=object)})
    if factor.name:
        table.insert(1, "factor", factor.name)
    table["n_cells"] = after.n_cells.astype(int)
    table["frequency"] = after.n_cells / after.n_cells.sum()
    table["auc"] = after.each.auc()
    table["auc_error"] = diagnostics.auc_standard_error(
        table["auc"].to_numpy(), after.n_cells, after.n_cells.sum() - after.n_cells
    )
    table["log_loss"] = after.log_loss / after.n_cells
    table["calibration_error_before"] = before.each.calibration_errors()
    table["calibration_error_after"] = after.each.calibration_errors()
    table["overlap"] = after.overlap()
    if part.batches is not None:
        labelled = part.codes >= 0
        table["batch_auc"] = predictability(part.codes[labelled], part.batches[labelled], len(factor.levels))
    return table


def calibration_table(modality: str, factor: str, part: Propensity, tallies: Tallies) -> pd.DataFrame:
    """Temperature, log loss and calibration error of the most probable treatment, in one row."""
    row = pd.DataFrame({"modality": [modality], "temperature": _temperature(part)})
    if factor:
        row.insert(1, "factor", factor)
    for when, tally in (("before", tallies.before), ("after", tallies.after)):
        curve = tally.top.curve(0)
        row[f"log_loss_{when}"] = tally.log_loss.sum() / tally.n_cells.sum()
        row[f"calibration_error_{when}"] = diagnostics.calibration_error(curve)
        row[f"chance_error_{when}"] = diagnostics.chance_calibration_error(curve)
    return row


def _temperature(part: Propensity) -> float:
    """Mean temperature over folds and repeats; NaN where the calibration is not a temperature."""
    weights = [getattr(calibration, "weight", np.empty(2)) for calibration in part.calibrations]
    return float(np.mean([1 / weight if np.ndim(weight) == 0 else np.nan for weight in weights]))


def curves_table(modality: str, factor: str, tallies: Tallies) -> pd.DataFrame:
    """Reliability curves of the most probable treatment."""
    curves = {"before": tallies.before.top.curve(0), "after": tallies.after.top.curve(0)}
    names = ["predicted", "observed", "n_cells"]
    table = pd.concat([pd.DataFrame(curve, columns=names).assign(when=when) for when, curve in curves.items()])
    table["modality"] = modality
    return table.assign(factor=factor) if factor else table


def dimensions_table(scores: Mapping[str, FloatArray], codes: Mapping[str, IntArray], largest: int) -> pd.DataFrame:
    """How many directions scores vary in, per modality; ``largest`` is how many the treatments allow."""
    rows = [(name, *effective_dimensions(values, codes[name]), largest) for name, values in scores.items()]
    return pd.DataFrame(rows, columns=["modality", "effective", "for_95_percent", "largest"])


def agreement_table(
    scores: Mapping[str, FloatArray],
    codes: Mapping[str, IntArray],
    treatments: Sequence[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Energy distance between each two modalities' scores within each treatment, beside that of random splits."""
    rows = []
    for first, second in combinations(scores, 2):
        places = [_places(codes[name], len(treatments)) for name in (first, second)]
        for treatment, x, y in zip(treatments, *places, strict=True):
            found = energy_agreement(scores[first][x], scores[second][y], rng)
            rows.append((first, second, treatment, found.share, found.random_split))
    return pd.DataFrame(rows, columns=["modality_1", "modality_2", "treatment", "energy_share", "random_split_share"])


def _places(codes: IntArray, n_treatments: int) -> list[IntArray]:
    """Cells of each treatment."""
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(n_treatments + 1))
    return [order[start:end] for start, end in pairwise(ends)]
