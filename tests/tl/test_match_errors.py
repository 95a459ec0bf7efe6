"""What a match does when it is interrupted, or fails in a treatment."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import psalm
from psalm.core.matcher import Match
from psalm.core.plan import SparsePlan


@dataclass(frozen=True)
class Fragile:
    """Uniform plans; refuses treatments of fewer cells than `least`."""

    least: int = 20

    def __call__(self, source, target):
        if len(source) < self.least:
            msg = f"{len(source)} cells"
            raise FloatingPointError(msg)
        return Match(SparsePlan(sparse.csr_matrix(np.outer(source.mass, target.mass))))


def least_of(mdata):
    """Name and size of the smallest treatment of modality a."""
    counts = mdata["a"].obs["treatment"].value_counts()
    return counts.index[-1], int(counts.iloc[-1])


def test_error_names_the_treatment_and_writes_nothing(scored):
    mdata = scored
    name, size = least_of(mdata)
    before = set(mdata.uns), set(mdata.obsp), set(mdata["a"].obs)
    with pytest.raises(FloatingPointError) as caught:
        psalm.tl.match(mdata, source="a", target="b", method=Fragile(size + 1))
    assert repr(name) in caught.value.__notes__[0]
    assert before == (set(mdata.uns), set(mdata.obsp), set(mdata["a"].obs))


def test_others_are_kept_on_request(scored):
    """The treatment that fails is named, has no mass, and the plans of the others are those of a match without it."""
    mdata = scored
    name, size = least_of(mdata)
    with pytest.warns(UserWarning, match=f"1 treatments could not be matched: '{name}'; the first by FloatingPoint"):
        psalm.tl.match(mdata, source="a", target="b", method=Fragile(size + 1), on_error="warn")
    table = mdata.uns["match"]["table"].set_index("treatment")
    assert table.loc[name, "error"] == f"FloatingPointError: {size} cells"
    assert (table.drop(name)["error"] == "").all()
    of_it = (mdata["a"].obs["treatment"] == name).to_numpy()
    assert (mdata["a"].obs["match_block"][of_it] == -1).all()
    coupling = psalm.get.coupling(mdata)
    assert coupling[of_it].nnz == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        psalm.tl.match(mdata, source="a", target="b", method=Fragile(0))
    whole = psalm.get.coupling(mdata)
    np.testing.assert_allclose(coupling[~of_it].toarray(), whole[~of_it].toarray())


def test_interrupt_leaves_the_container_as_it_was(scored, monkeypatch):
    mdata = scored
    psalm.tl.match(mdata, source="a", target="b", progress=False)
    before = mdata.obsp["match"].copy(), mdata["a"].obs.copy()

    def stop(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Fragile, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        psalm.tl.match(mdata, source="a", target="b", method=Fragile(), on_error="warn")
    assert (before[0] != mdata.obsp["match"]).nnz == 0
    pd.testing.assert_frame_equal(before[1], mdata["a"].obs)


@pytest.mark.parametrize("options", [{}, {"method": "snn"}, {"refine": 1}], ids=["ot", "snn", "refined"])
def test_checkpoint_gives_the_same_match(scored, tmp_path, monkeypatch, options):
    """And reads the second from files: the matcher is not called."""
    from psalm.core import checkpoint

    mdata = scored
    psalm.tl.match(mdata, source="a", target="b", progress=False, **options)
    expected = psalm.get.coupling(mdata).toarray()
    psalm.tl.match(mdata, source="a", target="b", progress=False, checkpoint=tmp_path / "kept", **options)
    monkeypatch.setattr(checkpoint, "write", lambda *_: pytest.fail("matched again"))
    psalm.tl.match(mdata, source="a", target="b", progress=False, checkpoint=str(tmp_path / "kept"), **options)
    np.testing.assert_array_equal(psalm.get.coupling(mdata).toarray(), expected)
