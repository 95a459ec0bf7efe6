import numpy as np
import pytest

import psalm

pytestmark = pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # after so few epochs


def test_predictions_become_an_anndata_with_the_target_s_features(matched):
    matched["b"].var["gene"] = [f"g{i}" for i in range(10)]
    psalm.tl.predict(matched, source="a", target="b", max_epochs=2, coverage=0.5, progress=False)
    adata = psalm.get.predicted(matched, "b")
    np.testing.assert_array_equal(adata.X, matched["a"].obsm["b_predicted"])
    assert adata.obs_names.equals(matched["a"].obs_names)
    assert list(adata.var["gene"]) == [f"g{i}" for i in range(10)]
    assert set(adata.layers) - {None} == {"lower", "upper"}  # anndata 0.13 lists X as None
    assert (adata.layers["lower"] <= adata.layers["upper"]).all()
    assert adata.uns["prediction"]["likelihood"] == "gaussian"
    adata.X[:] = 0
    assert matched["a"].obsm["b_predicted"].to_numpy().any()  # a copy


def test_names_that_files_do_not_allow_come_back_as_they_are(matched):
    matched["b"].var_names = ["CD3/CD28", *matched["b"].var_names[1:]]
    matched.update()
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    assert psalm.get.predicted(matched, "b").var_names[0] == "CD3/CD28"


def test_errors_say_what_to_do(matched):
    with pytest.raises(ValueError, match="Pass `target=`"):
        psalm.get.predicted(matched)
    with pytest.raises(KeyError, match=r"tl.predict"):
        psalm.get.predicted(matched, "b")
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    del matched["a"].obsm["b_predicted"]
    with pytest.raises(KeyError, match="does not exist any more"):
        psalm.get.predicted(matched, key="b_predicted")


def test_a_second_prediction_without_intervals_leaves_no_old_ones(matched):
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, coverage=0.5, progress=False)
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    assert not set(psalm.get.predicted(matched, "b").layers) - {None}
