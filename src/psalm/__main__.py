"""The command: ``python -m psalm`` aligns real cells whose pairing is known, or those of your own file."""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psalm._task import DATASETS, of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from psalm._task import Task

KINDS = ("rna", "protein", "atac", "features")
INTERVAL = ("_lower", "_upper")
REFUSALS = (ArithmeticError, KeyError, MemoryError, OSError, TypeError, ValueError)
RESULT = "aligned.h5mu"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="psalm", description="Align two modalities measured on different cells.")
    parser.add_argument("--dataset", choices=DATASETS, help="cells to align (default: gene_halves)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="your own .h5mu file instead")
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
    kinds = {arguments.source: arguments.source_kind, arguments.target: arguments.target_kind}
    if len(kinds) == 1:
        parser.error(f"--source and --target are both {arguments.source!r}: give two modalities")
    return of_file(arguments.input, arguments.treatment, kinds, arguments.out / RESULT)


def _share_treatments(task: Task) -> str:
    """Run pp.treatment; returns the name of the column it wrote."""
    import psalm

    column = _free_name(task)
    psalm.pp.treatment(task.mdata, task.treatment, key_added=column)
    return column


def _align(task: Task, column: str, folder: Path) -> Iterator[str]:
    """Run the steps and say what they found; gives, after each, the name of the figure that can be drawn, or ""."""
    import psalm
    from psalm import _keys

    names: dict[str, Any] = {"source": task.source, "target": task.target}
    psalm.tl.propensity(task.mdata, treatment=column)
    yield "propensity"
    psalm.tl.match(task.mdata, **names)
    _print("Match, one row per treatment", psalm.get.report(task.mdata).reset_index())
    yield "match"
    psalm.tl.diagnose(task.mdata)
    print("\nWhat it says of itself")
    for _, row in task.mdata.uns[_keys.MatchKeys(_keys.MATCH).diagnosis]["verdicts"].iterrows():
        print(f"  {row['check']}: {row['verdict']}")
    yield ""
    psalm.tl.embed(task.mdata)
    yield "embedding"
    psalm.tl.predict(task.mdata, **names, checkpoint=folder / "checkpoints")
    print(f"\nPredicted: {task.target} of every {task.source} cell, in obsm['{task.target}_predicted'].")
    yield ""
    _say_truth(_evaluate(task))
    yield "evaluation"


def _free_name(task: Task) -> str:
    """Where the shared treatments are written, so that a column called "treatment" in a user's file is kept."""
    tables = [task.mdata.obs, *(adata.obs for adata in task.mdata.mod.values())]
    ours = "treatment" in task.mdata.uns and task.treatment != "treatment"
    taken = any("treatment" in obs for obs in tables) and not ours
    return "psalm_treatment" if taken else "treatment"


def _evaluate(task: Task) -> pd.DataFrame | None:
    """The evaluation, or None where no truth is known."""
    import psalm

    names = (task.mdata.mod[name].obs_names for name in (task.source, task.target))
    if task.latent is None and next(names).intersection(next(names)).empty:
        return None
    return psalm.tl.evaluate(task.mdata, latent=task.latent)


def _write(task: Task, folder: Path, figure: str = "") -> list[Path]:
    """Write what there is, whole or not at all, and a figure."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    import psalm
    from psalm._containers import no_pull
    from psalm.core import files

    with no_pull(), files.whole(folder / RESULT) as part:  # writing must not repeat the columns of the modalities
        task.mdata.write_h5mu(part)
    if not figure:
        return [folder / RESULT]
    mpl.use("agg")
    drawn = getattr(psalm.pl, figure)(task.mdata, return_fig=True)
    drawn.savefig(folder / f"{figure}.png", dpi=150)
    plt.close(drawn)
    return [folder / RESULT, folder / f"{figure}.png"]


def _explain(evaluation: pd.DataFrame) -> list[str]:
    """What the columns that hold numbers mean."""
    meanings = {
        "foscttm": "FOSCTTM: 0.5 = chance, 0 = perfect",
        "r2": "r2: 0 = treatment mean",
        "lift": "lift: 1 = uniform",
        "latent_error": "latent error: 1 = uniform, 0 = perfect",
    }
    return [text for name, text in meanings.items() if name in evaluation and evaluation[name].notna().any()]


def _say_truth(evaluation: pd.DataFrame | None) -> None:
    if evaluation is None:
        print("\nNo cell is known in both modalities, so the match cannot be scored against a truth.")
        return
    shown = [name for name in evaluation if not name.endswith(INTERVAL) and evaluation[name].notna().any()]
    _print(f"Against the known truth ({'; '.join(_explain(evaluation))})", evaluation[shown])


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


@contextmanager
def _printable() -> Iterator[None]:
    """Letters that the terminal or the log does not know are written as their numbers, and stop nothing."""
    stream, usual = sys.stdout, getattr(sys.stdout, "errors", None)
    if not hasattr(stream, "reconfigure"):  # a notebook's, which knows all letters
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=usual)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 where everything was written."""
    with _plain_warnings(), _printable():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    import psalm

    try:
        task, column = _begin(arguments, parser)
    except REFUSALS as error:  # what the user gave does not fit: say so, and stop
        parser.error(_in_words(error))
    print(f"psalm {psalm.__version__}: {task.source} to {task.target}, treatments from {task.treatment!r}")
    for modality, kind in task.kinds.items():
        print(f"  {modality}: represented as {kind!r}")
    written: dict[Path, None] = {}
    try:
        for figure in _align(task, column, arguments.out):
            written |= dict.fromkeys(_write(task, arguments.out, figure))
    except REFUSALS as error:
        kept = f"{parser.prog}: what was finished before is in {arguments.out / RESULT}\n"
        parser.exit(1, f"{parser.prog}: error: {_in_words(error)}\n{kept}")
    print("\nWritten:")
    for path in written:
        print(f"  {path}")
    return 0


def _begin(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[Task, str]:
    """Try the place of the result; read, share treatments, represent, and write this much."""
    import psalm
    from psalm.core import files

    files.require_file("--out", arguments.out / RESULT)
    task = _task(arguments, parser)
    column = _share_treatments(task)
    for modality, kind in task.kinds.items():
        psalm.pp.represent(task.mdata, modality, kind=kind)
    _write(task, arguments.out)
    return task, column


def _in_words(error: BaseException) -> str:
    return str(error.args[0] if isinstance(error, KeyError) else error)


if __name__ == "__main__":
    sys.exit(main())
