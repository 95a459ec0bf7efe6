"""Batches (plates, donors): scores must tell treatments by what treatments do, not by where their cells were measured.

Two things tie treatment and batch together. Cells of a batch lie elsewhere in feature space: an additive shift, found
beside the treatments' own shifts, is taken away. And batches hold different treatments: training cells are weighted so
that treatment and batch are independent, after which a classifier gains nothing from recognising a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix

LARGEST_WEIGHT = 10.0
"""Weights are truncated here: a treatment that is rare in a batch must not rest on a handful of cells."""


@dataclass(frozen=True)
class BatchShift:
    """Additive shift of each batch, from the model ``x = treatment's mean + batch's shift + noise``.

    Parameters
    ----------
    shift
        (n_batches, n_features); the mean over the cells it was fitted on is zero.
    """

    shift: FloatArray

    @classmethod
    def fit(cls, features: Matrix, codes: IntArray, batches: IntArray, n_batches: int) -> Self:
        """Least squares with the treatments' means eliminated.

        A treatment that occurs in one batch only adds nothing to what is known of the shift. A batch without cells
        here, whose only cell is held out, has no shift.

        Parameters
        ----------
        features
            (n_cells, n_features), dense.
        codes, batches
            (n_cells,) treatment and batch of each cell, counted from 0.
        n_batches
            How many batches there are.
        """
        values = np.asarray(features, dtype=np.float64)
        counts = contingency(codes, batches, n_batches=n_batches)
        per_treatment = np.maximum(counts.sum(axis=1), 1)
        by_treatment, by_batch = _sums(values, codes, len(counts)), _sums(values, batches, n_batches)
        within = counts / per_treatment[:, None]
        normal = np.diag(counts.sum(axis=0)) - counts.T @ within
        shift = np.linalg.lstsq(normal, by_batch - within.T @ by_treatment, rcond=1e-10)[0]
        shift -= np.average(shift, axis=0, weights=counts.sum(axis=0))
        return cls(np.where(counts.sum(axis=0)[:, None] > 0, shift, 0.0))


def adjust(features: Matrix, batches: IntArray | None, shift: BatchShift | None) -> Matrix:
    """Features without their batch's shift; as they are where there are no batches."""
    if shift is None or batches is None:
        return features
    return np.asarray(features - shift.shift[batches])


def balancing_weights(codes: IntArray, batches: IntArray) -> FloatArray:
    """Weights ``p(t) / p(t | batch)``, mean one, at most :data:`LARGEST_WEIGHT` before that.

    Under them treatment and batch are independent, as far as every treatment occurs in every batch (inverse
    probability weighting; Robins, Hernán and Brumback, Epidemiology 2000).

    Parameters
    ----------
    codes, batches
        (n_cells,) treatment and batch of each cell, counted from 0.
    """
    counts = contingency(codes, batches)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    ratio = np.divide(expected, counts, out=np.zeros_like(expected), where=counts > 0)
    weights = np.minimum(ratio, LARGEST_WEIGHT)[codes, batches]
    return np.asarray(weights / weights.mean())


def predictability(codes: IntArray, batches: IntArray, n_treatments: int) -> FloatArray:
    """How well each treatment is told by the batch alone: area under the ROC curve (n_treatments,).

    A cell's score is its batch's share of the treatment. 0.5 is chance; 1 means that the treatment has batches of its
    own. Batches of a handful of cells make it too high. NaN for a treatment without cells, or with all of them.

    Parameters
    ----------
    codes, batches
        (n_cells,) treatment and batch of each cell, counted from 0.
    n_treatments
        Length of the result.
    """
    from sklearn.metrics import roc_auc_score

    counts = contingency(codes, batches, n_treatments)
    size = counts.sum(axis=0)
    labels = np.repeat([1, 0], len(size))
    found = np.full(n_treatments, np.nan)
    for t, inside in enumerate(counts):
        if 0 < inside.sum() < size.sum():
            share = np.tile(inside / size, 2)
            found[t] = roc_auc_score(labels, share, sample_weight=np.concatenate([inside, size - inside]))
    return found


def contingency(codes: IntArray, batches: IntArray, n_treatments: int = 0, n_batches: int = 0) -> FloatArray:
    """Number of cells (n_treatments, n_batches), both at least as many as occur."""
    n_treatments, n_batches = max(n_treatments, int(np.max(codes)) + 1), max(n_batches, int(np.max(batches)) + 1)
    flat = np.bincount(codes * n_batches + batches, minlength=n_treatments * n_batches)
    return np.asarray(flat.reshape(n_treatments, -1), dtype=np.float64)


def _sums(values: FloatArray, groups: IntArray, n_groups: int) -> FloatArray:
    """Sum of the rows of each group."""
    entries = np.ones(len(groups)), (groups, np.arange(len(groups)))
    indicator = sparse.csr_matrix(entries, shape=(n_groups, len(groups)))
    return np.asarray(indicator @ values)
