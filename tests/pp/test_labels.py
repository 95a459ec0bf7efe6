"""Mapping, controls and combinations."""

import numpy as np
import pandas as pd
import pytest

import psalm

GUIDES = {"g1": "A", "g2": "A", "g3": "B", "n1": "NT", "n2": "safe"}


def treat(mdata, **options):
    psalm.pp.treatment(mdata, "label", **{"min_cells": 1} | options)
    return list(mdata["rna"].obs["treatment"])


@pytest.fixture
def labelled(cells):
    return lambda rna, img: cells(rna={"label": rna}, img={"label": img})


@pytest.mark.parametrize(
    "mapping",
    [
        pytest.param(GUIDES, id="dict"),
        pytest.param(pd.Series(GUIDES), id="series"),
        pytest.param(pd.Series(GUIDES).astype("category"), id="categorical series"),
        pytest.param(lambda label: GUIDES.get(label, label), id="function"),
    ],
)
def test_guides_become_genes_and_genes_pass(labelled, mapping):
    mdata = labelled(["g1", "g2", "g3"], ["B", "A", "A"])
    assert treat(mdata, mapping=mapping) == ["A", "A", "B"]
    assert list(mdata["img"].obs["treatment"]) == ["B", "A", "A"]
    assert "treatment_factors" not in mdata.uns


def test_numbers_are_compared_as_text_and_ascend(labelled):
    mdata = labelled([1, 2, 3], [1.0, 3.0, 2.0])
    mapping = {1.0: 10, 2: 2.0, np.int64(3): np.float32(0.5)}
    assert treat(mdata, mapping=mapping) == ["10", "2", "0.5"]
    assert list(mdata.obs["treatment"].cat.categories) == ["0.5", "2", "10"]


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
def test_labels_mapped_to_nothing_are_said_apart(labelled, nothing):
    mdata = labelled(["A", "B", "multi", "multi", None], ["A", "B", "A", "B", "B"])
    with pytest.warns(UserWarning, match=r"no label: 3 cells in rna \(2 mapped to nothing\)") as caught:
        treat(mdata, mapping={"A": "A", "B": "B", "multi": nothing})
    assert len(caught) == 1
    assert mdata["rna"].obs["treatment"].isna().tolist() == [False, False, True, True, True]


def test_unused_categories_need_no_treatment(labelled):
    mdata = labelled(["a", "b"], ["a", "b"])
    mdata["rna"].obs["label"] = pd.Categorical(["a", "b"], categories=["zzz", "b", "a"])
    treat(mdata, mapping={"a": "é/1", "b": "ü"})
    assert list(mdata.obs["treatment"].cat.categories) == ["ü", "é/1"]


def test_a_function_that_raises_says_for_which_label(labelled):
    with pytest.raises(KeyError, match="`mapping` was called with the label 'x'"):
        treat(labelled(["x", "y"], ["x", "y"]), mapping=lambda label: {}[label])


def test_controls_keep_their_name_or_are_pooled(labelled):
    mdata = labelled(["g1", "g3", "n1", "n2"], ["A", "B", "safe", "NT"])
    assert treat(mdata, mapping=GUIDES, control="NT") == ["A", "B", "NT", "safe"]
    assert mdata.uns["treatment"]["control"].to_dict() == {"A": False, "B": False, "NT": True, "safe": False}
    assert treat(mdata, mapping=GUIDES, control=["NT", "safe"]) == ["A", "B", "control", "control"]
    table = mdata.uns["treatment"]
    assert table["control"].dtype == bool
    assert table.loc["control"].to_dict() == {"rna": 2, "img": 2, "status": "kept", "control": True}


def test_a_numeric_control_and_one_called_control(labelled):
    mdata = labelled([0, 1, 5], [0.0, 1.0, 5.0])
    treat(mdata, control=0)
    assert mdata.uns["treatment"].query("control").index.tolist() == ["0"]
    other = labelled(["control", "DMSO", "x"], ["control", "x", "DMSO"])
    assert treat(other, control={"control", "DMSO"}) == ["control", "control", "x"]


def test_controls_of_different_names_in_the_modalities_are_shared_once_pooled(labelled):
    mdata = labelled(["NT", "A"], ["DMSO", "A"])
    assert treat(mdata, control=["NT", "DMSO"]) == ["control", "A"]


def test_combinations_are_one_treatment_in_any_order(labelled):
    mdata = labelled(["B+A", "A + B", "A+A", "B", "NT+A", "NT + NT"], ["A+B", "A+B+NT", "A", "B", "A", "NT"])
    assert treat(mdata, separator="+", control="NT") == ["A+B", "A+B", "A", "B", "A", "NT"]
    assert mdata.uns["treatment"].query("control").index.tolist() == ["NT"]
    levels = mdata.uns["treatment_factors"].set_index(["treatment", "factor"])["level"]
    assert set(levels.index.get_level_values("factor")) == {"A", "B"}
    assert levels["A+B"].tolist() == ["present", "present"]
    assert levels["A"].to_dict() == {"A": "present", "B": "absent"}
    assert levels["NT"].tolist() == ["absent", "absent"]


def test_controls_of_combinations_are_pooled_and_factors_are_of_kept_treatments(labelled):
    mdata = labelled(["A+NT", "safe+NT", "C", "B"], ["A", "NT", "B", "B"])
    with pytest.warns(UserWarning, match="'C' 1/0"):
        assert treat(mdata, separator="+", control=["NT", "safe"])[:2] == ["A", "control"]
    factors = mdata.uns["treatment_factors"]
    assert set(factors["factor"]) == {"A", "B"}
    assert set(factors["treatment"]) == {"A", "control", "B"}


def test_parts_are_mapped_and_what_they_are_mapped_to_is_split(labelled):
    mdata = labelled(["g3+g1", "g1", "both", "g3+no", "whole+x"], ["A+B", "B", "A", "A", "A"])
    mapping = GUIDES | {"both": "B+A", "no": None, "whole+x": "A"}
    with pytest.warns(UserWarning, match=r"1 cells in rna \(1 mapped to nothing\)"):
        found = treat(mdata, mapping=mapping, separator="+")
    assert found[:3] == ["A+B", "A", "A+B"]
    assert pd.isna(found[3])
    assert found[4] == "A"


def test_a_function_gets_the_parts(labelled):
    mdata = labelled(["g3+g1", "g1", "g3"], ["A", "B", "g2 + g3"])
    assert treat(mdata, mapping=lambda part: GUIDES.get(part, part), separator="+") == ["A+B", "A", "B"]


def test_pooled_controls_of_several_columns_keep_the_levels_they_share(cells):
    design = {"drug": ["dex", "DMSO", "water"], "dose": [5, 0, 0]}
    mdata = cells(rna=design, img=design)
    psalm.pp.treatment(mdata, ["drug", "dose"], control=["DMSO : 0", "water : 0"], min_cells=1)
    levels = mdata.uns["treatment_factors"].set_index(["treatment", "factor"])["level"]
    assert levels["control"].to_dict() == {"drug": "control", "dose": "0"}
    assert levels["dex : 5"].to_dict() == {"drug": "dex", "dose": "5"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"mapping": {"A": "x"}}, ValueError, "not hold 1 labels of modality 'rna': 'B'", id="not held"),
        pytest.param({"mapping": ["A"]}, TypeError, "`mapping` is of type list", id="no mapping"),
        pytest.param({"mapping": {"A": ["x"], "B": "y"}}, TypeError, "gives a list for 'A'", id="list as treatment"),
        pytest.param({"mapping": {1: "x", 1.5: "z", "1": "y"}}, ValueError, "'1' to both 'x' and 'y'", id="twice"),
        pytest.param({"mapping": {None: "x"}}, ValueError, "missing value as a label", id="missing label"),
        pytest.param({"mapping": {"A": "B", "q": "A"}}, ValueError, "'A' are both treatments and labels", id="unclear"),
        pytest.param({"control": "NT"}, ValueError, "'NT', which no modality has. Found .*: 'A', 'B'", id="control"),
        pytest.param({"control": []}, ValueError, "names none, which no", id="no control"),
        pytest.param({"separator": ""}, ValueError, "must be a non-empty string", id="separator"),
        pytest.param({"separator": "A"}, ValueError, "'A' has an empty part", id="empty part"),
        pytest.param(
            {"mapping": {"A": None, "B": None}}, ValueError, r"4 cells in rna \(4 mapped", id="all to nothing"
        ),
    ],
)
def test_bad_input(labelled, options, error, message):
    with pytest.raises(error, match=message):
        treat(labelled(list("AABB"), list("ABAB")), **options)


def test_the_name_of_the_pool_must_be_free(labelled):
    mdata = labelled(["control", "NT", "safe", "A"], ["control", "NT", "safe", "A"])
    with pytest.raises(ValueError, match="would be pooled as 'control', which is the label of another"):
        treat(mdata, control=["NT", "safe"])


@pytest.mark.parametrize("option", [{"mapping": {"a": "b"}}, {"separator": "+"}])
def test_mapping_and_separator_take_one_column(cells, option):
    design = {"drug": ["a", "b"], "dose": [1, 2]}
    with pytest.raises(ValueError, match="applies to the labels of one column, and `key` names 'drug', 'dose'"):
        psalm.pp.treatment(cells(rna=design, img=design), ["drug", "dose"], **option)


def test_a_modality_may_not_be_named_as_a_column_of_the_table(cells):
    mdata = cells(rna={"label": list("ab")}, control={"label": list("ab")})
    with pytest.raises(ValueError, match="A modality is named 'control'"):
        psalm.pp.treatment(mdata, "label", min_cells=1)
