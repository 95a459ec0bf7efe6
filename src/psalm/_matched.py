"""What a match leaves in the container: coupling, potentials, masses, the table, and one warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _checks, _keys, _matches, _runs
from psalm.core.matching import described
from psalm.core.plan import BYTES_PER_ENTRY

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData
    from scipy import sparse

    from psalm._blocks import Blocks
    from psalm.core._types import FloatArray
    from psalm.core.coupling import Coupling, Spread
    from psalm.core.matching import Failure, TreatmentMatch

VAGUE, MANY_CELLS = 0.98, 10
"""A treatment of at least so many cells with effective matches above this share of them is warned of."""
UNMATCHED = 0.1
"""A cell that transports less than this share of its mass is called unmatched."""


class Failures:
    """Treatments in which the method failed: the first stops the match, or all are noted, by row of the table."""

    def __init__(self, table: pd.DataFrame, *, stop: bool) -> None:
        self.names, self.stop, self.messages = _matches.block_names(table), stop, [""] * len(table)

    def __call__(self, failure: Failure) -> None:
        if self.stop:
            name = self.names[failure.code]
            failure.reason.add_note(f"This came from treatment {name!r}. With `on_error='warn'` the others are kept.")
            raise failure.reason
        self.messages[failure.code] = described(failure.reason)


@dataclass(frozen=True)
class View:
    """What is stored in ``obsp``, and how far it stands for the exact plan.

    Parameters
    ----------
    mass
        CSR (n_source, n_target).
    kept
        (n_blocks,) share of each block's mass that the entries carried before they were rescaled.
    r2
        (n_blocks,) R² of matched averages of the target's scores, by the view against by the plan, within the block.
    """

    mass: sparse.csr_matrix
    kept: FloatArray
    r2: FloatArray


def view_of(coupling: Coupling, target_scores: FloatArray, *, soft: bool, obsp_mb: float) -> View:
    """A view that fits the budget; the whole plan where stored entries are all there is of it."""
    ones = np.ones(len(coupling.blocks))
    if not soft:
        return View(coupling.to_csr(), ones, ones)
    mass, kept = coupling.compact(int(obsp_mb * 2**20 / BYTES_PER_ENTRY))
    if (kept == 1).all():
        return View(mass, kept, ones)
    r2 = ones.copy()
    for position, block in enumerate(coupling.blocks):
        exact, part = block.pull(target_scores), mass[block.source]
        sums = np.asarray(part.sum(axis=1))
        seen = (part @ target_scores) / np.where(sums > 0, sums, np.nan).reshape(-1, 1)
        spread = ((exact - exact.mean(axis=0)) ** 2).sum()
        r2[position] = 1 - ((seen - exact) ** 2).sum() / spread if spread > 0 else np.nan
    return View(mass, kept, r2)


def write(
    mdata: MuData,
    keys: _keys.MatchKeys,
    coupling: Coupling,
    columns: dict[str, tuple[FloatArray, FloatArray]],
    view: View,
    result: dict[str, Any],
) -> None:
    """Write everything of a match; columns are per cell of source and target, by slot name."""
    params = result["params"]
    if params["from_potentials"]:
        columns = columns | {keys.potential: _matches.potentials(coupling)}
    for adata in mdata.mod.values():  # of an earlier match under this key, which is overwritten
        adata.obs = adata.obs.drop(columns=list(keys.columns), errors="ignore")
    _matches.write_coupling(mdata, keys.coupling, params["source"], params["target"], view.mass)
    for name, values in columns.items():
        for side, found in zip(("source", "target"), values, strict=True):
            mdata.mod[params[side]].obs[name] = found
    sides = [mdata.mod[params[side]] for side in ("source", "target")]
    cells = [values for pair in columns.values() for values in pair]
    run = _access.identity(sides, params["propensity_fingerprint"].encode(), view.mass.data, *cells)
    for adata in sides:
        _runs.note(adata, keys.base, run)
    entries = _matches.entries_of(view.mass, columns[keys.block][0], len(result["table"]))
    mdata.uns[keys.uns] = result | {"run": run, "entries": entries}
    for stale, is_own in ((keys.evaluation, is_evaluation), (keys.diagnosis, _is_diagnosis)):  # of an earlier match
        if is_own(mdata.uns.get(stale)):
            del mdata.uns[stale]


def is_evaluation(stored: Any) -> bool:
    """Whether this is a table of ``tl.evaluate``."""
    return "scope" in getattr(stored, "columns", ())


def _is_diagnosis(stored: Any) -> bool:
    """Whether ``tl.diagnose`` wrote this."""
    return isinstance(stored, Mapping) and "verdicts" in stored


def shares(found: list[TreatmentMatch], spread: Spread) -> tuple[FloatArray, FloatArray]:
    """Mass that each cell transports, relative to its own: 1 where the marginals are met; NaN for unmatched cells."""
    relative = spread.source_mass.copy(), spread.target_mass.copy()
    for result in found:
        for side, cells, mass in zip(relative, (result.block.source, result.block.target), result.mass, strict=True):
            side[cells] /= mass
    return relative


def table(
    found: list[TreatmentMatch],
    blocks: Blocks,
    spread: Spread,
    relative: tuple[FloatArray, FloatArray],
    view: View,
) -> pd.DataFrame:
    """One row per block, matched or not."""
    blank: dict[str, Any] = {"cost": "", "epsilon": np.nan, "epsilon_relative": np.nan, "iterations": 0}
    blank |= {"marginal_error": np.nan, "converged": False, "effective_matches": np.nan}
    blank |= {"unmatched_source": 0, "unmatched_target": 0, "kept_mass": 0.0, "view_r2": np.nan, "seconds": 0.0}
    rows = []
    for result, kept_mass, r2 in zip(found, view.kept, view.r2, strict=True):
        outcome, cells = result.match, (result.block.source, result.block.target)
        missing = [int((side[place] < UNMATCHED).sum()) for side, place in zip(relative, cells, strict=True)]
        entropy = spread.source_entropy[cells[0]]
        known = entropy[~np.isnan(entropy)]
        rows.append(
            (
                getattr(result.block.plan, "cost", ""),
                outcome.epsilon,
                outcome.epsilon / outcome.mean_cost if outcome.mean_cost > 0 else np.nan,
                outcome.iterations,
                outcome.marginal_error,
                outcome.converged,
                float(np.exp(known).mean()) if len(known) else np.nan,
                *missing,
                kept_mass,
                r2,
                result.seconds,
            )
        )
    filled = blocks.table.assign(**blank)
    place = [result.block.treatment for result in found]
    for position, name in enumerate(blank):
        values = filled[name].to_numpy(copy=True)
        values[place] = [row[position] for row in rows]
        filled[name] = values
    return filled


def warn(found: pd.DataFrame) -> None:
    """One warning for everything in the table that a user must know."""
    names = _matches.block_names(found)
    empty = (found["n_source"] == 0) | (found["n_target"] == 0)
    failed = found["error"] != ""
    stopped = ~found["converged"] & ~empty & ~failed
    notes = []
    if failed.any():
        notes.append(
            f"{int(failed.sum())} treatments could not be matched: {_checks.listed(names[failed])}; the first by "
            f"{found['error'][failed].iloc[0]}"
        )
    if stopped.any():
        worst = float(found["marginal_error"][stopped].max())
        notes.append(
            f"{int(stopped.sum())} treatments did not converge: {_checks.listed(names[stopped])}; "
            f"largest marginal error {worst:.2g}. Raise `epsilon`, or the object's `max_iterations`"
        )
    if empty.any():
        notes.append(f"{int(empty.sum())} treatments have no cells on one side: {_checks.listed(names[empty])}")
    many = (found[["n_source", "n_target"]] >= MANY_CELLS).all(axis=1)
    vague = many & (found["effective_matches"] > VAGUE * found["n_target"])
    if vague.any():
        notes.append(
            f"In {int(vague.sum())} treatments scores decide almost nothing, and matched averages are treatment means: "
            + _checks.listed(names[vague])
        )
    for side in ("source", "target"):
        lonely = found[f"unmatched_{side}"] > 0
        if lonely.any():
            n_cells = int(found[f"unmatched_{side}"].sum())
            notes.append(
                f"{n_cells} {side} cells transport less than {UNMATCHED:.0%} of their mass, in "
                f"{_checks.listed(names[lonely])}: see their share of mass in obs"
            )
    if notes:
        warnings.warn(". ".join(notes) + ". See `psalm.get.report(mdata)`.", UserWarning, stacklevel=4)
