"""One step of a safeguarded, Anderson-accelerated fixed-point iteration on the column potentials of a plan."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from psalm.core._types import FloatArray, IntArray  # noqa: TC001, numba reads the annotations
from psalm.core.compiled import compiled

DEPTH = 8
TRUSTED = 10.0
"""Largest move of a potential, in nats, by acceleration: where steps hardly change it would jump off any scale."""
PATIENCE = 30.0
"""How far the error may rise above its smallest: a large step often pays after a few more."""
STALLED = 32
"""Iterations without a new smallest error after which acceleration is given up for a while."""
LONGEST_PAUSE = 4
"""Plain steps after going back: 2, 4, 8 … 2 to this power. Alone they always converge."""
_RIDGE = 1e-10
_compiled = compiled(reordered=True)


class State(NamedTuple):
    """What the iteration remembers; arrays are written in place.

    Parameters
    ----------
    g
        (m,) current column potentials, natural logarithm.
    best_g, best_step
        (m,) potentials with the smallest error so far, and the plain step from them.
    last_g, last_step
        (m,) of the previous iteration.
    moves, changes
        (DEPTH, m) differences of successive g + step, and of successive steps.
    gram
        (DEPTH, DEPTH) weighted products of ``changes``.
    n_known
        (3,) how many differences are remembered, ever, negative while plain steps are taken; how often it went back;
        iterations since the smallest error.
    errors
        (1,) smallest error.
    """

    g: FloatArray
    best_g: FloatArray
    best_step: FloatArray
    last_g: FloatArray
    last_step: FloatArray
    moves: FloatArray
    changes: FloatArray
    gram: FloatArray
    n_known: IntArray
    errors: FloatArray


# Compiled code says its loops: an assignment between slices takes numba seconds to compile.
@_compiled
def copy(source, target):
    """Write one vector into another."""
    for j in range(target.size):
        target[j] = source[j]


@_compiled
def distance(first, second):
    """Largest difference between two vectors."""
    largest = 0.0
    for j in range(first.size):
        largest = max(largest, abs(first[j] - second[j]))
    return largest


class States(NamedTuple):
    """What the iterations of many blocks remember; block k is :func:`state_of` it.

    Parameters
    ----------
    first
        (n_blocks + 1,) where the columns of each block begin.
    vectors
        (5, n_columns) of :class:`State`, of all blocks.
    history
        (2, DEPTH · n_columns) moves and changes.
    gram, n_known, errors
        (n_blocks, …).
    """

    first: IntArray
    vectors: FloatArray
    history: FloatArray
    gram: FloatArray
    n_known: IntArray
    errors: FloatArray


@_compiled
def start_many(g, first):
    """States of iterations that begin at ``g``, whose blocks begin at ``first``."""
    n_blocks = first.size - 1
    vectors, history = np.zeros((5, g.size)), np.zeros((2, DEPTH * g.size))
    for j in range(g.size):  # an iteration that breaks down at once goes back to where it began
        vectors[0, j] = vectors[1, j] = g[j]
    n_known, errors = np.zeros((n_blocks, 3), np.int64), np.empty((n_blocks, 1))
    for k in range(n_blocks):
        n_known[k, 0], errors[k, 0] = -1, np.inf
    return States(first, vectors, history, np.zeros((n_blocks, DEPTH, DEPTH)), n_known, errors)


@_compiled
def state_of(states, k):
    """State of one block; it shares the arrays."""
    first, vectors, history, gram, n_known, errors = states
    i, j = first[k], first[k + 1]
    moves = history[0, DEPTH * i : DEPTH * j].reshape((DEPTH, j - i))
    changes = history[1, DEPTH * i : DEPTH * j].reshape((DEPTH, j - i))
    g, best_g, best_step = vectors[0, i:j], vectors[1, i:j], vectors[2, i:j]
    return State(g, best_g, best_step, vectors[3, i:j], vectors[4, i:j], moves, changes, gram[k], n_known[k], errors[k])


@_compiled
def start(g):
    """State of an iteration that begins at ``g``."""
    return state_of(start_many(g, np.array([0, g.size])), 0)


@_compiled
def forget(state):
    """Start the acceleration anew from the current potentials."""
    state.n_known[0] = -1
    state.errors[0] = np.inf


@_compiled
def advance(state, step, weight, error):
    """Move ``state.g`` by one accelerated step.

    Anderson, type II: the step is that combination of the last ones whose residual is smallest, weighted.
    Where the error is far above its smallest, or has not fallen below it for long, the iteration goes back there,
    forgets, and takes plain steps, which always lead on, twice as many each time.

    Parameters
    ----------
    state
        Written in place.
    step
        (m,) plain step from ``state.g``.
    weight
        (m,) of the residuals.
    error
        Marginal error at ``state.g``.
    """
    g = state.g
    worse = not error < np.inf or error > PATIENCE * state.errors[0] or state.n_known[2] > STALLED
    if state.n_known[0] >= -1 and worse:
        for j in range(g.size):
            g[j] = state.best_g[j] + state.best_step[j]
        forget(state)
        pause = 2 ** min(state.n_known[1], LONGEST_PAUSE)
        state.n_known[0] = -pause
        state.n_known[1] += 1
        return
    if error < state.errors[0] or (state.n_known[0] < -1 and error < np.inf):
        state.errors[0] = error
        copy(g, state.best_g)
        copy(step, state.best_step)
        state.n_known[2] = 0
    state.n_known[2] += 1
    if state.n_known[0] < -1:  # plain steps
        state.n_known[0] += 1
        for j in range(g.size):
            g[j] += step[j]
        return
    _remember(state, step, weight)
    known = min(state.n_known[0], DEPTH)
    for j in range(g.size):
        g[j] += step[j]
    if known > 0:
        _combine(state, step, weight, known)


@_compiled
def _product(weight, first, second):
    total = 0.0
    for j in range(weight.size):
        total += weight[j] * first[j] * second[j]
    return total


@_compiled
def _remember(state, step, weight):
    """Take this iteration's difference from the last one into the history."""
    count = state.n_known[0]
    if count >= 0:
        slot = count % DEPTH
        move, change = state.moves[slot], state.changes[slot]
        for j in range(step.size):
            change[j] = step[j] - state.last_step[j]
            move[j] = state.g[j] - state.last_g[j] + change[j]
        for k in range(min(count + 1, DEPTH)):
            state.gram[slot, k] = _product(weight, state.changes[k], change)
            state.gram[k, slot] = state.gram[slot, k]
    state.n_known[0] = count + 1
    copy(state.g, state.last_g)
    copy(step, state.last_step)


@_compiled
def _combine(state, step, weight, known):
    """Take from ``state.g`` what the history says the step will turn out to be too much."""
    gram, shares, trace = np.empty((known, known)), np.empty(known), 0.0
    for k in range(known):
        shares[k] = _product(weight, state.changes[k], step)
        trace += state.gram[k, k]
        for other in range(known):
            gram[k, other] = state.gram[k, other]
    if not trace > 0:
        return
    for k in range(known):
        gram[k, k] += _RIDGE * trace
    _solve(gram, shares)
    taken, largest = np.zeros(step.size), 0.0
    for k in range(known):
        move, share = state.moves[k], shares[k]
        for j in range(step.size):
            taken[j] += share * move[j]
    for j in range(step.size):
        largest = max(largest, abs(taken[j]))
    part = min(1.0, TRUSTED / largest) if largest > 0 else 0.0
    for j in range(step.size):
        state.g[j] -= part * taken[j]


@_compiled
def _solve(matrix, right):
    """Solve a small positive definite system in place, by Cholesky's factors; what rounding made singular counts 0."""
    n, lowest = right.size, 0.0
    for i in range(n):
        lowest = max(lowest, 1e-14 * matrix[i, i])
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, j] = np.sqrt(total) if total > lowest else np.inf
            else:
                matrix[i, j] = total / matrix[j, j]
        for k in range(i):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    for back in range(n):
        i = n - 1 - back
        for k in range(i + 1, n):
            right[i] -= matrix[k, i] * right[k]
        right[i] /= matrix[i, i]
