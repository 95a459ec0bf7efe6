"""Every tutorial from a clean kernel, and the README's quickstart."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tutorials"))

from execute import NOT_RUN, PNG, run  # noqa: E402

LARGEST = 400_000
"""Bytes of a notebook with what it shows."""
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
RUN = [path for path in NOTEBOOKS if path.stem not in NOT_RUN]
ALSO_ALLOWED = [
    "ignore::PendingDeprecationWarning",  # scanpy's use of matplotlib, the kernel's own
    "ignore:Failed to import dependencies for application/vnd.jupyter:RuntimeWarning",
]


def strict(filters):
    """Code that sets pytest's filters in a kernel."""
    lines = []
    for written in filters:
        action, message, category = (*written.split(":"), "", "")[:3]
        lines.append(f"warnings.filterwarnings({action!r}, {message!r}, {category or 'Warning'})")
    return "\n".join(["import warnings", "", *lines])


SHOWS = {
    "quickstart": ['evaluation["foscttm"].iloc[-1] < 0.4'],
    "rna_and_chromatin": ['evaluation["foscttm"].iloc[-1] < 0.49'],
    "your_own_data": ['mdata.uns["match_evaluation"]["latent_error"].iloc[-1] < 0.8'],
    "images_and_expression": [
        'mdata.uns["match_evaluation"]["latent_error"].iloc[-1] < 0.7',
        'of_genes["predicted"].median() > 0.6',
    ],
    "is_it_any_good": [
        'summary.loc["good", "true R²"] > 0.3',
        'summary.loc["own variation", "true R²"] < -0.2',
        'summary.loc["own variation", "expected R²"] > 0.1',
        'markers.loc["own variation", "p_value"] > 0.05',
    ],
}
"""What has to hold where a notebook ends: what its text says."""


def pictures(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum(PNG in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_tutorial(path, pytestconfig):
    """It runs, with unexpected warnings as errors, ends in what it says, and draws as many pictures as are kept."""
    notebook = nbformat.read(path, as_version=4)
    kept = pictures(notebook)
    checks = "\n".join(f"assert {check}" for check in SHOWS[path.stem])
    setting = strict([*pytestconfig.getini("filterwarnings"), *ALSO_ALLOWED])
    notebook.cells = [nbformat.v4.new_code_cell(setting), *notebook.cells, nbformat.v4.new_code_cell(checks)]
    run(notebook)
    assert pictures(notebook) == kept > 0


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


@pytest.mark.filterwarnings("ignore:These cells keep no treatment")
def test_readme_quickstart():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert "panel2_predicted" in scope["mdata"]["panel1"].obsm
