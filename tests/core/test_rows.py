import dask.array
import h5py
import numpy as np
import pytest
import zarr
from anndata import AnnData, read_h5ad
from anndata.io import sparse_dataset
from scipy import sparse

from psalm.core.rows import Rows, shuffled


@pytest.fixture
def values(rng):
    return rng.poisson(0.5, size=(60, 7)).astype(np.float32)


def in_h5(values, folder):
    file = h5py.File(folder / "a.h5", "w")
    file["x"] = values
    return file["x"]


def in_h5ad(values, folder):
    AnnData(sparse.csr_matrix(values)).write_h5ad(folder / "a.h5ad")
    return folder / "a.h5ad"


STORES = {
    "dense": lambda values, _: values,
    "csr": lambda values, _: sparse.csr_matrix(values),
    "csr_array": lambda values, _: sparse.csr_array(values),
    "h5py": in_h5,
    "dask": lambda values, _: dask.array.from_array(values, chunks=(16, 7)),
    "dask of csr": lambda values, _: dask.array.from_array(values, chunks=(16, 7)).map_blocks(sparse.csr_matrix),
    "zarr": lambda values, folder: zarr.create_array(folder / "a.zarr", data=values, chunks=(16, 7)),
    "backed": lambda values, folder: read_h5ad(in_h5ad(values, folder), backed="r").X,
    "sparse_dataset": lambda values, folder: sparse_dataset(h5py.File(in_h5ad(values, folder))["X"]),
}
"""The same numbers, where a kind of reader finds them."""


@pytest.mark.parametrize("kind", STORES)
def test_any_rows_in_any_order_from_any_store(kind, values, tmp_path, rng):
    rows = Rows(STORES[kind](values, tmp_path))
    assert rows.shape == (60, 7)
    assert rows.in_memory == (kind in {"dense", "csr", "csr_array"})
    for wanted in (rng.integers(60, size=90), np.arange(10, 20), np.array([5]), np.array([], dtype=int), slice(3, 9)):
        found = rows.take(wanted)
        np.testing.assert_array_equal(found, values[wanted])
        assert found.dtype == np.float32
    np.testing.assert_array_equal(rows.everything(), values)


def test_rows_are_new_arrays(read_only):
    values = read_only(6, 2)
    rows = Rows(values)
    taken = rows.take(slice(0, 6))
    taken[:] = 0
    assert values.any()


def test_values_in_a_file_are_checked_as_they_are_read(tmp_path, values):
    values[40, 2] = np.nan
    rows = Rows(in_h5(values, tmp_path), "`X`")
    rows.take(slice(0, 40))
    found = r"Of 2 cells that were read, `X` has 1 values .* in 1 cells \(40\) and 1 features \(2\). Impute"
    with pytest.raises(ValueError, match=found):
        rows.take(np.array([3, 40]))
    named = Rows(rows.values, "`X`", [f"g{i}" for i in range(7)], [f"c{i}" for i in range(60)])
    with pytest.raises(ValueError, match=r"in 1 cells \('c40'\) and 1 features \('g2'\)"):
        named.take(slice(38, 50))


def test_masked_values_of_a_lazy_array_are_refused(values):
    hidden = np.ma.masked_array(values, mask=values > 2)
    rows = Rows(dask.array.from_array(hidden, chunks=(16, 7), asarray=False))
    with pytest.raises(ValueError, match="NaN or infinite"):
        rows.everything()


def test_images_keep_their_axes(rng):
    images = rng.integers(0, 255, size=(5, 3, 8, 8), dtype=np.uint8)
    assert Rows(images).take(np.array([4, 0])).shape == (2, 3, 8, 8)


def test_shuffled_in_runs_is_a_permutation_that_reads_neighbours(rng):
    items = np.sort(rng.permutation(5000)[:3000])
    order = shuffled(items, np.random.default_rng(0), run=32, window=4)
    np.testing.assert_array_equal(np.sort(order), items)
    assert not np.array_equal(order, items)
    starts = np.arange(0, 3000, 32)
    window = np.searchsorted(items, order[: 4 * 32]) // 32
    assert len(np.unique(window)) == 4  # of 94 runs
    assert len(starts) == 94
    np.testing.assert_array_equal(np.sort(shuffled(items, np.random.default_rng(0))), items)
