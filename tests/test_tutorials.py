"""Every tutorial, and the README's quickstart, run from top to bottom."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda path: path.stem)
def test_tutorial(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    scope = {}
    exec(compile(code, path.name, "exec"), scope)
    plt.close("all")
    assert scope["mdata"].uns["match_evaluation"]["foscttm"].iloc[-1] < 0.4


@pytest.mark.filterwarnings("ignore:These cells keep no treatment")
def test_readme_quickstart():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert "panel2_predicted" in scope["mdata"]["panel1"].obsm
