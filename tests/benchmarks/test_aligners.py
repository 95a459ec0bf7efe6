"""What baselines are given and return is scored as psalm's own matches are; and they find what there is to find."""

from __future__ import annotations

import numpy as np
import pytest

import psalm

pytestmark = [
    pytest.mark.filterwarnings("ignore:In .* treatments scores decide almost nothing"),
    pytest.mark.filterwarnings("ignore:.* cells transport less than 10%"),
]


@pytest.fixture(scope="module")
def scored():
    mdata = psalm.datasets.simulated(n_cells=240, n_treatments=4, paired=True, rng=0)
    psalm.pp.treatment(mdata, "perturbation")
    for name in mdata.mod:
        psalm.pp.represent(mdata, name, kind="features")
    psalm.tl.propensity(mdata, rng=0, n_repeats=2, progress=False)
    return mdata


@pytest.fixture
def problem(scored):
    from problem import problem_of
    from tasks import Task

    return problem_of(scored, Task("simulated", "a", "b", "perturbation"))


def figures(mdata):
    return psalm.tl.evaluate(mdata, n_bootstrap=0)[["foscttm", "r2", "trace"]]


def test_a_plan_from_outside_scores_as_the_same_match_of_psalm_does(scored, problem):
    from problem import Embedded, put

    from psalm.core.sinkhorn import SinkhornMatcher

    psalm.tl.match(scored, source="a", target="b", epsilon=0.1, progress=False)
    ours = figures(scored)
    by_scores = Embedded(lambda given, _: (given.source.scores, given.target.scores), SinkhornMatcher(0.1))
    put(scored, problem, by_scores(problem, 0))
    np.testing.assert_allclose(figures(scored), ours, atol=1e-5)


def test_the_treatment_mean_scores_chance(scored, problem):
    from aligners.simple import treatment_mean
    from problem import put

    put(scored, problem, treatment_mean(problem, 0))
    found = figures(scored).iloc[-1]
    assert found["foscttm"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(0, abs=1e-9)


def test_random_partners_are_one_each_and_worse_than_the_mean(scored, problem):
    from aligners.simple import random_partner
    from problem import put

    plans = random_partner(problem, 0)
    assert all((plan.sum(axis=1) == 1).all() and ((plan > 0).sum(axis=1) == 1).all() for plan in plans)
    put(scored, problem, plans)
    assert figures(scored).iloc[-1]["r2"] < -0.5


@pytest.mark.parametrize("wrong", ["shape", "nan", "negative", "empty"])
def test_what_is_no_plan_is_refused_and_not_scored(scored, problem, wrong):
    from aligners.simple import treatment_mean
    from problem import put

    plans = treatment_mean(problem, 0)
    plans[1] = {
        "shape": plans[1][:-1],
        "nan": np.full_like(plans[1], np.nan),
        "negative": -plans[1],
        "empty": np.zeros_like(plans[1]),
    }[wrong]
    with pytest.raises(ValueError, match="shapes" if wrong == "shape" else "not finite or negative, or no mass"):
        put(scored, problem, plans)


def rotated(problem, seed=0):
    """The same cells in both modalities, rotated and in another order, so that distances tell partners."""
    from dataclasses import replace

    rng = np.random.default_rng(seed)
    source = problem.source
    order = rng.permutation(len(source.codes))
    turn = np.linalg.qr(rng.normal(size=(source.features.shape[1],) * 2))[0]
    target = replace(problem.target, features=(source.features @ turn)[order], codes=source.codes[order])
    return replace(problem, target=target), order


@pytest.mark.parametrize("joint", [True, False])
def test_gromov_wasserstein_finds_the_partners_of_rotated_cells(problem, joint):
    from aligners.gromov import LabelledGromov

    turned, order = rotated(problem)
    plans = LabelledGromov(joint=joint, epsilon=1e-4)(turned, 0)
    assert sum(plan.sum() for plan in plans) == pytest.approx(1 if joint else len(plans))
    right = [
        (order[columns[plan.argmax(axis=1)]] == rows).mean()
        for plan, (rows, columns) in zip(plans, turned.blocks(), strict=True)
    ]
    assert np.mean(right) > 0.5  # by chance one in sixty


def test_the_linearised_cost_is_the_objectives(problem):
    from aligners.gromov import gradient, in_turn

    rng = np.random.default_rng(0)
    first, second = (rng.random((n, n)).astype(np.float32) for n in (5, 7))
    first, second = first + first.T, second + second.T
    blocks = in_turn([(np.arange(2), np.arange(3)), (np.arange(3), np.arange(4))])
    plans = [rng.random((2, 3)), rng.random((3, 4))]
    whole = np.zeros((5, 7))
    for plan, (rows, columns) in zip(plans, blocks, strict=True):
        whole[np.ix_(rows, columns)] = plan
    squared = (first[:, None, :, None] - second[None, :, None, :]) ** 2
    expected = np.einsum("ijkl,kl->ij", squared, whole)
    for cost, (rows, columns) in zip(gradient(first, second, plans, blocks), blocks, strict=True):
        np.testing.assert_allclose(cost, expected[np.ix_(rows, columns)], rtol=1e-4)


def test_scot_counts_steps_between_cells_and_finds_partners_of_the_same_cells(problem):
    from aligners.scot import Scot, steps

    line = np.column_stack([np.cos(np.linspace(0, 1, 9)), np.sin(np.linspace(0, 1, 9)), np.zeros(9)])
    found = steps(line, 3)
    assert found[0, -1] == found.max() == 1
    assert (np.diag(found) == 0).all()
    turned, order = rotated(problem)
    ranks = []
    for plan, (rows, columns) in zip(Scot()(turned, 0), turned.blocks(), strict=True):
        assert np.isfinite(plan).all()
        place = {cell: column for column, cell in enumerate(order[columns])}
        own = np.array([place[row] for row in rows])
        ranks.append((plan > plan[np.arange(len(rows)), own][:, None]).mean())
    assert np.mean(ranks) < 0.45


def test_the_papers_recipe_gives_plans_of_both_kinds(scored, problem):
    from aligners.paper import PaperRecipe
    from problem import check

    for method in ("ot", "snn"):
        check(problem, PaperRecipe(method)(problem, 0))
