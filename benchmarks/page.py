"""The page of results: tables of the CSVs, put into the text of `page.md`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = Path(__file__).parent / "page.md"
OURS = "psalm, defaults"
GROUPS = ("psalm", "baseline", "peer")
LARGER_IS_BETTER = {"foscttm": False, "r2": True}
MEAN = "mean of seven"
PERTURBED = "scicar"
NOTHING = "*not run*"


def render(results: Path) -> str:
    """The text with each `{{ name }}` replaced by the table of that name."""
    text = TEXT.read_text()
    for name, table in TABLES.items():
        place = "{{ " + name + " }}"
        if place not in text:
            msg = f"{TEXT.name} has no place for the table {name!r}: write {place} where it belongs."
            raise ValueError(msg)
        text = text.replace(place, table(results))
    return text


def read(results: Path, name: str) -> pd.DataFrame | None:
    file = results / f"{name}.csv"
    return pd.read_csv(file) if file.exists() else None


def of(name: str, make: Callable[[pd.DataFrame], str]) -> Callable[[Path], str]:
    """A table of one CSV, or a line that it was not run."""

    def made(results: Path) -> str:
        rows = read(results, name)
        return NOTHING if rows is None else make(rows)

    return made


def of_methods(make: Callable[[pd.DataFrame], str]) -> Callable[[Path], str]:
    """A table of all methods: psalm, then baselines, then peers, which have tables of their own."""

    def made(results: Path) -> str:
        tables = [pd.read_csv(file) for file in sorted(results.glob("compare*.csv"))]
        if not tables:
            return NOTHING
        rows = pd.concat(tables, ignore_index=True)
        return make(rows.sort_values("group", key=lambda group: group.map(GROUPS.index), kind="stable"))

    return made


def markdown(table: pd.DataFrame, index: str) -> str:
    """A table of text, its index first."""
    header = [index, *map(str, table.columns)]
    lines = [header, ["---"] * len(header), *([str(name), *map(str, row)] for name, *row in table.itertuples())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: pd.Series, digits: int = 3, *, sign: bool = False) -> str:
    """Median, and quartiles where there is more than one value."""
    values = values.dropna()
    if values.empty:
        return ""
    number = f"{'+' if sign else ''}.{digits}f"
    low, middle, high = (format(v, number).replace("-", "−") for v in np.quantile(values, [0.25, 0.5, 0.75]))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def runs(results: Path) -> str:
    """Date, machine, versions and time of every stage."""
    known = recorded(results).get("stages", {})
    if not known:
        return NOTHING
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, run in known.items():
        versions = ", ".join([f"Python {run['python']}", *(f"{k} {v}" for k, v in run["versions"].items())])
        alike.setdefault((run["date"], run["machine"], versions), []).append(f"{name} {run['seconds'] / 60:.0f}")
    rows = [(date, ", ".join(names), machine, said) for (date, machine, said), names in alike.items()]
    return markdown(
        pd.DataFrame(rows, columns=["date", "stages and their minutes", "machine", "versions"]).set_index("date"),
        "date",
    )


def calls(results: Path) -> str:
    """How long each call of the command took, all in all."""
    known = recorded(results).get("calls", [])
    rows = [
        {
            "date": call["date"],
            "minutes": format(call["seconds"] / 60, ".0f"),
            "at a time": call["jobs"],
            "stages": ", ".join(call["stages"]),
        }
        for call in known
        if call["stages"]
    ]
    return markdown(pd.DataFrame(rows).set_index("date"), "date") if rows else NOTHING


def recorded(results: Path) -> dict[str, Any]:
    """What `run.py` wrote of its runs."""
    file = results / "run.json"
    return json.loads(file.read_text()) if file.exists() else {}


def in_order(values: pd.Series) -> list[str]:
    return list(dict.fromkeys(values))


def compared(figure: str) -> Callable[[pd.DataFrame], str]:
    """Methods × data sets: medians of the seeds, quartiles of the mean of the seven."""

    def made(rows: pd.DataFrame) -> str:
        rows = rows[rows[figure].notna()]
        by_seed = rows.pivot_table(index=["method", "seed"], columns="data", values=figure)[in_order(rows["data"])]
        seven = [name for name in by_seed if not name.startswith(PERTURBED)]
        by_seed.insert(0, MEAN, by_seed[seven].mean(axis=1).where(by_seed[seven].notna().all(axis=1)))
        sign = LARGER_IS_BETTER[figure]
        medians = by_seed.groupby("method").median().loc[in_order(rows["method"])]
        table = medians.map(lambda v: "" if np.isnan(v) else spread(pd.Series([v]), sign=sign))
        table[MEAN] = by_seed[MEAN].groupby("method").agg(lambda v: spread(v, sign=sign))
        return markdown(table, "method")

    return made


def won(rows: pd.DataFrame) -> str:
    """In how many data sets psalm's defaults are better, worse, or within the interval; and the mean's difference."""
    found = {}
    for method in in_order(rows["method"]):
        if method != OURS and rows.loc[rows["method"] == method, "r2"].notna().any():
            found[method] = {}
            for figure in LARGER_IS_BETTER:
                counts = verdicts(rows, method, figure)["verdict"].value_counts()
                found[method][figure] = " / ".join(str(counts.get(kind, 0)) for kind in ("better", "tie", "worse"))
    return markdown(pd.DataFrame(found).T, "psalm's defaults against")


def verdicts(rows: pd.DataFrame, method: str, figure: str) -> pd.DataFrame:
    """For each data set that both were run on: medians, and whether psalm's interval leaves the other's median out."""
    names = [figure, f"{figure}_lower", f"{figure}_upper"]
    shared = rows[rows["method"] == method].groupby("data", sort=False)[names].median().dropna()
    ours = rows[rows["method"] == OURS].groupby("data", sort=False)[names].median().loc[shared.index]
    ahead = np.sign(ours[figure] - shared[figure]) * (1 if LARGER_IS_BETTER[figure] else -1)
    apart = (shared[figure] < ours[names[1]]) | (shared[figure] > ours[names[2]])
    verdict = np.where(~apart, "tie", np.where(ahead > 0, "better", "worse"))
    return pd.DataFrame({"psalm": ours[figure], "other": shared[figure], "verdict": verdict}, index=shared.index)


def lost(rows: pd.DataFrame) -> str:
    """Every data set and figure in which a method is better than psalm's defaults, outside their interval."""
    found = []
    for method in in_order(rows["method"]):
        for figure in LARGER_IS_BETTER if not method.startswith("psalm") else ():
            table = verdicts(rows, method, figure)
            for data, row in table[table["verdict"] == "worse"].iterrows():
                about = {"data": data, "figure": figure, "method": method}
                found.append(about | {"psalm": format(row["psalm"], ".3f"), "its": format(row["other"], ".3f")})
    return markdown(pd.DataFrame(found).set_index("data"), "data") if found else "None."


def notes(rows: pd.DataFrame) -> str:
    """What could not be run, and why."""
    said = rows[rows["note"].notna()] if "note" in rows else rows.iloc[:0]
    if said.empty:
        return "None."
    table = said.groupby(["method", "note"], sort=False)["data"].agg(lambda names: "; ".join(dict.fromkeys(names)))
    table = table.reset_index().set_index("method")
    return markdown(table.map(lambda text: " ".join(str(text).split()).replace("|", "/")), "method")


def peers(rows: pd.DataFrame) -> str:
    """Versions of the peers, and what their processes took, on the largest data set that each was run on."""
    known = rows[rows["versions"].notna()] if "versions" in rows else rows.iloc[:0]
    if known.empty:
        return NOTHING
    largest = known.sort_values("cells", kind="stable").groupby("method", sort=False).tail(1).set_index("method")
    largest = largest.loc[in_order(known["method"])]
    shown = {
        "versions": largest["versions"],
        "data": largest["data"],
        "seconds": largest["own_seconds"].map("{:.0f}".format),
        "GB": (largest["peak_mb"] / 1024).map("{:.1f}".format),
    }
    return markdown(pd.DataFrame(shown), "peer")


def pictures(rows: pd.DataFrame) -> str:
    """Kinds and methods: medians and quartiles of the seeds, traces in the unit of the paper's table."""
    groups = rows.assign(trace=1000 * rows["trace"]).groupby(["kind", "method"], sort=False)
    table = groups[["mse_ratio", "trace", "lift", "foscttm", "expected"]].agg(spread)
    for name in ("trace", "lift"):
        table[name] = groups[name].agg(partial(spread, digits=1))
    table = table.rename(columns={"mse_ratio": "MSE ÷ uniform", "trace": "trace (10⁻³)", "expected": "expected ratio"})
    table.insert(0, "method", table.index.get_level_values("method"))
    return markdown(table.droplevel("method"), "kind")


def bone_marrow(part: str, figures: tuple[str, ...]) -> Callable[[pd.DataFrame], str]:
    """The paper's experiment on the data set that was run."""

    def made(rows: pd.DataFrame) -> str:
        rows = rows[rows["part"] == part]
        names = ["direction", "setting", "method"]
        table = rows.groupby(names, sort=False)[list(figures)].agg(spread).reset_index(names[1:])
        return markdown(table, "direction")

    return made


def predicted(rows: pd.DataFrame) -> str:
    """R² on held-out cells, by data set and direction."""
    by = rows.groupby(["task", "direction", "predictor"], sort=False)["r2"].median().unstack("predictor")
    table = by.map(lambda v: format(v, "+.3f").replace("-", "−"))
    table.index = [f"{task}: {direction}" for task, direction in table.index]
    return markdown(table, "data")


def truth_free(rows: pd.DataFrame) -> str:
    """Spearman correlation of what a match says of itself with the true R² within treatments."""
    checks = ("expected R²", "stability", "score agreement", "hubness")
    found = {check: format(rows[check].corr(rows["r2"], method="spearman"), ".2f") for check in checks}
    return markdown(pd.DataFrame({f"{len(rows)} matches": found}), "check")


def speed(results: Path) -> str:
    """All steps: how many times as long as psalm."""
    tables = [pd.read_csv(file) for file in sorted(results.glob("speed_*.csv"))]
    if not tables:
        return NOTHING
    rows = pd.concat(tables)
    shown = pd.DataFrame(
        {
            "case": rows["case"],
            "method": rows["method"],
            "times psalm's": rows["ratio"].map(lambda v: "" if np.isnan(v) else format(v, ".2g")),
            "seconds": rows["seconds_median"].map(lambda v: "" if np.isnan(v) else format(v, ".2g")),
            "peak GB": rows["peak_gb"].map(lambda v: "" if np.isnan(v) else format(v, ".2f")),
            "note": rows["note"].fillna(""),
        }
    )
    return markdown(shown.set_index(rows["step"]), "step")


TABLES: dict[str, Callable[[Path], str]] = {
    "runs": runs,
    "calls": calls,
    "foscttm": of_methods(compared("foscttm")),
    "r2": of_methods(compared("r2")),
    "won": of_methods(won),
    "lost": of_methods(lost),
    "notes": of_methods(notes),
    "peers": of_methods(peers),
    "images": of("images", pictures),
    "images trained": of("images_large", lambda rows: pictures(rows[rows["train"] > 0])),
    "images large": of("images_large", lambda rows: pictures(rows[rows["train"] == 0])),
    "citeseq match": of("citeseq", bone_marrow("match", ("foscttm", "foscttm_own", "trace", "trace_types", "lift"))),
    "citeseq predict": of("citeseq", bone_marrow("predict", ("r2", "r2_known"))),
    "predict": of("predict", predicted),
    "truth free": of("truth_free", truth_free),
    "speed": speed,
}
