"""Entropic transport in torch, for a GPU: blocks of like size as one padded batch, large ones in tiles of rows.

The same sweeps, acceleration and rules as on the processor (:mod:`psalm.core.solver`), with float32 exponents and
float64 sums; plans agree with the processor's to the tolerance.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from psalm.core.anderson import DEPTH
from psalm.core.solver import COARSEST, FACTOR, LOOSE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psalm.core._types import FloatArray
    from psalm.core.entropic import Entropic
    from psalm.core.matcher import Side

BATCH_PAIRS = 2**26
"""Padded pairs of a batch, and pairs of a tile: 256 MB in float32."""
RIDGE = 1e-10
TINY, SMALL = 1e-300, 1e-30
Solution = tuple["FloatArray", "FloatArray", list[float]]


def solve_torch(
    entropic: Entropic, blocks: Sequence[tuple[Side, Side]], device: str, epsilons: FloatArray
) -> list[Solution]:
    """Row and column potentials over ε, and (ε, mean cost, iterations, marginal error), of every block.

    Parameters
    ----------
    entropic
        What to solve.
    blocks
        Source and target of each.
    device
        As torch names it.
    epsilons
        (n_blocks,).
    """
    found: list[Solution | None] = [None] * len(blocks)
    with _full_float32():
        for batch in _batches(blocks):
            solver = _Batch.of(entropic, [blocks[k] for k in batch], device, epsilons[batch])
            for k, solution in zip(batch, solver.solve(), strict=True):
                found[k] = solution
    return [solution for solution in found if solution is not None]


@contextmanager
def _full_float32() -> Iterator[None]:
    """Products in full float32: ten bits of mantissa are too few for an exponent."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _batches(blocks: Sequence[tuple[Side, Side]]) -> Iterator[list[int]]:
    """Positions of blocks to solve together, of like size."""
    order = sorted(range(len(blocks)), key=lambda k: (-len(blocks[k][0]), -len(blocks[k][1])))
    batch: list[int] = []
    height = width = 0
    for k in order:
        shape = len(blocks[k][0]), len(blocks[k][1])
        taller, wider = max(height, shape[0]), max(width, shape[1])
        # a block joins where the batch stays small and padding at most doubles it
        if batch and (taller * wider * (len(batch) + 1) > BATCH_PAIRS or 2 * shape[0] * shape[1] < taller * wider):
            yield batch
            batch, taller, wider = [], *shape
        batch.append(k)
        height, width = taller, wider
    if batch:
        yield batch


def _padded(parts: list[FloatArray], size: int, fill: float, device: str) -> Tensor:
    padded = np.full((len(parts), size, *parts[0].shape[1:]), fill)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    return torch.as_tensor(padded, device=device)


@dataclass
class _Batch:
    """Blocks padded to one size; B blocks of n and m cells."""

    entropic: Entropic
    sizes: list[tuple[int, int]]
    x: Tensor  # (B, n, d) float32, centred
    y: Tensor  # (B, m, d) float32
    log_a: Tensor  # (B, n) float64, −∞ where padded
    log_b: Tensor  # (B, m)
    epsilons: Tensor  # (B,)

    @classmethod
    def of(cls, entropic: Entropic, blocks: list[tuple[Side, Side]], device: str, epsilons: FloatArray) -> _Batch:
        sizes = [(len(x), len(y)) for x, y in blocks]
        n, m = (max(size[side] for size in sizes) for side in (0, 1))
        middles = [(x.scores.mean(axis=0, dtype=float) + y.scores.mean(axis=0, dtype=float)) / 2 for x, y in blocks]
        scores = [[b[s].scores - c for b, c in zip(blocks, middles, strict=True)] for s in (0, 1)]
        logs = [[np.log(block[s].mass) for block in blocks] for s in (0, 1)]
        return cls(
            entropic,
            sizes,
            _padded(scores[0], n, 0.0, device).float(),
            _padded(scores[1], m, 0.0, device).float(),
            _padded(logs[0], n, -np.inf, device),
            _padded(logs[1], m, -np.inf, device),
            torch.as_tensor(epsilons, device=device),
        )

    def tiles(self) -> list[slice]:
        """Rows at a time."""
        n, pairs = self.x.shape[1], self.x.shape[0] * self.y.shape[1]
        height = max(1, BATCH_PAIRS // pairs)
        return [slice(i, min(i + height, n)) for i in range(0, n, height)]

    def costs(self, rows: slice) -> Tensor:
        """(B, rows, m) float32."""
        x = self.x[:, rows]
        squared = (x**2).sum(2)[:, :, None] + (self.y**2).sum(2)[:, None] - 2 * torch.bmm(x, self.y.mT)
        squared = squared.clamp_(min=0.0)
        return squared.sqrt_() if self.entropic.cost == "euclidean" else squared

    def mean_costs(self) -> Tensor:
        """(B,) over real pairs."""
        total = torch.zeros(len(self.sizes), dtype=torch.float64, device=self.x.device)
        real = self.log_b.isfinite().float()
        for rows in self.tiles():
            per_row = torch.bmm(self.costs(rows), real[:, :, None])[:, :, 0].double()
            total += (per_row * self.log_a[:, rows].isfinite()).sum(1)
        return total / torch.tensor([n * m for n, m in self.sizes], device=self.x.device)

    def sweep(self, g: Tensor, epsilon: Tensor, kappa: Tensor, cap: float) -> tuple[Tensor, Tensor]:
        """Best row potentials (B, n) for column potentials (B, m), over ε, and the column masses that they leave."""
        rounded = g.float()
        factor = torch.exp(g - rounded.double()).float().nan_to_num_(nan=0.0)
        masses, f = torch.zeros_like(self.log_b), torch.empty_like(self.log_a)
        for rows in self.tiles():
            exponent = self.costs(rows).div_(-epsilon.float()[:, None, None]).add_(rounded[:, None])
            peak = exponent.amax(2, keepdim=True)
            mass = exponent.sub_(peak).exp_()
            total = torch.bmm(mass, factor[:, :, None])[:, :, 0].double()
            log_sum = total.log() + peak[:, :, 0]
            f[:, rows] = self.log_a[:, rows] + (-kappa[:, None] * log_sum).clamp(max=cap)
            u = torch.exp(f[:, rows] + peak[:, :, 0]).float()
            masses += torch.bmm(u[:, None], mass)[:, 0].double()
        return f, masses * factor

    def solve(self) -> list[Solution]:
        """Potentials of every block."""
        _, relative, tolerance, max_iterations, rho_a, rho_b, cap, log_budget = self.entropic.settings
        mean = self.mean_costs()
        wanted = torch.where(mean > 0, self.epsilons * mean, 1.0) if relative else self.epsilons
        ratio = torch.log(COARSEST * mean.clamp(min=TINY) / wanted) / np.log(FACTOR)
        stages = ratio.floor().clamp(min=0, max=max_iterations - 1)
        state = _State.at(self.log_b)
        f, error, iterations = self.log_a, torch.zeros_like(mean), torch.zeros_like(mean)
        for stage in range(int(stages.max()), -1, -1):
            power = torch.minimum(stages, torch.full_like(stages, stage))
            now = wanted * FACTOR**power
            if stage < int(stages.max()):
                began = (stages > stage).double()[:, None]
                state.rescale(1 + (FACTOR - 1) * began, self.log_b)
            kappas = [torch.ones_like(mean) if np.isinf(r) else r * mean / (r * mean + now) for r in (rho_a, rho_b)]
            goal = torch.where(power > 0, max(LOOSE, tolerance), tolerance)
            active = torch.ones_like(mean, dtype=torch.bool)
            while True:
                f, masses = self.sweep(state.g, now, kappas[0], cap)
                if not np.isnan(log_budget):
                    lacking = torch.where(self.log_a.isfinite(), self.log_a - f, np.inf).amin(1, keepdim=True)
                    f, state.g = f + lacking, state.g - lacking
                step = self._step(state.g, masses, kappas[1], cap, log_budget)
                after = torch.exp(masses.clamp(min=TINY).log() + step)
                change = torch.where(masses < SMALL, after - masses, masses * torch.expm1(step)).abs().sum(1)
                error, iterations = change, iterations + active
                active = (error > goal) & (iterations < max_iterations - stage)
                if not active.any():
                    break
                state.advance(step, self.log_b.exp(), error, active)
        g = state.g.cpu().numpy()
        rows, outcome = f.cpu().numpy(), torch.stack([wanted, mean, iterations, error], 1).tolist()
        return [(rows[k, :n], g[k, :m], outcome[k]) for k, (n, m) in enumerate(self.sizes)]

    def _step(self, g: Tensor, masses: Tensor, kappa: Tensor, cap: float, log_budget: float) -> Tensor:
        """Plain step (B, m), see :func:`psalm.core.problem.plain_step`; 0 where padded."""
        real = self.log_b.isfinite()
        log_sum = masses.clamp(min=TINY).log() - torch.where(real, g, 0.0)
        bound: Any = cap if np.isnan(log_budget) else self._budgeted(log_sum, float(np.exp(log_budget)))
        step = self.log_b + torch.minimum(-kappa[:, None] * log_sum, torch.as_tensor(bound)) - g
        return torch.where(real, step, 0.0)

    def _budgeted(self, log_sum: Tensor, budget: float) -> Tensor:
        """(B, 1), see :mod:`psalm.core.problem`."""
        mass, bound = self.log_b.exp(), torch.full_like(log_sum[:, :1], np.inf)
        peak = torch.where(self.log_b.isfinite(), log_sum, -np.inf).amax(1, keepdim=True)
        for _ in range(log_sum.shape[1]):
            full = (-log_sum <= bound) & bound.isfinite()
            taken = (mass * full).sum(1, keepdim=True)
            free = torch.where(full, 0.0, mass * (log_sum - peak).exp()).sum(1, keepdim=True)
            tighter = torch.log(budget - taken) - free.log() - peak
            moves = (tighter > bound) | bound.isinf()
            bound = torch.where(moves & (taken < budget) & (free > 0), tighter, bound)
            if not moves.any():
                break
        return bound


@dataclass
class _State:
    """The iteration of :mod:`psalm.core.anderson` for a batch: each block for itself."""

    g: Tensor  # (B, m); −∞ where padded
    best: Tensor  # (2, B, m): potentials with the smallest error, and the plain step from them
    last: Tensor  # (2, B, m): of the previous iteration
    history: Tensor  # (2, B, DEPTH, m): moves and changes
    known: Tensor  # (B, DEPTH): which entries of the history count
    errors: Tensor  # (B,): smallest
    count: int

    @classmethod
    def at(cls, log_b: Tensor) -> _State:
        g = log_b.clone()
        empty: Any = torch.zeros((2, len(g), DEPTH, g.shape[1]), dtype=g.dtype, device=g.device)
        known = torch.zeros((len(g), DEPTH), dtype=torch.bool, device=g.device)
        errors = torch.full((len(g),), np.inf, dtype=g.dtype, device=g.device)
        return cls(g, torch.stack([g, g]), torch.stack([g, g]), empty, known, errors, -1)

    def rescale(self, factor: Tensor, log_b: Tensor) -> None:
        """The same potentials in units of cost for ε divided by a factor (B, 1); the history is forgotten."""
        self.g = torch.where(log_b.isfinite(), self.g * factor - (factor - 1) * log_b, log_b)
        self.known[:] = False
        self.errors[:] = np.inf
        self.count = -1

    def advance(self, step: Tensor, weight: Tensor, error: Tensor, active: Tensor) -> None:
        """Move the active blocks by one accelerated step; see :func:`psalm.core.anderson.advance`."""
        worse = error > 2 * self.errors
        better = error < self.errors
        self.errors = torch.where(worse, np.inf, torch.where(better, error, self.errors))
        self.best = torch.where(better[None, :, None], torch.stack([self.g, step]), self.best)
        back = self.best[0] + self.best[1]
        if self.count >= 0:
            slot = self.count % DEPTH
            change = step - self.last[1]
            move = torch.where(self.g.isfinite(), self.g - self.last[0], 0.0) + change
            self.history[0, :, slot], self.history[1, :, slot] = move, change
            self.known[:, slot] = True
        self.count += 1
        self.last = torch.stack([self.g, step])
        moves, changes = self.history * self.known[None, :, :, None]
        gram = torch.einsum("bkj,blj,bj->bkl", changes, changes, weight)
        right = torch.einsum("bkj,bj,bj->bk", changes, step, weight)
        diagonal = RIDGE * gram.diagonal(dim1=1, dim2=2).sum(1)[:, None] + (~self.known).double() + TINY
        shares = torch.linalg.solve(gram + torch.diag_embed(diagonal), right)
        taken = step - torch.einsum("bk,bkj->bj", shares, moves)
        moved = torch.where(worse[:, None], back, self.g + taken)
        self.known[worse] = False
        self.g = torch.where(active[:, None], moved, self.g)
