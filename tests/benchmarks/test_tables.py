"""Tables are gone on with where they were left, and the page says of them what is so."""

from __future__ import annotations

import json

import pandas as pd
import pytest


def test_what_is_in_the_file_is_not_run_again(tmp_path):
    from units import resumed

    file, ran = tmp_path / "made" / "table.csv", []

    def run(unit):
        if unit["seed"] == 2 and len(ran) < 3:
            raise KeyboardInterrupt
        ran.append(unit["seed"])
        return [{"value": unit["seed"] * 10 + k} for k in range(2)]

    units = [{"name": "a, b", "seed": seed} for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        resumed(units, run, file)
    assert pd.read_csv(file)["value"].tolist() == [0, 1, 10, 11]
    ran += [None]
    table = resumed(units, run, file)
    assert ran == [0, 1, None, 2]
    assert table["value"].tolist() == [0, 1, 10, 11, 20, 21]
    assert resumed(units[1:2], run, file)["value"].tolist() == [10, 11]
    assert len(pd.read_csv(file)) == 6


def test_nothing_is_kept_without_a_file(tmp_path):
    from units import resumed

    assert resumed([{"seed": 0}], lambda unit: [{"value": unit["seed"]}], None)["value"].tolist() == [0]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def compared():
    def row(data, method, foscttm, r2, note=None):
        bounds = {"foscttm_lower": foscttm - 0.02, "foscttm_upper": foscttm + 0.02}
        bounds |= {"r2_lower": r2 - 0.02, "r2_upper": r2 + 0.02}
        about = {"data": data, "seed": 0, "method": method, "group": "psalm" if "psalm" in method else "baseline"}
        return about | {"foscttm": foscttm, "r2": r2, "note": note} | bounds

    return pd.DataFrame(
        [
            row("first", "psalm, defaults", 0.40, 0.10),
            row("second", "psalm, defaults", 0.40, 0.10),
            row("first", "other", 0.41, 0.20),
            row("second", "other", 0.30, -0.3),
            {
                "data": "first",
                "seed": 0,
                "method": "absent",
                "group": "peer",
                "note": "not installed: no | wheel\nfor it",
            },
        ]
    )


def test_better_tie_and_worse_are_by_the_defaults_interval(compared):
    from page import lost, verdicts, won

    assert verdicts(compared, "other", "foscttm")["verdict"].tolist() == ["tie", "worse"]
    assert verdicts(compared, "other", "r2")["verdict"].tolist() == ["worse", "better"]
    assert "| other | 0 / 1 / 1 | 1 / 0 / 1 |" in won(compared)
    assert "absent" not in won(compared)
    lines = lost(compared).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| second", "foscttm"], ["| first", "r2"]]


def test_what_could_not_be_run_is_on_the_page(compared):
    from page import notes

    assert "| absent | not installed: no / wheel for it | first |" in notes(compared)


def test_the_mean_is_over_sets_that_all_were_run(compared):
    from page import compared as table

    found = table("r2")(compared)
    assert "| psalm, defaults | +0.100 | +0.100 | +0.100 |" in found
    assert "| other | −0.050 | +0.200 | −0.300 |" in found
    without = compared.drop(index=3)
    assert "| other |  | +0.200 |  |" in table("r2")(without)


def test_a_page_of_nothing_says_so_and_every_table_has_its_place(tmp_path):
    from page import NOTHING, TABLES, TEXT, render

    page = render(tmp_path)
    assert "{{" not in page
    assert page.count(NOTHING) == len(TABLES)
    assert all("{{ " + name + " }}" in TEXT.read_text() for name in TABLES)


def test_the_page_has_the_results(tmp_path, compared):
    from page import render

    compared[::-1].to_csv(tmp_path / "compare.csv", index=False)
    about = {"date": "2026-01-02", "python": "3.11", "machine": "two", "versions": {"psalm": "9"}, "seconds": 120}
    call = {"date": "2026-01-03", "jobs": 2, "seconds": 3600, "stages": ["compare", "images"]}
    stages = {"compare": about, "images": about | {"seconds": 31}, "predict": about | {"date": "2026-01-04"}}
    (tmp_path / "run.json").write_text(json.dumps({"stages": stages, "calls": [call]}))
    page = render(tmp_path)
    assert "| 2026-01-03 | 60 | 2 | compare, images |" in page
    assert "| 2026-01-02 | compare 2, images 1 | two | Python 3.11, psalm 9 |" in page
    assert "| 2026-01-04 | predict 2 | two | Python 3.11, psalm 9 |" in page
    table = page.split("**R² of")[1]
    assert table.index("| psalm, defaults | +0.100") < table.index("| other | −0.050"), (
        "psalm first, however it was run"
    )


def test_peers_have_tables_of_their_own_and_stand_beside_the_others(tmp_path, compared):
    from page import TABLES

    compared[compared["group"] != "peer"].to_csv(tmp_path / "compare.csv", index=False)
    peer = compared.iloc[[2, 3]].assign(method="peer of theirs", group="peer")
    peer.to_csv(tmp_path / "compare_theirs.csv", index=False)
    found = TABLES["r2"](tmp_path)
    methods = [line.split(" | ")[0] for line in found.splitlines()[2:]]
    assert methods == ["| psalm, defaults", "| other", "| peer of theirs"]


def test_pictures_show_traces_in_the_paper_s_unit():
    from page import pictures

    rows = pd.DataFrame({"kind": "hard", "method": "psalm", "seed": [0, 1, 2], "trace": [0.001, 0.0025, 0.003]})
    table = pictures(rows.assign(mse_ratio=0.7, lift=[1.0, 2.0, 4.0], foscttm=0.25, expected=[0.9, None, None]))
    header, _, line = table.splitlines()
    assert header == "| kind | method | MSE ÷ uniform | trace (10⁻³) | lift | foscttm | expected ratio |"
    assert line.split(" | ")[2:] == [
        "0.700 (0.700 to 0.700)",
        "2.5 (1.8 to 2.8)",
        "2.0 (1.5 to 3.0)",
        "0.250 (0.250 to 0.250)",
        "0.900 |",
    ]
