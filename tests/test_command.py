"""The command on files as they come: its own result, of R, without X, nested, and where it cannot write or print."""

import io
import sys

import anndata
import h5py
import mudata
import numpy as np
import pytest
from scipy import sparse

import psalm
from psalm import _task
from psalm.__main__ import main
from psalm._containers import no_pull, stack

TEXT = h5py.string_dtype()
QUICK = pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few epochs; and mudata's coming behaviour."""
    usual = psalm.tl.predict
    monkeypatch.setattr(psalm.tl, "predict", lambda *given, **options: usual(*given, **options, max_epochs=2))
    with no_pull():
        yield


def options(file, out, treatment="perturbation", source="a", target="b"):
    given = {"--input": file, "--treatment": treatment, "--source": source, "--target": target, "--out": out}
    return [str(word) for option in given.items() for word in option]


def refused(arguments, capsys, status=2):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == status
    return capsys.readouterr().err


@QUICK
def test_its_own_result_is_read_back_with_all_that_it_holds(raw, tmp_path, capsys):
    raw.uns["note"] = "kept"
    raw.write_h5mu(tmp_path / "mine.h5mu")
    assert main(options(tmp_path / "mine.h5mu", tmp_path)) == 0
    first = mudata.read_h5mu(tmp_path / "aligned.h5mu")
    for treatment in ("perturbation", "treatment"):  # the column of the user, and the one that psalm wrote
        assert main(options(tmp_path / "aligned.h5mu", tmp_path, treatment)) == 0
    again = mudata.read_h5mu(tmp_path / "aligned.h5mu")
    np.testing.assert_array_equal(again["a"].obsm["propensity"], first["a"].obsm["propensity"])
    assert (again.obsp["match"] != first.obsp["match"]).nnz == 0
    assert again.uns["note"] == "kept"
    assert len(psalm.get.provenance(again)) > 2 * len(psalm.get.provenance(first))


@QUICK
def test_a_result_of_more_modalities_is_not_overwritten_by_two(raw, tmp_path, capsys):
    third = raw["a"].copy()
    third.obs_names = [f"c_{name}" for name in third.obs_names]
    third.var_names = [f"c_{name}" for name in third.var_names]
    stack({"a": raw["a"], "b": raw["b"], "c": third}).write_h5mu(tmp_path / "aligned.h5mu")
    printed = refused(options(tmp_path / "aligned.h5mu", tmp_path), capsys)
    assert "is the file that is read, and its modalities 'c' would be lost. Pass another --out" in printed
    assert set(mudata.read_h5mu(tmp_path / "aligned.h5mu").mod) == {"a", "b", "c"}


@QUICK
def test_letters_that_the_terminal_does_not_know_stop_nothing(raw, tmp_path, monkeypatch):
    raw["a"].obs["perturbation"] = raw["a"].obs["perturbation"].cat.rename_categories({"t1": "β-IFN"})
    raw["b"].obs["perturbation"] = raw["b"].obs["perturbation"].cat.rename_categories({"t1": "β-IFN"})
    raw.write_h5mu(tmp_path / "mine.h5mu")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii", errors="strict"))
    assert main(options(tmp_path / "mine.h5mu", tmp_path)) == 0
    assert sys.stdout.errors == "strict"
    sys.stdout.flush()
    assert b"\\u03b2-IFN" in printed.getvalue()
    assert b"Written:" in printed.getvalue()


@pytest.mark.parametrize(
    ("failing", "there", "missing"),
    [
        pytest.param("propensity", ["a.obsm.X_psalm"], ["a.obsm.propensity"], id="scores"),
        pytest.param("match", ["a.obsm.propensity", "propensity.png"], ["obsp.match"], id="match"),
        pytest.param("diagnose", ["obsp.match", "match.png"], ["obsm.X_propensity"], id="diagnosis"),
        pytest.param("predict", ["obsm.X_propensity", "embedding.png"], ["a.obsm.b_predicted"], id="prediction"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError("would need 9 GB"), KeyboardInterrupt()], ids=["refused", "interrupted"])
def test_what_was_finished_is_kept(raw, tmp_path, capsys, monkeypatch, *, failing, there, missing, error):
    def fail(*given, **options):
        raise error

    monkeypatch.setattr(psalm.tl, failing, fail)
    raw.write_h5mu(tmp_path / "mine.h5mu")
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            main(options(tmp_path / "mine.h5mu", tmp_path))
    else:
        printed = refused(options(tmp_path / "mine.h5mu", tmp_path), capsys, status=1).splitlines()
        assert printed[-2] == "psalm: error: would need 9 GB"
        assert printed[-1] == f"psalm: what was finished before is in {tmp_path / 'aligned.h5mu'}"
    kept = mudata.read_h5mu(tmp_path / "aligned.h5mu")
    slots = {f"{name}.obsm.{key}" for name in ("a", "b") for key in kept[name].obsm}
    slots |= {f"obsm.{key}" for key in kept.obsm} | {f"obsp.{key}" for key in kept.obsp}
    slots |= {path.name for path in tmp_path.iterdir()}
    assert slots >= set(there)
    assert not slots & set(missing)
    assert not list(tmp_path.glob("*.part"))


def test_the_place_of_the_result_is_tried_before_the_file_is_read(raw, tmp_path, capsys, monkeypatch):
    raw.write_h5mu(tmp_path / "mine.h5mu")
    monkeypatch.setattr(_task, "of_file", None)  # would fail if it were called
    printed = refused(options(tmp_path / "mine.h5mu", tmp_path / "mine.h5mu" / "below"), capsys)
    assert "cannot be written: Not a directory. Nothing was computed." in printed


def test_a_modality_without_x_is_refused_and_layers_are_named(raw, tmp_path, capsys):
    modalities = {name: raw[name].copy() for name in ("a", "b")}
    modalities["a"].layers["counts"] = modalities["a"].X
    modalities["a"].X = None
    stack(modalities).write_h5mu(tmp_path / "mine.h5mu")
    printed = refused(options(tmp_path / "mine.h5mu", tmp_path / "out"), capsys)
    assert "`a` has no X in this file. Found: \"layers['counts']\". Put what is to be read there" in printed


@QUICK
def test_a_modality_without_x_that_was_represented_is_aligned(raw, tmp_path, capsys):
    for name in ("a", "b"):
        psalm.pp.represent(raw, name, kind="features")
        raw[name].X = None
    raw.write_h5mu(tmp_path / "mine.h5mu")
    assert main(options(tmp_path / "mine.h5mu", tmp_path)) == 0


def test_one_modality_is_refused_with_what_to_do(raw, tmp_path, capsys):
    raw["a"].write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "a.h5ad").with_name("renamed.h5mu").write_bytes((tmp_path / "a.h5ad").read_bytes())
    for name in ("a.h5ad", "renamed.h5mu"):
        printed = refused(options(tmp_path / name, tmp_path / "out"), capsys)
        assert "holds one modality (an AnnData), and aligning takes two" in printed
        assert "write_h5mu" in printed
    (tmp_path / "text.h5mu").write_text("no HDF5")
    assert "is not an .h5mu file" in refused(options(tmp_path / "text.h5mu", tmp_path / "out"), capsys)


def test_a_mudata_within_a_mudata_is_refused_in_words(raw, tmp_path, capsys):
    outer = raw["b"].copy()
    outer.obs_names, outer.var_names = (names + "_" for names in (outer.obs_names, outer.var_names))
    inner = mudata.MuData({"x": raw["a"].copy(), "y": raw["b"].copy()})
    with pytest.raises(TypeError, match=r"`mdata\['inner'\]` is a MuData itself.*\('x', 'y'\) beside the others"):
        psalm.pp.treatment(mudata.MuData({"inner": inner, "b": outer}), "perturbation")
    with h5py.File(tmp_path / "nested.h5mu", "w") as file:
        file.create_group("mod/a/mod/x")
        file.create_group("mod/b")
    assert "'a' is a MuData itself" in refused(options(tmp_path / "nested.h5mu", tmp_path / "out"), capsys)


def r_frame(parent, key, names, factors=None):
    """A data frame as R's MuData writes it: codes, levels in a group that attributes refer to, an empty order."""
    group, factors = parent.create_group(key), factors or {}
    group.create_dataset("_index", data=np.array(names, dtype=object), dtype=TEXT)
    for name, (codes, levels) in factors.items():
        group.create_dataset(name, data=np.asarray(codes, dtype=np.int32))
        group.require_group("__categories").create_dataset(name, data=np.array(levels, dtype=object), dtype=TEXT)
        group["__categories"][name].attrs["ordered"] = np.int32(0)
        group[name].attrs["categories"] = group["__categories"][name].ref
    group.attrs.update({"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.1.0"})
    order = {"data": list(factors), "dtype": TEXT} if factors else {"data": np.empty(0, dtype=np.int32)}
    group.attrs.create("column-order", **order)


def r_matrix(parent, values):
    """A dgCMatrix, whose columns are cells, as CSR; a matrix as a plain array."""
    if not sparse.issparse(values):
        parent.create_dataset("X", data=values)
        return
    group = parent.create_group("X")
    for name in ("data", "indices", "indptr"):
        group.create_dataset(name, data=getattr(values, name))
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array(values.shape, dtype=np.int32)


def write_as_r(path, names, factors, modalities):
    """What ``MuData::writeH5MU`` of a MultiAssayExperiment leaves: a user block, no ``uns``, no order of modalities,
    the kind "AnnData", and membership of cells as integers in ``obsm`` and from 1 in ``obsmap``."""
    with h5py.File(path, "w", userblock_size=512) as file:
        r_frame(file, "obs", names, factors)
        for name, (own, values) in modalities.items():
            group = file.require_group("mod").create_group(name)
            r_matrix(group, values)
            r_frame(group, "obs", own)
            r_frame(group, "var", [f"{name}_{k}" for k in range(values.shape[1])])
            group.attrs.update({"encoding-type": "AnnData", "encoding-version": "0.1.0", "encoder": "MuData.r"})
            place = {cell: k + 1 for k, cell in enumerate(own)}
            numbers = np.array([place.get(cell, 0) for cell in names], dtype=np.int32)
            file.require_group("obsmap").create_dataset(name, data=numbers)
            file.require_group("obsm").create_dataset(name, data=(numbers > 0).astype(np.int32))
        r_frame(file, "var", [f"{name}_{k}" for name, (_, x) in modalities.items() for k in range(x.shape[1])])
        file.attrs.update({"encoding-type": "MuData", "encoding-version": "0.1.0", "encoder": "MuData.r"})
    with path.open("r+b") as file:
        file.write(b"MuData (format-version=0.1.0;creator=MuData.r;creator-version=1.11.0)\0")


@QUICK
@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")  # R's package writes an older format
@pytest.mark.filterwarnings("ignore:Scores of adt fill the 1 dimensions:UserWarning")  # two treatments
def test_a_file_of_r(tmp_path, capsys, rng):
    codes = np.tile(np.repeat([0, 1], 40), 2)
    names = [f"{side}_{k}" for side in ("rna", "adt") for k in range(80)]
    latent = rng.normal(size=160) + 2 * codes
    rates = np.exp(0.5 * latent[:, None] * rng.choice([-1, 1], size=30))
    counts = rng.poisson(3 * rates).astype(float)
    modalities = {"rna": (names[:80], sparse.csr_matrix(counts[:80])), "adt": (names[80:], counts[80:, :9])}
    write_as_r(tmp_path / "r.h5mu", names, {"drug": (codes, ["DMSO", "IFNβ"])}, modalities)
    before = (tmp_path / "r.h5mu").read_bytes()
    assert main(options(tmp_path / "r.h5mu", tmp_path / "out", "drug", "rna", "adt")) == 0
    assert (tmp_path / "r.h5mu").read_bytes() == before
    aligned = mudata.read_h5mu(tmp_path / "out" / "aligned.h5mu")
    assert aligned.obs["treatment"].value_counts().to_dict() == {"DMSO": 80, "IFNβ": 80}
    np.testing.assert_array_equal(aligned["rna"].X.toarray(), counts[:80])
    assert isinstance(aligned["adt"], anndata.AnnData)
