"""Every tutorial from a clean kernel, and the README's quickstart."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tutorials"))

from execute import NOT_RUN, execute  # noqa: E402

LARGEST = 600_000
"""Bytes of a notebook with what it shows."""
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
RUN = [path for path in NOTEBOOKS if path.stem not in NOT_RUN]


def shown(notebook):
    """What it printed, and how many pictures it drew."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    return text, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_tutorial(path, tmp_path):
    """It runs, and draws as many pictures as the notebook that is kept."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    execute(copy)
    assert shown(nbformat.read(copy, as_version=4))[1] == shown(nbformat.read(path, as_version=4))[1] > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_notebook(path):
    """Small, in order, with outputs unless it is not run here, and with the versions that it ran with."""
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "session_info2" in code[-1].source
    if path.stem in NOT_RUN:
        assert not any(cell.outputs for cell in code)
    else:
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not re.search(r"/(work|tmp|root|home)/", path.read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore:These cells keep no treatment")
def test_readme_quickstart():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert "panel2_predicted" in scope["mdata"]["panel1"].obsm
