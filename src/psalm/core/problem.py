"""A block's scores as the compiled tiles want them, and the step that its column potentials should take."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

import numpy as np

from psalm.core.compiled import compiled
from psalm.core.tiles import EUCLIDEAN, LOG2E, SQEUCLIDEAN

_F = np.float32
_PADDING = _F(-1e30)
_TINY, _SMALL, _LINEAR = 1e-300, 1e-30, 1e-4
_ROUNDING, _NOTHING = 2.0**-50, 1e-100
_compiled = compiled(reordered=True)


@_compiled
def frame(x, y):
    """Centre (d,) of both sides together, unit of length, and what to multiply centred scores by for it.

    The unit is a power of two near the largest centred score, so that float32 holds squares of scores of any size. The
    factor is 0 where scores differ by no more than they were rounded by: these differences have no meaning, and ε
    relative to them would be none.
    """
    n, m, d = len(x), len(y), x.shape[1]
    centre, largest, spread = np.empty(d), 0.0, 0.0
    for k in range(d):
        reference, middle = x[0, k], 0.0  # equal numbers are to leave exactly nothing
        for i in range(n):
            middle += (x[i, k] - reference) / (2 * n)
        for j in range(m):
            middle += (y[j, k] - reference) / (2 * m)
        centre[k] = reference + middle
        for i in range(n):
            largest, spread = max(largest, abs(x[i, k])), max(spread, abs(x[i, k] - centre[k]))
        for j in range(m):
            largest, spread = max(largest, abs(y[j, k])), max(spread, abs(y[j, k] - centre[k]))
    if spread <= max(_ROUNDING * largest, _NOTHING):
        return centre, 1.0, 0.0
    unit = 2.0 ** np.floor(np.log2(spread))
    return centre, unit, 1.0 / unit


@_compiled
def prepare(x, y, width):
    """Centre both sides together, see :func:`frame`.

    The plan does not change, and products of centred scores are small, so float32 keeps more of them.

    Returns
    -------
    x (n, d), y in chunks (n_chunks, d, width), squared norms of both in float64, and the unit of length.
    """
    n, m, d = len(x), len(y), x.shape[1]
    n_chunks = -(-m // width)
    first, chunks = np.empty((n, d), np.float32), np.zeros((n_chunks, d, width), np.float32)
    norms_x, norms_y = np.zeros(n), np.zeros((n_chunks, width))
    centre, unit, factor = frame(x, y)
    for k in range(d):
        for i in range(n):
            value = (x[i, k] - centre[k]) * factor
            first[i, k] = value
            norms_x[i] += value * value
        for j in range(m):
            value = (y[j, k] - centre[k]) * factor
            chunks[j // width, k, j % width] = value
            norms_y[j // width, j % width] += value * value
    return first, chunks, norms_x, norms_y, unit


@_compiled
def unit_of_cost(kind, unit):
    """Cost of a distance of one unit of length."""
    return unit if kind == EUCLIDEAN else unit * unit


@_compiled
def at_epsilon(kind, prepared, epsilon):
    """The arrays that :mod:`psalm.core.tiles` calls ``problem``, and the dressing (n_chunks, width) of the columns."""
    x, chunks, norms_x, norms_y, unit = prepared
    scale = LOG2E * unit_of_cost(kind, unit) / epsilon
    scaled, narrow_x, narrow_y = x, np.empty(norms_x.shape, np.float32), np.empty(norms_y.shape, np.float32)
    dressing_x, dressing_y = np.zeros(norms_x.shape), np.zeros(norms_y.shape)
    for i in range(len(x)):
        narrow_x[i] = norms_x[i]
    for c in range(len(norms_y)):
        for j in range(norms_y.shape[1]):
            narrow_y[c, j] = norms_y[c, j]
    if kind == SQEUCLIDEAN:
        scaled = np.empty(x.shape, np.float32)
        for i in range(len(x)):
            dressing_x[i] = -scale * norms_x[i]
            for k in range(x.shape[1]):
                scaled[i, k] = _F(2 * scale) * x[i, k]
        for c in range(len(norms_y)):
            for j in range(norms_y.shape[1]):
                dressing_y[c, j] = -scale * norms_y[c, j]
    return (kind, scaled, chunks, narrow_x, narrow_y, _F(scale), dressing_x), dressing_y


@_compiled
def mean_square(prepared, n_columns):
    """Mean squared Euclidean cost, without a pass over pairs."""
    x, chunks, norms_x, norms_y, unit = prepared
    n, total = len(x), 0.0
    for i in range(n):
        total += norms_x[i] / n
    for c in range(len(norms_y)):
        for j in range(norms_y.shape[1]):
            total += norms_y[c, j] / n_columns
    for k in range(x.shape[1]):
        rows, columns = 0.0, 0.0
        for i in range(n):
            rows += x[i, k]
        for c in range(len(chunks)):
            for j in range(chunks.shape[2]):
                columns += chunks[c, k, j]
        total -= 2 * (rows / n) * (columns / n_columns)
    return total * unit * unit


@_compiled
def columns(state_g, n_columns, dressing):
    """Column potentials for the tiles, (2, n_chunks, width): base 2, dressed, and the factor that rounding took."""
    n_chunks, width = dressing.shape
    g = np.empty((2, n_chunks, width), np.float32)
    for j in range(n_columns, n_chunks * width):
        g[0, j // width, j % width], g[1, j // width, j % width] = _PADDING, _F(1.0)
    for j in range(n_columns):
        exact = state_g[j] * LOG2E + dressing[j // width, j % width]
        rounded = _F(exact)
        g[0, j // width, j % width] = rounded
        g[1, j // width, j % width] = 2.0 ** (exact - rounded)
    return g


@_compiled
def settle(g, f, log_mass, log_budget):
    """Under a budget: move what all rows lack to their bound from the columns to the rows.

    The plan does not change. Where less than all mass is transported some row is at its bound; without this an
    iteration that overshot would come back by a constant per step.
    """
    if np.isnan(log_budget):
        return
    lacking = np.inf
    for i in range(f.size):
        lacking = min(lacking, log_mass[i] - f[i])
    for i in range(f.size):
        f[i] += lacking
    for j in range(g.size):
        g[j] -= lacking


@_compiled
def plain_step(g, masses, log_mass, kappa, cap, log_budget):
    """Step (m,) from column potentials to the best ones for the present row potentials.

    Parameters
    ----------
    g
        (m,) potentials over ε.
    masses
        (m,) column masses of the present plan.
    log_mass
        (m,) logarithm of the wanted masses.
    kappa
        1: the marginal in full; below 1: relaxed.
    cap
        Largest potential besides the mass's own logarithm: ∞, or what the budget makes of it.
    log_budget
        Logarithm of the mass to transport; NaN where the marginals decide it.
    """
    step = np.empty(masses.size)
    if not np.isnan(log_budget):
        cap = _budgeted(g, masses, log_mass, log_budget)
    for j in range(masses.size):
        # g leaves the sum where the marginal is to be met: next to a large one the step would be rounded to 0
        step[j] = log_mass[j] + min(-kappa * np.log(max(masses[j], _TINY)) - (1 - kappa) * g[j], cap - g[j])
    return step


@_compiled
def _budgeted(g, masses, log_mass, log_budget):
    """Bound λ (logarithm) of the column potentials at which masses ``min(b_j, λ κ_j)`` sum to the budget.

    Columns that reach their mass are set aside, round by round, until λ of the others takes none beyond it.
    """
    budget, bound, peak = np.exp(log_budget), np.inf, -np.inf
    for j in range(masses.size):
        peak = max(peak, np.log(max(masses[j], _TINY)) - g[j])
    for _ in range(masses.size):
        taken, free = 0.0, 0.0
        for j in range(masses.size):
            log_sum = np.log(max(masses[j], _TINY)) - g[j]
            if -log_sum <= bound < np.inf:
                taken += np.exp(log_mass[j])
            else:
                free += np.exp(log_mass[j] + log_sum - peak)
        if not (free > 0 and taken < budget):
            break
        tighter = np.log(budget - taken) - np.log(free) - peak
        if bound < np.inf and tighter <= bound:
            break
        bound = tighter
    return bound


@_compiled
def change(step, masses):
    """L1 change of the column masses that a step asks for: the marginal error, where marginals are to be met."""
    total = 0.0
    for j in range(masses.size):
        if masses[j] < _SMALL:  # a column that underflowed is to get all of its mass
            total += abs(np.exp(np.log(max(masses[j], _TINY)) + step[j]) - masses[j])
        elif abs(step[j]) < _LINEAR:
            total += masses[j] * abs(step[j] + step[j] * step[j] / 2)
        else:
            total += masses[j] * abs(np.exp(step[j]) - 1.0)
    return total


@_compiled
def response(g, f, masses, rows, cells):
    """What a sweep asks for: the plain step of the column potentials, and the marginal error that it is to remove.

    Parameters
    ----------
    g, f
        (m,) and (n,) potentials; moved against each other under a budget, see :func:`settle`.
    masses
        (m,) column masses that the sweep left.
    rows
        (log_mass, …) of the rows.
    cells
        (log_mass, kappa, cap, log_budget) of the columns, see :func:`plain_step`.
    """
    log_b, kappa, cap, log_budget = cells
    settle(g, f, rows[0], log_budget)
    step = plain_step(g, masses, log_b, kappa, cap, log_budget)
    return step, change(step, masses)


def cost_kind(cost: str) -> int:
    """Number of a cost for the compiled code."""
    return {"sqeuclidean": SQEUCLIDEAN, "euclidean": EUCLIDEAN}[cost]
