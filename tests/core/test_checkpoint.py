"""Blocks that are kept in a folder are those that would be computed."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import sparse

from psalm.core.checkpoint import keeping
from psalm.core.exact import ExactMatcher
from psalm.core.matcher import Match, Side
from psalm.core.matching import Cells, match_within
from psalm.core.neighbors import SharedNeighborMatcher
from psalm.core.plan import SparsePlan
from psalm.core.sinkhorn import SinkhornMatcher
from psalm.core.unbalanced import UnbalancedMatcher


@pytest.fixture
def cells(read_only):
    codes = np.repeat([0, 1, 2], [12, 9, 15])
    return Cells(read_only(36, 4), codes), Cells(read_only(36, 4), codes)


@dataclass(frozen=True)
class Counting:
    """Uniform plans; counts its calls, and fails after some of them."""

    calls: list = field(default_factory=list, repr=False)
    last: int = field(default=99, repr=False)

    def __call__(self, source: Side, target: Side) -> Match:
        if len(self.calls) >= self.last:
            msg = "stopped"
            raise KeyboardInterrupt(msg)
        self.calls.append(len(source))
        return Match(SparsePlan(sparse.csr_matrix(np.outer(source.mass, target.mass))))


@pytest.mark.parametrize(
    "matcher",
    [
        SinkhornMatcher(),
        UnbalancedMatcher(),
        SinkhornMatcher(0.1, "sqeuclidean"),
        SharedNeighborMatcher(3),
        ExactMatcher(),
    ],
    ids=lambda matcher: type(matcher).__name__,
)
def test_same_plans_when_read(cells, tmp_path, matcher):
    """To the last bit: computed without a folder, computed into it, read from it."""
    plain = match_within(*cells, matcher)
    kept = match_within(*cells, keeping(matcher, tmp_path))
    n_files = len(list(tmp_path.iterdir()))
    again = match_within(*cells, keeping(matcher, tmp_path))
    assert n_files == len(list(tmp_path.iterdir())) == 3
    for coupling, found in (kept, again):
        np.testing.assert_array_equal(coupling.to_csr().toarray(), plain[0].to_csr().toarray())
        for result, expected in zip(found, plain[1], strict=True):
            assert result.match.epsilon == pytest.approx(expected.match.epsilon, rel=0, nan_ok=True)
            assert result.match.converged == expected.match.converged
            assert result.match.iterations == expected.match.iterations


def test_goes_on_where_it_stopped(cells, tmp_path):
    first = Counting(last=2)
    with pytest.raises(KeyboardInterrupt):
        match_within(*cells, keeping(first, tmp_path), n_jobs=1)
    second = Counting()
    match_within(*cells, keeping(second, tmp_path), n_jobs=1)
    assert len(first.calls) == 2
    assert len(second.calls) == 1
    assert sorted(first.calls + second.calls) == [9, 12, 15]


def test_other_settings_or_cells_are_computed_anew(cells, tmp_path):
    source, target = cells
    match_within(source, target, keeping(SinkhornMatcher(0.2), tmp_path))
    match_within(source, target, keeping(SinkhornMatcher(0.3), tmp_path))
    moved = Cells(source.scores + 1e-9, source.codes)
    match_within(moved, target, keeping(SinkhornMatcher(0.2), tmp_path))
    assert len(list(tmp_path.iterdir())) == 9


def test_own_kind_of_plan_is_refused(cells, tmp_path):
    class Dense:
        shape = (1, 1)

        def weighted(self, weight):
            return self

    @dataclass(frozen=True)
    class Own:
        def __call__(self, source, target):
            return Match(Dense())

    with pytest.raises(TypeError, match="A Dense cannot be kept"):
        match_within(*cells, keeping(Own(), tmp_path), n_jobs=1)


def test_matcher_without_fields_is_refused(tmp_path):
    """A function's name says nothing of its settings."""
    with pytest.raises(TypeError, match="function is not a dataclass"):
        keeping(lambda source, target: None, tmp_path)
