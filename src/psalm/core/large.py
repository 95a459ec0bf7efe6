"""Dual potentials of one large block: strips of rows over threads, the kernel kept where memory allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm.core import tiles
from psalm.core.anderson import advance, forget, start
from psalm.core.problem import at_epsilon, change, columns, cost_kind, plain_step, prepare, settle
from psalm.core.solver import FACTOR, FAR, LOOSE, mean_cost, n_stages, relaxed, start_of_stage
from psalm.core.threads import Strips

if TYPE_CHECKING:
    from psalm.core._types import FloatArray
    from psalm.core.entropic import Entropic, Tick

SOME_ROWS, FEWEST_STEPS, ROUGH, LITTLE_MB = 2048, 4, 0.03, 64.0
"""A block whose kernel is not kept begins from so many rows, where that is a quarter of them at most, to that error."""


def solve_large(
    entropic: Entropic,
    scores: tuple[FloatArray, FloatArray],
    log_mass: tuple[FloatArray, FloatArray],
    n_threads: int,
    tick: Tick,
) -> tuple[FloatArray, FloatArray, float, float, int, float]:
    """:func:`psalm.core.solver.solve_kept` for one block, in strips: the same arguments and results."""
    epsilon, relative, tolerance, max_iterations, rho_a, rho_b, cap, log_budget = entropic.settings
    (x, y), (log_a, log_b) = scores, log_mass
    n, m = len(x), len(y)
    kind, width = cost_kind(entropic.cost), tiles.chunk_width(m, x.shape[1])
    prepared = prepare(x, y, width)
    with Strips(n, (len(prepared[1]), width), n_threads) as strips:
        mean = sum(strips.run(lambda _, i, j, work: mean_cost(kind, prepared, m, i, j, work)))
        if relative:
            epsilon = epsilon * mean if mean > 0 else 1.0
        kept = 4 * n * len(prepared[1]) * width <= entropic.memory_mb * 2**20
        first = log_b if kept else _from_some_rows(entropic, scores, log_mass, n_threads)
        state, weight = start(first), np.exp(log_b)
        f, error, iterations = np.zeros(n), np.inf, 0
        stages = min(n_stages(epsilon, mean), max_iterations) if first is log_b else 1
        kernel = np.empty((n, len(prepared[1]) * width), np.float32) if kept else None
        for stage in range(stages):
            now, last = epsilon * FACTOR ** (stages - 1 - stage), stage == stages - 1
            rule = (log_a, relaxed(rho_a, mean, now), cap)
            sweeps = _Sweeps(strips, at_epsilon(kind, prepared, now), rule, kernel, m)
            if stage > 0:
                state.g[:] = start_of_stage(state.g, log_b)
            forget(state)
            goal = tolerance if last else max(LOOSE, tolerance)
            for _ in range(max_iterations):
                masses = sweeps(state.g, f)
                settle(state.g, f, log_a, log_budget)
                step = plain_step(state.g, masses, log_b, relaxed(rho_b, mean, now), cap, log_budget)
                error = change(step, masses)
                iterations += 1
                tick((stage + _nearness(error, goal)) / stages)
                if error <= goal or iterations > max_iterations - stages + stage:
                    break
                advance(state, step, weight, error)
    return f, state.g, epsilon, mean, iterations, error


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

    def __call__(self, g: FloatArray, f: FloatArray) -> FloatArray:
        """Column masses for column potentials g."""
        moved = self.reference is None or bool(np.abs(g - self.reference).max() > FAR)
        if moved:
            self.reference = g.copy()
        return self._recomputed(g, f, moved) if self.kernel is None else self._kept(g, f, moved)

    def _recomputed(self, g: FloatArray, f: FloatArray, moved: bool) -> FloatArray:  # noqa: FBT001
        factors = columns(g, self.n_columns, self.dressing)
        sums = np.zeros((len(self.strips.strips), *self.dressing.shape))

        def one(strip: int, start_row: int, stop_row: int, work: FloatArray) -> None:
            tiles.sweep(self.problem, self.rule, factors, f, moved, start_row, stop_row, work, sums[strip])

        self.strips.run(one)
        return np.asarray(sums.sum(axis=0).ravel()[: self.n_columns])

    def _kept(self, g: FloatArray, f: FloatArray, moved: bool) -> FloatArray:  # noqa: FBT001
        factors = columns(g, self.n_columns, self.dressing) if moved else None
        v = np.ones(self.kernel.shape[1], np.float32)
        since = g - self.reference
        v[: self.n_columns] = np.exp(since)
        sums = np.zeros((len(self.strips.strips), self.kernel.shape[1]))

        def one(strip: int, start_row: int, stop_row: int, work: FloatArray) -> None:
            if moved:
                tiles.keep(self.problem, factors, self.shifts, start_row, stop_row, work, self.kernel)
            tiles.sweep_kept(self.kernel, self.shifts, self.rule, v, f, start_row, stop_row, sums[strip])

        self.strips.run(one)
        return np.asarray(sums.sum(axis=0)[: self.n_columns] * v[: self.n_columns])
