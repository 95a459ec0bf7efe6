"""Dual potentials of one block or of many on the processor: sweeps over tiles, accelerated, in O(n + m) memory."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

import numpy as np

from psalm.core.anderson import advance, copy, distance, forget, start
from psalm.core.compiled import compiled
from psalm.core.problem import at_epsilon, columns, cost_kind, mean_square, prepare, response, unit_of_cost
from psalm.core.tiles import EUCLIDEAN, ROWS, chunk_width, cost_sum, keep, masses, sweep_kept

FAR = 40.0
"""A kept kernel is filled anew when a potential has moved by more than this: float32 spans e^±87."""
COARSEST, FACTOR = 0.1, 2.0
"""Small ε are reached from this multiple of the mean cost, each stage a factor smaller."""
LOOSE = 0.05
"""Marginal error at which a stage hands over to the next."""
_compiled = compiled()


@_compiled
def mean_cost(kind, prepared, n_columns, start_row, stop_row, work):
    """Share of some rows in the mean cost of a block."""
    if kind == EUCLIDEAN:
        unit = unit_of_cost(kind, prepared[4])
        problem, _ = at_epsilon(kind, prepared, unit * np.log2(np.e))
        return unit * cost_sum(problem, start_row, stop_row, work, n_columns) / (len(prepared[0]) * n_columns)
    return mean_square(prepared, n_columns) * (stop_row - start_row) / len(prepared[0])


@_compiled
def n_stages(epsilon, mean):
    """How many values of ε lead to the one wanted."""
    stages = 1
    while mean > 0 and epsilon * FACTOR**stages <= COARSEST * mean:
        stages += 1
    return stages


@_compiled
def relaxed(rho, mean, epsilon):
    """Exponent of a marginal that costs ``rho · mean`` per nat of its divergence; 1 where it is to be met."""
    return 1.0 if np.isinf(rho) else rho * mean / (rho * mean + epsilon)


@_compiled
def start_of_stage(g, log_b):
    """Column potentials for the next, smaller ε: the same ones in units of cost."""
    started = np.empty(g.size)
    for j in range(log_b.size):
        started[j] = g[j] * FACTOR - (FACTOR - 1) * log_b[j]
    return started


@_compiled
def room_for(n, m, width):
    """Numbers that the kernel of a block and a row of its tiles take."""
    return (n + ROWS) * -(-m // width) * width


@_compiled
def solve_kept(kind, x, y, log_a, log_b, settings, width, room):
    """Solve one small block in one thread with its kernel kept.

    Parameters
    ----------
    kind
        Cost, see :mod:`psalm.core.tiles`.
    x, y
        (n, d) and (m, d) float64.
    log_a, log_b
        (n,) and (m,) logarithms of the marginals.
    settings
        ε, whether it is relative to the mean cost, tolerance, most iterations, ρ of rows and of columns (relative to
        the mean cost), cap of the potentials, logarithm of the mass to transport: see
        :class:`psalm.core.entropic.Entropic`.
    width
        Columns of a tile.
    room
        float32 vector for the kernel and a row of tiles, at least :func:`room_for` long. Fresh memory is slow.

    Returns
    -------
    Row and column potentials over ε (natural logarithm), ε, mean cost, iterations and marginal error.
    """
    epsilon, relative, tolerance, max_iterations, rho_a, rho_b, cap, log_budget = settings
    n, m = len(x), len(y)
    prepared = prepare(x, y, width)
    n_chunks = len(prepared[1])
    size = n * n_chunks * width
    kernel = room[:size].reshape((n, n_chunks * width))
    work = room[size : size + n_chunks * ROWS * width].reshape((n_chunks, ROWS, width))
    mean = mean_cost(kind, prepared, m, 0, n, work)
    if relative:
        epsilon = epsilon * mean if mean > 0 else 1.0
    state, f, error, iterations = start(log_b), np.zeros(n), np.inf, 0
    stages = min(n_stages(epsilon, mean), max_iterations)
    for stage in range(stages):
        now = epsilon * FACTOR ** (stages - 1 - stage)
        last = stage == stages - 1
        rows = (log_a, relaxed(rho_a, mean, now), cap)
        cells = (log_b, relaxed(rho_b, mean, now), cap, log_budget)
        if stage > 0:
            copy(start_of_stage(state.g, log_b), state.g)
        goal = tolerance if last else max(LOOSE, tolerance)
        bound = max_iterations - (stages - 1 - stage) - iterations
        used, error = _to_goal(at_epsilon(kind, prepared, now), rows, cells, state, f, (goal, bound), (kernel, work))
        iterations += used
    return f, state.g, epsilon, mean, iterations, error


@_compiled
def _to_goal(problem_and_dressing, rows, cells, state, f, ends, buffers):
    """Sweep at one ε until the error or the number of sweeps ends it; returns both. Writes ``state`` and ``f``."""
    problem, dressing = problem_and_dressing
    log_b = cells[0]
    kernel, work = buffers
    n, m = f.size, log_b.size
    weight, reference, shifts = np.empty(m), np.empty(m), np.empty(n)
    found, v = np.empty(m), np.ones(kernel.shape[1], np.float32)
    for j in range(m):
        weight[j] = np.exp(log_b[j])
    forget(state)
    far, error, used = True, np.inf, 0
    while True:
        if far:
            copy(state.g, reference)
            keep(problem, columns(reference, m, dressing), shifts, 0, n, work, kernel)
        for j in range(m):
            v[j] = np.exp(state.g[j] - reference[j])
        sums = np.zeros(kernel.shape[1])
        sweep_kept(kernel, shifts, rows, v, f, 0, n, sums)
        for j in range(m):
            found[j] = sums[j] * v[j]
        step, error = response(state.g, f, found, rows, cells)
        used += 1
        if error <= ends[0] or used >= ends[1]:
            return used, error
        advance(state, step, weight, error)
        far = distance(state.g, reference) > FAR


@_compiled
def solve_many(kind, x, y, log_a, log_b, first_x, first_y, epsilons, settings, width):
    """:func:`solve_kept` for many blocks, whose cells follow one another.

    Parameters
    ----------
    x, y, log_a, log_b
        Of all blocks.
    first_x, first_y
        (n_blocks + 1,) where each block begins.
    epsilons, width
        (n_blocks,).
    settings
        Without ε, which differs by block.

    Returns
    -------
    Row and column potentials over ε of all blocks, and (n_blocks, 4): ε, mean cost, iterations, marginal error.
    """
    f, g = np.empty(len(x)), np.empty(len(y))
    outcome = np.empty((len(width), 4))
    largest = 0
    for k in range(len(width)):
        largest = max(largest, room_for(first_x[k + 1] - first_x[k], first_y[k + 1] - first_y[k], width[k]))
    room = np.empty(largest, np.float32)
    for k in range(len(width)):
        i, j, i_end, j_end = first_x[k], first_y[k], first_x[k + 1], first_y[k + 1]
        own = (epsilons[k], *settings)
        found = solve_kept(kind, x[i:i_end], y[j:j_end], log_a[i:i_end], log_b[j:j_end], own, width[k], room)
        copy(found[0], f[i:i_end])
        copy(found[1], g[j:j_end])
        outcome[k, 0], outcome[k, 1], outcome[k, 2], outcome[k, 3] = found[2], found[3], found[4], found[5]
    return f, g, outcome


def row_maker(plan):
    """Rows of an entropic plan with float32 arithmetic: a function of a slice of source cells."""
    width = chunk_width(plan.shape[1], plan.target_scores.shape[1])
    prepared = prepare(plan.source_scores.astype(np.float64), plan.target_scores.astype(np.float64), width)
    problem, dressing = at_epsilon(cost_kind(plan.cost), prepared, plan.epsilon)
    g = columns(plan.target_potential / plan.epsilon, plan.shape[1], dressing)
    f = plan.source_potential / plan.epsilon

    def rows(tile: slice):
        start_row, stop_row, _ = tile.indices(plan.shape[0])
        out = np.empty((stop_row - start_row, plan.shape[1]), np.float32)
        work = np.empty((len(prepared[1]), ROWS, width), np.float32)
        masses(problem, g, f, start_row, stop_row, work, out)
        return out

    return rows
