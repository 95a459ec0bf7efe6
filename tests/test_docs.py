"""The documentation says what there is: every public name, with what its page promises, and examples that run."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROOMS = ("pp", "tl", "pl", "get", "model", "datasets")
NAMES = [(room, name) for room in ROOMS for name in import_module(f"psalm.{room}").__all__]


def listed(room):
    """Names in the tables of a page of the API."""
    page = (ROOT / "docs" / "api" / f"{room}.md").read_text(encoding="utf-8")
    tables = re.findall(r"autosummary::\n   :toctree: generated\n\n((?:   \S+\n)+)", page)
    return [name.strip() for table in tables for name in table.splitlines()]


@pytest.mark.parametrize("room", ROOMS)
def test_api_page_lists_what_is_public(room):
    assert sorted(listed(room)) == sorted(import_module(f"psalm.{room}").__all__)


def test_core_page_lists_every_matcher():
    from psalm.core.methods import METHODS

    assert {matcher.__name__ for matcher in METHODS.values()} <= {name.split(".")[-1] for name in listed("core")}


@pytest.mark.parametrize(("room", "name"), NAMES, ids=[f"{room}.{name}" for room, name in NAMES])
def test_docstring(room, name):
    """Summary, every parameter by name, what is returned or written, and an example."""
    documented = getattr(import_module(f"psalm.{room}"), name)
    text = inspect.getdoc(documented)
    heads = set(re.findall(r"^(\w+)\n-+$", text, re.MULTILINE))
    assert {"Examples"} <= heads
    assert ">>> " in text
    if not inspect.isclass(documented):
        assert {"Returns"} <= heads
    parameters = text.partition("Parameters\n----------\n")[2].partition("\n\n")
    block = re.split(r"^\w+\n-+$", "".join(parameters), flags=re.MULTILINE)[0]
    described = {part.strip() for line in re.findall(r"^\w[\w, ]*$", block, re.MULTILINE) for part in line.split(",")}
    hidden = {"self", "args", "kwargs"}
    assert set(inspect.signature(documented).parameters) - hidden <= described


@pytest.mark.parametrize("page", ["contributing.md", "index.md"])
@pytest.mark.filterwarnings("ignore:These cells keep no treatment", "ignore:.*transport less than 10%")
def test_examples_of_pages(page, monkeypatch):
    """Blocks of Python run from top to bottom."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    scope = {"__name__": page}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, page, "exec"), scope)
    plt.close("all")
    assert "match" in scope["mdata"].uns


def test_every_page_is_in_the_menu():
    home = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    menu = set(
        re.findall(r"^([\w/-]+)$", "".join(re.findall(r"```\{toctree\}(.*?)```", home, re.DOTALL)), re.MULTILINE)
    )
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    tutorials = {f"tutorials/{path.stem}" for path in (ROOT / "tutorials").glob("*.ipynb")}
    assert menu == pages | tutorials | {"api/index"}


def test_meta_is_what_scverse_asks_for():
    """Required fields of the ecosystem's schema, and the version of the package."""
    import psalm

    meta = yaml.safe_load((ROOT / "docs" / "meta.yaml").read_text(encoding="utf-8"))
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags", "version"}
    assert required <= set(meta)
    assert meta["version"] == f"v{psalm.__version__}"


def test_citation_has_the_version():
    import psalm

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == psalm.__version__
