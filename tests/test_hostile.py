"""What users get wrong, and what they are told; and what looks wrong and is not.

Two tables. A refused input must raise the kind of error that is written beside it, with words that say what came, what
is allowed or what to do, and must leave the container as it was. An accepted one must give finite numbers, those of the
plain input where both mean the same.
"""

import pickle
import re
import warnings
from functools import partial
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import psalm
from psalm._containers import no_pull, stack
from psalm.core.sinkhorn import SinkhornMatcher

N_CELLS = 80
COUNTS = np.random.default_rng(0).poisson(3, (N_CELLS, 12))


@pytest.fixture(scope="module")
def bases():
    """The same cells after each step, from none to tl.match."""
    raw = psalm.datasets.simulated(n_cells=N_CELLS, n_treatments=3, n_features=(12, 10), rng=1)
    for name, adata in raw.mod.items():
        adata.obsm["q"] = adata.X.copy()
        adata.obs["number"] = np.arange(N_CELLS) % 7.0
        adata.obs["w"] = 1.0
        adata.obs["id"] = np.arange(N_CELLS)
        adata.obs["donor"] = [f"{name}{cell % 2}" for cell in range(N_CELLS)]
    raw["a"].layers["counts"] = COUNTS.astype(float)
    found = {"raw": raw}
    with warnings.catch_warnings(), no_pull():
        warnings.simplefilter("ignore")
        for state, step in {"treated": treat, "scored": score, "matched": match}.items():
            found[state] = list(found.values())[-1].copy()
            step(found[state])
    return found


@pytest.fixture
def begin(bases, tmp_path, monkeypatch):
    """Make a copy of the cells after a step, changed by a row of a table; files go to a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def make(state, change):
        with no_pull():
            mdata = bases[state].copy()
        return (change(mdata) if change else None) or mdata

    return make


# Steps, with options that make them fast


def treat(mdata, key="perturbation", **options):
    psalm.pp.treatment(mdata, key, **options)


def represent(mdata, modality="a", kind="features", **options):
    psalm.pp.represent(mdata, modality, kind=kind, **options)


def score(mdata, **options):
    psalm.tl.propensity(mdata, **{"classifier": "logistic", "n_repeats": 1, "n_folds": 2, "progress": False} | options)


def match(mdata, source="a", target="b", **options):
    psalm.tl.match(mdata, source=source, target=target, progress=False, **options)


def transfer(mdata, keys="X", source="a", target="b", **options):
    psalm.tl.transfer(mdata, keys=keys, source=source, target=target, **options)


def predict(mdata, source="a", target="b", **options):
    options = {"max_epochs": 2, "accelerator": "cpu", "progress": False} | options
    psalm.tl.predict(mdata, source=source, target=target, **options)


def holdout(mdata, source="a", target="b", max_epochs=1, **options):
    psalm.tl.holdout(mdata, source=source, target=target, max_epochs=max_epochs, progress=False, **options)


def evaluate(mdata, latent="latent", **options):
    return psalm.tl.evaluate(mdata, latent=latent, **{"n_bootstrap": 0} | options)


def diagnose(mdata, **options):
    psalm.tl.diagnose(mdata, progress=False, **{"n_permutations": 9} | options)


embed = psalm.tl.embed
coupling, predicted_of, propensity_of = psalm.get.coupling, psalm.get.predicted, psalm.get.propensity


# Changes of a container


def put(room, key, value, modality="a"):
    """A change that places something, or what a function makes of the part, in a modality, or with "" in the whole."""

    def change(mdata):
        part = mdata.mod[modality] if modality else mdata
        getattr(part, room)[key] = value(part) if callable(value) else value

    return change


def entry(key, value):
    """A change that places something into the container's uns."""
    return put("uns", key, value, "")


def in_both(key, value):
    """A change that places something, or what a function makes of each modality, into the obs of both."""

    def change(mdata):
        for name in mdata.mod:
            put("obs", key, value, name)(mdata)

    return change


def without(room, key, modality="a"):
    """A change that takes something away."""

    def change(mdata):
        del getattr(mdata.mod[modality] if modality else mdata, room)[key]

    return change


def values(make, place="X"):
    """A change that makes something of the features of modality a: of X, or of its copy in obsm["q"]."""

    def change(mdata):
        found = make(np.array(mdata["a"].X))
        if place == "X":
            mdata["a"].X = found
        else:
            mdata["a"].obsm[place] = found

    return change


def counts(make):
    """A change that makes something of the counts of modality a."""
    return put("layers", "counts", lambda _: make(COUNTS))


def with_one(value, dtype=float):
    """A function that puts one value into a matrix."""

    def make(matrix):
        changed = matrix.astype(dtype)
        changed[3, 2] = value
        return changed

    return make


def labels(make, only=("a", "b")):
    """A change that makes something of the labels as text."""

    def change(mdata):
        for name in only:
            mdata[name].obs["perturbation"] = make(mdata[name].obs["perturbation"].astype(str))

    return change


def relabelled(mdata):
    """One cell gets another treatment."""
    found = mdata["a"].obs["treatment"].copy()
    found.iloc[0] = "t1" if found.iloc[0] != "t1" else "t2"
    mdata["a"].obs["treatment"] = found


def unlabelled(mdata):
    """One cell loses its treatment."""
    mdata["a"].obs.loc["a_0", "treatment"] = np.nan


def single(mdata):
    """One cell alone keeps its treatment."""
    obs = mdata["a"].obs
    obs.loc[obs.index[obs["treatment"] == "t1"][1:], "treatment"] = np.nan


def scored_again(mdata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score(mdata, rng=5)


def part(*place):
    """A change that keeps a part of modality a."""
    return lambda mdata: stack({"a": mdata["a"][place].copy(), "b": mdata["b"].copy()})


def no_cells(mdata):
    """Modality a loses its cells, and the container is not told."""
    mdata.mod["a"] = mdata["a"][:0].copy()


def fewer_cells(mdata):
    """Modality a loses cells, and the container is not told."""
    mdata.mod["a"] = mdata["a"][10:].copy()


def renamed(mdata):
    """Modality a gets other cell names, and the container is not told."""
    mdata["a"].obs_names = [f"z{cell}" for cell in range(N_CELLS)]


def named(name, change):
    """A change that names cells of a modality by what a function makes of their names."""

    def stacked(mdata):
        mdata[name].obs_names = change(mdata[name].obs_names.tolist())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return stack(dict(mdata.mod))

    return stacked


def twice(name):
    """A change that gives two cells of a modality one name."""
    return named(name, lambda names: [names[0], *names[:-1]])


shared = named("b", lambda names: [f"a_{cell}" for cell in range(20)] + names[20:])
other_name = put("obs", "treatment", lambda adata: adata.obs["treatment"].cat.rename_categories({"t1": "z"}))


def half(adata):
    """Scores in half the bytes."""
    return adata.obsm["propensity"].astype(np.float16)


def status(mdata):
    """A modality has the name of a column of the table of treatments."""
    return stack({"status": mdata["a"].copy(), "b": mdata["b"].copy()})


def score_of(value):
    """A change that puts one value into the scores."""
    return put("obsm", "propensity", lambda adata: with_one(value)(adata.obsm["propensity"]))


def entries_as(make):
    """A change that makes something of the entries of the coupling, zeros included."""
    return put("obsp", "match", lambda mdata: sparse.csr_matrix(make(mdata.obsp["match"].toarray())), "")


def prefixed(column):
    return "x" + column


def deep(matrix):
    return matrix[:, :, None]


def by_features(_):
    """Modalities stacked by cells instead of by features."""
    found = psalm.datasets.simulated(n_cells=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MuData(dict(found.mod), axis=1)


def on_file(make=np.asarray):
    """A change that leaves features in a file that is open for reading only."""

    def change(mdata):
        mdata["a"].X = make(mdata["a"].X)
        with no_pull():
            mdata.write_h5mu("cells.h5mu")
            return mudata.read_h5mu("cells.h5mu", backed="r")

    return change


def views(mdata):
    """Modalities that are views of other AnnData."""
    return stack({name: adata[adata.obs_names] for name, adata in mdata.mod.items()})


# What is refused


def held(mdata):
    """Every entry that a step could write to, as bytes."""
    return {
        (name, room, key): pickle.dumps(value.toarray() if sparse.issparse(value) else value)
        for name, one in {"": mdata, **mdata.mod}.items()
        for room in ("uns", "obs", "obsm", "obsp")
        for key, value in getattr(one, room).items()
    }


def bad(state, call, error, said, change=None, name="", **options):
    """A row: cells after a step, what is called on them after the change, the error, and words of its message."""
    shown = ", ".join(f"{option}={value!r}" for option, value in options.items())
    said_of = f"{state}: {call.__name__}({shown}) {name}".strip()
    return pytest.param(state, change, partial(call, **options), (error, said), id=said_of)


def says(option, value):
    return re.escape(f"`{option}={value!r}`")


NOT_FINITE = (
    r"has 1 values that are NaN or infinite, in 1 cells \('.*'\) and 1 features \(.*\)\. "
    "Values must be finite: impute or remove them"
)
NO_NUMBERS = "holds mixed values and cannot be read as numbers. Pass a matrix of numbers: a numpy array"
CHANGED = "was made for other treatments than the cells now have: labels in .* were changed after matching"
OTHER_TOOL = {"params": {"step": "another"}}
NO_COUNTS = "needs counts, but .* has negative or fractional values .*Pass `layer=` with the raw counts"
TWINS = pd.Categorical([1, "1"] * (N_CELLS // 2))
NO_MUDATA = {"AnnData": lambda mdata: mdata["a"], "NoneType": lambda _: None, "dict": lambda mdata: dict(mdata.mod)}


def in_the_way(step):
    return f"exists, was not written by `{step}`, and would be lost. Pass another `key_added=`"


def on(made, step):
    """The step, on what is made of the container instead of on the container."""

    def call(mdata):
        step(made(mdata))

    call.__name__ = step.__name__
    return call


def on_itself(mdata):
    represent(mdata, reference=mdata)


REFUSED = [
    # options, by what is said of them
    *(
        bad(
            state, call, ValueError, f"{says(option, value)} must be a whole number, {least} or more", **{option: value}
        )
        for state, call, option, value, least in (
            ("raw", treat, "min_cells", 0, 1),
            ("raw", treat, "min_cells", "5", 1),
            ("raw", treat, "min_cells", True, 1),
            ("raw", represent, "n_comps", 0, 1),
            ("raw", represent, "n_comps", "9", 1),
            ("treated", score, "n_folds", 1, 2),
            ("treated", score, "n_folds", 2.0, 2),
            ("treated", score, "n_folds", "2", 2),
            ("treated", score, "n_repeats", 0, 1),
            ("treated", score, "n_repeats", None, 1),
            ("treated", score, "compress_above", 1, 2),
            ("scored", match, "refine", -1, 0),
            ("scored", match, "refine", "1", 0),
            ("matched", evaluate, "k", 0, 1),
            ("matched", evaluate, "n_bootstrap", -1, 0),
            ("matched", diagnose, "n_permutations", 0, 1),
            ("matched", embed, "n_comps", 0, 1),
            ("matched", predict, "max_epochs", 0, 1),
            ("matched", predict, "max_epochs", "3", 1),
            ("matched", holdout, "n_groups", 1, 2),
        )
    ),
    *(
        bad(
            state,
            call,
            ValueError,
            f"{says(option, value)} must be a finite number above zero{more}",
            **{option: value},
        )
        for state, call, option, value, more in (
            ("treated", score, "distance_error", np.nan, ""),
            ("scored", match, "epsilon", -1, " or 'auto'"),
            ("scored", match, "epsilon", 0, " or 'auto'"),
            ("scored", match, "epsilon", np.nan, " or 'auto'"),
            ("scored", match, "epsilon", np.inf, " or 'auto'"),
            ("scored", match, "epsilon", "0.2", " or 'auto'"),
            ("scored", match, "epsilon", "sharp", " or 'auto'"),
            ("scored", match, "epsilon_absolute", -1, ""),
            ("scored", match, "tolerance", 0, ""),
            ("scored", match, "obsp_mb", -1, ""),
            ("scored", match, "obsp_mb", "64", ""),
            ("scored", match, "obsp_mb", np.inf, ""),
        )
    ),
    *(
        bad(state, call, ValueError, f"{says(option, value)} is not known. Pass one of '{first}'", **{option: value})
        for state, call, option, value, first in (
            ("raw", represent, "kind", "x", "rna"),
            ("treated", score, "calibration", "platt", "temperature"),
            ("treated", score, "prior", "flat", "shared"),
            ("treated", score, "score_on", "dose", "treatment"),
            ("treated", score, "classifier", "svm", "kernel"),
            ("scored", match, "method", "OT", "ot"),
            ("scored", match, "cost", "cosine", "euclidean"),
            ("scored", match, "on_error", "skip", "raise"),
            ("matched", predict, "loss", "l2", "auto"),
            ("matched", predict, "likelihood", "x", "auto"),
            ("matched", holdout, "loss", "l2", "auto"),
            ("matched", embed, "kind", "x", "scores"),
            ("matched", coupling, "normalize", "rows", "source"),
            ("scored", psalm.get.propensity_report, "table", "x", "table"),
        )
    ),
    *(
        bad(state, call, KeyError, f"{says(option, value)} is not a modality. Found: 'a', 'b'", **{option: value})
        for state, call, option, value in (
            ("raw", represent, "modality", "z"),
            ("scored", match, "source", "z"),
            ("matched", transfer, "source", "z"),
            ("matched", predict, "target", "z"),
            ("scored", propensity_of, "modality", "z"),
        )
    ),
    *(
        bad(state, call, ValueError, "`source` and `target` are both 'a'. Pass two different modalities", target="a")
        for state, call in (("scored", match), ("matched", transfer), ("matched", predict), ("matched", holdout))
    ),
    *(
        bad(
            state, call, KeyError, f"`{option}` names 'z', which are not modalities. Found: 'a', 'b'", **{option: value}
        )
        for state, call, option, value in (
            ("raw", treat, "key", {"a": "perturbation", "z": "perturbation"}),
            ("treated", score, "classifier", {"z": "mlp"}),
            ("treated", score, "use_rep", {"z": "X"}),
            ("scored", match, "mass", {"z": "w"}),
        )
    ),
    *(
        bad(
            state,
            call,
            KeyError,
            f"{says(option, value)} is n(either|ot) in `mdata.*Pass one of these",
            **{option: value},
        )
        for state, call, option, value in (
            ("raw", treat, "key", "dose"),
            ("raw", treat, "key", None),
            ("raw", treat, "key", 3),
            ("raw", treat, "within", "plate"),
            ("treated", score, "use_rep", "pca"),
            ("treated", score, "groups", "plate"),
            ("scored", match, "mass", "size"),
            ("matched", evaluate, "truth", "pair"),
            ("matched", evaluate, "labels", "type"),
        )
    ),
    *(
        bad(state, call, KeyError, f"there is no result of `{step}` in .*Run `{step}` first", **{option: value})
        for state, call, step, option, value in (
            ("scored", match, "tl.propensity", "propensity_key", "other"),
            ("treated", match, "tl.propensity", "propensity_key", "propensity"),
            ("matched", coupling, "tl.match", "via", "other"),
            ("matched", transfer, "tl.match", "match_key", "other"),
            ("matched", evaluate, "tl.match", "match_key", "other"),
            ("matched", diagnose, "tl.match", "match_key", "other"),
            ("matched", predicted_of, "tl.predict", "target", "b"),
        )
    ),
    *(
        bad(
            state,
            call,
            ValueError,
            f"{says('key_added', value)} must be a non-empty string without '/'",
            key_added=value,
        )
        for state, call, value in (
            ("raw", treat, "a/b"),
            ("treated", score, "a/b"),
            ("scored", match, ""),
            ("matched", transfer, "a/b"),
            ("matched", embed, "a/b"),
            ("matched", predict, "a/b"),
        )
    ),
    *(
        bad(state, call, ValueError, in_the_way(step), key_added=value)
        for state, call, step, value in (
            ("treated", score, "tl.propensity", "treatment"),
            ("scored", match, "tl.match", "propensity"),
            ("matched", transfer, "tl.transfer", "match"),
            ("matched", embed, "tl.embed", "propensity"),
            ("matched", predict, "tl.predict", "match"),
            ("matched", holdout, "tl.holdout", "match"),
        )
    ),
    *(
        bad(state, call, ValueError, in_the_way(step), entry(key, value), f"{type(value).__name__} in the way")
        for state, call, step, key in (
            ("treated", score, "tl.propensity", "propensity"),
            ("scored", match, "tl.match", "match"),
            ("matched", transfer, "tl.transfer", "transfer"),
            ("matched", predict, "tl.predict", "b_predicted"),
            ("matched", diagnose, "tl.diagnose", "match_diagnosis"),
        )
        for value in ("mine", OTHER_TOOL)
    ),
    bad("treated", score, ValueError, in_the_way("tl.propensity"), entry("propensity", np.zeros(3)), "uns an array"),
    bad("scored", match, ValueError, in_the_way("tl.match"), entry("match", pd.DataFrame({"x": [1]})), "uns a table"),
    bad("scored", match, ValueError, in_the_way("tl.match"), entry("match", None), "uns None"),
    bad("scored", match, KeyError, "Run `tl.propensity` first", entry("propensity", "mine"), "scores another's"),
    bad("scored", match, KeyError, "Run `tl.propensity`", entry("propensity", OTHER_TOOL), "scores another tool's"),
    bad("matched", psalm.get.report, KeyError, "Run `tl.match`", entry("match", OTHER_TOOL), "match another tool's"),
    # containers
    *(
        bad(
            "matched", on(made, step), TypeError, f"Got {kind}, but this needs a MuData with one AnnData per", name=kind
        )
        for kind, made in NO_MUDATA.items()
        for step in (treat, represent, score, match, transfer, predict, evaluate, diagnose, embed, psalm.pl.agreement)
        if kind == "AnnData" or step in (treat, match)
    ),
    bad("raw", treat, ValueError, "`mdata.axis` is 1, but cells must be on axis 0", by_features, "turned"),
    bad("raw", treat, ValueError, "1 cell names that occur more than once: 'a_0'.*obs_names", twice("a"), "twice"),
    bad("treated", score, ValueError, "1 cell names that occur more than once: 'b_0'", twice("b"), "a cell name twice"),
    bad("raw", treat, ValueError, "have another treatment than the cells of the same name in", shared, "shared"),
    bad("matched", coupling, ValueError, "80 cells of .* are not in .*e.g. 'z0'.*Call `mdata.upd", renamed, "renamed"),
    bad("raw", treat, ValueError, "A modality is named 'status', as a column .*Rename the modality", status, "status"),
    # treatments
    bad("raw", treat, ValueError, "`key` for 'a' is .*Pass one column, or a list of columns, each once", key=[]),
    bad("raw", treat, ValueError, "`key` for 'a' is .*Pass one column, or a list of columns, each", key=["id", "id"]),
    bad("raw", treat, KeyError, "`key` names no column for modality 'b'.*add 'b'", key={"a": "perturbation"}),
    bad("raw", treat, ValueError, "names more columns in one modality than in", key={"a": ["id"], "b": ["id", "w"]}),
    bad("raw", treat, ValueError, "No cell of 'a' and 'b' has a label: was the", labels(lambda _: np.nan), "all NaN"),
    bad("raw", treat, ValueError, "No cell of 'a' has a label: was the", labels(lambda _: None, "a"), "all None"),
    bad("raw", treat, ValueError, "Only 1 treatments have .*and two are", labels(lambda _: "t1"), "one treatment"),
    bad("raw", treat, ValueError, "a: 'xcontrol', 'xt1', 'xt2'; b: 'control'", labels(prefixed, "a"), "not shared"),
    bad("raw", treat, ValueError, "Only 0 treatments have at least 60 cells.*or lower `min_cells`", min_cells=60),
    bad("raw", treat, ValueError, "Found in a: none; b: 'control', 't1', 't2'", part(slice(0, 0)), "a without cells"),
    bad("raw", treat, TypeError, "`mapping` is of type list. Pass a mapping or a Series", mapping=["t1"]),
    bad("raw", treat, ValueError, "does not hold 2 labels of modality 'a': 'control', 't2'", mapping={"t1": "x"}),
    bad("raw", treat, TypeError, "`mapping` gives a list for 't1'. Give one treatment, or None", mapping={"t1": ["x"]}),
    bad("raw", treat, ValueError, "`mapping` has a missing value as a label", mapping={np.nan: "x"}),
    bad("raw", treat, ValueError, "`mapping` maps '1' to both 'x' and 'y'. Give each", mapping={1: "x", "1": "y"}),
    bad("raw", treat, ValueError, "`control` names 'DMSO', which no modality has. Found as the treat", control="DMSO"),
    bad("raw", treat, ValueError, "`control` names '1', which no modality has. Found as the treatments", control=1),
    bad("raw", treat, ValueError, "`separator=''` must be a non-empty string, such as", separator=""),
    bad("raw", treat, ValueError, "The label 't1' has an empty part where it is split.*Correct the", separator="t"),
    bad("raw", treat, ValueError, "No treatment has cells of all modalities in one stratum of", within="donor"),
    bad("raw", treat, ValueError, "No stratum: 80 cells in a, 80 cells in b", in_both("w", np.nan), within="w"),
    bad("raw", treat, ValueError, "is a column of yours, and 80 of", put("obs", "treatment", "mine"), "column taken"),
    bad("raw", treat, ValueError, "is an entry of yours and would be", entry("treatment", OTHER_TOOL), "entry taken"),
    # features
    *(bad("raw", represent, ValueError, NO_COUNTS, kind=kind) for kind in ("rna", "scvi", "protein", "atac")),
    bad("raw", represent, ValueError, NO_COUNTS, values(lambda _: COUNTS + 0.5), "fractions", kind="rna"),
    bad("raw", represent, ValueError, "No feature of .*X` varies", values(np.zeros_like), "zeros", kind="protein"),
    bad("raw", represent, ValueError, NOT_FINITE, values(with_one(np.nan)), "NaN"),
    bad("raw", represent, ValueError, "has shape \\(0, 12\\)", part(slice(0, 0)), "no cells", kind="rna"),
    bad("raw", represent, ValueError, "has shape \\(80, 0\\)", part(slice(None), slice(0, 0)), "no features"),
    bad("raw", represent, KeyError, "`layer='raw'` is not in .*layers`. Found .*in layers: 'counts'", layer="raw"),
    bad("raw", represent, ValueError, "`max_epochs=3` is for training with `kind='scvi'`. Leave", max_epochs=3),
    bad("raw", on_itself, ValueError, "`reference` has no representation of 'a'.*Run `pp.represent` on it"),
    *(
        bad("treated", score, ValueError, NOT_FINITE, change, name)
        for name, change in {
            "NaN": values(with_one(np.nan)),
            "infinity": values(with_one(np.inf)),
            "-infinity": values(with_one(-np.inf)),
            "sparse NaN": values(lambda matrix: sparse.csc_array(with_one(np.nan)(matrix))),
            "infinity of float16": values(with_one(np.inf, np.float16)),
            "None among objects": values(with_one(None, object)),
            "NaN in a file": on_file(with_one(np.nan)),
        }.items()
    ),
    *(
        bad("treated", score, TypeError, said, change, name, use_rep={"a": "q"})
        for name, said, change in (
            ("words", NO_NUMBERS, values(with_one("high", object), "q")),
            (
                "a table with words",
                r"1 columns that are not numbers: 'x' \(.*\). Drop or convert",
                put("obsm", "q", lambda a: pd.DataFrame({"x": "high"}, a.obs_names)),
            ),
        )
    ),
    bad("treated", score, ValueError, "has shape \\(80, 12, 1\\), but", values(deep, "q"), "3d", use_rep={"a": "q"}),
    bad("treated", score, ValueError, "X` is empty. Pass `use_rep=`", lambda m: setattr(m["a"], "X", None), "no X"),
    bad("matched", predict, ValueError, NOT_FINITE, values(with_one(np.inf)), "from infinity"),
    bad("matched", predict, ValueError, NOT_FINITE, values(with_one(np.nan)), "NaN", source="b", target="a"),
    # scores
    bad("treated", score, KeyError, "there are no factors in .*with several columns or with", score_on="factors"),
    bad("treated", score, TypeError, "`classifier` is NoneType, which has no `fit`", classifier=None),
    bad("treated", score, TypeError, "LinearSVC, which has .*Calibrated", None, "SVC", classifier=LinearSVC()),
    bad("treated", score, ValueError, "3 treatments that occur in one group only: 'control', 't1'", groups="treatment"),
    bad("treated", score, ValueError, "80 cells of .* have no value", in_both("w", np.nan), "groups NaN", groups="w"),
    bad("raw", score, KeyError, "`treatment='treatment'` is not in .*Run `pp.treatment` first", None, "no treatments"),
    bad("treated", score, ValueError, "There are 1 treatments in .*and", in_both("treatment", "t1"), "one treatment"),
    bad("treated", score, ValueError, "There are 0 treatments in .*and two", in_both("treatment", np.nan), "all NaN"),
    bad("treated", score, ValueError, "do not have the same treatments .*'t1', 'z'", other_name, "other treatments"),
    bad("treated", score, ValueError, "'control', 't1', 't2' are in 'a' or 'b', not in", part(slice(0, 0)), "no cells"),
    bad("treated", psalm.tl.score, FileNotFoundError, "nope does not exist. Pass the file", model="nope"),
    bad("scored", propensity_of, KeyError, "`reference='t9'` is not a treatment. Found", modality="a", reference="t9"),
    # matches
    bad("scored", match, TypeError, "`method` is NoneType. Pass one of 'ot'", method=None),
    bad("scored", match, ValueError, "and `epsilon_absolute` is not. Pass one of them", epsilon=1, epsilon_absolute=1),
    bad("scored", match, ValueError, "brings its own ε of 1, so 'epsilon' would be", cost="posterior", epsilon=1),
    bad("scored", match, ValueError, "`refine` adds coordinates to scores, and", cost="posterior", refine=1),
    bad("scored", match, KeyError, "`use_rep='pca'` is neither in", use_rep="pca", refine=1),
    bad("scored", match, ValueError, "`device='cuda'` would be ignored: ExactMatcher", method="exact", device="cuda"),
    bad("scored", match, ValueError, "`min_response=-0.1` must be", min_response=-0.1),
    bad("scored", match, ValueError, "`min_response='low'` must be", min_response="low"),
    bad("scored", match, ValueError, "'epsilom' cannot be set for `method='ot'`. Its options are 'epsilon'", epsilom=1),
    bad("scored", match, ValueError, "'epsilon' cannot be set for `method='snn'`. Its", method="snn", epsilon=1),
    bad("scored", match, ValueError, "must be a finite number above zero and at most", method="partial", fraction=2),
    bad("scored", match, ValueError, "must be a finite number of zero or above and at most", method="fgw", alpha=-1),
    bad("scored", match, ValueError, "`n_neighbors=2.5` must be a whole number", method="snn", n_neighbors=2.5),
    bad("scored", match, TypeError, "is not a dataclass, so `checkpoint`", None, "kept", checkpoint="f", method=print),
    *(
        bad(
            "scored", match, ValueError, "is not a positive finite number for 1 cells", change, f"mass {name}", mass="w"
        )
        for name, change in {
            "negative": put("obs", "w", [-1.0, *[1.0] * (N_CELLS - 1)]),
            "zero": put("obs", "w", [0.0, *[1.0] * (N_CELLS - 1)]),
            "NaN": put("obs", "w", [np.nan, *[1.0] * (N_CELLS - 1)]),
            "infinite": put("obs", "w", [np.inf, *[1.0] * (N_CELLS - 1)]),
            "missing": put("obs", "w", pd.array([None, *[1] * (N_CELLS - 1)], dtype="Int64")),
        }.items()
    ),
    bad("scored", match, ValueError, "but masses must be positive", put("obs", "w", "heavy"), "words", mass="w"),
    bad("scored", match, ValueError, "1 cells of .* have another treatment in .* than when", relabelled, "relabelled"),
    bad("scored", match, KeyError, "so labels cannot be checked", without("obs", "propensity_treatment"), "unknown"),
    bad("scored", match, KeyError, "does not exist. Run `tl.prop", without("obsm", "propensity"), "scores deleted"),
    bad("scored", match, ValueError, f"'propensity'\\]` {NOT_FINITE}", score_of(np.nan), "score NaN"),
    bad("scored", match, ValueError, f"'propensity'\\]` {NOT_FINITE}", score_of(np.inf), "score infinite"),
    bad(
        "scored",
        match,
        KeyError,
        "`min_response` needs",
        without("obs", "propensity_response"),
        "gone",
        min_response=0.5,
    ),
    # matches that do not fit the cells any more
    *(
        bad("matched", call, ValueError, CHANGED, change, change.__name__)
        for change in (relabelled, unlabelled)
        for call in (coupling, transfer, evaluate, diagnose, predict)
    ),
    bad("matched", transfer, ValueError, "were computed anew after the coupling .*Run", scored_again, "scored"),
    bad("matched", transfer, KeyError, "'match'\\]` does not exist, though", without("obsp", "match", ""), "gone"),
    bad("matched", coupling, KeyError, "does not exist, though the", without("obs", "match_block"), "blocks deleted"),
    bad("matched", coupling, ValueError, "entries that are negative or", entries_as(np.negative), "negative entries"),
    bad("matched", coupling, ValueError, CHANGED, entries_as(np.ones_like), "entries between treatments"),
    bad("matched", transfer, ValueError, "has cells on both sides here: nothing can be carried", no_cells, "no cells"),
    bad("matched", evaluate, ValueError, "has cells on both sides here, so there is nothing", no_cells, "no cells"),
    bad("matched", predict, ValueError, "No matched treatment is left to train on", no_cells, "no cells"),
    # results
    bad("matched", transfer, ValueError, "must be a name, or a list of different names", keys=[]),
    bad("matched", transfer, ValueError, "must be a name, or a list of different names", keys=["X", "X"]),
    bad("matched", transfer, ValueError, "must be a name, or a list of different names", keys=["X", 3]),
    bad("matched", transfer, KeyError, "'dose' is not in .*Found in obs: .*Pass some of these, or 'X'", keys="dose"),
    bad("matched", transfer, ValueError, "Say which: 'obs:q', 'obsm:q'", put("obs", "q", 1), "in two places", keys="q"),
    bad("matched", transfer, ValueError, "80 infinite values. Replace them,", put("obs", "w", np.inf), "inf", keys="w"),
    *(
        bad(
            "matched",
            transfer,
            TypeError,
            "neither labels nor numbers. Convert it",
            put("obs", "w", what),
            name,
            keys="w",
        )
        for name, what in {
            "dates": pd.Timestamp("2020-01-01"),
            "complex": 1j,
            "words and numbers": np.array(["x", 1] * (N_CELLS // 2), dtype=object),
        }.items()
    ),
    bad("matched", transfer, ValueError, NOT_FINITE, values(with_one(np.nan), "q"), "NaN", keys="obsm:q"),
    bad("matched", transfer, ValueError, "which would be lost", put("obs", "w_from_a", 1, "b"), "taken", keys="w"),
    bad("matched", evaluate, ValueError, "no names in common, so no true pairs are known. Pass `truth=`", latent=None),
    bad("matched", evaluate, ValueError, "1 values that occur more than once: '1'. `truth` must name", truth="w"),
    bad("matched", evaluate, ValueError, "no values of .* in common", in_both("id", np.nan), "all NaN", truth="id"),
    bad("matched", evaluate, KeyError, "`latent='z'` is not in `mdata.*obsm`. Found in obsm: 'latent'", latent="z"),
    bad("matched", evaluate, ValueError, "has 12 dimensions in 'a' and 10 in 'b'. True latents must be", latent="q"),
    bad(
        "matched", evaluate, ValueError, "was not written by `tl.evaluate`", entry("match_evaluation", "mine"), "taken"
    ),
    bad("matched", diagnose, KeyError, "`links` names 'x', which are not features of 'a'", links={"x": "y"}),
    bad("matched", embed, ValueError, "is the name of a modality, whose cells", key_added="a"),
    bad("matched", embed, ValueError, "was not written by `tl.embed` and would be lost. Pass", key_added="latent"),
    bad("matched", predict, ValueError, "is for counts, and `mdata.*` has negative values. Pass", likelihood="nb"),
    bad("matched", predict, ValueError, "must be a number between 0 and 1, such as 0.9, or None", coverage=90),
    bad("matched", predict, KeyError, "`use_rep='z'` is neither in `mdata\\['b'\\].obsm` nor", target_rep="z"),
    bad("matched", holdout, ValueError, "must be some of those that are matched, and leave others", treatments=["t9"]),
    bad("matched", holdout, ValueError, "and leave others to learn from", treatments=["control", "t1", "t2"]),
    bad("matched", coupling, ValueError, "they share both modalities. Pass two matches that", via="match"),
    bad("matched", psalm.pl.embedding, KeyError, "`basis='X_propensity'` is not in .*Run `tl.embed` first"),
    bad("matched", psalm.pl.evaluation, KeyError, "Run `tl.evaluate` or `tl.diagnose` first"),
    bad("matched", psalm.pl.history, TypeError, "Got MuData, which has no history of training. Pass the trained"),
]


MASKED = "is a masked array, .* whose values are hidden.*Fill them"
USERS = "exists, was not written by `{}`, and would be lost. Pass another `key_added=`, or rename"
NO_REAL = "which is no real number. Pass a numeric matrix"
HIDDEN = values(lambda matrix: np.ma.masked_array(matrix, mask=matrix > 0), "q")
MINE = np.zeros((N_CELLS, 2))


def made_of(change):
    """A change of the scores of "a"."""
    return put("obsm", "propensity", lambda adata: change(adata.obsm["propensity"]))


def named_all(mdata):
    """A treatment has the name of the rows over all treatments; tl.holdout sees it."""
    mdata = psalm.datasets.simulated(n_cells=N_CELLS, n_treatments=3, n_features=(12, 10), rng=1)
    labels(lambda names: names.replace("t1", "all"))(mdata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        treat(mdata)
        score(mdata)
        match(mdata)
    holdout(mdata)


def score_new(mdata):
    """Score cells by models that were trained on others."""
    old = psalm.datasets.simulated(n_cells=N_CELLS, n_treatments=3, n_features=(12, 10), rng=1)
    for adata in old.mod.values():
        adata.obs_names = [f"old_{name}" for name in adata.obs_names]
    old = stack(dict(old.mod))
    treat(old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score(old, save="models.skops")
    psalm.tl.score(mdata, "models.skops")


class NoProbabilities(LogisticRegression):
    """Gives what are no probabilities."""

    def predict_proba(self, X):
        return -super().predict_proba(X)


REFUSED += [
    bad("treated", score, ValueError, MASKED, HIDDEN, use_rep={"a": "q"}),
    bad("matched", transfer, ValueError, MASKED, HIDDEN, keys="q"),
    bad("matched", predict, ValueError, MASKED, HIDDEN, use_rep="q"),
    *(
        bad("treated", score, TypeError, NO_REAL, values(lambda x, kind=kind: x.astype(kind), "q"), kind, use_rep="q")
        for kind in ("complex128", "U8")
    ),
    bad("treated", score, ValueError, "no features. Pass `use_rep=`", values(lambda x: x[:, :0], "q"), use_rep="q"),
    bad("matched", predict, ValueError, "no features", values(lambda x: x[:, :0], "q"), use_rep="q"),
    bad("treated", score, ValueError, "in its `layers`. Rename one", put("layers", "q", lambda a: a.X), use_rep="q"),
    bad("treated", score, ValueError, USERS.format("tl.propensity"), put("obsm", "propensity", MINE), "own scores"),
    bad("treated", score, ValueError, USERS.format("tl.propensity"), put("obs", "propensity_own", 1.0), "own column"),
    bad("treated", score, ValueError, USERS.format("tl.propensity"), key_added="q"),
    bad("treated", score, ValueError, "is where `pp.represent` writes", key_added="X_psalm"),
    bad(
        "scored",
        match,
        ValueError,
        USERS.format("tl.match"),
        put("obsp", "match", sparse.csr_matrix(np.eye(2 * N_CELLS)), ""),
    ),
    bad("scored", match, ValueError, USERS.format("tl.match"), put("obs", "match_mass", 1.0), "own masses"),
    bad(
        "matched", predict, ValueError, USERS.format("tl.predict"), put("obsm", "b_predicted", MINE), "own predictions"
    ),
    bad("matched", predict, ValueError, USERS.format("tl.predict"), key_added="latent"),
    *(bad("matched", holdout, ValueError, "must be a whole number, 1", max_epochs=value) for value in (0, -1, "x")),
    *(
        bad("scored", match, ValueError, "must be a number between 0 and 1, such as 0.5", min_response=value)
        for value in (1, 1.5)
    ),
    *(
        bad("scored", match, ValueError, "masses must be positive numbers", in_both("w", value), kind, mass="w")
        for kind, value in {"dates": pd.Timestamp("2020-01-01"), "text": "1", "complex": 1j}.items()
    ),
    bad("scored", match, ValueError, "is a file. Pass a folder", lambda _: Path("f").write_text(""), checkpoint="f"),
    bad("treated", score, ValueError, "is a folder. Pass the name of a file", save="."),
    *(bad("scored", match, ValueError, says("device", value), device=value) for value in ("tpu", "gpu", "")),
    *(bad("scored", match, ValueError, says("n_jobs", value), n_jobs=value) for value in (0, "2", 1.5, True)),
    *(bad("treated", score, ValueError, says("n_jobs", value), n_jobs=value) for value in (0, "2", 1.5)),
    *(bad("treated", score, ValueError, "must be a whole number, 0 or more", rng=value) for value in ("x", 1.5, -1)),
    *(bad("matched", evaluate, ValueError, says("rng", value), rng=value) for value in ("x", True)),
    *(
        bad("scored", match, ValueError, "not the scores that `tl.propensity` wrote", made_of(change), name)
        for name, change in {
            "wider": lambda x: np.hstack([x, x]),
            "pictures": lambda x: x[:, :, None],
            "whole numbers": lambda x: x.astype(int),
        }.items()
    ),
    bad("scored", match, KeyError, "no result of `tl.propensity`", entry("propensity", {"params": "mine"}), "text"),
    bad("scored", match, ValueError, in_the_way("tl.match"), entry("match", {"params": None}), "no params"),
    bad("raw", on(lambda _: MuData({}), treat), ValueError, "no modalities. Build one", name="no modalities"),
    bad("treated", score, ValueError, "There are 1 treatments in", in_both("treatment", TWINS), "1 and '1' are one"),
    bad("raw", treat, ValueError, "has the empty text as its name", labels(lambda x: x.replace("t1", "")), "''"),
    bad("treated", score, ValueError, "no probabilities. Wrap it", classifier=NoProbabilities()),
    bad("raw", represent, ValueError, "which float32 cannot hold", values(lambda x: x * 1e300), "1e300"),
    bad(
        "matched", transfer, ValueError, "float32 cannot hold", values(lambda x: x.astype(float) * 1e300, "q"), keys="q"
    ),
    bad(
        "matched",
        predict,
        ValueError,
        "float32 cannot hold",
        values(lambda x: x.astype(float) * 1e300),
        target_rep="X",
        use_rep="X",
    ),
    bad(
        "raw",
        represent,
        ValueError,
        "and would be overwritten. Rename it",
        put("obsm", "X_psalm", MINE),
        "own features",
    ),
    bad("scored", match, ValueError, "`use_rep='q'` would be ignored: SinkhornMatcher goes by scores", use_rep="q"),
    bad("matched", diagnose, ValueError, "`link_rep=.*would be ignored, as `links` names no", link_rep={"a": "X"}),
    bad("matched", named_all, ValueError, "A treatment is named 'all', as the rows over all treatments are. Rename"),
    bad("treated", score, TypeError, "is the class LogisticRegression. Pass an object", classifier=LogisticRegression),
    bad("scored", match, TypeError, "is the class SinkhornMatcher. Pass an", None, "class", method=SinkhornMatcher),
    bad("scored", match, TypeError, "`epsilon=None` is of type NoneType. Pass a number or a string", epsilon=None),
    bad("scored", match, ValueError, r"`tolerance=\(\)` must be a finite number above zero", tolerance=()),
    bad("scored", match, ValueError, r"`epsilon_absolute=\(1, 2\)` must be a finite number", epsilon_absolute=(1, 2)),
    bad("treated", score, ValueError, "`checkpoint=.*` is no name. Pass a folder", checkpoint=""),
    bad("treated", score, ValueError, "With `rng=None` every call draws folds", rng=None, checkpoint="f"),
    bad("treated", score, ValueError, "is a file. Pass a folder", lambda _: Path("f").write_text(""), checkpoint="f"),
    *(
        bad(
            "matched",
            call,
            TypeError,
            f"`{name}=.* is of type {type(value).__name__}. Pass {said}",
            None,
            f"{name}={value}",
            **{name: value},
        )
        for call, name, value, said in (
            *((step, "key_added", ["x"], "a string.$") for step in (match, transfer, holdout)),
            (embed, "key_added", ["x"], "a string or None.$"),
            (score, "progress", "yes", "True or False.$"),
            (predict, "use_treatment", None, "True or False.$"),
            (propensity_of, "modality", ["a"], "a string.$"),
            *((step, "match_key", {"x": 1}, "a string") for step in (transfer, predict, evaluate, diagnose)),
            *((psalm.get.report, name, value, "a string.$") for name, value in (("key", ["x"]), ("key", None))),
            (psalm.get.coupling, "via", 3, "a string or None.$"),
            (psalm.pl.match, "match_key", ["match"], "a string.$"),
            (transfer, "source", np.array(["a", "b"]), "a string.$"),
            (transfer, "keys", 3, "a string or a list of strings.$"),
            (holdout, "treatments", 3.5, "a list of strings or None.$"),
            (evaluate, "labels", ["x"], "a string or None.$"),
            (diagnose, "links", ["x"], "a mapping from string to string or None.$"),
            (diagnose, "links", {"x": 1}, "a mapping from string to string or None.$"),
            (evaluate, "use_rep", True, "a string or None.$"),
            (match, "epsilon", True, "a number or a string.$"),
            (represent, "kind", None, "a string.$"),
            (represent, "modality", None, "a string.$"),
            (score, "calibration", None, "a string.$"),
            (score, "treatment", None, "a string.$"),
            (score, "batch_key", 3, "a string or None.$"),
            (score, "key_added", 3, "a string.$"),
            (treat, "key_added", None, "a string.$"),
            (match, "target", None, "a string.$"),
            (match, "target", 3, "a string.$"),
            (match, "propensity_key", None, "a string.$"),
            (match, "device", None, "a string.$"),
            (match, "device", 3, "a string.$"),
            (evaluate, "truth", 3, "a string or None.$"),
            (coupling, "key", None, "a string.$"),
            (predict, "match_key", 3, "a string.$"),
            (match, "mass", {"a": None}, "a string, a mapping from string to string or None.$"),
            (score, "save", 3, "a string, a path or None.$"),
        )
    ),
    bad("treated", score_new, ValueError, USERS.format("tl.propensity"), put("obsm", "propensity", MINE), "own scores"),
    bad("raw", on_itself, ValueError, "no representation of 'a'", put("uns", "X_psalm", "mine"), "own uns"),
]


@pytest.mark.parametrize(("state", "change", "call", "refusal"), REFUSED)
def test_refused_in_words_and_nothing_is_written(begin, state, change, call, refusal):
    mdata, (error, said) = begin(state, change), refusal
    before = held(mdata)
    with pytest.raises(error, match=said) as caught:
        call(mdata)
    assert type(caught.value) is error
    assert held(mdata) == before


# What is accepted


def scores(mdata, **options):
    """Scores of both modalities."""
    score(mdata, **options)
    return np.vstack([mdata[name].obsm["propensity"] for name in "ab"])


def entries(mdata, **options):
    """Coupling of some cells, found by name."""
    match(mdata, **options)
    return stored(mdata)


def stored(mdata, *, exact=True):
    mass = psalm.get.coupling(mdata, exact=exact).toarray()
    frame = pd.DataFrame(mass, index=mdata["a"].obs_names, columns=mdata["b"].obs_names)
    return frame.loc[[f"a_{cell}" for cell in range(10, 60)], [f"b_{cell}" for cell in range(N_CELLS)]].to_numpy()


def from_treatment_on(mdata, **options):
    """Coupling after all steps."""
    treat(mdata, **options)
    score(mdata)
    return entries(mdata)


def represented(mdata):
    represent(mdata, kind="rna", layer="counts")
    return mdata["a"].obsm["X_psalm"]


def carried(mdata):
    """Means of a column of numbers, carried over."""
    transfer(mdata, keys="number")
    return mdata["b"].obs["number_from_a"].to_numpy()


def carried_labels(mdata):
    transfer(mdata, keys="donor")
    return np.column_stack([mdata["b"].obs["donor_from_a"] == "a1", mdata["b"].obs["donor_from_a_confidence"]])


def components(mdata):
    transfer(mdata, keys="obsm:q")
    return np.asarray(mdata["b"].obsm["q_from_a"])


def evaluated(mdata):
    return evaluate(mdata, truth="id").select_dtypes("number").to_numpy()


def predicted(mdata):
    predict(mdata, source="b", target="a", target_rep="q")
    return mdata["b"].obsm["a_predicted"].to_numpy()


def good(state, name, change, result, atol=None):
    return pytest.param(state, change, result, atol, id=f"{state}: {name}")


of_q = partial(scores, use_rep={"a": "q"})
entries_by_mass = partial(entries, mass="w")
as_stored = partial(stored, exact=False)
NEARLY = 0.02
"""Features that are sparse are not centred, and the classifier comes to a stop elsewhere."""

ACCEPTED = [
    *(
        good("treated", f"X as {make.__name__}", values(make), scores, NEARLY)
        for make in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array)
    ),
    good("treated", "obsm as csr_array", values(sparse.csr_array, "q"), of_q, NEARLY),
    good("treated", "float16", values(lambda x: x.astype(np.float16)), scores, NEARLY),
    good("treated", "float32", values(lambda x: x.astype(np.float32)), scores, 1e-5),
    good("treated", "long double", values(lambda x: x.astype(np.longdouble)), scores, 0),
    good("treated", "big-endian", values(lambda x: x.astype(">f8")), scores, 0),
    good("treated", "columns first", values(np.asfortranarray), scores, 0),
    good("treated", "numbers as objects", values(lambda x: x.astype(object)), scores, 0),
    good("treated", "a mask that hides nothing", values(np.ma.masked_array, "q"), of_q, 0),
    good("treated", "bool", values(lambda x: x > 0), scores),
    good("treated", "int8", values(lambda x: (x * 20).astype(np.int8)), scores),
    good("treated", "int64 finer than float32", values(lambda x: (x * 2.0**50).astype(np.int64)), scores, 1e-5),
    good("treated", "uint64 beyond int64", values(lambda x: ((x + 16) * 2.0**59).astype(np.uint64)), scores, 1e-5),
    good("treated", "far from zero", values(lambda x: x + 1e9, "q"), of_q, 1e-3),
    good("treated", "constant features", values(np.ones_like), scores),
    good("treated", "a single feature", values(lambda x: x[:, :1], "q"), of_q),
    good("treated", "read-only", lambda mdata: mdata["a"].obsm["q"].setflags(write=False), of_q, 0),
    good("treated", "a table", put("obsm", "q", lambda a: pd.DataFrame(a.X, a.obs_names)), of_q, 0),
    good("treated", "a file", on_file(), scores, 0),
    good("treated", "a sparse file", on_file(sparse.csr_matrix), scores, NEARLY),
    good("treated", "a sparse file by columns", on_file(sparse.csc_matrix), scores, NEARLY),
    good("treated", "MuData view", lambda mdata: mdata[mdata.obs_names], scores, 0),
    good("treated", "AnnData views", views, scores, 0),
    good(
        "treated",
        "unused treatment",
        in_both("treatment", lambda a: a.obs["treatment"].cat.add_categories("t9")),
        scores,
        0,
    ),
    good("treated", "treatments as text", in_both("treatment", lambda a: a.obs["treatment"].astype(str)), scores, 0),
    good("treated", "a treatment of one cell", single, scores),
    good("treated", "a cell without treatment", unlabelled, scores),
    good("raw", "names with slashes", labels(lambda x: x + "/x"), from_treatment_on, 0),
    good("raw", "names in other alphabets", labels(lambda x: x + " µ→β"), from_treatment_on, 0),
    good("raw", "numbers for names", labels(lambda x: x.str[-1].map({"l": 0, "1": 1, "2": 2})), from_treatment_on, 0),
    good("raw", "names as text", labels(lambda x: x), from_treatment_on, 0),
    good("raw", "names as pandas strings", labels(lambda x: x.astype("string")), from_treatment_on, 0),
    good(
        "raw",
        "names that are not used",
        labels(lambda x: pd.Categorical(x, ["control", "t1", "t2", "t9"])),
        from_treatment_on,
        0,
    ),
    good(
        "raw",
        "names in order",
        labels(lambda x: pd.Categorical(x, ["control", "t1", "t2"], ordered=True)),
        from_treatment_on,
        0,
    ),
    good("raw", "treatments from a view", lambda mdata: mdata[mdata.obs_names], from_treatment_on, 0),
    good("raw", "counts as int64", counts(np.int64), represented, 0),
    good("raw", "counts as uint8", counts(np.uint8), represented, 0),
    good("raw", "counts as float16", counts(np.float16), represented, 0),
    good("raw", "counts as objects", counts(lambda x: x.astype(object)), represented, 0),
    good("raw", "counts as csr_array", counts(sparse.csr_array), represented, 1e-3),
    good("raw", "counts as csc_array", counts(sparse.csc_array), represented, 1e-3),
    good("raw", "counts finer than float32", counts(lambda x: x.astype(np.int64) * 2**58), represented, 0),
    good("raw", "counts beyond int64", counts(lambda x: x.astype(np.uint64) * np.uint64(2**60)), represented, 0),
    good("raw", "counts as bool", counts(lambda x: x > 2), represented),
    good("scored", "mass of whole numbers", in_both("w", 3), entries_by_mass, 1e-12),
    good("scored", "mass, nullable", in_both("w", pd.array([1] * N_CELLS, dtype="Int64")), entries_by_mass, 0),
    good("scored", "mass True", in_both("w", value=True), entries_by_mass, 0),
    good("scored", "scores as float16", put("obsm", "propensity", half), entries, 1e-4),
    good("scored", "scores of a view", lambda mdata: mdata[mdata.obs_names], entries, 0),
    good("scored", "a cell that lost its treatment", unlabelled, entries),
    good("matched", "cells in another order", lambda mdata: mdata[mdata.obs_names[::-1]].copy(), stored, 0),
    good("matched", "fewer cells", lambda mdata: mdata[mdata.obs_names[10:]].copy(), stored, 0),
    good("matched", "a view of fewer cells", lambda mdata: mdata[mdata.obs_names[10:]], stored, 0),
    good("matched", "a modality of fewer cells", fewer_cells, stored, 0),
    good(
        "matched",
        "a dense coupling",
        lambda mdata: put("obsp", "match", mdata.obsp["match"].toarray(), "")(mdata),
        as_stored,
        0,
    ),
    good("matched", "a match in a file", on_file(), stored, 0),
    *(
        good(
            "matched",
            f"numbers as {dtype}",
            put("obs", "number", lambda a, dtype=dtype: a.obs["number"].astype(dtype)),
            carried,
            0,
        )
        for dtype in ("float16", "uint64", "Int64", "Float32", pd.SparseDtype(float))
    ),
    *(
        good(
            "matched",
            f"labels as {dtype}",
            put("obs", "donor", lambda a, dtype=dtype: a.obs["donor"].astype(dtype)),
            carried_labels,
            0,
        )
        for dtype in ("category", "string", object)
    ),
    good("matched", "components as csr_array", values(sparse.csr_array, "q"), components, 1e-5),
    good("matched", "components as float16", values(lambda x: x.astype(np.float16), "q"), components, 1e-2),
    good("matched", "truth as text", in_both("id", lambda a: a.obs["id"].astype(str)), evaluated, 0),
    good("matched", "truth as categories", in_both("id", lambda a: a.obs["id"].astype("category")), evaluated, 0),
    good("matched", "truth 1 and 1.0", put("obs", "id", lambda a: a.obs["id"].astype(float)), evaluated, 0),
    good("matched", "predict csr_array", values(sparse.csr_array, "q"), predicted, 1e-5),
]


@pytest.fixture(scope="module")
def plain(bases):
    """What the plain input gives, computed once."""
    found = {}

    def of(state, result):
        if (state, result) not in found:
            found[state, result] = result(bases[state].copy())
        return found[state, result]

    return of


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("state", "change", "result", "atol"), ACCEPTED)
def test_accepted_and_the_same(begin, plain, state, change, result, atol):
    mdata = begin(state, change)
    found = np.asarray(result(mdata), dtype=float)
    assert found.size
    assert np.isfinite(found).all()
    if atol is not None:
        np.testing.assert_allclose(found, plain(state, result), rtol=0, atol=atol)
    if mdata.isbacked:
        mdata.file.close()


@pytest.mark.parametrize("name", ["nan", "None", "<NA>"])
def test_missing_labels_that_became_text_are_said(begin, name):
    """They are kept, as they may be a name, and every step tells them from cells without a label."""
    mdata = begin("raw", labels(lambda column: column.replace("t1", name)))
    for adata in mdata.mod.values():
        adata.obs["perturbation"] = adata.obs["perturbation"].astype(object)
        adata.obs.iloc[:5, adata.obs.columns.get_loc("perturbation")] = None
    with pytest.warns(UserWarning, match=f"missing labels that became text: '{name}'"):
        psalm.pp.treatment(mdata, "perturbation")
    assert name in mdata["a"].obs["treatment"].cat.categories
    assert mdata["a"].obs["treatment"].isna().sum() == 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score(mdata)
        match(mdata)
        predict(mdata)
    means, own = mdata.uns["b_predicted"]["means"], (mdata["a"].obs["treatment"] == name).to_numpy()
    found = means["predicted"][list(means["treatments"]).index(name)]
    np.testing.assert_allclose(found, mdata["a"].obsm["b_predicted"][own].mean(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["rna", "protein"])
def test_cells_without_counts_are_said(begin, kind):
    def emptied(mdata):
        mdata["a"].layers["counts"][:3] = 0

    mdata = begin("raw", emptied)
    with pytest.warns(UserWarning, match=r"3 cells of `mdata\['a'\].layers\['counts'\]` have no counts at all"):
        represent(mdata, kind=kind, layer="counts")
    assert np.isfinite(mdata["a"].obsm["X_psalm"]).all()
