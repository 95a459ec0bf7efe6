import pandas as pd
import pytest

from psalm.core import findings

TABLE = pd.DataFrame(
    {"modality": "rna", "treatment": ["a", "b"], "auc": [0.9, 0.8], "auc_error": 0.02, "overlap": [0.4, 0.5]}
)
CALIBRATION = pd.DataFrame({"modality": ["rna"], "calibration_error_after": [0.01], "chance_error_after": [0.01]})
DIMENSIONS = pd.DataFrame({"modality": ["rna"], "effective": [2.0], "for_95_percent": [3], "largest": [8]})
AGREEMENT = pd.DataFrame(
    {
        "modality_1": "rna",
        "modality_2": "image",
        "treatment": ["a", "b"],
        "energy_share": 0.1,
        "random_split_share": 0.05,
    }
)


def find(table=TABLE, calibration=CALIBRATION, dimensions=DIMENSIONS, agreement=AGREEMENT):
    return findings.find(table, calibration, dimensions, agreement)


def test_nothing_is_found_where_all_is_well():
    assert find().empty


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"table": TABLE.assign(auc=[0.9, 0.53])}, "chance", "rna does not tell 'b' from the others"),
        ({"table": TABLE.assign(overlap=[0.001, 0.5])}, "no overlap", "rna tells 'a' with near certainty"),
        ({"table": TABLE.assign(batch_auc=[0.5, 1.0])}, "batch", "In rna the batch alone tells 'b'"),
        ({"table": TABLE.assign(factor="drug", auc=0.5)}, "chance", "'drug=a', 'drug=b'"),
        ({"calibration": CALIBRATION.assign(calibration_error_after=0.2)}, "calibration", "off by 0.20"),
        ({"dimensions": DIMENSIONS.assign(largest=2)}, "too few treatments", "fill the 2 dimensions"),
        ({"agreement": AGREEMENT.assign(energy_share=[0.1, 0.6])}, "disagreement", "lie apart within 'b'"),
    ],
)
def test_each_finding_names_what_it_is_about(change, kind, words):
    found = find(**change)
    assert found["kind"].tolist() == [kind]
    assert words in found["message"].iloc[0]


def test_many_treatments_are_shortened():
    table = pd.concat([TABLE.assign(auc=0.5)] * 10)
    assert "and 12 more" in find(table=table)["message"].iloc[0]


def test_noise_is_not_a_finding():
    assert find(calibration=CALIBRATION.assign(calibration_error_after=0.1, chance_error_after=0.08)).empty
    assert find(agreement=AGREEMENT.assign(energy_share=0.6, random_split_share=0.7)).empty
