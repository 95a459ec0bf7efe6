import numpy as np
import pandas as pd
import pytest

import psalm

pytestmark = pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # after so few epochs


def test_slots(matched):
    model = psalm.tl.predict(matched, source="a", target="b", max_epochs=3, progress=False)
    predicted = matched["a"].obsm["b_predicted"]
    assert isinstance(predicted, pd.DataFrame)
    assert list(predicted.columns) == list(matched["b"].var_names)
    assert list(predicted.index) == list(matched["a"].obs_names)
    assert np.isfinite(predicted.to_numpy()).all()
    assert len(model.history["validation_loss"]) == 3


def test_either_direction_of_a_match(matched):
    psalm.tl.predict(matched, source="b", target="a", max_epochs=2, progress=False, key_added="guess")
    assert matched["b"].obsm["guess"].shape == (240, 12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"loss": "l1"}, ValueError, "`loss='l1'` is not known", id="loss"),
        pytest.param({"match_key": "m"}, KeyError, "`match_key='m'`", id="match"),
        pytest.param({"target_rep": "counts"}, KeyError, "`use_rep='counts'`", id="representation"),
        pytest.param({"coverage": 1.5}, ValueError, "`coverage=1.5` must be a number between 0 and 1", id="coverage"),
        pytest.param({"likelihood": "beta"}, ValueError, "`likelihood='beta'` is not known", id="likelihood"),
        pytest.param({"likelihood": "nb"}, ValueError, "is for counts, and .* has negative values", id="not counts"),
        pytest.param(
            {"key_added": "match"}, ValueError, "was not written by `tl.predict`, and would be lost", id="taken"
        ),
    ],
)
def test_bad_input(matched, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.predict(matched, source="a", target="b", progress=False, **options)
    assert "b_predicted" not in matched["a"].obsm


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")  # of anndata, whichever version it writes
@pytest.mark.parametrize("ending", ["h5mu", "zarr"])
def test_awkward_feature_names_can_be_saved(matched, tmp_path, ending):
    names = ["CD3/CD28", "G1", "G1", *(f"p{i}" for i in range(7))]
    matched["b"].var["symbol"] = names
    matched["b"].var_names = names
    with pytest.warns(UserWarning, match="not unique"):
        matched.update()
    model = psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    assert list(matched["a"].obsm["b_predicted"].columns[:3]) == ["CD3|CD28", "G1", "G1-1"]
    assert list(model.predict().columns[:3]) == names[:3]
    adata = matched["a"]
    adata.write_h5ad(tmp_path / "a.h5ad") if ending == "h5mu" else adata.write_zarr(tmp_path / "a.zarr")


def test_columns_are_the_features_where_the_representation_has_them(matched):
    psalm.pp.represent(matched, "b", kind="features")
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    assert list(matched["a"].obsm["b_predicted"].columns) == list(matched["b"].var_names)
    psalm.pp.represent(matched, "b", kind="features", n_comps=3)
    psalm.tl.predict(matched, source="a", target="b", max_epochs=1, progress=False)
    assert list(matched["a"].obsm["b_predicted"].columns) == ["b_PC1", "b_PC2", "b_PC3"]


@pytest.mark.filterwarnings("ignore:Held-out cells are predicted no better")  # one epoch
@pytest.mark.parametrize("counts", [False, True])
def test_means_by_treatment_are_stored(matched, counts):
    """Independent: pandas; of counts at the size of the median cell."""
    rep = "X"
    if counts:
        rep, matched["b"].layers["counts"] = "counts", np.abs(np.round(10 * matched["b"].X))
        matched["b"].layers["counts"][0] *= 7
    psalm.tl.predict(matched, source="a", target="b", target_rep=rep, max_epochs=1, progress=False)
    stored = matched.uns["b_predicted"]["means"]
    values = pd.DataFrame(matched["b"].layers["counts"] if counts else matched["b"].X)
    if counts:
        total = values.sum(axis=1)
        values = values.mul(np.median(total) / total, axis=0)
    measured = values.groupby(matched["b"].obs["treatment"].astype(str).to_numpy()).mean()
    order = list(stored["treatments"])
    np.testing.assert_allclose(stored["measured"], measured.loc[order], rtol=1e-4, atol=1e-4)
    predicted = matched["a"].obsm["b_predicted"].groupby(matched["a"].obs["treatment"].astype(str)).mean()
    np.testing.assert_allclose(stored["predicted"], predicted.loc[order], rtol=1e-5)
