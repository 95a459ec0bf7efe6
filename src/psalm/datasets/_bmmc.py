"""The CITE-seq cells of the NeurIPS 2021 competition, on which the paper measures the method."""

from __future__ import annotations

import gzip
import shutil
from typing import TYPE_CHECKING

import anndata
import numpy as np
from anndata import AnnData
from scipy import sparse

from psalm._containers import stack
from psalm.datasets._public import fetch

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

FOLDER = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE194nnn/GSE194122/suppl/"
NAME = "GSE194122_openproblems_neurips2021_cite_BMMC_processed.h5ad.gz"
SHA256 = "b9b50fade9349719cba23c97c6515d3501a32ee3735fe95fe51221d2e8a5f361"
"""Pinned for this file by YosefLab/scvi-hub-models (src/scvi_hub_models/config/neurips_cite.json)."""

FEATURE_TYPES = {"rna": "GEX", "protein": "ADT"}
LABELS = ("cell_type", "is_train", "batch")
DONOR = ("Site", "DonorNumber")


def bmmc_citeseq() -> MuData:
    """CITE-seq of bone marrow: RNA and 134 surface proteins of the same 90,261 cells (Luecken et al., NeurIPS 2021).

    The paper's experiment on real cells (Xi et al., NeurIPS 2024) is made on these, cell types as treatments;
    ``benchmarks/accuracy/citeseq.py`` repeats it. The file is that of GEO series GSE194122 (public). It is large: the
    download and the unpacked copy that is kept beside it take several GB of disk, under "bmmc" in the cache
    (``PSALM_DATA_DIR`` sets its folder).

    The checksum is the one that the scvi-tools developers pin for this file in scvi-hub-models. The loader was written
    to the documented layout and tested on a small file made like it, not on the file itself.

    Returns
    -------
    MuData of "rna" (13,953 genes) and "protein" (134), UMI counts in ``X`` (sparse, float32), with the same cells (the
    pairing, for evaluation only). ``obs`` of both has, as in the file, ``cell_type`` (45), ``batch`` (site and donor,
    such as "s1d1"), ``is_train``, and ``Site`` and ``DonorNumber`` where it has them. ``is_train`` is the competition's
    split: "train", "test" and "iid_holdout". The authors of the paper train on "train", choose models by "test" and
    report "iid_holdout". Names of features are those of the file, where proteins that are named like a gene end in
    "-1". Use kinds "rna" (or "scvi") and "protein".

    Raises
    ------
    OSError
        The file could not be downloaded, or is not the published one.
    ValueError
        The file is not of the documented layout.

    Examples
    --------
    It downloads and unpacks several GB, once.

    >>> import psalm
    >>> mdata = psalm.datasets.bmmc_citeseq()  # doctest: +SKIP
    >>> psalm.pp.treatment(mdata, "cell_type")  # doctest: +SKIP
    """
    counts, obs, var = _read(_unpacked(fetch(f"bmmc/{NAME}", FOLDER + NAME, SHA256, progress=True)))
    kept = obs[[*LABELS, *(column for column in DONOR if column in obs)]]
    modalities = {}
    for name, feature_type in FEATURE_TYPES.items():
        chosen = np.flatnonzero(var["feature_types"].to_numpy() == feature_type)
        modalities[name] = AnnData(
            sparse.csr_matrix(counts[:, chosen], dtype=np.float32),
            obs=kept.copy(),
            var=var.iloc[chosen].drop(columns="feature_types"),
        )
    return stack(modalities)


def _read(path: Path) -> tuple[sparse.csr_matrix, pd.DataFrame, pd.DataFrame]:
    """Counts (n_cells, n_features), cells and features, once they are known to be there; ``X`` stays on disk."""
    adata = anndata.read_h5ad(path, backed="r")
    try:
        missing = [f"`obs[{column!r}]`" for column in LABELS if column not in adata.obs]
        missing += [] if "counts" in adata.layers else ["`layers['counts']`"]
        types = set(adata.var["feature_types"].astype(str)) if "feature_types" in adata.var else set()
        missing += [f"`var['feature_types'] == {t!r}`" for t in FEATURE_TYPES.values() if t not in types]
        if missing:
            msg = (
                f"{path} lacks {', '.join(missing)}, so it is not the CITE-seq file of GSE194122, which has RNA (GEX) "
                f"and proteins (ADT) side by side. Remove it and call again to download it, or put {NAME!r} there."
            )
            raise ValueError(msg)
        return sparse.csr_matrix(adata.layers["counts"]), adata.obs, adata.var
    finally:
        adata.file.close()


def _unpacked(path: Path) -> Path:
    """The file without its compression, beside it; written under another name until it is whole."""
    plain = path.with_suffix("")
    if not plain.exists() or plain.stat().st_mtime < path.stat().st_mtime:
        part = plain.with_suffix(".part")
        with gzip.open(path) as packed, part.open("wb") as whole:
            shutil.copyfileobj(packed, whole)
        part.replace(plain)
    return plain
