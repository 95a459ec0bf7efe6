"""One command runs all stages: some at a time, each once, and what failed is said."""

from __future__ import annotations

import json
import sys

import pytest

STAGE = """
import os, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
if "fail" in out.name and not out.with_suffix(".go").exists():
    sys.exit(3)
print("a table of", out.stem)
out.write_text(os.environ["OMP_NUM_THREADS"] if "speed" not in out.name else "alone")
with out.with_name("ran.log").open("a") as log:
    log.write(out.stem + " ")
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls the command with small stages of our own, and says what they ran."""
    import run

    (tmp_path / "script.py").write_text(STAGE)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "render", lambda results: " ".join(sorted(file.stem for file in results.glob("*.csv"))))
    monkeypatch.setenv("OMP_NUM_THREADS", "as set")
    names = ("first", "fails", "second")
    stages = [*(run.Stage(name, "script.py") for name in names), run.Stage("speed_one", "script.py", times=True)]
    monkeypatch.setattr(run, "STAGES", tuple(stages))

    def called(*options):
        results = tmp_path / "results"
        (results / "ran.log").unlink(missing_ok=True)
        page = tmp_path / "page.md"
        monkeypatch.setattr(sys, "argv", ["run.py", "data", "--results", str(results), "--page", str(page), *options])
        status = run.main()
        return status, sorted((results / "ran.log").read_text().split()), results, page.read_text()

    return called


def test_every_stage_runs_and_what_failed_is_named(call, capsys):
    status, ran, results, page = call()
    assert (status, ran) == (1, ["first", "second", "speed_one"])
    assert page == "first second speed_one"
    said = capsys.readouterr().out
    assert "lacks rows of theirs: fails." in said
    assert (results / "first.txt").read_text() == "a table of first\n"
    known = json.loads((results / "run.json").read_text())
    assert sorted(known["stages"]) == sorted(known["calls"][0]["stages"]) == ["first", "second", "speed_one"]


def test_a_second_call_goes_on(call):
    _, _, results, _ = call()
    (results / "fails.go").touch()
    status, ran, results, page = call()
    assert (status, ran) == (0, ["fails", "first", "second"]), "scripts go on themselves; what is timed is not repeated"
    assert page == "fails first second speed_one"
    known = json.loads((results / "run.json").read_text())
    assert len(known["calls"]) == 2
    assert "speed_one" not in known["calls"][1]["stages"]


def test_stages_of_accuracy_share_the_cores_and_those_of_speed_do_not(call):
    _, _, results, _ = call("--only", "first", "speed_one", "--jobs", "64")
    assert (results / "first.csv").read_text() == "1"
    assert (results / "speed_one.csv").read_text() == "alone"


def test_every_peer_has_a_stage():
    from compare import GROUPS
    from run import STAGES

    grouped = [name for stage in STAGES for name in stage.options if name in GROUPS]
    assert sorted(grouped) == sorted(GROUPS)
