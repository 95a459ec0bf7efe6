import mudata
import pytest

import psalm
from psalm.__main__ import main
from psalm._containers import no_pull, stack

WRITTEN = {"aligned.h5mu", "embedding.png", "evaluation.png", "match.png", "propensity.png"}


@pytest.fixture(autouse=True)
def modern_mudata():
    with no_pull():
        yield


def test_default_aligns_real_cells(tmp_path, capsys):
    with pytest.warns(UserWarning, match="CD4\\+/CD45RA\\+/CD25- Naive T' 8/8"):
        assert main(["--out", str(tmp_path / "demo")]) == 0
    assert {path.name for path in (tmp_path / "demo").iterdir()} == WRITTEN
    printed = capsys.readouterr().out
    assert all(name in printed for name in WRITTEN)
    assert "Dendritic" in printed
    assert "expected R²: Matched averages" in printed
    aligned = mudata.read_h5mu(tmp_path / "demo" / "aligned.h5mu")
    last = aligned.uns["match_evaluation"].iloc[-1]
    assert last["foscttm"] < 0.4
    assert last["r2"] > 0


def test_simulated(tmp_path, capsys):
    assert main(["--dataset", "simulated", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "latent error: 1 = uniform" in printed
    assert "NaN" not in printed


@pytest.mark.filterwarnings("ignore:In 1 treatments scores decide almost nothing:UserWarning")
@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")  # scGEM: 18 held-out cells
@pytest.mark.parametrize("name", ["scgem", "snareseq"])
def test_public(public_data, tmp_path, name):
    with pytest.warns(UserWarning, match="lie apart within"):
        assert main(["--dataset", name, "--out", str(tmp_path)]) == 0


def test_a_file_of_the_users(raw, tmp_path, capsys):
    for name in ("a", "b"):
        raw[name].obs = raw[name].obs.rename(columns={"perturbation": "treatment"})
    raw.write_h5mu(tmp_path / "mine.h5mu")
    options = ["--input", str(tmp_path / "mine.h5mu"), "--treatment", "treatment", "--source", "a", "--target", "b"]
    assert main([*options, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "cannot be scored against a truth" in printed
    assert "a: represented as 'features'" in printed
    aligned = mudata.read_h5mu(tmp_path / "out" / "aligned.h5mu")
    assert (aligned["a"].obs["treatment"] == raw["a"].obs["treatment"]).all()
    assert psalm.get.coupling(aligned).shape == (240, 240)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--source", "rna"], "belong to --input FILE", id="options without file"),
        pytest.param(["--input", "x.h5mu"], "needs --treatment COLUMN", id="file without options"),
        pytest.param(["--input", "x.h5mu", "--dataset", "scgem"], "not both", id="both"),
        pytest.param(
            ["--input", "x.h5mu", "--treatment", "t", "--source", "a", "--target", "b"], "does not exist", id="no file"
        ),
        pytest.param(["--dataset", "pbmc"], "invalid choice", id="unknown dataset"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"--treatment": "drug"}, "`key='drug'` is neither in", id="column"),
        pytest.param({"--target": "c"}, "`target='c'` is not a modality. Found: 'a', 'b'", id="modality"),
        pytest.param({"--input": __file__}, "is not an .h5mu file", id="not an h5mu file"),
        pytest.param({"--source-kind": "rna"}, "needs counts", id="kind"),
        pytest.param({"--out": __file__}, "File exists", id="out is a file"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(raw, tmp_path, capsys, change, message):
    raw.write_h5mu(tmp_path / "mine.h5mu")
    options = {"--input": str(tmp_path / "mine.h5mu"), "--treatment": "perturbation", "--source": "a", "--target": "b"}
    options |= {"--out": str(tmp_path / "out")}
    with pytest.raises(SystemExit):
        main([word for option in (options | change).items() for word in option])
    printed = capsys.readouterr().err
    assert "psalm: error: " in printed.splitlines()[-1]
    assert message in printed


@pytest.mark.filterwarnings("ignore:In 3 treatments scores decide almost nothing:UserWarning")
@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better:UserWarning")  # counts here are noise
def test_counts_of_a_file_are_recognised(tmp_path, capsys, rng):
    import anndata
    import numpy as np

    labels = np.repeat(["x", "y", "z"], 20)
    modalities = {
        name: anndata.AnnData(rng.poisson(3.0, size=(60, width)).astype(np.float32), obs={"drug": labels})
        for name, width in (("genes", 250), ("tags", 12), ("other", 5))
    }
    for name, adata in modalities.items():
        adata.obs_names = [f"{name}_{i}" for i in range(60)]
        adata.var_names = [f"{name}_{i}" for i in range(adata.n_vars)]
    mudata.MuData(modalities).write_h5mu(tmp_path / "counts.h5mu")
    options = ["--input", str(tmp_path / "counts.h5mu"), "--treatment", "drug", "--source", "genes", "--target", "tags"]
    with pytest.warns(UserWarning, match="genes does not tell"):  # labels and counts have nothing to do with each other
        assert main([*options, "--target-kind", "features", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "genes: represented as 'rna'" in printed
    assert "tags: represented as 'features'" in printed


def test_a_treatment_that_is_a_column_of_the_container(raw, tmp_path):
    raw.obs["arm"] = [label for name in ("a", "b") for label in raw[name].obs["perturbation"].astype(str)]
    third = raw["a"][:50, :5].copy()
    third.var_names = [f"c_{i}" for i in range(5)]
    three = stack({"a": raw["a"], "b": raw["b"], "c": third})
    three.obs["arm"] = raw.obs["arm"]
    three.write_h5mu(tmp_path / "mine.h5mu")
    options = ["--input", str(tmp_path / "mine.h5mu"), "--treatment", "arm", "--source", "a", "--target", "b"]
    assert main([*options, "--out", str(tmp_path)]) == 0
