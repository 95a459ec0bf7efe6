"""What a step will need, and a refusal where the machine does not have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _matches, _scores
from psalm.core.cross_fit import EVIDENCE_ENTRIES
from psalm.core.estimate import estimate
from psalm.core.matching import find_places
from psalm.core.memory import available_bytes
from psalm.core.plan import BYTES_PER_ENTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from psalm._blocks import Blocks
    from psalm._features import Features
    from psalm._recipe import Recipe
    from psalm.core._types import FloatArray, Matrix

GIGABYTE = 1e9
COPIES = 4
"""How often the stored view exists while it is made and put into the container."""
TRAINING_COPIES, CALIBRATION_COPIES = 2, 5
"""How often features exist for each model in training, and log-likelihoods while a calibration is learnt."""
COMPARED_COPIES = 2
"""How often features that averages are compared in exist: as they are and as z-scores."""


def needs(
    recipe: Recipe, scores: list[FloatArray], blocks: Blocks, obsp_mb: float, n_jobs: int | None, *, timed: bool
) -> pd.DataFrame:
    """A row per treatment, and one (with an empty name) for the whole: pairs, solver, seconds, peak_gb."""
    import pandas as pd
    from joblib import cpu_count

    n_threads = n_jobs if n_jobs is not None and n_jobs > 0 else cpu_count()
    cells = recipe.with_scores(recipe.coordinates(scores))
    found = estimate(find_places(cells[0].codes, cells[1].codes), cells, recipe.matcher, n_threads, timed=timed)
    solver, seconds, gigabytes = [""] * len(blocks.table), np.zeros(len(blocks.table)), np.zeros(len(blocks.table))
    for one in found:
        solver[one.code], seconds[one.code], gigabytes[one.code] = one.solver, one.seconds, one.working_bytes / GIGABYTE
    table = blocks.table.assign(pairs=blocks.table["n_source"] * blocks.table["n_target"], solver=solver)
    table = table.assign(seconds=seconds, peak_gb=gigabytes)
    stored = COPIES * min(float(BYTES_PER_ENTRY) * table["pairs"].sum(), obsp_mb * 2**20) / GIGABYTE
    total = table.sum(numeric_only=True)
    whole = table.iloc[:1].assign(treatment="", solver="", n_source=int(total["n_source"]), pairs=int(total["pairs"]))
    whole = whole.assign(n_target=int(total["n_target"]), seconds=total["seconds"] * (1 + recipe.refine))
    copied = sum(of.scores.nbytes for of in cells) / GIGABYTE  # by block, as plans hold them
    largest = np.nan if table["peak_gb"].isna().any() else table["peak_gb"].max()
    whole = whole.assign(peak_gb=largest + copied + stored)
    return pd.concat([table, whole], ignore_index=True)


def require_memory(table: pd.DataFrame, method: str) -> None:
    """Refuse what would not fit.

    Raises
    ------
    MemoryError
        More is needed than there is.
    """
    available = available_bytes() / GIGABYTE
    needed = float(table["peak_gb"].iloc[-1])
    if not needed > available:  # NaN: the matcher does not say
        return
    rows = table.iloc[:-1]
    worst = rows.loc[rows["peak_gb"].idxmax()]
    name = _matches.block_names(rows)[int(rows["peak_gb"].to_numpy().argmax())]
    msg = (
        f"Matching by {method!r} would need about {needed:.1f} GB, and {available:.1f} GB are free. Most of it is for "
        f"treatment {name!r}, {worst['n_source']} × {worst['n_target']} cells. Match within strata "
        "(`pp.treatment(within=)`), take a sample of its cells, pass smaller `memory_mb=` or `obsp_mb=`, or use the "
        'method "ot", which keeps no pairs. `dry_run=True` shows what each treatment needs.'
    )
    raise MemoryError(msg)


def require(step: str, needed: Mapping[str, float], change: str) -> None:
    """Refuse a step that would not fit, before it starts.

    Parameters
    ----------
    step
        Its name.
    needed
        Bytes, by what they are for.
    change
        What to do about it.

    Raises
    ------
    MemoryError
        More is needed than there is.
    """
    available, total = available_bytes(), sum(needed.values())
    if total <= available:
        return
    most = max(needed, key=lambda name: needed[name])
    msg = (
        f"`{step}` would need about {total / GIGABYTE:.1f} GB, and {available / GIGABYTE:.1f} GB are free. Most of it, "
        f"{needed[most] / GIGABYTE:.1f} GB, is for {most}. {change}"
    )
    raise MemoryError(msg)


def of_scores(features: Mapping[str, Matrix], n_columns: int, compress_above: int, n_jobs: int) -> dict[str, float]:
    """What :func:`psalm.tl.propensity` takes beside the container, about: bytes, by what they are for.

    Parameters
    ----------
    features
        Of each modality, (n_cells, n_features).
    n_columns
        Columns of the log-odds.
    compress_above
        The most that are kept.
    n_jobs
        Models trained at a time.
    """
    n_cells, width = sum(len_of(one) for one in features.values()), min(n_columns, compress_above)
    largest = max((bytes_of(one) for one in features.values()), default=0.0)
    read = min(EVIDENCE_ENTRIES, max((len_of(one) for one in features.values()), default=0) * n_columns)
    return {
        "features as float64": sum(bytes_of(one) for one in features.values()),
        "scores and their errors": 2.0 * 4 * n_cells * width,
        "models in training": TRAINING_COPIES * n_jobs * largest,
        "calibration": CALIBRATION_COPIES * 8.0 * read,
    }


def of_new_scores(features: Matrix, width: int) -> dict[str, float]:
    """What :func:`psalm.tl.score` takes of one modality: images and sparse matrices stay as they are.

    Parameters
    ----------
    features
        (n_cells, n_features), or images.
    width
        Columns that are kept.
    """
    copied = np.ndim(features) == _scores.MATRIX_AXES and not hasattr(features, "nnz")
    return {
        "features as float64": bytes_of(features) if copied else 0.0,
        "scores and their errors": 2.0 * 4 * len_of(features) * width,
    }


def of_compared(found: Features) -> dict[str, float]:
    """What features take as averages are compared in them: dense, whatever they are stored as, and as z-scores."""
    copies = 1 if found.is_representation else COMPARED_COPIES
    return {f"{found.said}, dense": copies * 8.0 * float(np.prod(found.values.shape))}


def len_of(features: Matrix) -> int:
    """Number of cells."""
    return int(features.shape[0])


def bytes_of(features: Matrix) -> float:
    """Of a copy as the classifiers take it: float64, or what is stored of a sparse matrix."""
    stored: Any = features
    if hasattr(stored, "nnz"):
        return float(BYTES_PER_ENTRY * stored.nnz)
    return 8.0 * float(np.prod(stored.shape))
