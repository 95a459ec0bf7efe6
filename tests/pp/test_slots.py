"""What is written survives, what is the user's stays, and what is old goes."""

import mudata
import numpy as np
import pandas as pd
import pytest

import psalm
from psalm._containers import no_pull

FACTORS, WITHIN = "treatment_factors", "treatment_within"


@pytest.fixture
def mdata(cells):
    n = 8
    obs = {"drug": ["é/x", "é/x", "b", "b"] * 2, "dose": [10, 2] * 4, "combo": ["A+B", "B+A", "A", "NT"] * 2}
    return cells(rna=obs | {"donor": [True] * n}, img=obs | {"donor": [True] * n})


def design(mdata, key=("drug", "dose"), within="donor", **options):
    psalm.pp.treatment(mdata, list(key), within=within, min_cells=1, **options)


@pytest.mark.parametrize("kind", ["h5mu", "zarr"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"key": ["drug", "dose"], "control": ["b : 2", "b : 10"]}, id="columns"),
        pytest.param({"key": "combo", "separator": "+", "control": "NT", "mapping": str}, id="combinations"),
    ],
)
def test_slots_survive_files(mdata, tmp_path, kind, options):
    psalm.pp.treatment(mdata, within="donor", min_cells=1, **options)
    expected = {key: mdata.uns[key].copy() for key in ("treatment", FACTORS, WITHIN)}
    path = tmp_path / f"cells.{kind}"
    with no_pull():
        getattr(mdata, f"write_{kind}" if kind == "zarr" else "write")(path)
        found = mudata.read_zarr(path) if kind == "zarr" else mudata.read(path)
    for key, table in expected.items():
        back = found.uns[key]
        assert back.astype(object).to_numpy().tolist() == table.astype(object).to_numpy().tolist()
        assert list(back.columns) == list(table.columns)
    assert list(found.uns["treatment"].index) == list(expected["treatment"].index)
    assert found.uns["treatment"]["control"].dtype == bool
    for name in mdata.mod:
        for column in ("treatment", WITHIN):
            pd.testing.assert_series_equal(found[name].obs[column], mdata[name].obs[column], check_categorical=False)
            assert list(found[name].obs[column].cat.categories) == list(mdata[name].obs[column].cat.categories)
    psalm.pp.treatment(found, within="donor", min_cells=1, **options)  # known as ours after reading


def test_subsets_can_be_designed_anew(mdata):
    design(mdata)
    some = mdata[np.r_[0:4, 8:12]].copy()
    assert some["rna"].obs[WITHIN].tolist() == ["True"] * 4
    design(some, key=["drug"])
    assert some["rna"].obs["treatment"].tolist() == ["é/x", "é/x", "b", "b"]
    assert FACTORS in mdata.uns
    assert mdata["rna"].obs["treatment"].nunique() == 4


@pytest.mark.filterwarnings("ignore:Trying to modify attribute:anndata.ImplicitModificationWarning")
def test_a_view_becomes_a_container_and_leaves_its_origin(mdata):
    design(mdata)
    view = mdata[np.r_[0:4, 8:12]]
    design(view, key=["drug"], within=None)
    assert view["img"].obs["treatment"].tolist() == ["é/x", "é/x", "b", "b"]
    assert WITHIN not in view["img"].obs
    assert WITHIN in mdata["img"].obs
    assert {FACTORS, WITHIN} <= set(mdata.uns)


def test_what_an_earlier_call_wrote_goes(mdata):
    design(mdata)
    design(mdata, key=["drug"], within=None)
    assert not {FACTORS, WITHIN} & set(mdata.uns)
    assert all(WITHIN not in mdata[name].obs for name in mdata.mod)
    design(mdata, key_added="other")
    design(mdata, key=["drug"], within=None)
    assert {"other_factors", "other_within"} <= set(mdata.uns)


def test_columns_and_entries_of_the_user_stay(mdata):
    mdata["img"].obs[WITHIN] = "mine"
    mdata.uns[FACTORS] = "mine"
    design(mdata, key=["drug"], within=None)
    design(mdata, key=["drug"], within=None)
    assert (mdata["img"].obs[WITHIN] == "mine").all()
    assert mdata.uns[FACTORS] == "mine"
    with pytest.raises(ValueError, match=r"uns\['treatment_factors'\]` is an entry of yours"):
        design(mdata, within=None)
    with pytest.raises(ValueError, match=r"mdata\['img'\].obs\['treatment_within'\]` is a column of yours, and 8"):
        design(mdata, key=["drug"])
    assert FACTORS not in mdata["rna"].obs


def test_nothing_is_written_where_something_is_refused(mdata):
    mdata["img"].obs[WITHIN] = "mine"
    with pytest.raises(ValueError, match="is a column of yours"):
        design(mdata)
    assert not mdata.uns
    assert "treatment" not in mdata["rna"].obs


def test_strata_may_be_read_from_the_column_they_are_written_to(mdata):
    design(mdata)
    design(mdata, within=WITHIN)
    assert mdata["rna"].obs[WITHIN].tolist() == ["True"] * 8
