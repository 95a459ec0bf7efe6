"""The rules of the rooms, as tests."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import psalm
from psalm import _calls
from psalm.core import kept_models

SOURCE = Path(psalm.__file__).parent
ROOT = Path(__file__).parents[1]
CONTAINERS = {"anndata", "mudata", "scanpy", "matplotlib", "seaborn"}
ALLOWED = {  # room: rooms it may import; private modules of the package itself stand beside them
    "core": {"core"},
    "datasets": {"datasets", "_checks", "_containers", "_scanpy", "core._types"},
    "get": {"core", "_access", "_arguments", "_calls", "_checks", "_features", "_keys", "_matches", "_scores"},
    "pl": {
        *("pl", "_access", "_arguments", "_checks", "_features", "_keys", "_matches", "_matrix", "_obs", "_runs"),
        *("_scanpy", "core._types"),
    },
    "pp": {
        *("pp", "_access", "_calls", "_checks", "_features", "_keys", "_lightning", "_obs", "_runs", "_scanpy"),
        *("_spelling", "core"),
    },
    "tl": {
        *(
            "_access",
            "_before_scoring",
            "_blocks",
            "_calls",
            "_carried",
            "_checks",
            "_design",
            "_ensembles",
            "_estimate",
            "_features",
            "_keys",
            "_lightning",
            "_left_out",
            "_matched",
            "_matches",
            "_obs",
            "_progress",
            "_runs",
            "_scores",
            "_spelling",
        ),
        *("_truth", "_truth_free", "_truth_scores", "_recipe", "core", "model"),
    },
    "model": {"model", "_access", "_cells", "_checks", "_features", "_keys", "_lightning", "_matches", "_obs", "core"},
}


def modules(room):
    return sorted((SOURCE / room).rglob("*.py"))


def imports(path):
    """Every imported name of a file, with what is imported from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules("core"), ids=lambda path: path.stem)
def test_core_imports_no_container(path):
    assert not {name.split(".")[0] for name in imports(path)} & CONTAINERS


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_they_may(room):
    for path in modules(room):
        own = [name.removeprefix("psalm.") for name in imports(path) if name.startswith("psalm.")]
        allowed = {*ALLOWED[room], room}
        bad = [name for name in own if not any(name == part or name.startswith(f"{part}.") for part in allowed)]
        assert not bad, f"{path.name} imports {bad}"


def test_every_room_is_listed():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ALLOWED)


def test_every_step_has_a_test_of_its_name():
    tests = Path(__file__).parent
    steps = [path for room in ("pp", "tl") for path in modules(room) if path.stem != "__init__"]
    missing = [p.stem for p in steps if not (tests / p.parent.name / f"test{p.stem}.py").exists()]
    assert not missing


def test_slot_names_are_spelled_in_one_place():
    """No other file holds a string that is a slot's default name used as a key."""
    names = {"X_psalm", "X_propensity", "_potential", "_entropy", "_own", "_predicted", "_evaluation"}
    for path in SOURCE.rglob("*.py"):
        if path.name == "_keys.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        strings = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not strings & names, path.name


def test_importing_loads_nothing_heavy():
    heavy = ["torch", "ot", "scvi", "scanpy", "sklearn", "matplotlib", "pooch", "joblib"]
    code = f"import sys, psalm; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


DISTRIBUTIONS = {"ot": "POT", "scvi": "scvi-tools", "sklearn": "scikit-learn"}
"""Of what is imported under another name."""
EXTRAS = {"skorch"}
"""Imported only where the user hands in an object of it."""


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]}


def test_what_is_imported_is_declared():
    imported = {name.split(".")[0] for path in SOURCE.rglob("*.py") for name in imports(path)}
    outside = imported - set(sys.stdlib_module_names) - EXTRAS - {"psalm"}
    assert {DISTRIBUTIONS.get(name, name) for name in outside} == DECLARED


def test_versions_are_asked_of_what_is_declared():
    """An environment with anything else of that name, such as an older psalm, hides that a distribution is not ours."""
    written = re.compile(r"\bversion\([\"']([\w.-]+)[\"']\)")
    asked = {name for path in SOURCE.rglob("*.py") for name in written.findall(path.read_text(encoding="utf-8"))}
    assert asked
    assert asked | {*_calls.PACKAGES.values(), *kept_models.LIBRARIES} <= DECLARED | {PROJECT["name"]}


def is_private(name):
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_takes_nothing_private_of_another_package(path):
    """Neither an import nor an attribute of a module, such as `scvi.settings._seed`: they change unannounced."""
    others = {name for name in imports(path) if name.split(".")[0] not in {"psalm", "__future__"}}
    modules = "|".join(sorted({name.split(".")[0] for name in others})) or "-"
    private = re.findall(rf"(?<![\w.`])(?:{modules})(?:\.\w+)*\._[a-z]\w*", path.read_text(encoding="utf-8"))
    assert [*filter(is_private, others), *private] == []


WRITTEN_BY_RUNS = [
    *(ROOT / "benchmarks" / "results").glob("*.[cj]s*"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "tutorials").glob("*.ipynb"),
]


@pytest.mark.parametrize("path", WRITTEN_BY_RUNS, ids=lambda path: path.name)
def test_results_name_no_place_of_one_machine(path):
    """Tables, pages and notebooks are written by runs, whose messages may hold paths."""
    assert not re.search(r"/(work|tmp|root|home|Users)/", path.read_text(encoding="utf-8"))


def _names_a_slot(index):
    """Whether an index is a slot's name as `_keys` gives it, such as ``keys.block``."""
    return any(isinstance(node, ast.Name) and node.id in ("keys", "_keys") for node in ast.walk(index))


def test_columns_of_the_users_are_read_by_one_reader():
    """Other modules index ``obs`` by psalm's own slots only; the data sets make columns of their own."""
    for path in SOURCE.rglob("*.py"):
        if path.name == "_obs.py" or path.parent.name == "datasets":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                of_obs = getattr(node.value, "attr", getattr(node.value, "id", "")) == "obs"
                assert not of_obs or _names_a_slot(node.slice), f"{path.name}:{node.lineno} {ast.unparse(node)}"
