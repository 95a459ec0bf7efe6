"""What must not change, or must change in a known way, for any input: property-based tests.

On the core, small problems of any shape are drawn; on containers, what was computed once is turned over.
"""

import warnings

import mudata
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import psalm
from psalm._containers import no_pull
from psalm.core.exact import ExactMatcher
from psalm.core.matching import Cells, match_within
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher

MATCHERS = [SinkhornMatcher(), SinkhornMatcher(0.5, "sqeuclidean"), UnbalancedMatcher(), SharedNeighborMatcher(2)]
FULL = [SinkhornMatcher(), SinkhornMatcher(0.5, "sqeuclidean"), ExactMatcher()]
"""They meet both marginals."""
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""Compiled code and shared fixtures make single examples slow and cheap to repeat."""


def of_matcher(matcher):
    return type(matcher).__name__


@st.composite
def problems(draw):
    """Source and target with one to four treatments, some perhaps on one side only; distinct scores."""
    n_columns, n_treatments = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sides = []
    for _ in range(2):
        codes = draw(arrays(np.int64, draw(st.integers(1, 25)), elements=st.integers(-1, n_treatments - 1)))
        spread = draw(st.floats(1e-3, 1e3))
        sides.append(Cells(spread * rng.normal(size=(len(codes), n_columns)), codes))
    return tuple(sides)


def plan(source, target, matcher):
    return match_within(source, target, matcher, n_jobs=1)[0].to_csr().toarray()


def treatments(source, target):
    """Positions of the source and target cells of every treatment that both have."""
    for code in np.intersect1d(source.codes, target.codes):
        if code >= 0:
            yield np.flatnonzero(source.codes == code), np.flatnonzero(target.codes == code)


def some_of(cells, order):
    return Cells(cells.scores[order], cells.codes[order])


@FEW
@given(problems(), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("matcher", MATCHERS, ids=of_matcher)
def test_order_of_cells(matcher, problem, seed):
    """Permuted cells have the permuted plan."""
    source, target = problem
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(source.codes)), rng.permutation(len(target.codes))
    found = plan(some_of(source, rows), some_of(target, columns), matcher)
    np.testing.assert_allclose(found, plan(*problem, matcher)[rows][:, columns], atol=2e-3 * found.sum())


@FEW
@given(problems(), st.permutations(range(4)))
@pytest.mark.parametrize("matcher", MATCHERS, ids=of_matcher)
def test_names_of_treatments(matcher, problem, names):
    """Other codes for the same treatments change nothing."""
    renamed = [Cells(side.scores, np.append(names, -1)[side.codes]) for side in problem]
    np.testing.assert_allclose(plan(*renamed, matcher), plan(*problem, matcher), rtol=1e-12, atol=1e-15)


@FEW
@given(problems(), st.floats(-3, 3), st.floats(1e-2, 1e2))
@pytest.mark.parametrize("matcher", MATCHERS, ids=of_matcher)
def test_shift_and_scale_of_scores(matcher, problem, shift, scale):
    """ε is relative to the mean cost, and distances know no origin."""
    spread = max(float(np.abs(side.scores).max()) for side in problem)
    moved = [Cells(scale * (side.scores + shift * spread), side.codes) for side in problem]
    found, expected = plan(*moved, matcher), plan(*problem, matcher)
    np.testing.assert_allclose(found, expected, atol=3e-3 * expected.sum())


@FEW
@given(problems())
def test_source_and_target_exchanged(problem):
    """The transpose, for what has both marginals in full."""
    source, target = problem
    matcher = SinkhornMatcher(tolerance=1e-7)
    found, expected = plan(target, source, matcher), plan(source, target, matcher)
    np.testing.assert_allclose(found.T, expected, atol=1e-5 * expected.sum())


@FEW
@given(problems())
def test_cost_of_exact_transport_exchanged(problem):
    """Plans may differ where several are optimal, as on a line; their cost may not."""
    source, target = problem
    cost = np.linalg.norm(source.scores[:, None] - target.scores, axis=2)
    found, expected = plan(target, source, ExactMatcher()), plan(source, target, ExactMatcher())
    assert (found.T * cost).sum() == pytest.approx((expected * cost).sum(), rel=1e-9)


@FEW
@given(problems())
@pytest.mark.parametrize("matcher", FULL, ids=of_matcher)
def test_marginals(matcher, problem):
    """Each treatment's mass is spread evenly over its cells, and nothing joins two treatments."""
    source, target = problem
    found = plan(source, target, matcher)
    assert (found >= 0).all()
    assert not found[source.codes[:, None] != target.codes].any()
    for rows, columns in treatments(source, target):
        block = found[np.ix_(rows, columns)]
        np.testing.assert_allclose(block.sum(axis=1), block.sum() / len(rows), rtol=2e-3)
        assert np.abs(block.sum(axis=0) / block.sum() - 1 / len(columns)).sum() < 2e-3


@FEW
@given(problems())
@pytest.mark.parametrize("matcher", MATCHERS, ids=of_matcher)
def test_one_treatment_at_a_time(matcher, problem):
    """A call per treatment gives the same shares of partners as one call for all."""
    source, target = problem
    whole = plan(source, target, matcher)
    for rows, columns in treatments(source, target):
        alone, part = plan(some_of(source, rows), some_of(target, columns), matcher), whole[np.ix_(rows, columns)]
        np.testing.assert_allclose(alone / alone.sum(), part / part.sum(), rtol=1e-9, atol=1e-12)


@settings(FEW, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_container_in_another_order(matched_base, seed):
    """Results follow their cells when the container's modalities are permuted after the match."""
    rng = np.random.default_rng(seed)
    parts = {name: part[rng.permutation(part.n_obs)].copy() for name, part in matched_base.mod.items()}
    with no_pull():
        mdata = matched_base[np.concatenate([part.obs_names for part in parts.values()])].copy()
    found = psalm.get.coupling(mdata)
    expected = psalm.get.coupling(matched_base)
    rows, columns = (matched_base[name].obs_names.get_indexer(mdata[name].obs_names) for name in ("a", "b"))
    np.testing.assert_array_equal(found.toarray(), expected.toarray()[rows][:, columns])


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_written_and_read(matched_base, tmp_path, suffix):
    """The same coupling, report and evaluation from both formats."""
    mdata = matched_base.copy()
    psalm.tl.evaluate(mdata, latent="latent")
    path = tmp_path / f"cells{suffix}"
    mdata.write(path) if suffix == ".h5mu" else mdata.write_zarr(path)
    with no_pull():
        again = mudata.read_h5mu(path) if suffix == ".h5mu" else mudata.read_zarr(path)
    np.testing.assert_array_equal(psalm.get.coupling(again).toarray(), psalm.get.coupling(mdata).toarray())
    exact = [psalm.get.coupling(each, exact=True).toarray() for each in (again, mdata)]
    np.testing.assert_array_equal(*exact)
    assert psalm.get.report(again).astype(str).equals(psalm.get.report(mdata).astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = psalm.tl.evaluate(again, latent="latent")
    np.testing.assert_allclose(found["latent_error"], mdata.uns["match_evaluation"]["latent_error"], rtol=1e-6)
