"""Simulated cells, scored and matched, in a file that fresh processes read; and the match as dense arrays.

Features, treatments and true latents are those of ``psalm.datasets.simulated``, scored by logistic regression. The
source also gets a sparse matrix of counts, and both modalities a label that is finer than the treatment: the quarter
of the first latent.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial.distance import cdist
from timing import fresh, quiet

import psalm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray

SOURCE, TARGET, TREATMENT = "a", "b", "perturbation"
LABEL, COUNTS = "quarter", "counts"
N_TREATMENTS, N_QUARTERS, DENSITY, FEW = 8, 4, 0.05, 400


@contextmanager
def files(n_cells: int, n_genes: int = 100, *, paired: bool = False) -> Iterator[tuple[Path, Path]]:
    """Files of matched cells and of a few of them; with ``paired`` the modalities hold the same cells."""
    with TemporaryDirectory() as folder:
        paths = Path(folder) / "cells.h5mu", Path(folder) / "few.h5mu"
        for path, size in zip(paths, (n_cells, FEW), strict=True):
            fresh(_make, path, (size, n_genes), paired)
        yield paths


def _make(path: Path, size: tuple[int, int], paired: bool) -> None:  # noqa: FBT001, passed to a process
    with quiet():
        mdata = psalm.datasets.simulated(n_cells=size[0], n_treatments=N_TREATMENTS, paired=paired)
        mdata[SOURCE].obsm[COUNTS] = counts(*size)
        for adata in mdata.mod.values():
            quarter = pd.qcut(adata.obsm["latent"][:, 0], N_QUARTERS, labels=False)
            adata.obs[LABEL] = pd.Categorical(quarter.astype(str))
        psalm.pp.treatment(mdata, TREATMENT)
        psalm.tl.propensity(mdata, classifier="logistic", n_repeats=2, progress=False)
        psalm.tl.match(mdata, source=SOURCE, target=TARGET, progress=False)
        mdata.write(path)


def counts(n_cells: int, n_genes: int) -> sparse.csr_matrix:
    """(n_cells, n_genes) float32, 5 % of them above zero."""
    rng = np.random.default_rng(1)
    found = sparse.random(n_cells, n_genes, DENSITY, format="csr", dtype=np.float32, rng=rng)
    found.data = (1 + rng.poisson(1.0, size=found.nnz)).astype(np.float32)
    return sparse.csr_matrix(found)


@dataclass(frozen=True)
class Block:
    """Cells of one treatment with scores, potentials and ε."""

    source: IntArray
    target: IntArray
    x: FloatArray
    y: FloatArray
    f: FloatArray
    g: FloatArray
    epsilon: float

    def plan(self) -> FloatArray:
        """Dense (n_source, n_target) float64, as a solver for dense problems returns it."""
        cost = cdist(self.x, self.y)
        return np.exp((self.f[:, None] + self.g - cost) / self.epsilon)


@dataclass(frozen=True)
class Data:
    """Matched cells."""

    mdata: MuData

    @cached_property
    def blocks(self) -> list[Block]:
        """One for each treatment."""
        sides, epsilons = [self.mdata[name] for name in (SOURCE, TARGET)], self.mdata.uns["match"]["table"]["epsilon"]
        found = []
        for code, epsilon in enumerate(np.asarray(epsilons, dtype=float)):
            cells = [np.flatnonzero(side.obs["match_block"].to_numpy() == code) for side in sides]
            scores, potentials = (
                [np.asarray(values[place], dtype=float) for values, place in zip(both, cells, strict=True)]
                for both in (
                    [side.obsm["propensity"] for side in sides],
                    [side.obs["match_potential"].to_numpy() for side in sides],
                )
            )
            found.append(Block(*cells, *scores, *potentials, float(epsilon)))
        return found

    @cached_property
    def plans(self) -> list[FloatArray]:
        """Dense plan of every block: made at the first use, at hand afterwards."""
        return [block.plan() for block in self.blocks]


def load(path: Path) -> Data:
    """Read a file."""
    return Data(mudata.read_h5mu(path))
