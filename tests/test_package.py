"""What users install: built from this tree, into an environment with nothing else."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


def test_wheel_contents(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packaged = {name for name in names if name.startswith("psalm/")}
    assert {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")} <= packaged
    assert "psalm/py.typed" in packaged
    assert not [name for name in names if not name.startswith(("psalm/", "scpsalm-"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist_contents(built):
    """Enough to build, test and document it again, and nothing made by a run."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "LICENSE", "docs/conf.py", "tutorials/quickstart.ipynb"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")} <= names
    assert not [name for name in names if "_build" in name or "__pycache__" in name or ".environments" in name]


def test_wheel_in_an_empty_environment(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    demo = [str(python), "-m", "psalm", "--dataset", "simulated"]
    subprocess.run(demo, check=True, cwd=tmp_path, env=environment)
    made = {path.suffix for path in (tmp_path / "psalm-demo").iterdir()}
    assert {".h5mu", ".png"} <= made
