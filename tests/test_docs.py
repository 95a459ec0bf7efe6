"""The documentation says what there is: every public name, with what its page promises, and examples that run."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from string import Template

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


URI = {"type": "string", "pattern": r"^https://\S+\.\S+$"}
NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "project_home": URI,
        "documentation_home": URI,
        "tutorials_home": URI,
        "install": {
            "type": "object",
            "properties": {"pypi": {"type": "string"}, "conda": {"type": "string", "pattern": "(.*)::(.*)"}},
            "minProperties": 1,
        },
        "license": {"enum": ["BSD-3-Clause"]},
        "primary_category": {"enum": ["Multimodal"]},
        "tags": NAMES | {"items": {"enum": ["multimodal", "perturbation", "optimal transport", "data integration"]}},
        "language": {"enum": ["Python"]},
        "publications": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^10.\d{4,9}\/[-._;()\/:A-Za-z0-9]+$"},
        },
        "version": {"type": "string", "readOnly": True},  # the registry asks the package index by itself
        "contact": NAMES | {"items": {"type": "string", "pattern": "^[A-Za-z0-9-]+$"}},
        "test_command": {"type": ["string", "null"]},
        "category": {"enum": ["core-framework", "core-datastructure", "core-infrastructure", "ecosystem"]},
    },
    "required": [
        *("name", "description", "project_home", "documentation_home", "install", "license", "primary_category"),
        *("tags", "language", "category", "contact"),
    ],
    "additionalProperties": False,
}
"""Rules of the scverse registry's schema, as far as they concern this entry; of its vocabularies, what it uses."""
SUFFIXES = {".cff", ".ipynb", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
FILLED_IN = {
    "PSALM_REPOSITORY": "https://example.org/psalm",
    "PSALM_DOCUMENTATION": "https://psalm.example.org",
    "PSALM_CONTACT": "a-maintainer",
}


def test_meta_is_what_scverse_asks_for():
    """With what is filled in before it is submitted it follows the schema, and without it says what is missing."""
    import jsonschema

    import psalm

    text = (ROOT / "docs" / "meta.yaml").read_text(encoding="utf-8")
    meta = yaml.safe_load(Template(text).substitute(FILLED_IN))
    jsonschema.validate(meta, SCHEMA)
    assert meta["version"] == f"v{psalm.__version__}"
    unfilled = jsonschema.Draft202012Validator(SCHEMA).iter_errors(yaml.safe_load(text))
    assert {str(error.path[0]) for error in unfilled} == {"project_home", "documentation_home", "contact"}


CLAIMS = re.compile(
    r"github\.com/scverse[/]psalm|psalm\.readthedocs"
    r"|\b(?:pip|uv|conda|mamba|pixi)\b[^\n&`]*\b(?:install|add)\b[^\n&`]*[\s\"\']psalm\b(?!-)"
)
"""Addresses that do not exist, and installations of the unrelated package that has this one's name on the index."""
FOLDERS = (".ci", ".github", "benchmarks", "docs", "src", "tests", "tutorials")
NOT_OURS = re.compile(r"/(?:_build|__pycache__|\.environments)/")


@pytest.mark.parametrize(
    "line",
    [
        *("pip install psalm", "python -m pip install -q -c constraints.txt psalm", "uv add psalm"),
        *("conda install -c conda-forge psalm", 'pip install "psalm[docs]"'),
        *("https://github.com/" + "scverse/psalm/issues", "https://psalm" + ".readthedocs.io"),
    ],
)
def test_claims_are_found(line):
    assert CLAIMS.search(line)


def test_nothing_claims_a_home_that_does_not_exist():
    paths = [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    ours = [path for path in paths if path.is_file() and not NOT_OURS.search(path.as_posix())]
    here = Path(__file__).resolve()
    assert {"README.md", "pyproject.toml", "index.md", "quickstart.ipynb", "test.yml"} <= {path.name for path in ours}
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in ours if path.resolve() != here}
    assert [path.name for path, text in texts.items() if CLAIMS.search(text)] == []


def test_citation_has_the_version():
    import psalm

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == psalm.__version__
