"""What the command aligns: cells of a data set, or of a user's file."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from anndata import AnnData
    from mudata import MuData

ENDING = ".h5mu"
MODALITIES, KIND, OF_R = "mod", "encoding-type", "AnnData"
"""Names in files: the group of modalities, the attribute with a group's kind, and that kind as R's MuData spells it."""
MANY_FEATURES = 200
"""Counts of more features than this are taken for genes, of fewer for proteins."""


@dataclass(frozen=True)
class Task:
    """Cells to align, and what is known of them."""

    mdata: MuData
    treatment: str
    source: str
    target: str
    kinds: dict[str, str]
    latent: str | None = None


def _gene_halves() -> Task:
    from psalm.datasets import gene_halves

    kinds = dict.fromkeys(("panel1", "panel2"), "features")
    return Task(gene_halves(), "bulk_labels", "panel1", "panel2", kinds)


def _snareseq() -> Task:
    from psalm.datasets import snareseq

    return Task(snareseq(), "cell_type", "rna", "atac", {"rna": "rna", "atac": "features"})


def _scgem() -> Task:
    from psalm.datasets import scgem

    return Task(scgem(), "cell_type", "rna", "methylation", dict.fromkeys(("rna", "methylation"), "features"))


def _simulated() -> Task:
    from psalm.datasets import simulated

    return Task(simulated(), "perturbation", "a", "b", dict.fromkeys(("a", "b"), "features"), latent="latent")


DATASETS: dict[str, Callable[[], Task]] = {
    "gene_halves": _gene_halves,
    "snareseq": _snareseq,
    "scgem": _scgem,
    "simulated": _simulated,
}


def of_file(path: Path, treatment: str, kinds: Mapping[str, str | None], out: Path) -> Task:
    """Two modalities of a user's file, with all else that the file holds.

    Parameters
    ----------
    path
        The file.
    treatment
        Column of ``obs`` with the treatments.
    kinds
        Source and target, and what they hold; None: by their values.
    out
        The file that the result is written to.

    Raises
    ------
    KeyError, OSError, TypeError, ValueError
        The file does not fit; says what to do.
    """
    import mudata

    from psalm import _access
    from psalm._containers import no_pull, stack

    _require_container(path)
    source, target = kinds
    with no_pull(), _readable(path) as place:
        mdata = mudata.read_h5mu(place)
        _access.two_modalities(_access.container(mdata), source, target)
        others = [name for name in mdata.mod if name not in kinds]
        if others:
            _require_another(path, out, others)
            chosen = stack({name: mdata.mod[name] for name in kinds})
            chosen.obs = mdata.obs.loc[chosen.obs_names]  # the treatment may be a column of the container
            chosen.uns = mdata.uns  # what earlier steps wrote is known by it
            mdata = chosen
    found = {name: kind or _kind(name, mdata.mod[name]) for name, kind in kinds.items()}
    return Task(mdata, treatment, source, target, kinds={name: kind for name, kind in found.items() if kind})


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """The file; or, where R's MuData wrote it, a copy for anndata, which spells the kind of a modality otherwise."""
    import h5py

    with h5py.File(path) as file:
        ours = all(group.attrs.get(KIND) != OF_R for group in file[MODALITIES].values())
    if ours:
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        with h5py.File(copy, "r+") as file:
            for group in file[MODALITIES].values():
                group.attrs[KIND] = OF_R.lower()
        yield copy


def _require_container(path: Path) -> None:
    """Refuse a file that holds no MuData."""
    import h5py

    build = 'mudata.MuData({"rna": anndata.read_h5ad("rna.h5ad"), "protein": …}).write_h5mu("cells.h5mu")'
    if not path.exists():
        msg = f"{path} does not exist"
        raise FileNotFoundError(msg)
    single = path.suffix == ".h5ad"
    if path.suffix == ENDING and h5py.is_hdf5(path):
        with h5py.File(path) as file:
            if MODALITIES in file:
                _refuse_nested(path, [name for name, group in file[MODALITIES].items() if MODALITIES in group])
                return
            single = "X" in file or "obs" in file
    if single:
        msg = f"{path} holds one modality (an AnnData), and aligning takes two. Put both into one file: `{build}`"
        raise ValueError(msg)
    msg = f"{path} is not an {ENDING} file: put the modalities into a MuData, and write that: `{build}`"
    raise ValueError(msg)


def _refuse_nested(path: Path, nested: list[str]) -> None:
    from psalm._checks import listed

    if nested:
        msg = f"{path}: {listed(nested)} is a MuData itself. Put its modalities beside the others, one AnnData each"
        raise ValueError(msg)


def _require_another(path: Path, out: Path, others: list[str]) -> None:
    from psalm._checks import listed

    if out.resolve() == path.resolve():
        msg = f"{out} is the file that is read, and its modalities {listed(others)} would be lost. Pass another --out"
        raise ValueError(msg)


def _kind(name: str, adata: AnnData) -> str | None:
    """What X most likely holds, or None where the file brings a representation of its own."""
    import numpy as np

    from psalm import _keys
    from psalm._checks import listed

    if _keys.REPRESENTATION in adata.obsm:
        return None
    if adata.X is None:
        places = [*(f"layers[{key!r}]" for key in adata.layers if key), *(["raw.X"] if adata.raw is not None else [])]
        msg = (
            f"`{name}` has no X in this file. Found: {listed(places)}. Put what is to be read there, such as raw "
            f"counts, into X (`mdata[{name!r}].X = mdata[{name!r}].layers[…]`), and write the file again"
        )
        raise ValueError(msg)
    values = adata.X.data if hasattr(adata.X, "nnz") else np.asarray(adata.X)
    if np.size(values) == 0 or np.min(values) < 0 or not np.array_equal(values, np.round(values)):
        return "features"
    return "rna" if adata.n_vars > MANY_FEATURES else "protein"
