"""Dealing cells to folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import IntArray


def deal_folds(codes: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """Deal the cells of each treatment to the folds like cards, in random order.

    Fold sizes within a treatment differ by at most one.
    A treatment with fewer cells than folds is missing from the test side of some folds, never from training,
    unless it has a single cell: the model that scores this cell has not seen its treatment.

    Parameters
    ----------
    codes
        (n_cells,) treatment of each cell, −1 where it has none.
    n_folds
        Number of folds.
    rng
        Source of the shuffle.

    Returns
    -------
    (n_cells,) fold of each cell; −1 where it has no treatment.
    """
    folds = np.full(len(codes), -1)
    for code in np.unique(codes[codes >= 0]):
        cells = rng.permutation(np.flatnonzero(codes == code))
        folds[cells] = (np.arange(len(cells)) + rng.integers(n_folds)) % n_folds
    return folds


def deal_groups(codes: IntArray, groups: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """Deal whole groups (donors, plates) to the folds, with treatments spread as evenly as groups allow.

    Parameters
    ----------
    codes, groups
        (n_cells,) treatment and group of each cell; cells of treatment −1 take no part.
    n_folds
        Number of folds, at most the number of groups.
    rng
        Source of the shuffle.

    Returns
    -------
    (n_cells,) fold of each cell; −1 where it has no treatment.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labelled = np.flatnonzero(codes >= 0)
    folds = np.full(len(codes), -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=int(rng.integers(2**31)))
    for fold, (_, held_out) in enumerate(splitter.split(labelled, codes[labelled], groups[labelled])):
        folds[labelled[held_out]] = fold
    return folds
