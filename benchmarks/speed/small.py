"""Seconds and memory of the small steps, `pp.treatment` and `get.coupling`, beside pandas, scipy and numpy.

    python benchmarks/speed/small.py [--cells 4000 --labelled 100000 --rounds 5 --out small.csv]

- `pp.treatment`: text labels of 200 treatments, of which some are rare and some not shared; pandas counts them by
  modality, keeps what has ten cells in both, and makes a categorical of it.
- `get.coupling`: what is stored; scipy takes the source's rows and the target's columns of ``mdata.obsp``. psalm also
  checks that the cells still have the treatments in which they were matched.
- `get.coupling(exact=True)`: every entry anew; dense plans of all treatments by numpy, put into one CSR.

Results must be the same: categories and codes, entries to 1e-12, exact entries to 1e-9. Methods alternate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from matched import SOURCE, TARGET, Data, files
from matched import load as load_matched
from scipy import sparse
from timing import Comparison, arguments, require_close, show, write

import psalm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

SIZES = {"cells": 4_000, "labelled": 100_000}
FEW, N_LABELS, LEAST = 2_000, 200, 10
PSALM, PANDAS, SCIPY, NUMPY = "psalm", "pandas", "scipy", "numpy, dense plans made"
STORED, EXACT = 1e-12, 1e-9


def labelled(n_cells: int) -> MuData:
    """Two modalities with labels whose frequencies fall, some of them of one modality only."""
    rng = np.random.default_rng(0)
    share = np.exp(-np.arange(N_LABELS) / 15)
    found = {}
    for number, name in enumerate((SOURCE, TARGET)):
        codes = rng.choice(N_LABELS, n_cells, p=share / share.sum())
        text = np.where(codes % 20 == number, f"{name}_", "") + np.char.add("gene", codes.astype(str))
        index = [f"{name}{cell}" for cell in range(n_cells)]
        found[name] = AnnData(np.zeros((n_cells, 1), np.float32), obs=pd.DataFrame({"gene": text}, index=index))
    return mudata.MuData(found)


def psalm_treatment(mdata: MuData) -> list[pd.Categorical]:
    psalm.pp.treatment(mdata, "gene", min_cells=LEAST)
    return [mdata[name].obs["treatment"].array for name in (SOURCE, TARGET)]


def pandas_treatment(mdata: MuData) -> list[pd.Categorical]:
    columns = [mdata[name].obs["gene"].astype("category") for name in (SOURCE, TARGET)]
    counts = pd.concat([column.value_counts() for column in columns], axis=1).fillna(0)
    kept = sorted(counts.index[(counts >= LEAST).all(axis=1)])
    for name, column in zip((SOURCE, TARGET), columns, strict=True):
        mdata[name].obs["by_pandas"] = pd.Categorical(column, categories=kept)
    return [mdata[name].obs["by_pandas"].array for name in (SOURCE, TARGET)]


def psalm_coupling(data: Data, *, exact: bool) -> sparse.csr_matrix:
    return psalm.get.coupling(data.mdata, exact=exact)


def by_scipy(data: Data) -> sparse.csr_matrix:
    places = (data.mdata.obs_names.get_indexer(data.mdata[name].obs_names) for name in (SOURCE, TARGET))
    rows, columns = places
    return data.mdata.obsp["match"][rows][:, columns]


def by_numpy(data: Data) -> sparse.csr_matrix:
    parts = [(block.plan(), *np.meshgrid(block.source, block.target, indexing="ij")) for block in data.blocks]
    mass, rows, columns = (np.concatenate([values.ravel() for values in column]) for column in zip(*parts, strict=True))
    return sparse.csr_matrix((mass, (rows, columns)), shape=[data.mdata[name].n_obs for name in (SOURCE, TARGET)])


def check_treatment(_: MuData, results: Mapping[str, list[pd.Categorical]]) -> dict[str, str]:
    for own, other in zip(results[PSALM], results[PANDAS], strict=True):
        if sorted(own.categories) != list(other.categories):
            msg = f"psalm keeps {len(own.categories)} treatments, pandas {len(other.categories)}, or others."
            raise ValueError(msg)
        codes = pd.Categorical(own, categories=other.categories).codes
        require_close(PANDAS, codes, other.codes, 0)
    return {PSALM: f"{len(results[PSALM][0].categories)} treatments kept"}


def check_coupling(_: Data, results: Mapping[str, sparse.csr_matrix], *, tolerance: float) -> dict[str, str]:
    own, other = results.values()
    differences = abs(own - other) / own.max()
    name = list(results)[1]
    require_close(name, 0.0, differences.max(), tolerance)
    return {PSALM: f"{own.nnz} entries"}


def main() -> None:
    """Print a table."""
    given = arguments(__doc__, SIZES)
    case = f"pp.treatment, {given.labelled} + {given.labelled} cells"
    methods = {PSALM: psalm_treatment, PANDAS: pandas_treatment}
    lines = Comparison("treatment", case, methods, labelled, check_treatment)(given.labelled, FEW, given)
    with files(given.cells) as paths:
        for exact, name, method in ((False, SCIPY, by_scipy), (True, NUMPY, by_numpy)):
            case = f"get.coupling{', exact' * exact}, {given.cells} + {given.cells} cells"
            check = partial(check_coupling, tolerance=EXACT if exact else STORED)
            methods = {PSALM: partial(psalm_coupling, exact=exact), name: method}
            lines += Comparison("coupling", case, methods, load_matched, check)(*paths, given)
    show(lines)
    write(lines, given.out)


if __name__ == "__main__":
    main()
