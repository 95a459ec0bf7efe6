"""The one reader of matrices: whatever a container holds as numbers, as what the core takes; nothing is filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from psalm import _checks
from psalm.core.image_shape import N_MATRIX_AXES
from psalm.core.missing import N_NAMED
from psalm.core.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import FloatArray, Matrix

NUMBERS = {"integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty"}
"""What pandas calls objects that are numbers, or missing."""


def numeric(values: Any, where: str) -> Matrix:
    """A float64 matrix in memory, dense or CSR with each entry once, of anything that AnnData stores as a matrix."""
    found = _plain(_in_memory(values, where), where)
    if sparse.issparse(found):
        found = sparse.csr_matrix(found, dtype=np.float64)
        if not found.has_canonical_format:
            found = found.copy()  # the user's arrays stay as they are
            found.sum_duplicates()
        return found
    if found.ndim != N_MATRIX_AXES:
        msg = (
            f"{where} has shape {found.shape}, but features must be a matrix of cells × features. "
            'Images, cells × channels × height × width, are for `tl.propensity(classifier="image")` and for the source '
            "of `tl.predict`."
        )
        raise ValueError(msg)
    return np.asarray(found, dtype=np.float64)


def tensor(values: Any, where: str) -> Any:
    """Images in memory as they are stored, whole numbers included: (n_cells, channels, height, width)."""
    found = _plain(_in_memory(values, where), where)
    found = found.astype(np.uint8) if found.dtype == bool else found
    return np.ascontiguousarray(found, dtype=found.dtype.newbyteorder("="))


def rows_of(values: Any, where: str, features: Sequence[Any] | None = None, cells: Sequence[Any] | None = None) -> Rows:
    """Numbers that are read some rows at a time, and the names that messages call features and cells by.

    Values in memory are checked, those in a file as they are read. Only what cannot be read by rows is converted: CSC
    matrices, also in a file, and data frames.
    """
    found = _plain(values if _has_rows(values) else _in_memory(values, where), where)
    rows = Rows(found, where, features, cells)
    if rows.in_memory:
        _checks.finite(found, where, features, cells)
        _checks.fits_float32(found, where)
    return rows


def n_axes(values: Any) -> int:
    """Number of axes of anything that has a shape."""
    return len(getattr(values, "shape", ()))


def _has_rows(values: Any) -> bool:
    """Whether rows can be read from what lies in a file, without reading the rest."""
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    return hasattr(values, "shape") and kind in tuple("biuf") and getattr(values, "format", "csr") == "csr"


def _in_memory(values: Any, where: str) -> Any:
    """The same, read from wherever it is."""
    if isinstance(values, np.ndarray | pd.DataFrame) or sparse.issparse(values):
        return values
    for read in ("to_memory", "compute"):  # AnnData's sparse data sets and lazy frames; dask
        if hasattr(values, read):
            return getattr(values, read)()
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(values, where) from error
    if found.ndim == 0:  # numpy takes anything for an object
        raise _unreadable(values, where)
    return found


def _plain(values: Any, where: str) -> Any:
    """Numbers in one of three forms: an array, CSR with one type of index, or what reads rows from a file."""
    if isinstance(values, pd.DataFrame):
        return _of_frame(values, where)
    _checks.plain_numbers(values, where)
    if sparse.issparse(values):
        entries = values.tocsr()
        # built anew, indices become as narrow as they can be and of one type, as scikit-learn demands
        return sparse.csr_matrix((entries.data, entries.indices, entries.indptr), shape=entries.shape)
    if not isinstance(values, np.ndarray):
        return values
    return _of_objects(values, where) if values.dtype == object else np.asarray(values)


def _of_frame(frame: pd.DataFrame, where: str) -> FloatArray:
    """A table of numbers, nullable and boolean columns included; missing values become NaN, to be refused by name."""
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
    wrong = [f"{str(column.name)!r} ({column.dtype})" for column in columns if not _is_numeric(column)]
    if wrong:
        named = ", ".join(wrong[:N_NAMED]) + (", …" if len(wrong) > N_NAMED else "")
        msg = f"{where} has {len(wrong)} columns that are not numbers: {named}. Drop or convert them."
        raise TypeError(msg)
    if all(isinstance(column.dtype, np.dtype) and column.dtype != object for column in columns):
        return np.asarray(frame.to_numpy())
    found = [column.to_numpy(dtype=np.float64, na_value=np.nan) for column in columns]
    return np.column_stack(found) if found else np.empty(frame.shape)


def _is_numeric(column: pd.Series) -> bool:
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) in NUMBERS
    return column.dtype.kind in "biuf"


def _of_objects(values: Any, where: str) -> FloatArray:
    """Numbers that are stored as Python objects; text that reads as a number is none."""
    flat = pd.Series(np.asarray(values).ravel(), dtype=object)
    if not _is_numeric(flat):
        raise _unreadable(values, where, pd.api.types.infer_dtype(flat, skipna=True))
    return np.asarray(flat.to_numpy(dtype=np.float64, na_value=np.nan)).reshape(values.shape)


def _unreadable(values: Any, where: str, holds: str = "") -> TypeError:
    what = f"{type(values).__name__}{f' and holds {holds} values' if holds else ''}"
    return TypeError(
        f"{where} is of type {what} and cannot be read as numbers. Pass a matrix of numbers: a numpy array, a scipy "
        "sparse matrix, a data frame of numeric columns, or one of these in a file (backed, zarr, dask)."
    )
