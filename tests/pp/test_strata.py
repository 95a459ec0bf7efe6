"""Strata inside which cells may be matched."""

import pandas as pd
import pytest

import psalm


def treat(mdata, within="donor", **options):
    psalm.pp.treatment(mdata, "drug", within=within, **{"min_cells": 1} | options)


def test_each_modality_gets_its_strata_with_the_same_categories(cells):
    mdata = cells(
        rna={"drug": list("AABB"), "donor": [10, 2, 10, 2]},
        img={"drug": list("ABAB"), "person": [2.0, 2.0, 10.0, 10.0]},
    )
    treat(mdata, {"rna": "donor", "img": "person"})
    for name, expected in (("rna", ["10", "2", "10", "2"]), ("img", ["2", "2", "10", "10"])):
        strata = mdata[name].obs["treatment_within"]
        assert list(strata) == expected
        assert list(strata.cat.categories) == ["2", "10"]
    counts = mdata.uns["treatment_within"]
    assert list(counts.columns) == ["treatment", "stratum", "modality", "cells"]
    assert counts["cells"].tolist() == [1] * 8


def test_a_cell_without_stratum_has_no_treatment(cells):
    mdata = cells(
        rna={"drug": ["A", "A", "B", "B", None], "donor": ["x", None, "x", "x", None]},
        img={"drug": list("ABAB"), "donor": list("xxxx")},
    )
    with pytest.warns(UserWarning, match=r"2 in rna.* no label: 1 cells in rna. no stratum: 1 cells in rna") as caught:
        treat(mdata)
    assert len(caught) == 1
    assert mdata["rna"].obs["treatment"].isna().tolist() == [False, True, False, False, True]
    assert mdata.uns["treatment"].loc["A", "rna"] == 1
    with pytest.raises(ValueError, match="No stratum: 1 cells in rna"):
        treat(mdata, min_cells=2)


def test_pairs_that_lack_cells_on_one_side_are_reported_and_keep_their_treatment(cells):
    mdata = cells(
        rna={"drug": list("AAABBC"), "donor": list("xxyxxx")}, img={"drug": list("ABBBC"), "donor": list("xxzzx")}
    )
    with pytest.warns(UserWarning, match="These cells keep their treatment, but have none to be matched") as caught:
        treat(mdata)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "1 in rna, 2 in img. 2 pairs" in message
    assert "(rna/img): 'A' in 'y' 1/0; 'B' in 'z' 0/2." in message
    assert mdata["rna"].obs["treatment"].notna().all()
    assert list(mdata["rna"].obs["treatment_within"].cat.categories) == ["x", "y", "z"]


def test_a_dozen_pairs_are_named(cells):
    donors = [f"d{i}" for i in range(20)]
    mdata = cells(rna={"drug": list("AB") * 20, "donor": donors * 2}, img={"drug": ["A", "B"], "donor": ["d0", "d1"]})
    with pytest.warns(UserWarning, match="18 pairs .*; and 6 more. Pass a coarser"):
        treat(mdata)


def test_one_warning_tells_of_both(cells):
    mdata = cells(
        rna={"drug": list("AABBR"), "donor": list("xyxxx")}, img={"drug": list("AABB"), "donor": list("xxxx")}
    )
    with pytest.warns(UserWarning, match="'R' 1/0.*'A' in 'y' 1/0") as caught:
        treat(mdata)
    assert len(caught) == 1


def test_strata_that_no_modalities_share_are_refused(cells):
    mdata = cells(rna={"drug": list("AB"), "donor": list("xx")}, img={"drug": list("AB"), "donor": list("XX")})
    with pytest.raises(ValueError, match=r"No treatment has cells of all modalities in one stratum .*'x', 'X'"):
        treat(mdata)
    assert "treatment" not in mdata.uns
    assert "treatment" not in mdata["rna"].obs


def test_one_cell_cannot_be_in_two_strata(cells):
    mdata = cells(
        shared=True,
        rna={"drug": list("AABB"), "donor": list("xyxy")},
        img={"drug": list("AABB"), "donor": list("yyxy")},
    )
    with pytest.raises(ValueError, match="1 cells of modality 'img' have another stratum"):
        treat(mdata)


def test_strata_from_the_container_and_of_several_columns(cells):
    obs = {"drug": list("ABAB"), "plate": [1, 1, 2, 2]}
    mdata = cells(rna=obs, img=obs)
    mdata.obs["lab"] = pd.array(["L"] * 8, dtype="string")
    treat(mdata, ["lab", "plate"])
    assert list(mdata["img"].obs["treatment_within"]) == ["L : 1", "L : 1", "L : 2", "L : 2"]


def test_a_missing_column_is_named(cells):
    mdata = cells(rna={"drug": list("AB")}, img={"drug": list("AB")})
    with pytest.raises(KeyError, match="`within='donor'` is neither in"):
        treat(mdata)


def test_all_modalities_count_where_there_are_three(cells):
    both = {"drug": list("AABB"), "donor": list("xyxy")}
    mdata = cells(rna=both, img=both, atac={"drug": list("AB"), "donor": list("xx")})
    with pytest.warns(UserWarning, match="'A' in 'y' 1/1/0; 'B' in 'y' 1/1/0"):
        treat(mdata)
