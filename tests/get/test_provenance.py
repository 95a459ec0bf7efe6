"""What a container says of itself is enough to make it again."""

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import psalm
from psalm import _calls


@pytest.fixture
def fresh():
    return psalm.datasets.simulated(n_cells=300)


@pytest.fixture
def done(fresh):
    mdata = fresh.copy()
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, classifier="logistic", n_repeats=2, n_folds=2, rng=7, progress=False)
    psalm.tl.match(mdata, source="a", target="b", epsilon=0.1, progress=False)
    psalm.tl.transfer(mdata, source="a", target="b", keys="latent")
    return mdata


def test_calls_repeat_the_container(fresh, done):
    """Independent: the text is run as Python."""
    table = psalm.get.provenance(done)
    assert table["step"].tolist() == ["pp.treatment", "tl.propensity", "tl.match", "tl.transfer"]
    assert table["repeatable"].all()
    for call in table["call"]:
        eval(call, {"psalm": psalm, "mdata": fresh})
    for name in ("a", "b"):
        np.testing.assert_array_equal(fresh[name].obsm["propensity"], done[name].obsm["propensity"])
        pd.testing.assert_frame_equal(fresh[name].obs, done[name].obs)
    assert (fresh.obsp["match"] != done.obsp["match"]).nnz == 0
    pd.testing.assert_frame_equal(psalm.get.provenance(fresh), table)


def test_it_has_defaults_options_and_versions(done):
    table = psalm.get.provenance(done)
    assert "rng=7" in table["call"][1]
    assert "n_jobs=None" in table["call"][1]
    assert (table["psalm"] == psalm.__version__).all()
    assert (table["numpy"] == np.__version__).all()
    psalm.tl.match(done, source="a", target="b", method="snn", n_neighbors=7, progress=False)
    assert "n_neighbors=7" in psalm.get.provenance(done)["call"].iloc[-1]


@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.int64(3), np.inf, (1.0, np.inf), ["a", None], {"a": {"b": (1,)}, 2: True}, np.str_("x"), ()],
)
def test_text_of_arguments_is_python(value):
    """Independent: it is run."""
    assert _calls.is_plain(value)
    found = eval(_calls.as_text(value))
    assert found == value
    assert isinstance(found, tuple) == isinstance(value, tuple)


def test_objects_are_named_and_said_to_be_missing(done):
    psalm.tl.propensity(done, classifier={"a": LogisticRegression(), "b": "logistic"}, n_repeats=1, progress=False)
    last = psalm.get.provenance(done).iloc[-1]
    assert not last["repeatable"]
    assert "classifier={'a': <LogisticRegression>, 'b': 'logistic'}" in last["call"]
    psalm.tl.propensity(done, classifier="logistic", n_repeats=1, rng=None, progress=False)
    assert not psalm.get.provenance(done)["repeatable"].iloc[-1]


def test_what_wrote_nothing_has_no_row(done):
    n_calls = len(psalm.get.provenance(done))
    with pytest.raises(ValueError, match="method"):
        psalm.tl.match(done, source="a", target="b", method="best", progress=False)
    psalm.tl.match(done, source="a", target="b", dry_run=True)
    assert len(psalm.get.provenance(done)) == n_calls


@pytest.mark.parametrize("suffix", ["h5mu", "zarr"])
def test_it_survives_files(done, tmp_path, suffix):
    file = tmp_path / f"m.{suffix}"
    done.write(file) if suffix == "h5mu" else done.write_zarr(file)
    again = mudata.read(file) if suffix == "h5mu" else mudata.read_zarr(file)
    pd.testing.assert_frame_equal(psalm.get.provenance(again), psalm.get.provenance(done), check_dtype=False)
    psalm.tl.match(again, source="a", target="b", progress=False)
    assert len(psalm.get.provenance(again)) == 5


def test_an_entry_of_the_users_is_not_overwritten(fresh):
    fresh.uns["psalm_calls"] = {"mine": 1}
    with pytest.raises(ValueError, match="entry of yours"):
        psalm.pp.treatment(fresh, "perturbation")
    assert fresh.uns["psalm_calls"] == {"mine": 1}
    assert "treatment" not in fresh["a"].obs


def test_nothing_is_known_of_a_container_that_psalm_has_not_seen(fresh):
    assert psalm.get.provenance(fresh).empty


def test_warnings_point_at_the_line_of_the_user(fresh):
    """The record stands between the user and the step."""
    few = fresh[[*fresh["a"].obs_names[:40], *fresh["b"].obs_names[:60]]].copy()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        psalm.pp.treatment(few, "perturbation", min_cells=3)
        psalm.tl.propensity(few, n_folds=4, n_repeats=1, classifier="logistic", progress=False)
        psalm.tl.match(few, source="a", target="b", epsilon=1e-3, tolerance=1e-9, max_iterations=2, progress=False)
    assert len(seen) >= 3
    assert {warning.filename for warning in seen} == {__file__}
