import numpy as np
import pytest

import psalm


@pytest.mark.parametrize(("normalize", "axis"), [("source", 1), ("target", 0)])
def test_normalised_sums_are_one(matched, normalize, axis):
    mass = psalm.get.coupling(matched, normalize=normalize)
    np.testing.assert_allclose(np.asarray(mass.sum(axis=axis)).ravel(), 1)


def test_exact_is_the_stored_one_where_all_pairs_fit(matched):
    stored, exact = psalm.get.coupling(matched), psalm.get.coupling(matched, exact=True)
    np.testing.assert_allclose(exact.toarray(), stored.toarray(), rtol=1e-9)


def test_report_is_a_copy_indexed_by_treatment(matched):
    report = psalm.get.report(matched)
    report.loc["t1", "n_source"] = -1
    assert psalm.get.report(matched).loc["t1", "n_source"] > 0


def test_propensity_has_names(scored):
    scores = psalm.get.propensity(scored, "a")
    assert list(scores.columns) == ["control", "t1", "t2", "t3"]
    assert list(scores.index) == list(scored["a"].obs_names)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda m: psalm.get.coupling(m, "none"), KeyError, "`match_key='none'`", id="key"),
        pytest.param(
            lambda m: psalm.get.coupling(m, normalize="rows"), ValueError, "`normalize='rows'`", id="normalize"
        ),
        pytest.param(lambda m: psalm.get.report(m, "propensit"), KeyError, "Run `tl.match` first", id="report"),
        pytest.param(lambda m: psalm.get.propensity(m, "rna"), KeyError, "is not a modality", id="modality"),
    ],
)
def test_bad_input(matched, call, error, message):
    with pytest.raises(error, match=message):
        call(matched)


def test_probabilities(scored):
    """They sum to one, and that of a cell's own treatment is what `tl.propensity` stored."""
    found = psalm.get.propensity(scored, "a", probability=True)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    own = [found.loc[cell, name] for cell, name in scored["a"].obs["treatment"].items()]
    np.testing.assert_allclose(own, scored["a"].obs["propensity_own"], rtol=1e-4)
    with pytest.raises(ValueError, match=r"`reference='control'` is for log-odds"):
        psalm.get.propensity(scored, "a", reference="control", probability=True)
