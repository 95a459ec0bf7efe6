import numpy as np
import pytest

from psalm.core.anderson import TRUSTED, advance, start, start_many, state_of
from psalm.core.problem import response


def solve(matrix, accelerate, *, n_steps):
    """Iterate ``g ← matrix g + 1`` and return the distances from the fixed point."""
    fixed = np.linalg.solve(np.eye(len(matrix)) - matrix, np.ones(len(matrix)))
    state, errors = start(np.zeros(len(matrix))), []
    for _ in range(n_steps):
        step = matrix @ state.g + 1 - state.g
        errors.append(np.abs(state.g - fixed).max())
        if accelerate:
            advance(state, step, np.ones(len(matrix)), np.abs(step).sum())
        else:
            state.g[:] += step
    return errors


def test_a_linear_iteration_ends_after_as_many_steps_as_dimensions():
    matrix = np.diag([0.9, 0.5, 0.8, 0.2])
    assert solve(matrix, accelerate=True, n_steps=12)[-1] < 1e-6
    assert solve(matrix, accelerate=False, n_steps=12)[-1] > 1


def test_an_iterate_that_got_worse_is_left_behind():
    state = start(np.zeros(3))
    advance(state, np.ones(3), np.ones(3), 1.0)
    best = state.best_g + state.best_step
    advance(state, np.full(3, 50.0), np.ones(3), 50.0)
    np.testing.assert_array_equal(state.g, best)
    assert state.n_known[0] == -1


def test_no_jump_off_the_scale():
    """Steps that hardly change say that the answer is far away, but not how far."""
    state = start(np.zeros(2))
    advance(state, np.array([1.0, 0.0]), np.ones(2), 1.0)
    advance(state, np.array([1.0 - 1e-9, 0.0]), np.ones(2), 1.0)
    assert np.abs(state.g).max() <= 2 + TRUSTED


@pytest.mark.parametrize("error", [np.inf, np.nan])
def test_an_iterate_without_an_error_is_left_behind(error):
    """The first of all goes back to where it began."""
    state = start(np.arange(3.0))
    advance(state, np.full(3, np.nan), np.ones(3), error)
    np.testing.assert_array_equal(state.g, np.arange(3.0))


def test_an_underflowed_column_is_no_solution_however_large_its_potential():
    """Next to a potential of 1e20 the step that it needs would be rounded to 0."""
    wanted = np.full(2, np.log(0.5))
    found = np.array([0.0, 1.0])
    step, error = response(np.array([1e20, 0.0]), np.zeros(3), found, (wanted,), (wanted, 1.0, np.inf, np.nan))
    assert step[0] > 1
    assert error == pytest.approx(1)


def test_many_states_are_each_their_own():
    """Independent: one alone."""
    first, starts = np.array([0, 3, 5]), np.arange(5.0)
    states, rng = start_many(starts, first), np.random.default_rng(0)
    alone = [start(starts[:3]), start(starts[3:])]
    for _ in range(12):
        for k, own in enumerate(alone):
            step = rng.normal(size=own.g.size)
            error = float(np.abs(step).sum())
            advance(own, step, np.ones(own.g.size), error)
            advance(state_of(states, k), step, np.ones(own.g.size), error)
    np.testing.assert_array_equal(states.vectors[0], np.concatenate([own.g for own in alone]))
