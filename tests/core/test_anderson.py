import numpy as np

from psalm.core.anderson import TRUSTED, advance, start


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
