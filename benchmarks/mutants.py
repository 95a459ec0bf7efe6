"""Mutants of `psalm.core`: how many of drawn changes to its formulas the tests of the same file notice.

    pip install cosmic-ray
    python benchmarks/mutants.py [--n 200] [--seed 0] [--files losses batch] [--out benchmarks/results/mutants.csv]

Each mutant is one change that cosmic-ray makes to a file of core that has tests of its own: another arithmetic operator
or comparison, a number one higher or lower, a condition negated, True for False. It is written into a copy of the
package, and `tests/core/test_FILE.py` is run, and nothing else: a survivor may still be noticed by the tests of the
steps that use the file. Every mutant of all files is as likely to be drawn. With `--out`, mutants in the file are not
run again as long as their line reads the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accuracy.units import resumed
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
KINDS = ("AddNot", "NumberReplacer", "Replace")
NEVER_RUN = ("BinaryOperator_BitOr", "Break", "Continue")
"""`|` is nearly always part of a type; loops without their end are noticed by the clock only."""
ARITHMETIC = ("_Add", "_Sub", "_Mul", "_Div", "_BitAnd_BitOr")
"""What operators are replaced by: others, such as shifts, fail on any float."""
LIMIT_SECONDS = 300.0


def operators() -> Iterator[str]:
    for name in operator_names():
        kind = name.split("/")[1]
        plain = "BinaryOperator" not in kind or kind.endswith(ARITHMETIC)
        if kind.startswith(KINDS) and plain and not any(never in name for never in NEVER_RUN):
            yield name


def mutants(name: str) -> list[dict[str, Any]]:
    """All of a file of core, with the line that they change."""
    text = (REPOSITORY / f"src/psalm/core/{name}.py").read_text()
    lines, nodes = text.splitlines(), list(ast_nodes(get_ast(text)))
    found = []
    for operator in operators():
        change = get_operator(operator)()
        starts = [start for node in nodes for start, _ in change.mutation_positions(node)]
        for occurrence, (row, _) in enumerate(starts):
            line = lines[row - 1].strip()
            found.append({"file": name, "operator": operator, "occurrence": occurrence, "row": row, "line": line})
    return found


def drawn(files: list[str], n: int, seed: int) -> list[dict[str, Any]]:
    everything = [mutant for name in files for mutant in mutants(name)]
    chosen = np.random.default_rng(seed).permutation(len(everything))[:n]
    print(f"{len(chosen)} of {len(everything)} mutants of {len(files)} files")
    return [everything[k] for k in sorted(chosen)]


class Copy:
    """A copy of package and tests, in which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("src", "tests"):
            shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", folder)

    def run(self, mutant: dict[str, Any]) -> list[dict[str, Any]]:
        path = self.folder / f"src/psalm/core/{mutant['file']}.py"
        text = path.read_text()
        changed = mutate_code(text, get_operator(mutant["operator"])(), mutant["occurrence"])
        try:
            path.write_text(changed)
            seen = self.tests_fail(mutant["file"])
        finally:
            path.write_text(text)
        became = changed.splitlines()[mutant["row"] - 1].strip()
        return [{"outcome": "killed" if seen else "survived", "became": became}]

    def tests_fail(self, name: str) -> bool:
        """Whether they do, or do not end."""
        own = {
            "PYTHONPATH": str(self.folder / "src"),
            "NUMBA_CACHE_DIR": str(self.folder / "compiled"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/core/test_{name}.py"]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=os.environ | own,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def main() -> None:
    tested = {path.stem.removeprefix("test_") for path in (REPOSITORY / "tests/core").glob("test_*.py")}
    files = sorted(tested & {path.stem for path in (REPOSITORY / "src/psalm/core").glob("*.py")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="+", default=files, choices=files)
    parser.add_argument("--out", type=Path, help="every mutant as CSV; those in it are not run again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy, units = Copy(Path(folder)), drawn(arguments.files, arguments.n, arguments.seed)
        for name in dict.fromkeys(unit["file"] for unit in units):
            if copy.tests_fail(name):
                sys.exit(f"tests/core/test_{name}.py fails without any change: mend that first")
        table = resumed(units, copy.run, arguments.out)
    survived = table[table["outcome"] == "survived"]
    print(f"{len(table) - len(survived)} of {len(table)} killed; survived:")
    print(survived[["file", "row", "line", "became"]].to_string(index=False))


if __name__ == "__main__":
    main()
