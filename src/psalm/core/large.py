"""Dual potentials of one large block: strips of rows over threads, the kernel kept where memory allows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core import tiles
from psalm.core.anderson import State, advance, forget, start
from psalm.core.coarse import Aggregate, grouped
from psalm.core.precise import SMALL_TOLERANCE
from psalm.core.problem import at_epsilon, columns, cost_kind, prepare, response
from psalm.core.solver import FACTOR, FAR, LOOSE, mean_cost, n_stages, relaxed, start_of_stage
from psalm.core.threads import Strips

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.entropic import Entropic, Tick

SOME_ROWS, FEWEST_STEPS, ROUGH, LITTLE_MB = 2048, 4, 0.03, 64.0
"""A block whose kernel is not kept begins from so many rows, where that is a quarter of them at most, to that error."""
STUCK = 100
"""Sweeps without a new smallest error."""
SOONER = 10.0
"""Where groups are corrected, only an ε so many times smaller needs stages."""


def solve_large(
    entropic: Entropic,
    scores: tuple[FloatArray, FloatArray],
    log_mass: tuple[FloatArray, FloatArray],
    n_threads: int,
    tick: Tick,
) -> tuple[FloatArray, FloatArray, float, float, int, float]:
    """:func:`psalm.core.solver.solve_kept` for one block, in strips: the same arguments and results."""
    epsilon, relative, tolerance, max_iterations, rho_a, rho_b, cap, log_budget = entropic.settings
    order, edges = grouped(scores[1])
    x, y, log_a, log_b = scores[0], scores[1][order], log_mass[0], log_mass[1][order]
    n, m = len(x), len(y)
    kind, width = cost_kind(entropic.cost), tiles.chunk_width(m, x.shape[1])
    prepared = prepare(x, y, width)
    with Strips(n, (len(prepared[1]), width), n_threads) as strips:
        mean = sum(strips.run(lambda _, i, j, work: mean_cost(kind, prepared, m, i, j, work)))
        if relative:
            epsilon = epsilon * mean if mean > 0 else 1.0
        kept = 4 * n * len(prepared[1]) * width <= entropic.memory_mb * 2**20
        first = log_b if kept else _from_some_rows(entropic, (x, y), (log_a, log_b), n_threads)
        state, f, error, iterations = start(first), np.zeros(n), np.inf, 0
        grouping = edges if _balanced(entropic) else None
        stages = n_stages(epsilon * (SOONER if grouping is not None else 1.0), mean) if first is log_b else 1
        stages = min(stages, max_iterations)
        kernel = np.empty((n, len(prepared[1]) * width), np.float32) if kept else None
        for stage in range(stages):
            now, last = epsilon * FACTOR ** (stages - 1 - stage), stage == stages - 1
            rule = (log_a, relaxed(rho_a, mean, now), cap)
            sweeps = _Sweeps(strips, at_epsilon(kind, prepared, now), rule, kernel, m)
            if stage > 0:
                state.g[:] = start_of_stage(state.g, log_b)
            cells = (log_b, relaxed(rho_b, mean, now), cap, log_budget)
            goal, bound = tolerance if last else max(LOOSE, tolerance), max_iterations - stages + stage + 1 - iterations
            ends = (goal, bound, partial(_tick_stage, tick, stage, stages))
            used, error = _to_goal(sweeps, cells, state, f, ends, grouping)
            iterations += used
    found = np.empty(m)
    found[order] = state.g
    return f, found, epsilon, mean, iterations, error


def _from_some_rows(
    entropic: Entropic,
    scores: tuple[FloatArray, FloatArray],
    log_mass: tuple[FloatArray, FloatArray],
    n_threads: int,
) -> FloatArray:
    """Column potentials to begin with, from every so many rows: most of the way for a fraction of the pairs."""
    step = len(scores[0]) // SOME_ROWS
    if step < FEWEST_STEPS:
        return log_mass[1]
    log_some = log_mass[0][::step] - np.log(np.exp(log_mass[0][::step]).sum())
    some = replace(entropic, tolerance=max(ROUGH, entropic.tolerance), memory_mb=min(LITTLE_MB, entropic.memory_mb))
    inner = (scores[0][::step], scores[1]), (log_some, log_mass[1])
    return solve_large(some, *inner, n_threads, lambda _: None)[1]


def _to_goal(
    sweeps: _Sweeps,
    cells: tuple[Any, ...],
    state: State,
    f: FloatArray,
    ends: tuple[float, int, Tick],
    edges: IntArray | None,
) -> tuple[int, float]:
    """Sweep at one ε until the error or the number of sweeps ends it; returns both. Writes ``state`` and ``f``.

    At a small tolerance it also ends where float32 lets the error fall no further: float64 goes on from there.
    """
    goal, bound, tick = ends
    smallest, last_fall = np.inf, 0
    log_a, log_b = sweeps.rule[0], cells[0]
    weight = np.exp(log_b)
    forget(state)
    aggregate, backs = None if edges is None else Aggregate(edges, log_a, log_b), state.n_known[1]
    for used in count(1):
        masses = sweeps(state.g, f)
        step, error = response(state.g, f, masses, sweeps.rule, cells)
        tick(_nearness(error, goal))
        if error < smallest:
            smallest, last_fall = error, used
        if error <= goal or used >= bound or (goal < SMALL_TOLERANCE and used - last_fall > STUCK):
            break
        if aggregate is not None and aggregate.pays(steady=backs == state.n_known[1]):
            step = aggregate(step, masses, error, lambda rows, edges: sweeps.group_sums(rows, edges, f))
        elif aggregate is not None:
            aggregate = None
            forget(state)
        advance(state, step, weight, error)
    return used, error


def _balanced(entropic: Entropic) -> bool:
    """Whether both marginals are to be met: what the correction by groups is for."""
    return entropic.fraction is None and bool(np.isinf(entropic.relaxation).all())


def _tick_stage(tick: Tick, stage: int, stages: int, near: float) -> None:
    tick((stage + near) / stages)


def _nearness(error: float, goal: float) -> float:
    """How far an error has come from 1 to its goal, by orders of magnitude."""
    return float(np.clip(np.log(max(error, goal)) / np.log(min(goal, 0.5)), 0.0, 1.0))


class _Sweeps:
    """Sweeps over one block at one ε: writes the best row potentials, returns the column masses that they leave."""

    def __init__(
        self, strips: Strips, problem: tuple[Any, FloatArray], rule: tuple[Any, ...], kernel: Any, n_columns: int
    ) -> None:
        self.strips, self.rule, self.kernel, self.n_columns = strips, rule, kernel, n_columns
        self.problem, self.dressing = problem
        self.shifts = np.empty(len(rule[0]))
        self.reference: Any = None
        self.v: Any = None
        self.factors: Any = None

    def __call__(self, g: FloatArray, f: FloatArray) -> FloatArray:
        """Column masses for column potentials g."""
        moved = self.reference is None or bool(np.abs(g - self.reference).max() > FAR)
        if moved:
            self.reference = g.copy()
        return self._recomputed(g, f, moved) if self.kernel is None else self._kept(g, f, moved)

    def _recomputed(self, g: FloatArray, f: FloatArray, moved: bool) -> FloatArray:  # noqa: FBT001
        factors = self.factors = columns(g, self.n_columns, self.dressing)
        sums = np.zeros((len(self.strips.strips), *self.dressing.shape))

        def one(strip: int, start_row: int, stop_row: int, work: FloatArray) -> None:
            tiles.sweep(self.problem, self.rule, factors, f, moved, start_row, stop_row, work, sums[strip])

        self.strips.run(one)
        return np.asarray(sums.sum(axis=0).ravel()[: self.n_columns])

    def _kept(self, g: FloatArray, f: FloatArray, moved: bool) -> FloatArray:  # noqa: FBT001
        factors = columns(g, self.n_columns, self.dressing) if moved else None
        v = self.v = np.ones(self.kernel.shape[1], np.float32)
        since = g - self.reference
        v[: self.n_columns] = np.exp(since)
        sums = np.zeros((len(self.strips.strips), self.kernel.shape[1]))

        def one(strip: int, start_row: int, stop_row: int, work: FloatArray) -> None:
            if moved:
                tiles.keep(self.problem, factors, self.shifts, start_row, stop_row, work, self.kernel)
            tiles.sweep_kept(self.kernel, self.shifts, self.rule, v, f, start_row, stop_row, sums[strip])

        self.strips.run(one)
        return np.asarray(sums.sum(axis=0)[: self.n_columns] * v[: self.n_columns])

    def group_sums(self, rows: IntArray, edges: IntArray, f: FloatArray) -> FloatArray:
        """Mass of some rows in groups of columns (n_rows, n_groups), as of the last sweep, up to a factor per row."""
        sums = np.empty((len(rows), len(edges) - 1))
        if self.kernel is not None:
            tiles.group_sums_kept(self.kernel, self.v, rows, edges, sums)
            return sums
        kind, x, chunks, norms_x, norms_y, scale, dressing = self.problem
        some = (kind, x[rows], chunks, norms_x[rows], norms_y, scale, dressing[rows])
        out = np.empty((tiles.ROWS, self.n_columns), np.float32)
        work = np.empty((len(chunks), tiles.ROWS, chunks.shape[2]), np.float32)
        for first in range(0, len(rows), tiles.ROWS):
            stop = min(first + tiles.ROWS, len(rows))
            tiles.masses(some, self.factors, f[rows], first, stop, work, out[: stop - first])
            tiles.group_sums(out[: stop - first], edges, sums[first:stop])
        return sums
