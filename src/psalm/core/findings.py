"""Where the method's assumptions visibly fail, in plain language: which treatments, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

CERTAIN = 0.02
"""Overlap below which a treatment is told with near certainty."""

CALIBRATION_OFF = 0.05
"""Calibration error that matters, where it is also twice what chance would give."""

BATCH_TELLS = 0.9
"""Area under the ROC curve from which on the batch alone tells a treatment."""

FAR_APART = 0.3
"""Energy distance share from which on two modalities' scores disagree, where few cells alone do not explain it."""

NEARLY_ALL, A_PLANE = 0.8, 2
"""Share of the possible dimensions that scores fill evenly; with three treatments or fewer there are two at most."""

SHOWN = 8


def find(
    table: pd.DataFrame, calibration: pd.DataFrame, dimensions: pd.DataFrame, agreement: pd.DataFrame
) -> pd.DataFrame:
    """All that deserves a warning.

    Parameters
    ----------
    table, calibration, dimensions, agreement
        As :mod:`psalm.core.report` makes them.

    Returns
    -------
    A row per finding: kind, modality, treatments (their number), message.
    """
    rows = [*_chance(table), *_certain(table), *_batch(table), *_calibration(calibration), *_rank(dimensions)]
    rows += _apart(agreement)
    return pd.DataFrame(rows, columns=["kind", "modality", "treatments", "message"])


Finding = tuple[str, str, int, str]


def _chance(table: pd.DataFrame) -> Iterable[Finding]:
    unclear = table["auc"] - 2 * table["auc_error"] <= 0.5  # noqa: PLR2004, the AUC of a guess
    for modality, rows in table[unclear].groupby("modality", sort=False):
        yield (
            "chance",
            str(modality),
            len(rows),
            (
                f"{modality} does not tell {_named(rows)} from the others, so their cells cannot be placed by it. "
                "Leave them out, or give it features in which they differ."
            ),
        )


def _certain(table: pd.DataFrame) -> Iterable[Finding]:
    for modality, rows in table[table["overlap"] < CERTAIN].groupby("modality", sort=False):
        yield (
            "no overlap",
            str(modality),
            len(rows),
            (
                f"{modality} tells {_named(rows)} with near certainty: no other treatment's cells look like theirs, "
                "and within them scores hold little more than noise. Expect averages, not partners; finer labels help."
            ),
        )


def _batch(table: pd.DataFrame) -> Iterable[Finding]:
    if "batch_auc" not in table:
        return
    for modality, rows in table[table["batch_auc"] >= BATCH_TELLS].groupby("modality", sort=False):
        yield (
            "batch",
            str(modality),
            len(rows),
            (
                f"In {modality} the batch alone tells {_named(rows)}: what the treatment did and where it was measured "
                "cannot be separated. Compare within batches, or leave these treatments out."
            ),
        )


def _calibration(calibration: pd.DataFrame) -> Iterable[Finding]:
    error, chance = calibration["calibration_error_after"], calibration["chance_error_after"]
    for _, row in calibration[(error > CALIBRATION_OFF) & (error > 2 * chance)].iterrows():
        yield (
            "calibration",
            str(row["modality"]),
            0,
            (
                f"Probabilities of {row['modality']} are off by {row['calibration_error_after']:.2f} on average after "
                'calibration. Try `calibration="vector"`, or `groups=` if cells come from several donors.'
            ),
        )


def _rank(dimensions: pd.DataFrame) -> Iterable[Finding]:
    full = (dimensions["for_95_percent"] >= dimensions["largest"]) & (
        dimensions["effective"] >= NEARLY_ALL * dimensions["largest"]
    )
    for _, row in dimensions[full | (dimensions["largest"] <= A_PLANE)].iterrows():
        yield (
            "too few treatments",
            str(row["modality"]),
            0,
            (
                f"Scores of {row['modality']} fill the {row['largest']} dimensions that the treatments allow. Where "
                "cells differ within a treatment in more ways than that, scores cannot tell; more treatments would."
            ),
        )


def _apart(agreement: pd.DataFrame) -> Iterable[Finding]:
    apart = agreement[agreement["energy_share"] > agreement["random_split_share"].clip(lower=FAR_APART)]
    for (first, second), rows in apart.groupby(["modality_1", "modality_2"], sort=False):
        yield (
            "disagreement",
            f"{first}, {second}",
            len(rows),
            (
                f"Scores of {first} and {second} lie apart within {_named(rows)}. One of them sees effects that the "
                "other does not: read matches there as rough."
            ),
        )


def _named(rows: pd.DataFrame) -> str:
    """Names of the treatments in question, with their factor, shortened."""
    names = rows["treatment"].astype(str)
    if "factor" in rows:
        names = rows["factor"].astype(str) + "=" + names
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def as_warning(findings: pd.DataFrame, key: str) -> str:
    """All findings as one message, a line each; ``key`` is that of the scores."""
    return "\n".join([*findings["message"], f"See `psalm.get.propensity_report(mdata, {key!r})`."])
