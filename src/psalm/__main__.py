"""The demo: ``python -m psalm`` aligns real cells whose pairing is known, or a file of yours."""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


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


KINDS = ("rna", "protein", "atac", "features")
INTERVAL = ("_lower", "_upper")
MANY_FEATURES = 200
"""Counts of more features than this are taken for genes, of fewer for proteins."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="psalm", description="Align two modalities measured on different cells.")
    parser.add_argument("--dataset", choices=DATASETS, help="cells to align (default: gene_halves)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="an .h5mu file of yours instead")
    parser.add_argument("--treatment", metavar="COLUMN", help="with --input: obs column with the treatments")
    for side in ("source", "target"):
        parser.add_argument(f"--{side}", metavar="M", help=f"with --input: {side} modality")
        parser.add_argument(
            f"--{side}-kind", choices=KINDS, help="with --input: what it holds (default: by its values)"
        )
    parser.add_argument("--version", action="version", version=f"psalm {version('scpsalm')}")
    parser.add_argument("--out", type=Path, default=Path("psalm-demo"), metavar="FOLDER", help="default: psalm-demo")
    return parser


def _task(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Task:
    own = (arguments.treatment, arguments.source, arguments.target)
    if arguments.input is None:
        if any((*own, arguments.source_kind, arguments.target_kind)):
            parser.error("--treatment, --source, --target and kinds belong to --input FILE")
        return DATASETS[arguments.dataset or "gene_halves"]()
    if arguments.dataset:
        parser.error("give --dataset or --input, not both")
    if not all(own):
        parser.error("--input needs --treatment COLUMN, --source M and --target M")
    if not arguments.input.exists():
        parser.error(f"{arguments.input} does not exist")
    if arguments.input.suffix != ".h5mu":
        parser.error(f"{arguments.input} is not an .h5mu file: put the modalities into a MuData, and write that")
    return _read(arguments)


def _read(arguments: argparse.Namespace) -> Task:
    """The two modalities of a user's file, with the kind of each."""
    import mudata

    from psalm import _access
    from psalm._containers import no_pull, stack

    with no_pull():
        mdata = mudata.read_h5mu(arguments.input)
        names = arguments.source, arguments.target
        _access.two_modalities(mdata, *names)
        chosen = stack({name: mdata.mod[name] for name in names})
        chosen.obs = mdata.obs.loc[chosen.obs_names]  # the treatment may be a column of the container
    asked = dict(zip(names, (arguments.source_kind, arguments.target_kind), strict=True))
    kinds = {name: kind or _kind(chosen.mod[name]) for name, kind in asked.items()}
    return Task(chosen, arguments.treatment, *names, kinds={name: kind for name, kind in kinds.items() if kind})


def _kind(adata: AnnData) -> str | None:
    """What X most likely holds, or None where the file brings a representation of its own."""
    import numpy as np

    from psalm import _keys

    if _keys.REPRESENTATION in adata.obsm:
        return None
    values = adata.X.data if hasattr(adata.X, "nnz") else np.asarray(adata.X)
    if np.size(values) == 0 or np.min(values) < 0 or not np.array_equal(values, np.round(values)):
        return "features"
    return "rna" if adata.n_vars > MANY_FEATURES else "protein"


def _share_treatments(task: Task) -> str:
    """Run pp.treatment; returns the name of the column it wrote."""
    import psalm

    column = _free_name(task)
    psalm.pp.treatment(task.mdata, task.treatment, key_added=column)
    return column


def _align(task: Task, column: str) -> None:
    import psalm

    psalm.tl.propensity(task.mdata, treatment=column)
    psalm.tl.match(task.mdata, source=task.source, target=task.target)
    psalm.tl.diagnose(task.mdata)
    psalm.tl.embed(task.mdata)
    psalm.tl.predict(task.mdata, source=task.source, target=task.target)


def _free_name(task: Task) -> str:
    """Where the shared treatments are written, so that a column called "treatment" in a user's file is kept."""
    taken = "treatment" in task.mdata.obs or any("treatment" in adata.obs for adata in task.mdata.mod.values())
    return "psalm_treatment" if taken else "treatment"


def _evaluate(task: Task) -> pd.DataFrame | None:
    """The evaluation, or None where no truth is known."""
    import psalm

    names = (task.mdata.mod[name].obs_names for name in (task.source, task.target))
    if task.latent is None and next(names).intersection(next(names)).empty:
        return None
    return psalm.tl.evaluate(task.mdata, latent=task.latent)


def _write(task: Task, folder: Path) -> list[Path]:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    import psalm
    from psalm._containers import no_pull

    mpl.use("agg")
    written = [folder / "aligned.h5mu"]
    with no_pull():  # writing must not repeat the columns of the modalities
        task.mdata.write_h5mu(written[0])
    for name in ("propensity", "match", "embedding", "evaluation"):
        figure = getattr(psalm.pl, name)(task.mdata, return_fig=True)
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=150)
        plt.close(figure)
    return written


def _explain(evaluation: pd.DataFrame) -> list[str]:
    """What the columns that hold numbers mean."""
    meanings = {
        "foscttm": "FOSCTTM: 0.5 = chance, 0 = perfect",
        "r2": "r2: 0 = treatment mean",
        "lift": "lift: 1 = uniform",
        "latent_error": "latent error: 1 = uniform, 0 = perfect",
    }
    return [text for name, text in meanings.items() if name in evaluation and evaluation[name].notna().any()]


def _print(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda value: f'{value:.4g}')}")


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line for a reader, without the line of code that raised them."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 where everything was written."""
    with _plain_warnings():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    import psalm
    from psalm import _keys

    try:
        task = _task(arguments, parser)
        arguments.out.mkdir(parents=True, exist_ok=True)
        column = _share_treatments(task)
        for modality, kind in task.kinds.items():
            psalm.pp.represent(task.mdata, modality, kind=kind)
    except (KeyError, OSError, TypeError, ValueError) as error:  # what the user gave does not fit: say so, and stop
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    print(f"psalm {psalm.__version__}: {task.source} → {task.target}, treatments from {task.treatment!r}")
    for modality, kind in task.kinds.items():
        print(f"  {modality}: represented as {kind!r}")
    _align(task, column)
    _print("Match, one row per treatment", psalm.get.report(task.mdata).reset_index())
    print("\nWhat it says of itself")
    for _, row in task.mdata.uns[_keys.MatchKeys(_keys.MATCH).diagnosis]["verdicts"].iterrows():
        print(f"  {row['check']}: {row['verdict']}")
    evaluation = _evaluate(task)
    if evaluation is None:
        print("\nNo cell is known in both modalities, so the match cannot be scored against a truth.")
    else:
        shown = [name for name in evaluation if not name.endswith(INTERVAL) and evaluation[name].notna().any()]
        _print(f"Against the known truth ({'; '.join(_explain(evaluation))})", evaluation[shown])
    print(f"\nPredicted: {task.target} of every {task.source} cell, in obsm['{task.target}_predicted'].")
    print("\nWritten:")
    for path in _write(task, arguments.out):
        print(f"  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
