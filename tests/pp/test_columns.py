"""Columns as text, and combinations of several columns."""

import numpy as np
import pandas as pd
import pytest

import psalm


def treat(mdata, key, **options):
    psalm.pp.treatment(mdata, key, **{"min_cells": 1} | options)
    return list(mdata.obs["treatment"].cat.categories)


DESIGN = {"drug": ["dex", "dex", "a/b", "a/b"], "dose": [10, 2, 10, 2]}


def test_several_columns_make_a_treatment_of_each_combination(cells):
    mdata = cells(rna=DESIGN, img=DESIGN)
    assert treat(mdata, ["drug", "dose"]) == ["a/b : 2", "a/b : 10", "dex : 2", "dex : 10"]
    assert list(mdata["rna"].obs["treatment"]) == ["dex : 10", "dex : 2", "a/b : 10", "a/b : 2"]
    factors = mdata.uns["treatment_factors"]
    assert list(factors.columns) == ["treatment", "factor", "level"]
    wide = factors.pivot_table("level", "treatment", "factor", aggfunc="first")
    assert wide.loc["dex : 10"].to_dict() == {"drug": "dex", "dose": "10"}
    assert len(factors) == 8


def test_a_cell_with_a_part_missing_has_no_treatment(cells):
    design = {"drug": ["x", "x", None, "x"], "dose": [1.0, 2.0, 1.0, np.nan]}
    mdata = cells(rna=design, img=DESIGN | {"drug": ["x"] * 4, "dose": [1, 2, 1, 2]})
    with pytest.warns(UserWarning, match="no label: 2 cells in rna"):
        assert treat(mdata, ["drug", "dose"]) == ["x : 1", "x : 2"]


def test_columns_may_differ_by_modality_and_factors_are_named_as_in_the_first(cells):
    mdata = cells(rna=DESIGN, img={"compound": DESIGN["drug"], "um": [10.0, 2.0, 10.0, 2.0]})
    treat(mdata, {"rna": ["drug", "dose"], "img": ["compound", "um"]})
    assert set(mdata.uns["treatment_factors"]["factor"]) == {"drug", "dose"}


def test_ordered_levels_keep_their_order_and_doses_as_text_ascend(cells):
    mdata = cells(rna=DESIGN, img=DESIGN)
    for name in mdata.mod:
        mdata[name].obs["drug"] = pd.Categorical(mdata[name].obs["drug"], ["dex", "unused", "a/b"], ordered=True)
        mdata[name].obs["dose"] = pd.Categorical(mdata[name].obs["dose"].astype(str))
    assert treat(mdata, ["drug", "dose"]) == ["dex : 2", "dex : 10", "a/b : 2", "a/b : 10"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([10, 10, 2, 2], id="int"),
        pytest.param(np.array([10, 10, 2, 2], np.float32), id="float32"),
        pytest.param(pd.array([10, 10, 2, 2], dtype="Int64"), id="nullable"),
        pytest.param(np.array([10, 10, 2, 2], dtype=object), id="object"),
    ],
)
def test_a_single_numeric_column_ascends(cells, values):
    mdata = cells(rna={"dose": values}, img={"dose": [2.0, 2.0, 10.0, 10.0]})
    assert treat(mdata, "dose") == ["2", "10"]


@pytest.mark.parametrize("dtype", ["string", "string[pyarrow]", "category", "object"])
def test_text_of_any_dtype(cells, dtype):
    if dtype == "string[pyarrow]":
        pytest.importorskip("pyarrow")
    mdata = cells(rna={"drug": list("bbaa")}, img={"drug": list("abab")})
    mdata["rna"].obs["drug"] = mdata["rna"].obs["drug"].astype(dtype)
    assert treat(mdata, "drug", mapping={"a": "A", "b": "B"}) == ["A", "B"]


def test_truth_values_are_labels(cells):
    mdata = cells(rna={"treated": [True, False]}, img={"treated": [False, True]})
    assert treat(mdata, "treated", mapping={True: "drug", False: "none"}) == ["none", "drug"]


def test_the_same_cells_in_both_modalities(cells):
    mdata = cells(rna=DESIGN, img=DESIGN, shared=True)
    treat(mdata, ["drug", "dose"])
    assert list(mdata.obs["treatment"]) == list(mdata["img"].obs["treatment"])


def test_levels_whose_combinations_are_alike_are_refused(cells):
    design = {"drug": ["a : b", "a"], "dose": ["c", "b : c"]}
    with pytest.raises(ValueError, match="Different levels give one name: 'a : b : c'"):
        treat(cells(rna=design, img=design), ["drug", "dose"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param([], r"`key` for 'rna' is \[\]", id="none"),
        pytest.param(["drug", "drug"], "each once", id="twice"),
        pytest.param({"rna": ["drug", "dose"], "img": "drug"}, "more columns in one modality", id="uneven"),
    ],
)
def test_bad_lists(cells, key, message):
    with pytest.raises(ValueError, match=message):
        treat(cells(rna=DESIGN, img=DESIGN), key)


def test_a_list_of_one_is_the_column(cells):
    mdata = cells(rna=DESIGN, img=DESIGN)
    assert treat(mdata, ["drug"]) == ["a/b", "dex"]
    assert "treatment_factors" not in mdata.uns


def test_a_modality_without_any_label_is_an_error_in_words(cells):
    mdata = cells(rna=DESIGN, img=DESIGN | {"dose": [np.nan] * 4})
    with pytest.raises(ValueError, match=r"img: none. No label: 4 cells in img"):
        treat(mdata, ["drug", "dose"])


def test_many_levels_do_not_overflow(cells):
    """More combinations than the small integers that pandas numbers categories with can hold."""
    n = 300
    design = {"drug": [f"d{i}" for i in range(n)], "dose": list(range(n))}
    mdata = cells(rna=design, img=design)
    assert len(treat(mdata, ["drug", "dose"])) == n
    assert list(mdata["img"].obs["treatment"]) == [f"d{i} : {i}" for i in range(n)]


def test_nothing_is_warned_of_when_all_is_well(cells):
    treat(cells(rna=DESIGN, img=DESIGN), ["drug", "dose"])
