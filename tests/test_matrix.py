"""The one reader of matrices: the same numbers in whatever form a container may hold them."""

import anndata
import dask.array
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import sparse_dataset
from scipy import sparse

from psalm import _matrix


@pytest.fixture
def values(rng):
    return rng.poisson(0.7, size=(30, 8)).astype(np.float32)


def frame(values):
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(values.shape[1])])


def with_indices(values, indices, indptr):
    found = sparse.csr_matrix(values)
    found.indices, found.indptr = found.indices.astype(indices), found.indptr.astype(indptr)
    return found


def in_halves(values):
    """Every entry stored twice, as half of it."""
    once = sparse.csr_matrix(values)
    entries = np.repeat(once.data / 2, 2), np.repeat(once.indices, 2), 2 * once.indptr
    return sparse.csr_matrix(entries, shape=once.shape)


def in_chunks(form, width=8):
    return lambda values, _: dask.array.from_array(values, chunks=(7, width)).map_blocks(form)


def in_h5(values, folder):
    file = h5py.File(folder / "a.h5", "w")
    file["x"] = values
    return file["x"]


def in_file(form):
    def store(values, folder):
        anndata.AnnData(form(values)).write_h5ad(folder / "a.h5ad")
        return sparse_dataset(h5py.File(folder / "a.h5ad")["X"])

    return store


def lazy(form):
    def store(values, folder):
        anndata.AnnData(form(values)).write_zarr(folder / "a.zarr")
        return anndata.experimental.read_lazy(folder / "a.zarr").X

    return store


MEMORY = {
    "csr_array": sparse.csr_array,
    "csc_matrix": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
    "coo": sparse.coo_matrix,
    "coo_array": sparse.coo_array,
    "bsr": sparse.bsr_matrix,
    "int32 and int64": lambda values: with_indices(values, np.int32, np.int64),
    "int64 and int32": lambda values: with_indices(values, np.int64, np.int32),
    "int64": lambda values: with_indices(values, np.int64, np.int64),
    "entries stored twice": in_halves,
    "float16": lambda values: values.astype(np.float16),
    "unsigned": lambda values: values.astype(np.uint16),
    "whole numbers": lambda values: values.astype(np.int64),
    "other byte order": lambda values: values.astype(">f4"),
    "objects": lambda values: values.astype(object),
    "nothing masked": lambda values: np.ma.masked_array(values, mask=np.zeros(values.shape, bool)),
    "frame": frame,
    "nullable": lambda values: frame(values).convert_dtypes(),
    "nullable floats": lambda values: frame(values).astype("Float64"),
    "frame of objects": lambda values: frame(values).astype(object),
    "sparse frame": lambda values: pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(values)),
    "repeated names": lambda values: frame(values).set_axis(["f"] * values.shape[1], axis=1),
}
FILES = {
    "h5py": in_h5,
    "zarr": lambda values, folder: zarr.create_array(folder / "a.zarr", data=values, chunks=(7, 8)),
    "csr in a file": in_file(sparse.csr_matrix),
    "csc in a file": in_file(sparse.csc_matrix),
    "dask": in_chunks(np.asarray),
    "dask of csr": in_chunks(sparse.csr_matrix),
    "dask of csr_array": in_chunks(sparse.csr_array),
    "dask of csc, also by columns": in_chunks(sparse.csc_matrix, 3),
    "lazy": lazy(np.asarray),
    "lazy csr": lazy(sparse.csr_matrix),
    "lazy csc": lazy(sparse.csc_matrix),
}
FORMS = {name: (lambda values, _, form=form: form(values)) for name, form in MEMORY.items()} | FILES


def dense(found):
    return found.toarray() if sparse.issparse(found) else found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Writing zarr v2:UserWarning")
def test_every_form_is_read_to_the_same_numbers(form, values, tmp_path):
    found = _matrix.numeric(FORMS[form](values, tmp_path), "X")
    assert found.dtype == np.float64
    assert type(found) in {np.ndarray, sparse.csr_matrix}
    np.testing.assert_array_equal(dense(found), values)
    if sparse.issparse(found):
        assert found.indices.dtype == found.indptr.dtype == np.int32
        assert found.has_canonical_format


@pytest.mark.parametrize("form", MEMORY)
def test_rows_in_memory_are_the_same_numbers(form, values, rng):
    rows = _matrix.rows_of(MEMORY[form](values), "X")
    assert rows.in_memory
    wanted = rng.integers(30, size=50)
    np.testing.assert_array_equal(rows.take(wanted), values[wanted])


@pytest.mark.parametrize("form", FILES)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Writing zarr v2:UserWarning")
def test_rows_of_a_file_are_read_where_they_can_be(form, values, tmp_path, rng):
    rows = _matrix.rows_of(FILES[form](values, tmp_path), "X")
    assert rows.in_memory == (form == "csc in a file")
    wanted = rng.integers(30, size=50)
    np.testing.assert_array_equal(rows.take(wanted), values[wanted])


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_booleans_are_zero_and_one(values, as_matrix):
    mask = values > 0
    for found in (_matrix.numeric(as_matrix(mask), "X"), _matrix.rows_of(as_matrix(mask), "X").everything()):
        np.testing.assert_array_equal(dense(found), mask.astype(float))
    missing = frame(mask).astype("boolean")
    np.testing.assert_array_equal(_matrix.numeric(missing, "X"), mask.astype(float))


def test_the_users_matrix_stays_as_it_is(values):
    given = in_halves(values).astype(np.float64)
    before = given.data.copy(), given.indices.copy(), given.indptr.copy()
    _matrix.numeric(given, "X")
    for one, other in zip((given.data, given.indices, given.indptr), before, strict=True):
        np.testing.assert_array_equal(one, other)


MISSING = pd.DataFrame({"g1": [1.0, 2.0, None], "g2": [None, None, None], "g3": [1, 2, 3]}, index=["a", "b", "c"])


@pytest.mark.parametrize("kind", ["Float64", "object", "float32"])
def test_missing_values_of_a_frame_are_named(kind):
    given = MISSING.astype(kind)
    with pytest.raises(ValueError, match=r"has 4 values .* in 3 cells \('a', 'b', 'c'\) and 2 features") as error:
        _matrix.rows_of(given, "`obsm['q']`", given.columns, given.index)
    assert "1 features have no finite value in any of 3 cells: 'g2'. Drop them." in str(error.value)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        pytest.param(pd.DataFrame({"n": [1.0], "t": ["1.5"]}), r"1 columns that are not numbers: 't' \(", id="text"),
        pytest.param(pd.DataFrame({"t": pd.Categorical(["1"])}), r"'t' \(category\)", id="categories"),
        pytest.param(pd.DataFrame({"t": pd.to_datetime(["2026-01-01"])}), r"'t' \(datetime64", id="dates"),
        pytest.param(np.array([["1.5"]], dtype=object), "holds string values", id="objects that are text"),
        pytest.param(np.array([["1.5"]]), "is no real number", id="text array"),
        pytest.param(np.ones((1, 1), complex), "is no real number", id="complex"),
        pytest.param(sparse.csr_matrix(np.ones((1, 1), complex)), "is no real number", id="complex, sparse"),
        pytest.param(object(), r"is of type object.* Pass a matrix of numbers: a numpy array", id="no matrix"),
    ],
)
def test_what_is_no_number_is_refused(given, match):
    for read in (_matrix.numeric, _matrix.rows_of):
        with pytest.raises(TypeError, match=match):
            read(given, "X")


def test_hidden_values_are_refused_wherever_they_are(values):
    hidden = np.ma.masked_array(values, mask=values > 1)
    for given in (hidden, dask.array.from_array(hidden, chunks=(7, 8), asarray=False)):
        with pytest.raises(ValueError, match=r"masked array, .* of whose values are hidden"):
            _matrix.numeric(given, "X")


@pytest.mark.parametrize("dtype", [np.uint16, ">u2", bool, np.float16, object])
def test_images_of_any_type_in_the_machines_order(rng, dtype):
    images = rng.integers(0, 2, size=(4, 2, 6, 5)).astype(dtype)[:, :, ::-1]
    found = _matrix.tensor(images, "X")
    assert found.dtype.isnative
    assert found.dtype not in {np.dtype(bool), np.dtype(object)}
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, images.astype(float))
