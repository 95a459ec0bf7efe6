"""Run notebooks in a clean kernel and keep what they show.

    python tutorials/execute.py [tutorials/quickstart.ipynb ...]

Each runs from top to bottom in an empty folder, on one thread for each library. What it printed and drew is written
into the notebook, pictures with at most 256 colours; progress bars and times are not, so that a second run changes
nothing but what has changed, and the date.
"""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from PIL import Image

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).parent
NOT_RUN = ("paper_citeseq",)
"""Downloads several gigabytes."""
PNG = "image/png"
MEGABYTE = 2**20


def run(notebook: NotebookNode) -> None:
    """Run a notebook, whose outputs are replaced."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a busy machine threads wait for each other
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()


def execute(path: Path) -> float:
    """Run a notebook in place; seconds."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    run(notebook)
    seconds = time.perf_counter() - start
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if PNG in output.get("data", {}):
                    output.data[PNG] = fewer_colours(output.data[PNG])
    nbformat.write(notebook, path)
    return seconds


def fewer_colours(picture: str) -> str:
    """A PNG in base64 with a palette, which takes a third."""
    small = BytesIO()
    with Image.open(BytesIO(base64.b64decode(picture))) as full:
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [path for path in sorted(HERE.glob("*.ipynb")) if path.stem not in NOT_RUN]
    parser.add_argument("notebooks", nargs="*", type=Path, default=every)
    for path in parser.parse_args().notebooks:
        seconds = execute(path)
        print(f"{path}: {seconds:.0f} s, {path.stat().st_size / MEGABYTE:.2f} MB")


if __name__ == "__main__":
    main()
