import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import psalm
from psalm._containers import stack


def container(**labels):
    """Disjoint modalities with the given labels in obs["drug"]."""
    return stack(
        {
            name: AnnData(
                np.ones((len(column), 2), np.float32),
                obs=pd.DataFrame({"drug": list(column)}, index=[f"{name}{i}" for i in range(len(column))]),
                var=pd.DataFrame(index=[f"{name}_x", f"{name}_y"]),
            )
            for name, column in labels.items()
        }
    )


def test_shared_treatments_get_one_categorical_everywhere():
    mdata = container(rna="AAABBB", img="BBAA")
    psalm.pp.treatment(mdata, "drug", min_cells=2)
    for obs in (mdata.obs, mdata["rna"].obs, mdata["img"].obs):
        assert list(obs["treatment"].cat.categories) == ["A", "B"]
    assert "".join(mdata["img"].obs["treatment"]) == "BBAA"
    assert "".join(mdata.obs["treatment"]) == "AAABBBBBAA"
    assert mdata.uns["treatment"].to_dict("list") == {
        "rna": [3, 3],
        "img": [2, 2],
        "status": ["kept", "kept"],
        "control": [False, False],
    }


def test_rare_unshared_and_missing_are_kept_unmatched_and_reported_in_one_warning():
    mdata = container(rna=["A", "A", "B", "B", "C", "C", None, "D"], img=["A", "A", "B", "B", "C", "E", "E", "A"])
    with pytest.warns(UserWarning, match="4 in rna, 3 in img") as caught:
        psalm.pp.treatment(mdata, "drug", min_cells=2)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert all(part in message for part in ("'C' 2/1", "'D' 1/0", "'E' 0/2", "no label: 1 cells in rna"))
    assert mdata.n_obs == 16
    assert mdata["rna"].obs["treatment"].isna().sum() == 4
    assert mdata.uns["treatment"]["status"].to_dict() == {
        "A": "kept",
        "B": "kept",
        "C": "rare",
        "D": "not shared",
        "E": "not shared",
    }


def test_column_may_differ_by_modality_or_live_in_the_container():
    mdata = container(rna="AABB", img="ABAB")
    mdata["img"].obs = mdata["img"].obs.rename(columns={"drug": "compound"})
    psalm.pp.treatment(mdata, {"rna": "drug", "img": "compound"}, min_cells=2)
    assert "".join(mdata["img"].obs["treatment"]) == "ABAB"

    other = container(rna="AABB", img="ABAB")
    other.obs["arm"] = list("xxyyxyxy")
    psalm.pp.treatment(other, "arm", min_cells=2)
    assert "".join(other["img"].obs["treatment"]) == "xyxy"


def test_numbers_slashes_and_order_survive():
    mdata = container(rna=[10, 10, 2, 2], img=[2, 2, 10, 10])
    mdata["rna"].obs["drug"] = pd.Categorical(mdata["rna"].obs["drug"], categories=[2, 10], ordered=True)
    psalm.pp.treatment(mdata, "drug", min_cells=2)
    assert list(mdata.obs["treatment"].cat.categories) == ["2", "10"]
    slashed = container(rna=["IFN/a", "IFN/a", "é", "é"], img=["IFN/a", "IFN/a", "é", "é"])
    psalm.pp.treatment(slashed, "drug", min_cells=2)
    assert list(slashed.uns["treatment"].index) == ["IFN/a", "é"]


def test_a_column_of_the_users_is_not_lost():
    mdata = container(rna="AAABBBC", img="AAABBBC")
    for name in mdata.mod:
        mdata[name].obs["treatment"] = mdata[name].obs["drug"]
    with pytest.raises(ValueError, match=r"'treatment'\]` is a column of yours, and 1 of its values"):
        psalm.pp.treatment(mdata, "treatment", min_cells=2)
    assert "".join(mdata["rna"].obs["treatment"]) == "AAABBBC"
    with pytest.warns(UserWarning, match="1 in rna"):
        psalm.pp.treatment(mdata, "treatment", min_cells=2, key_added="shared")


def test_running_again_is_allowed():
    mdata = container(rna="AAABBBC", img="AAABBBC")
    with pytest.warns(UserWarning, match="rare"):
        psalm.pp.treatment(mdata, "drug", min_cells=2)
    psalm.pp.treatment(mdata, "drug", min_cells=1)
    assert mdata.obs["treatment"].notna().all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param({"key": "dose"}, KeyError, "`key='dose'` is neither in .* Found: 'drug'", id="unknown column"),
        pytest.param({"key": {"rna": "drug"}}, KeyError, "names no column for modality 'img'", id="mapping too short"),
        pytest.param({"min_cells": 0}, ValueError, "`min_cells=0` must be a whole number, 1 or more", id="min_cells"),
        pytest.param({"min_cells": 4}, ValueError, "Only 0 treatments have at least 4 cells", id="all rare"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        psalm.pp.treatment(container(rna="AAABBB", img="AABB"), **{"key": "drug"} | change)


def test_different_spellings_are_shown():
    mdata = container(rna=["IFNg", "IFNg", "ctrl", "ctrl"], img=["ifng", "ifng", "ctrl", "ctrl"])
    with pytest.raises(ValueError, match=r"Found in rna: 'IFNg', 'ctrl'; img: 'ctrl', 'ifng'. Check the spelling"):
        psalm.pp.treatment(mdata, "drug", min_cells=2)


def test_one_cell_cannot_have_two_treatments():
    mdata = container(rna="AABB", img="ABAB")
    for name in mdata.mod:
        mdata[name].obs_names = [f"cell{i}" for i in range(4)]
    with pytest.raises(ValueError, match="2 cells of modality 'img' have another treatment"):
        psalm.pp.treatment(stack(dict(mdata.mod)), "drug", min_cells=2)


def test_duplicate_names_are_refused():
    adata = container(rna="AABB")["rna"]
    adata.obs_names = list("wxyy")
    with pytest.warns(UserWarning, match="not unique"):
        mdata = stack({"rna": adata, "img": container(img="AABB")["img"]})
    with pytest.raises(ValueError, match=r"`mdata\['rna'\]` has 1 cell names that occur more than once: 'y'"):
        psalm.pp.treatment(mdata, "drug", min_cells=1)


def test_an_anndata_is_not_a_container():
    with pytest.raises(TypeError, match="Got AnnData, but this needs a MuData"):
        psalm.pp.treatment(AnnData(np.ones((2, 2))), "drug")


def test_filtering_a_users_own_treatment_column_twice_loses_nothing():
    mdata = container(rna="AAABBBCC", img="AAABBBCC")
    for name in mdata.mod:
        mdata[name].obs["treatment"] = mdata[name].obs["drug"]
    psalm.pp.treatment(mdata, "treatment", min_cells=2)
    with pytest.raises(ValueError, match="is a column of yours, and 2 of its values would be lost"):
        psalm.pp.treatment(mdata, "treatment", min_cells=3)
    assert "".join(mdata["rna"].obs["treatment"]) == "AAABBBCC"


def test_an_entry_of_the_users_in_uns_is_not_lost():
    mdata = container(rna="AABB", img="AABB")
    mdata.uns["treatment"] = {"dose": "10uM"}
    with pytest.raises(ValueError, match=r"`mdata.uns\['treatment'\]` is an entry of yours"):
        psalm.pp.treatment(mdata, "drug", min_cells=2)


def test_one_and_one_point_zero_are_the_same_dose():
    mdata = container(rna=[1, 1, 2, 2], img=[1.0, 1.0, 2.0, 2.0])
    psalm.pp.treatment(mdata, "drug", min_cells=2)
    assert list(mdata.obs["treatment"].cat.categories) == ["1", "2"]


def test_cells_added_without_update_are_refused():
    import anndata

    mdata = container(rna="AABB", img="AABB")
    more = mdata["img"][:1].copy()
    more.obs_names = ["new"]
    mdata.mod["img"] = anndata.concat([mdata["img"], more])
    with pytest.raises(ValueError, match=r"1 cells of `mdata\['img'\]` are not in `mdata.obs_names`, e.g. 'new'"):
        psalm.pp.treatment(mdata, "drug", min_cells=2)


@pytest.mark.parametrize("key", ["", "a/b"])
def test_key_added_must_be_writable(key):
    with pytest.raises(ValueError, match="must be a non-empty string without '/'"):
        psalm.pp.treatment(container(rna="AABB", img="AABB"), "drug", min_cells=2, key_added=key)


def test_labels_that_differ_by_blanks_or_case_are_pointed_out():
    mdata = container(
        rna=["A", "A", "B", "B", "NK cells ", "NK cells "], img=["A", "A", "B", "B", "nk-cells", "nk-cells"]
    )
    with pytest.warns(UserWarning, match="spelled alike, so perhaps the same: 'NK cells ', 'nk-cells'"):
        psalm.pp.treatment(mdata, "drug", min_cells=2)


def test_metadata_that_did_not_reach_the_cells(raw):
    """A failed join leaves no label at all: that is said, and not the spelling."""
    raw["a"].obs["perturbation"] = np.nan
    with pytest.raises(ValueError, match=r"No cell of 'a' has a label: was the metadata joined by the right names"):
        psalm.pp.treatment(raw, "perturbation")
