"""What scoring asks of its arguments and features, before anything is trained."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _checks, _estimate, _features
from psalm.core.classifiers import require_writable
from psalm.core.image_shape import image_shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from psalm.core._types import IntArray


def require_numbers(n_folds: int, n_repeats: int, compress_above: int, distance_error: float) -> None:
    """Require numbers of folds, repeats and columns, and an error, in their ranges."""
    _checks.whole_number("n_folds", n_folds, least=2)
    _checks.whole_number("n_repeats", n_repeats, least=1)
    _checks.whole_number("compress_above", compress_above, least=2)
    _checks.positive("distance_error", distance_error)


def require_writable_models(choice: Any, checkpoint: str | Path | None, save: str | Path | None) -> None:
    """Refuse a classifier whose models cannot be kept where they shall be."""
    for name, place in {"checkpoint": checkpoint, "save": save}.items():
        try:
            if place is not None:
                require_writable(choice)
        except TypeError as reason:
            msg = f"`{name}` cannot keep the models of this classifier; leave it out. {reason}"
            raise TypeError(msg) from reason


def require_folder(checkpoint: str | Path | None, rng: object) -> None:
    """Require a place for finished models, and a seed by which a second call can find them."""
    if checkpoint is not None and rng is None:
        msg = "With `rng=None` every call draws folds of its own, and `checkpoint` cannot go on. Pass a seed: `rng=0`."
        raise ValueError(msg)
    _checks.folder("checkpoint", checkpoint)


def require_images(inputs: Mapping[str, _features.Features], chosen: Mapping[str, Any]) -> None:
    """Before anything is trained, which for another modality may take long."""
    for name, found in inputs.items():
        if chosen[name] == "image":
            image_shape(found.values.shape, said=f"`mdata[{name!r}].{found.said}`")


def require_dense(inputs: Mapping[str, _features.Features]) -> None:
    """Require features whose batch shift can be taken out: dense ones, a row for each cell."""
    for name, found in inputs.items():
        if hasattr(found.values, "nnz") or np.ndim(found.values) != 2:  # noqa: PLR2004, a matrix
            msg = (
                f"`batch_key=` takes each batch's shift from the features, and those of {name!r} in {found.said} are "
                "sparse or images. Run `pp.represent` first, or pass `use_rep=` with dense components."
            )
            raise ValueError(msg)


def require_memory(
    inputs: Mapping[str, _features.Features], n_columns: int, compress_above: int, n_jobs: int | None
) -> None:
    """Refuse scores that the free memory cannot hold."""
    from joblib import cpu_count

    at_a_time = n_jobs if n_jobs is not None and n_jobs > 0 else 1 if n_jobs is None else cpu_count()
    needed = _estimate.of_scores(
        {name: found.values for name, found in inputs.items()}, n_columns, compress_above, at_a_time
    )
    change = (
        "Represent the cells by fewer components (`pp.represent(n_comps=)`), pass a smaller `compress_above=` or "
        "`n_jobs=`, or take a sample of the cells."
    )
    _estimate.require("tl.propensity", needed, change)


def warn_of_small(codes: Mapping[str, IntArray], treatments: pd.Index, n_folds: int) -> None:
    """Treatments with fewer cells than folds, by name."""
    counts = np.array([np.bincount(code[code >= 0], minlength=len(treatments)) for code in codes.values()])
    small = set(treatments[(counts < n_folds).any(axis=0)])
    if small:
        msg = (
            f"{len(small)} treatments have fewer cells than folds ({n_folds}): {_checks.listed(sorted(small))}. "
            "Their scores rest on very few cells; raise `min_cells` in `pp.treatment` to leave them out."
        )
        warnings.warn(msg, UserWarning, stacklevel=4)
