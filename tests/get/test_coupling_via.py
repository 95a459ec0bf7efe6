import numpy as np
import pytest

import psalm
from psalm._containers import stack


@pytest.fixture(scope="module")
def three_base(raw_base):
    """The cells of "a" and "b", and "c": those of "a" once more under other names, in another order."""
    order = np.random.default_rng(5).permutation(240)
    third = raw_base["a"][order].copy()
    third.obs_names = [f"c_{position}" for position in order]
    third.var_names = [f"c_{name}" for name in third.var_names]
    mdata = stack({"a": raw_base["a"].copy(), "b": raw_base["b"].copy(), "c": third})
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=1, progress=False)
    psalm.tl.match(mdata, source="a", target="b", key_added="ab", progress=False)
    psalm.tl.match(mdata, source="c", target="b", key_added="cb", progress=False)
    psalm.tl.match(mdata, source="b", target="c", method="snn", key_added="bc", progress=False)
    return mdata


@pytest.fixture
def three(three_base):
    return three_base.copy()


def composed(first, second):
    """Independent: the formula on dense matrices."""
    mass = second.sum(axis=1, keepdims=True)
    found = first @ np.divide(second, mass, where=mass > 0, out=np.zeros_like(second))
    rows = found.sum(axis=1, keepdims=True)
    return np.divide(found, rows, where=rows > 0, out=np.zeros_like(found)) * first.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("exact", [False, True])
def test_both_matches_in_either_direction(three, exact):
    ab, cb, bc = (psalm.get.coupling(three, key, exact=exact).toarray() for key in ("ab", "cb", "bc"))
    found = psalm.get.coupling(three, "ab", via="cb", exact=exact)
    np.testing.assert_allclose(found.toarray(), composed(ab, cb.T), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1).A1, ab.sum(axis=1), rtol=1e-6)
    back = psalm.get.coupling(three, "cb", via="ab", exact=exact)
    np.testing.assert_allclose(back.toarray(), composed(cb, ab.T), rtol=1e-4, atol=1e-9)
    mixed = psalm.get.coupling(three, "bc", via="ab", exact=exact)  # rows c: what only the first match has
    np.testing.assert_allclose(mixed.toarray(), composed(bc.T, ab.T), rtol=1e-4, atol=1e-9)


def test_cells_stay_within_their_treatment(three):
    entries = psalm.get.coupling(three, "ab", via="cb").tocoo()
    a, c = (three[name].obs["treatment"].astype(str).to_numpy() for name in ("a", "c"))
    assert entries.nnz > 0
    assert (a[entries.row] == c[entries.col]).all()


def test_normalised(three):
    rows = psalm.get.coupling(three, "ab", via="cb", normalize="source").sum(axis=1).A1
    np.testing.assert_allclose(rows, 1)
    columns = psalm.get.coupling(three, "ab", via="cb", normalize="target").sum(axis=0).A1
    np.testing.assert_allclose(columns, 1)


def test_latents_are_closer_than_chance(three):
    """Truth by construction: composed matches join cells of closer latents than a uniform coupling of the treatment."""
    share = psalm.get.coupling(three, "ab", via="cb", normalize="source").toarray()
    x, y = (three[name].obsm["latent"] for name in ("a", "c"))
    distance = ((x[:, None] - y) ** 2).sum(axis=2)
    same = (three["a"].obs["treatment"].to_numpy()[:, None] == three["c"].obs["treatment"].to_numpy()).astype(float)
    uniform = same / same.sum(axis=1, keepdims=True)
    assert (share * distance).sum() < 0.95 * (uniform * distance).sum()


def test_the_whole_path_with_three_modalities(three):
    """Scores once, any pair matched, labels carried, one space, a composed coupling."""
    psalm.tl.transfer(three, keys="perturbation", source="c", target="b", match_key="cb")
    assert (three["b"].obs["perturbation_from_c"] == three["b"].obs["perturbation"].astype(str)).all()
    psalm.tl.embed(three)
    assert three.obsm["X_propensity"].shape == (720, 2)
    assert psalm.get.coupling(three, "ab", via="bc").shape == (240, 240)
    part = three[three.obs_names[::2]].copy()
    assert psalm.get.coupling(part, "ab", via="cb").shape == (part["a"].n_obs, part["c"].n_obs)


def _no_common(mdata):
    psalm.tl.match(mdata, source="a", target="c", key_added="ac", progress=False)
    mdata.uns["other"] = {
        **mdata.uns["ab"],
        "params": {**mdata.uns["ab"]["params"], "source": "d", "target": "e"},
    }
    psalm.get.coupling(mdata, "ac", via="other")


def _other_treatments(mdata):
    mdata.uns["bc"]["params"]["treatment"] = "drug"
    psalm.get.coupling(mdata, "ab", via="bc")


def _strata(mdata):
    mdata.uns["bc"]["table"]["within"] = "day1"
    psalm.get.coupling(mdata, "ab", via="bc")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda m: psalm.get.coupling(m, "ab", via="no"), KeyError, "`via='no'`.*Run `tl.match`", id="via"),
        pytest.param(lambda m: psalm.get.coupling(m, "ab", via="ab"), ValueError, "share both modalities", id="both"),
        pytest.param(_no_common, ValueError, "share no modalities", id="none"),
        pytest.param(
            _other_treatments, ValueError, r"within obs\['treatment'\] and .* within obs\['drug'\]", id="drug"
        ),
        pytest.param(_strata, ValueError, "Only the match 'bc' was made within strata", id="strata"),
    ],
)
def test_bad_input(three, call, error, message):
    with pytest.raises(error, match=message):
        call(three)
