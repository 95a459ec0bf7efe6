"""Public data sets, downloaded once and checked by their sha256."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from psalm._containers import stack

if TYPE_CHECKING:
    from mudata import MuData

CACHE_VARIABLE = "PSALM_DATA_DIR"

HOST = "https://raw.githubusercontent.com/"
SCOT = "rsinghlab/SCOT/14649be6e14017dcfe7ba619091b33d1df55f6a9/data/SNARE/"
COUNTS = "rsinghlab/scMultiOmics_Datasets/4c53bbdab4bd3e8b524044795a823bd838189121/"
PAMONA = "caokai1073/Pamona/44322c487eb907cf021d5ee7bd1a3ff3f124c14b/scGEM/"

FILES = {  # file in the cache: (folder at the host, sha256)
    "scgem/GeneName_experssion.txt": (PAMONA, "39ad2ff32eae991abfc81c73e3b189d3770da65a3058a75c3f2d07a57d4ea213"),
    "scgem/GeneName_methylation.txt": (PAMONA, "ba981b78d9ad0ad7f45baca33ff81f8c00aab487d53955cf0ee1c2c41099b8c0"),
    "scgem/expression.txt": (PAMONA, "8d22bb887a125484c99910675329492e43179cffcde73b5a7e78c07dffa4ee61"),
    "scgem/expression_type.txt": (PAMONA, "348b88a15d72e75ccf15129fddbdd86be9a486b3ad579bc192ed2118ecc918f3"),
    "scgem/methylation.txt": (PAMONA, "9f539a051665c89cc1a5e007a0a03a1e914f7421b44cdfb55d3dcbe9a69f8258"),
    "snareseq/GSE126074_CellLineMixture_SNAREseq_cDNA_counts.tsv.gz": (
        COUNTS,
        "1109350aa55683e5054f6a304592a8ad767dc9a713b995c10c639dddbc1579fd",
    ),
    "snareseq/SNAREseq_atac_feat.npy": (SCOT, "80d685b6517c100a7fd612846ad38209b64ed9caf095d1630af5a1d7797bd79c"),
    "snareseq/SNAREseq_metadata.txt": (SCOT, "4bfd15c9205ff47e4d37bb0f9d7a9efbe9131b6f660a80f8ad22fccb61c87562"),
    "snareseq/SNAREseq_rna_feat.npy": (SCOT, "a8a2c2bbfc036dea5b350d01dd2180b93bb3b1c0008bed49493080348da96a9b"),
}

SNARE_NAMES = {"GM": "BJ", "K562": "GM12878", "BJ": "K562", "H1": "H1"}
"""Published name → name by marker genes: the published "GM" expresses COL1A2, "K562" CD74 and "BJ" GATA1."""

SCGEM_TYPES = ["BJ", "d8", "d16T+", "d24T+", "iPS"]


def snareseq() -> MuData:
    """SNARE-seq of four cell lines: RNA and chromatin of the same 1,047 nuclei (Chen et al., Nat. Biotechnol. 2019).

    The files are those of Demetci et al. (SCOT, MIT licence) and the counts of GEO series GSE126074 (public).
    Names of cell lines in the published metadata contradict the marker genes (its "GM" expresses COL1A2, a fibroblast
    gene). ``obs["cell_type"]`` has the names by marker genes, ``obs["cell_type_published"]`` the published ones; the
    grouping is the same.

    Returns
    -------
    MuData of "rna" (18,666 genes, UMI counts, sparse; ``obsm["X_pca"]`` 10 published components) and "atac" (19
    chromatin topics), with the same cells (the pairing, for evaluation only). Use kind "rna" and, for the
    topics, which grow with a nucleus' depth, kind "protein" (centred log-ratios).

    Raises
    ------
    OSError
        A file could not be downloaded, or is not the published one.

    Examples
    --------
    It downloads 1 MB, once.

    >>> import psalm
    >>> mdata = psalm.datasets.snareseq()  # doctest: +SKIP
    >>> psalm.pp.treatment(mdata, "cell_type")  # doctest: +SKIP
    """
    metadata = pd.read_csv(_fetch("snareseq/SNAREseq_metadata.txt"), sep="\t", index_col="Barcode")
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(metadata["CellType"].map(SNARE_NAMES)),
            "cell_type_published": pd.Categorical(metadata["CellType"]),
        },
        index=metadata.index.rename(None),
    )
    path = _fetch("snareseq/GSE126074_CellLineMixture_SNAREseq_cDNA_counts.tsv.gz")
    counts = pd.read_csv(path, sep="\t", index_col=0, dtype=dict.fromkeys(obs.index, np.float32))
    counts = counts[obs.index]  # genes × cells
    rna = AnnData(
        sparse.csr_matrix(counts.to_numpy(np.float32).T),
        obs=obs,
        var=pd.DataFrame(index=counts.index.astype(str).rename(None)),
        obsm={"X_pca": np.load(_fetch("snareseq/SNAREseq_rna_feat.npy"))},
    )
    topics = np.load(_fetch("snareseq/SNAREseq_atac_feat.npy"))
    names = pd.DataFrame(index=[f"topic_{number}" for number in range(1, topics.shape[1] + 1)])
    return stack({"rna": rna, "atac": AnnData(topics, obs=obs.copy(), var=names)})


def scgem() -> MuData:
    """ScGEM of reprogramming fibroblasts: expression and DNA methylation of the same 177 cells (Cheow et al. 2016).

    The files are those of Cao et al. (Pamona, MIT licence); Nat. Methods 13, 833.

    Returns
    -------
    MuData of "rna" (34 genes, log expression) and "methylation" (27 loci named by gene with the suffix "_methylation",
    binary), with the same cells (the pairing, for evaluation only) and ``obs["cell_type"]``, five stages from BJ
    fibroblasts to iPS cells. Use kind "features".

    Raises
    ------
    OSError
        A file could not be downloaded, or is not the published one.

    Examples
    --------
    It downloads 0.3 MB, once.

    >>> import psalm
    >>> mdata = psalm.datasets.scgem()  # doctest: +SKIP
    >>> psalm.pp.treatment(mdata, "cell_type")  # doctest: +SKIP
    """
    codes = np.loadtxt(_fetch("scgem/expression_type.txt")).astype(int)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical.from_codes(codes, categories=SCGEM_TYPES)},
        index=[f"cell_{number}" for number in range(len(codes))],
    )

    def modality(values: str, names: str, suffix: str = "") -> AnnData:
        features = [f"{name.strip()}{suffix}" for name in _fetch(names).read_text().split("\n") if name.strip()]
        return AnnData(np.loadtxt(_fetch(values)), obs=obs.copy(), var=pd.DataFrame(index=features))

    return stack(
        {
            "rna": modality("scgem/expression.txt", "scgem/GeneName_experssion.txt"),
            "methylation": modality("scgem/methylation.txt", "scgem/GeneName_methylation.txt", "_methylation"),
        }
    )


def _fetch(name: str) -> Path:
    """Path of one of :data:`FILES`."""
    folder, sha256 = FILES[name]
    return fetch(name, HOST + folder + Path(name).name, sha256)


def fetch(name: str, url: str, sha256: str, *, progress: bool = False) -> Path:
    """Path of a file in the cache; downloaded first where it is missing, with a bar where that takes long."""
    import pooch

    cache = Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("psalm"))
    place = {"fname": Path(name).name, "path": cache / Path(name).parent}
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", progressbar=progress, **place))
    except (OSError, ValueError) as error:
        reason = "does not have the published checksum" if isinstance(error, ValueError) else "could not be downloaded"
        msg = (
            f"{Path(name).name!r} {reason} ({type(error).__name__}). Address: {url}. Cache: {cache / name}. "
            f"Check the connection and try again, or put the file there yourself "
            f"({CACHE_VARIABLE} sets the folder)."
        )
        raise OSError(msg) from error
