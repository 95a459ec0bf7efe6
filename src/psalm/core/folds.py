"""Dealing cells to folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from psalm.core._types import BoolArray, IntArray


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


def training_cells(codes: IntArray, folds: IntArray, rng: np.random.Generator) -> dict[int, BoolArray]:
    """The cells that the model of each fold is trained on: of every treatment as many for one fold as for another.

    A fold that holds a cell of a treatment back would else train on one cell less of it than a fold that does not, and
    what the model makes of this, whatever the classifier, would tell the treatment of the cells that it has not seen.
    So a fold whose own cells are fewer leaves out others, drawn at random: at most one of each treatment.

    Parameters
    ----------
    codes, folds
        (n_cells,) treatment and fold of each cell, as :func:`deal_folds` has dealt them.
    rng
        Draws the cells left out.

    Returns
    -------
    For each fold a mask (n_cells,). Of a treatment with a single cell all folds but its own are trained on it.
    """
    n_cells = np.bincount(codes[codes >= 0])
    held_back = np.zeros_like(n_cells)
    training = other_folds(codes, folds)
    for cells in training.values():
        held_back = np.maximum(held_back, n_cells - np.bincount(codes[cells], minlength=len(n_cells)))
    wanted = np.maximum(n_cells - held_back, 1)
    for cells in training.values():
        order = rng.permutation(np.flatnonzero(cells))
        order = order[np.argsort(codes[order], kind="stable")]
        first = np.searchsorted(codes[order], codes[order])
        cells[order[np.arange(len(order)) - first >= wanted[codes[order]]]] = False
    return training


def other_folds(codes: IntArray, folds: IntArray) -> dict[int, BoolArray]:
    """For each fold a mask (n_cells,) of the labelled cells of all others."""
    labelled = codes >= 0
    return {fold: labelled & (folds != fold) for fold in np.unique(folds[labelled]).tolist()}


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
