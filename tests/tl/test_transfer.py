import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm


@pytest.fixture
def labelled(matched):
    """Source "a" with a column of every sort, arrays and layers; one treatment of the target has no label."""
    a = matched["a"]
    generator = np.random.default_rng(3)
    a.obs["kind"] = pd.Categorical(generator.choice(["x/1", "y", "z"], 240), categories=["z", "unused", "y", "x/1"])
    a.obs.loc[a.obs_names[:40], "kind"] = np.nan
    a.obs["word"] = generator.choice(["red", "blue"], 240)
    a.obs["flag"] = generator.uniform(size=240) < 0.3
    a.obs["depth"] = generator.normal(5, 2, 240)
    a.obs.loc[a.obs_names[40:90], "depth"] = np.nan
    a.obs["count"] = generator.integers(0, 9, 240)
    a.obs["some"] = pd.array(np.where(np.arange(240) % 5, a.obs["count"], pd.NA), dtype="Int64")
    a.obsm["frame"] = pd.DataFrame(generator.normal(size=(240, 2)), index=a.obs_names, columns=["CD3/CD28", "CD4"])
    a.obsm["image"] = generator.normal(size=(240, 2, 3, 4)).astype(np.float32)
    a.layers["counts"] = sparse.random(240, 12, 0.3, "csc", rng=generator)
    return matched


def dense(mdata):
    """Mass (n_target, n_source), as stored: here all pairs fit, so it is exact."""
    return psalm.get.coupling(mdata).toarray().T


def carried(mdata, keys, **options):
    return psalm.tl.transfer(mdata, keys=keys, source="a", target="b", **options)


def test_labels_and_numbers_against_a_loop(labelled):
    """Independent: the dense mass, cell by cell."""
    table = carried(labelled, ["kind", "depth"])
    obs, mass, a = labelled["b"].obs, dense(labelled), labelled["a"].obs
    known = a["depth"].notna().to_numpy()
    for cell in range(0, 240, 7):
        row = mass[cell]
        shares = {label: row[(a["kind"] == label).to_numpy()].sum() for label in ["z", "y", "x/1"]}
        best = max(shares, key=shares.get)
        assert obs["kind_from_a"].iloc[cell] == best
        assert obs["kind_from_a_confidence"].iloc[cell] == pytest.approx(shares[best] / sum(shares.values()), rel=1e-5)
        mean = np.average(a["depth"][known], weights=row[known])
        assert obs["depth_from_a"].iloc[cell] == pytest.approx(mean, rel=1e-5)
        spread = np.sqrt(np.average((a["depth"][known] - mean) ** 2, weights=row[known]))
        assert obs["depth_from_a_sd"].iloc[cell] == pytest.approx(spread, rel=1e-4)
        assert obs["depth_from_a_confidence"].iloc[cell] == pytest.approx(row[known].sum() / row.sum(), rel=1e-5)
    assert list(obs["kind_from_a"].cat.categories) == ["z", "unused", "y", "x/1"]
    assert table["n_without"].tolist() == [0, 0]
    np.testing.assert_allclose(table["confidence"][0], obs["kind_from_a_confidence"].mean())


def test_arrays_against_the_dense_product(labelled):
    table = carried(labelled, ["frame", "image", "counts", "X"])
    a, b, mass = labelled["a"], labelled["b"], dense(labelled)
    weights = mass / mass.sum(axis=1, keepdims=True)
    for key, values in [("counts", a.layers["counts"].toarray()), ("X", a.X), ("frame", a.obsm["frame"].to_numpy())]:
        found = b.obsm[f"{key}_from_a"]
        np.testing.assert_allclose(found, weights @ values, rtol=1e-4, atol=1e-5)
        assert np.asarray(found).dtype == np.float32
    assert list(b.obsm["frame_from_a"].columns) == ["CD3|CD28", "CD4"]
    image = np.einsum("ij,jchw->ichw", weights, a.obsm["image"])
    np.testing.assert_allclose(b.obsm["image_from_a"], image, rtol=1e-4, atol=1e-5)
    features = labelled.uns["transfer"]["features"]["b"]
    assert list(features["frame_from_a"]) == ["CD3/CD28", "CD4"]
    assert list(features["counts_from_a"]) == list(a.var_names)
    assert "image_from_a" not in features
    assert table["kind"].tolist() == ["average"] * 4
    assert table["confidence"].isna().all()


def test_words_flags_and_whole_numbers(labelled):
    carried(labelled, ["word", "flag", "count", "some"])
    obs = labelled["b"].obs
    assert set(obs["word_from_a"]) <= {"red", "blue"}
    assert list(obs["flag_from_a"].cat.categories) == ["False", "True"]
    assert obs["count_from_a"].between(0, 8).all()
    assert obs["some_from_a_confidence"].between(0.5, 0.99).all()  # 4 of 5 are known


@pytest.mark.parametrize(
    ("values", "categories", "ordered"),
    [
        pytest.param(pd.Categorical([3, 1] * 120, categories=[3, 1], ordered=True), [3, 1], True, id="numbers"),
        pytest.param(pd.Categorical([True, False] * 120), ["False", "True"], False, id="booleans"),
        pytest.param(pd.array([True, False, None] * 80, dtype="boolean"), ["False", "True"], False, id="nullable"),
        pytest.param(pd.array(["x", "y", None] * 80, dtype="string"), ["x", "y"], False, id="text"),
        pytest.param(np.array([True, np.nan, False] * 80, dtype=object), ["False", "True"], False, id="objects"),
        pytest.param(np.array([None] * 240, dtype=object), [], False, id="nothing"),
    ],
)
def test_labels_of_every_type_can_be_saved(matched, tmp_path, values, categories, ordered):
    matched["a"].obs["new"] = values
    carried(matched, "new")
    del matched["a"].obs["new"]
    matched.write(tmp_path / "cells.h5mu")
    found = mudata.read(tmp_path / "cells.h5mu")["b"].obs["new_from_a"]
    assert list(found.cat.categories) == categories
    assert found.cat.ordered == ordered
    assert found.notna().all() == bool(categories)


def test_the_treatment_itself_comes_back(matched):
    """Cells are matched within treatments, so all of a cell's mass has its own treatment."""
    carried(matched, "treatment")
    obs = matched["b"].obs
    assert (obs["treatment_from_a"] == obs["treatment"]).all()
    np.testing.assert_allclose(obs["treatment_from_a_confidence"], 1)


def test_a_match_in_either_direction(labelled):
    psalm.tl.match(labelled, source="b", target="a", key_added="back", progress=False)
    carried(labelled, ["depth", "kind"], match_key="back")
    mass, a = psalm.get.coupling(labelled, "back").toarray(), labelled["a"].obs
    known = a["depth"].notna().to_numpy()
    expected = mass[:, known] @ a["depth"][known] / mass[:, known].sum(axis=1)
    np.testing.assert_allclose(labelled["b"].obs["depth_from_a"], expected, rtol=1e-5)


def test_sparse_plans(scored):
    """Shared neighbours: stored entries rather than potentials."""
    psalm.tl.match(scored, source="a", target="b", method="snn", progress=False)
    carried(scored, "X")
    mass = dense(scored)
    with np.errstate(invalid="ignore"):
        expected = mass @ scored["a"].X / mass.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scored["b"].obsm["X_from_a"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:These cells keep no treatment")
def test_cells_without_mass_are_nan_and_counted(raw):
    raw["b"].obs["perturbation"] = raw["b"].obs["perturbation"].astype(object)
    raw["b"].obs.iloc[:9, 0] = np.nan
    psalm.pp.treatment(raw, "perturbation")
    psalm.tl.propensity(raw, n_repeats=1, progress=False)
    psalm.tl.match(raw, source="a", target="b", progress=False)
    raw["a"].obs["half"] = raw["a"].obs["treatment"].astype(str).where(raw["a"].obs["treatment"] != "t1")
    raw["a"].obs["number"] = np.where(raw["a"].obs["treatment"] == "t1", np.nan, 1.0)
    table = carried(raw, ["half", "number", "X"])
    b = raw["b"].obs
    in_t1 = (b["treatment"] == "t1").to_numpy()
    without = b["treatment"].isna().to_numpy()
    assert table["n_without"].tolist() == [9 + in_t1.sum(), 9 + in_t1.sum(), 9]
    np.testing.assert_array_equal(b["half_from_a"].isna(), in_t1 | without)
    np.testing.assert_array_equal(b["half_from_a_confidence"].isna(), in_t1 | without)
    np.testing.assert_array_equal(b["number_from_a_confidence"].isna(), without)
    np.testing.assert_allclose(b["number_from_a_confidence"][in_t1], 0)
    np.testing.assert_array_equal(np.isnan(raw["b"].obsm["X_from_a"]).all(axis=1), without)


def test_results_survive_a_file_and_go_on_from_there(labelled, tmp_path):
    labelled["a"].obs["a/b"] = np.arange(240.0)
    before = carried(labelled, ["kind", "flag", "depth", "frame", "image", "counts", "a/b"])
    del labelled["a"].obs["a/b"]
    labelled["a"].obsm["frame"] = labelled["a"].obsm["frame"].set_axis(["one", "two"], axis=1)
    labelled.write(tmp_path / "cells.h5mu")
    read = mudata.read(tmp_path / "cells.h5mu")
    pd.testing.assert_frame_equal(read["b"].obs, labelled["b"].obs, check_categorical=True)
    for key in ("frame_from_a", "image_from_a", "counts_from_a"):
        np.testing.assert_array_equal(read["b"].obsm[key], labelled["b"].obsm[key])
    assert list(read.uns["transfer"]["features"]["b"]["frame_from_a"]) == ["CD3/CD28", "CD4"]
    assert "a|b_from_a" in read["b"].obs
    carried(read, "word")
    carried(read, "kind")
    table = read.uns["transfer"]["table"]
    assert sorted(table["slot"]) == sorted([*before["slot"], "word_from_a"])


def test_a_second_call_replaces_its_own_and_nothing_else(labelled):
    carried(labelled, "depth")
    labelled["a"].obs["depth"] = pd.Categorical(["deep"] * 240)
    carried(labelled, "depth")
    assert "depth_from_a_sd" not in labelled["b"].obs
    assert (labelled["b"].obs["depth_from_a"] == "deep").all()
    assert labelled.uns["transfer"]["table"]["kind"].tolist() == ["label"]
    carried(labelled, "layers:counts")
    labelled["a"].obsm["counts"] = labelled["a"].obsm["image"]
    carried(labelled, "obsm:counts")
    assert labelled["b"].obsm["counts_from_a"].shape == (240, 2, 3, 4)
    assert "counts_from_a" not in labelled.uns["transfer"]["features"]["b"]
    assert len(labelled.uns["transfer"]["table"]) == 2


def test_inputs_stay_as_they_are(labelled):
    before = labelled["a"].copy()
    carried(labelled, ["kind", "depth", "frame", "counts"])
    pd.testing.assert_frame_equal(labelled["a"].obs, before.obs)
    assert labelled["a"].layers["counts"].format == "csc"


def _occupied(mdata):
    mdata["b"].obs["kind_from_a_confidence"] = 1.0
    carried(mdata, "kind")


def _occupied_array(mdata):
    mdata["b"].obsm["X_from_a"] = np.zeros((240, 1))
    carried(mdata, "X")


def _both(mdata):
    mdata["a"].obsm["kind"] = np.zeros((240, 2))
    carried(mdata, "kind")


def _column(values):
    def call(mdata):
        mdata["a"].obs["new"] = values
        carried(mdata, "new")

    return call


def _array(values):
    def call(mdata):
        mdata["a"].obsm["new"] = values if not isinstance(values, dict) else pd.DataFrame(values, mdata["a"].obs_names)
        carried(mdata, "new")

    return call


def _third(mdata):
    mdata.mod["c"] = mdata["b"].copy()
    psalm.tl.transfer(mdata, keys="kind", source="a", target="c")


def _twice(mdata):
    mdata["a"].obsm["counts"] = np.zeros((240, 2))
    carried(mdata, ["layers:counts", "obsm:counts"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda m: carried(m, "nothing"), KeyError, "'nothing' is not in .*Found in obs: .*'kind'", id="key"
        ),
        pytest.param(lambda m: carried(m, "obsm:kind"), KeyError, "'obsm:kind' is not in", id="key in place"),
        pytest.param(_both, ValueError, "'kind' is in `obs` and in `obsm`.*'obs:kind', 'obsm:kind'", id="ambiguous"),
        pytest.param(lambda m: carried(m, []), ValueError, "list of different names", id="none"),
        pytest.param(lambda m: carried(m, ["kind", "kind"]), ValueError, "list of different names", id="repeated"),
        pytest.param(lambda m: carried(m, ["kind", "obs:kind"]), ValueError, r"several.*obs\[kind_from_a\]", id="same"),
        pytest.param(_twice, ValueError, r"several.*obsm\[counts_from_a\]", id="one slot"),
        pytest.param(_occupied, ValueError, r"obs\[kind_from_a_confidence\].*would be lost", id="occupied obs"),
        pytest.param(_occupied_array, ValueError, r"obsm\[X_from_a\].*would be lost", id="occupied obsm"),
        pytest.param(lambda m: carried(m, "kind", key_added="match"), ValueError, "would be lost", id="uns"),
        pytest.param(lambda m: carried(m, "kind", match_key="none"), KeyError, "Run `tl.match`", id="match"),
        pytest.param(_third, ValueError, "between 'a' and 'b', not between 'a' and 'c'", id="modalities"),
        pytest.param(_column(np.inf), ValueError, "240 infinite values", id="infinite"),
        pytest.param(_column(pd.Timestamp("2020-01-01")), TypeError, "neither labels nor numbers", id="date"),
        pytest.param(
            _column(np.array([1.5] * 240, object)), TypeError, "object and holds floating values", id="object"
        ),
        pytest.param(
            _column(pd.Series([["g1", "g2"]] * 240).to_numpy()), TypeError, "Join them, as .*separator=", id="lists"
        ),
        pytest.param(_array(np.full((240, 2), np.nan)), ValueError, "480 values that are NaN", id="NaN"),
        pytest.param(_array({"w": ["x"] * 240}), TypeError, "columns that are not numbers: 'w'", id="text"),
    ],
)
def test_bad_input(labelled, call, error, message):
    with pytest.raises(error, match=message):
        call(labelled)
    assert "kind_from_a" not in labelled["b"].obs
