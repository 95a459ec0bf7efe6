"""Compiled arithmetic of entropic transport: tiles of ``exp(−C/ε + f + g)`` from scores, never a whole matrix.

A tile costs one thin matrix product and one exponential. Numbers are float32 inside a tile and float64 across tiles.
Exponents are kept in base 2. Functions release the interpreter lock and work on a range of rows, so that threads can
share a block and its result does not depend on how many there are.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
from __future__ import annotations

import numba
import numpy as np

from psalm.core.compiled import REORDERED, compiled

SQEUCLIDEAN, EUCLIDEAN = 0, 1
ROWS = 32
"""Rows of a tile."""
WIDEST, NARROWEST, UNPACKED = 512, 64, 1_000_000
"""Columns of a tile, and multiplications up to which common BLAS libraries do not rearrange their input first."""
LOG2E = float(np.log2(np.e))

_F = np.float32
_LOWEST = _F(-126.0)  # 2^-126 is the smallest normal float32
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (_F(np.log(2.0) ** k / f) for k, f in enumerate((1, 1, 2, 6, 24, 120, 720)))
_NEAR = _F(0.05)
_compiled = compiled(reordered=True)
_inlined = numba.njit(inline="always", error_model="numpy", fastmath=REORDERED)


def chunk_width(n_columns: int, dimension: int) -> int:
    """Columns of a tile."""
    width = WIDEST
    while width > NARROWEST and ROWS * width * dimension > UNPACKED:
        width //= 2
    return min(width, -(-n_columns // 16) * 16)


@_inlined
def _exp2(z):
    """2^z in float32 to 2 units in the last place; no branch, so that loops over it vectorise."""
    z = max(z, _LOWEST)
    n = np.rint(z)
    r = z - n
    p = (((((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r + _C1) * r + _C0
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def _near_pairs(out, square):
    """Pairs of a row whose squared distance is lost in the rounding of ``|x|² + |y|² − 2xy``."""
    count = 0
    for j in range(out.size):
        count += out[j] < square
    return count


@_compiled
def _distances(out, x, chunk, norm, norms, scale):
    """Turn a row of products into ``−scale · |x − y|``."""
    two, zero = _F(2.0), _F(0.0)
    for j in range(out.size):
        out[j] = max(norm + norms[j] - two * out[j], zero)
    if _near_pairs(out, _NEAR * norm) > 0:
        for j in range(out.size):
            if out[j] < _NEAR * norm:
                total = zero
                for k in range(x.size):
                    difference = x[k] - chunk[k, j]
                    total += difference * difference
                out[j] = total
    for j in range(out.size):
        out[j] = -scale * np.sqrt(out[j])


@_compiled
def tile(kind, x, chunk, norms_x, norms_y, scale, out):
    """Exponents of a tile without potentials, (rows, width), base 2.

    Euclidean: ``−scale · |x − y|``. Squared: ``x · y``, x being multiplied by 2 scale; the norms belong to potentials.
    """
    np.dot(x, chunk, out)
    if kind == EUCLIDEAN:
        for r in range(len(x)):
            _distances(out[r], x[r], chunk, norms_x[r], norms_y, scale)


@_compiled
def _exponentials(row, shift, g, factor):
    """Replace a row of exponents e by ``factor · 2^(e + shift + g)``; returns the sum.

    ``factor`` is what float32 rounds off a large ``g``, so that potentials can move by less than that.
    """
    total = _F(0.0)
    for j in range(row.size):
        value = factor[j] * _exp2(row[j] + shift + g[j])
        row[j] = value
        total += value
    return total


@_compiled
def _maximum(row, g, lanes):
    """Largest sum of two rows, whose length is a multiple of 16: a maximum of lanes vectorises, one number does not."""
    for k in range(lanes.size):
        lanes[k] = row[k] + g[k]
    for start in range(lanes.size, row.size, lanes.size):
        for k in range(lanes.size):
            lanes[k] = max(lanes[k], row[start + k] + g[start + k])
    peak = lanes[0]
    for k in range(lanes.size):
        peak = max(peak, lanes[k])
    return peak


@_compiled
def _weighted_sum(row, v):
    total = _F(0.0)
    for j in range(row.size):
        total += row[j] * v[j]
    return total


@_compiled
def _add_four(part, a, b, c, d, ua, ub, uc, ud):
    for j in range(part.size):
        part[j] += ua * a[j] + ub * b[j] + uc * c[j] + ud * d[j]


@_compiled
def _add_one(part, a, ua):
    for j in range(part.size):
        part[j] += ua * a[j]


@_compiled
def _add_rows(sums, part, rows, row, n, column, u):
    """``sums[j] += Σ_r u_r rows[row + r, column + j]`` over n rows, in float32 (``part``) within the tile."""
    stop = column + sums.size
    part = part[: sums.size]
    for j in range(part.size):
        part[j] = _F(0.0)
    r = 0
    while r + 4 <= n:
        i = row + r
        _add_four(
            part,
            rows[i, column:stop],
            rows[i + 1, column:stop],
            rows[i + 2, column:stop],
            rows[i + 3, column:stop],
            u[r],
            u[r + 1],
            u[r + 2],
            u[r + 3],
        )
        r += 4
    while r < n:
        _add_one(part, rows[row + r, column:stop], u[r])
        r += 1
    for j in range(sums.size):
        sums[j] += part[j]


@_inlined
def _row_potential(log_mass, log_sum, kappa, cap):
    """Best potential of a row: its marginal in full, relaxed (kappa < 1), or at most (cap)."""
    return log_mass + min(-kappa * log_sum, cap)


@_compiled
def _from_peaks(problem, g, start, n, work, shifts, totals):
    """Exponentials of some rows relative to each row's maximum, whose negative goes to ``shifts``."""
    kind, x, chunks, norms_x, norms_y, scale, _ = problem
    lanes = np.empty(16, np.float32)
    for r in range(n):
        shifts[r] = np.inf
    for k in range(len(chunks)):
        stop = start + n
        tile(kind, x[start:stop], chunks[k], norms_x[start:stop], norms_y[k], scale, work[k, :n])
        for r in range(n):
            shifts[r] = min(shifts[r], -_maximum(work[k, r], g[0, k], lanes))
    for r in range(n):
        for k in range(len(chunks)):
            totals[r] += _exponentials(work[k, r], _F(shifts[r]), g[0, k], g[1, k])


@_compiled
def sweep(problem, rule, g, f, first, start, stop, work, sums):
    """Best potentials of some rows for given column potentials, and what they add to the column masses.

    Parameters
    ----------
    problem
        (kind, x, chunks, norms_x, norms_y, scale, dressing_x): arrays of a block, see :mod:`psalm.core.block`.
    rule
        (log_mass, kappa, cap) of the rows.
    g
        (2, n_chunks, width) float32 column potentials, base 2, with the dressing of the columns; and the factor that
        rounding took from them.
    f
        (n,) natural logarithm; in: near the answer, unless ``first``; out: the answer.
    first
        Find each row's maximum before exponentials; else they are taken relative to the incoming ``f``.
    start, stop
        Rows.
    work
        (n_chunks, ROWS, width) float32 scratch.
    sums
        (n_chunks, width) float64, added to.
    """
    kind, x, chunks, norms_x, norms_y, scale, dressing = problem
    log_mass, kappa, cap = rule
    n_chunks = len(chunks)
    u, part = np.empty(ROWS, np.float32), np.empty(512, np.float32)
    for i in range(start, stop, ROWS):
        n = min(ROWS, stop - i)
        totals = np.zeros(n)
        shifts = np.empty(n)
        if first:
            _from_peaks(problem, g, i, n, work, shifts, totals)
        else:
            for r in range(n):
                shifts[r] = f[i + r] * LOG2E + dressing[i + r]
            for k in range(n_chunks):
                tile(kind, x[i : i + n], chunks[k], norms_x[i : i + n], norms_y[k], scale, work[k, :n])
                for r in range(n):
                    totals[r] += _exponentials(work[k, r], _F(shifts[r]), g[0, k], g[1, k])
        for r in range(n):
            shift = (_F(shifts[r]) - dressing[i + r]) / LOG2E
            f[i + r] = _row_potential(log_mass[i + r], np.log(totals[r]) - shift, kappa, cap)
            u[r] = np.exp(f[i + r] - shift)
        for k in range(n_chunks):
            _add_rows(sums[k], part, work[k], 0, n, 0, u)


@_compiled
def keep(problem, g, shifts, start, stop, work, kernel):
    """Fill rows of a kept kernel (n, n_chunks · width): exponentials relative to each row's maximum.

    ``shifts`` (n,) receives the potential, natural logarithm, that each row is relative to.
    """
    dressing = problem[6]
    n_chunks, width = g.shape[1:]
    for i in range(start, stop, ROWS):
        n = min(ROWS, stop - i)
        found, totals = np.empty(n), np.zeros(n)
        _from_peaks(problem, g, i, n, work, found, totals)
        for r in range(n):
            shifts[i + r] = (_F(found[r]) - dressing[i + r]) / LOG2E
            for k in range(n_chunks):
                row, filled = kernel[i + r, k * width : (k + 1) * width], work[k, r]
                for j in range(width):
                    row[j] = filled[j]


@_compiled
def sweep_kept(kernel, shifts, rule, v, f, start, stop, sums):
    """:func:`sweep` over a kept kernel; ``v`` (width,) are column factors since it was filled, ``sums`` lack them."""
    log_mass, kappa, cap = rule
    width = kernel.shape[1]
    height = max(4, min(ROWS, 131_072 // width))
    u, part = np.empty(ROWS, np.float32), np.empty(512, np.float32)
    for i in range(start, stop, height):
        n = min(height, stop - i)
        for r in range(n):
            total = 0.0
            for j in range(0, width, 1024):
                total += _weighted_sum(kernel[i + r, j : j + 1024], v[j : j + 1024])
            log_sum = np.log(total) - shifts[i + r]
            f[i + r] = _row_potential(log_mass[i + r], log_sum, kappa, cap)
            met = kappa == 1.0 and cap == np.inf
            u[r] = np.exp(log_mass[i + r]) / total if met else np.exp(f[i + r] - shifts[i + r])
        for j in range(0, width, 512):
            _add_rows(sums[j : j + 512], part, kernel, i, n, j, u)


@_compiled
def group_sums_kept(kernel, v, rows, edges, sums):
    """Sums (n_rows, n_groups) of some rows of a kept kernel over groups of columns; ``v`` as in :func:`sweep_kept`."""
    for r in range(len(rows)):
        row = kernel[rows[r]]
        for k in range(len(edges) - 1):
            sums[r, k] = _weighted_sum(row[edges[k] : edges[k + 1]], v[edges[k] : edges[k + 1]])


@_compiled
def group_sums(rows, edges, sums):
    """Sums (n_rows, n_groups) of rows of a plan over groups of columns."""
    for r in range(len(rows)):
        for k in range(len(edges) - 1):
            total, part = _F(0.0), rows[r, edges[k] : edges[k + 1]]
            for j in range(part.size):
                total += part[j]
            sums[r, k] = total


@_compiled
def cost_sum(problem, start, stop, work, n_columns):
    """Sum of ``−exponents`` of some rows over the real columns."""
    kind, x, chunks, norms_x, norms_y, scale, _ = problem
    width = chunks.shape[2]
    total = 0.0
    for i in range(start, stop, ROWS):
        n = min(ROWS, stop - i)
        for k in range(len(chunks)):
            out = work[k, :n]
            tile(kind, x[i : i + n], chunks[k], norms_x[i : i + n], norms_y[k], scale, out)
            for r in range(n):
                row = out[r, : min(width, n_columns - k * width)]
                part = _F(0.0)
                for j in range(row.size):
                    part -= row[j]
                total += part
    return total


@_compiled
def masses(problem, g, f, start, stop, work, out):
    """Rows of the plan, (stop − start, n_columns) float32."""
    kind, x, chunks, norms_x, norms_y, scale, dressing = problem
    width, n_columns = chunks.shape[2], out.shape[1]
    for i in range(start, stop, ROWS):
        n = min(ROWS, stop - i)
        for k in range(len(chunks)):
            tile(kind, x[i : i + n], chunks[k], norms_x[i : i + n], norms_y[k], scale, work[k, :n])
            stop_column = min((k + 1) * width, n_columns)
            for r in range(n):
                _exponentials(work[k, r], _F(f[i + r] * LOG2E + dressing[i + r]), g[0, k], g[1, k])
                row, filled = out[i - start + r, k * width : stop_column], work[k, r]
                for j in range(row.size):
                    row[j] = filled[j]
