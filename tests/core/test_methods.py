import numpy as np
import pytest

from psalm.core.matcher import Match, Side
from psalm.core.methods import METHODS, as_matcher


@pytest.mark.parametrize("method", METHODS)
def test_every_method_matches_a_block(method, read_only):
    sides = [Side(read_only(n, 3), features=read_only(n, 4)) for n in (12, 9)]
    match = as_matcher(method, {})(*sides)
    assert isinstance(match, Match)
    mass = match.plan.rows(slice(0, 12))
    assert mass.shape == (12, 9)
    assert (mass >= 0).all()
    assert 0 < mass.sum() <= 1 + 1e-5


def test_options_reach_the_matcher():
    assert as_matcher("partial", {"fraction": 0.3, "epsilon": "auto"}).fraction == 0.3
    assert as_matcher("unbalanced", {"relaxation": (1.0, float("inf"))}).relaxation == (1.0, float("inf"))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sinkhorn", {}, "`method='sinkhorn'` is not known. Pass one of 'ot', 'unbalanced'"),
        ("ot", {"fraction": 0.5}, "'fraction' cannot be set for `method='ot'`. Its options are 'epsilon', 'cost'"),
        ("ot", {"epsilon": -1}, "`epsilon=-1` must be a finite number above zero or 'auto'"),
        ("ot", {"epsilon": "small"}, "`epsilon='small'` must be a finite number above zero or 'auto'"),
        ("ot", {"tolerance": True}, "`tolerance=True` must be a finite number above zero"),
        ("ot", {"cost": "cosine"}, "`cost='cosine'` is not known"),
        ("ot", {"epsilon": 0.1, "epsilon_absolute": 1.0}, "Pass one of them"),
        ("ot", {"cost": "posterior", "epsilon": 0.1}, "brings its own ε"),
        ("ot", {"max_iterations": 2.5}, "`max_iterations=2.5` must be a whole number"),
        ("partial", {"fraction": 1.5}, "`fraction=1.5` must be a finite number above zero and at most one"),
        ("unbalanced", {"relaxation": (1.0, 0.0)}, "must be a finite number above zero"),
    ],
)
def test_bad_options(method, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011, messages hold characters of patterns
        as_matcher(method, options)
    assert message in str(error.value)


def test_objects():
    def mine(source, target):
        raise NotImplementedError

    assert as_matcher(mine, {}) is mine
    with pytest.raises(TypeError, match="`method` is int"):
        as_matcher(3, {})
    with pytest.raises(ValueError, match="'epsilon' would be ignored"):
        as_matcher(mine, {"epsilon": np.float64(1)})
