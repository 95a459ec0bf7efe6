"""Many treatments: scores that are kept as coordinates do what scores do."""

import mudata
import numpy as np
import pytest

import psalm
from psalm._containers import no_pull


@pytest.fixture(scope="module")
def both():
    """The same scores, whole and as coordinates."""
    mdata = psalm.datasets.simulated(n_cells=600, n_treatments=20, n_latent=3, n_features=(12, 12), n_private=2)
    psalm.pp.treatment(mdata, "perturbation")
    options = {"n_repeats": 1, "progress": False}
    psalm.tl.propensity(mdata, **options)
    psalm.tl.propensity(mdata, compress_above=12, distance_error=0.02, key_added="short", **options)
    return mdata


def test_log_odds_are_read_back(both):
    assert both["a"].obsm["short"].shape[1] <= 12
    whole, back = psalm.get.propensity(both, "a"), psalm.get.propensity(both, "a", "short")
    assert list(back.columns) == list(whole.columns)
    spread = whole - whole.mean()
    error = np.sqrt(((whole - back) ** 2).to_numpy().sum() / (spread**2).to_numpy().sum())
    assert error == pytest.approx(both.uns["short"]["basis"]["log_odds_error"], rel=0.25)
    assert error < 0.2
    np.testing.assert_allclose(both["a"].obs["short_own"], both["a"].obs["propensity_own"], rtol=1e-6)


def test_the_stated_error_is_that_of_distances(both):
    """Independent: distances between the modalities' cells, within a treatment, counted."""
    cells = [np.flatnonzero(both[m].obs["treatment"] == "t3") for m in ("a", "b")]
    found = {}
    for key in ("propensity", "short"):
        x, y = (both[m].obsm[key][rows] for m, rows in zip(("a", "b"), cells, strict=True))
        found[key] = np.linalg.norm(x[:, None] - y, axis=2)
    error = np.sqrt(((found["short"] - found["propensity"]) ** 2).mean() / (found["propensity"] ** 2).mean())
    stated = both.uns["short"]["basis"]["distance_error"]
    assert stated <= 0.02
    assert error < 3 * stated + 1e-3


def test_matches_are_nearly_the_same_and_survive_a_file(both, tmp_path):
    mdata = both.copy()
    for key in ("propensity", "short"):
        psalm.tl.match(mdata, source="a", target="b", propensity_key=key, key_added=f"match_{key}", progress=False)
    whole, short = (psalm.get.coupling(mdata, f"match_{key}", exact=True).toarray() for key in ("propensity", "short"))
    assert np.abs(whole - short).sum() < 0.05
    with no_pull():
        mdata.write_h5mu(tmp_path / "m.h5mu")
        again = mudata.read_h5mu(tmp_path / "m.h5mu")
    np.testing.assert_allclose(psalm.get.coupling(again, "match_short", exact=True).toarray(), short, rtol=1e-9)
    np.testing.assert_allclose(psalm.get.propensity(again, "b", "short"), psalm.get.propensity(mdata, "b", "short"))
    psalm.tl.embed(again, propensity_key="short")


def test_labels_that_changed_are_noticed(both):
    mdata = both.copy()
    mdata["a"].obs["treatment"] = np.roll(mdata["a"].obs["treatment"], 1)
    with pytest.raises(ValueError, match="have another treatment"):
        psalm.tl.match(mdata, source="a", target="b", propensity_key="short", progress=False)


def test_new_cells_get_coordinates_in_the_same_basis(both, tmp_path):
    mdata = both.copy()
    hidden = mdata["a"].obs_names[:50]
    mdata["a"].obs.loc[hidden, "treatment"] = np.nan
    psalm.tl.propensity(mdata, n_repeats=1, compress_above=12, progress=False, save=tmp_path / "m", key_added="short")
    new = mdata["a"][hidden].copy()
    psalm.tl.score(new, tmp_path / "m", modality="a", key_added="again")
    np.testing.assert_allclose(new.obsm["again"], mdata["a"][hidden].obsm["short"], atol=1e-4)
