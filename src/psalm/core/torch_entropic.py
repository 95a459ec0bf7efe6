"""Entropic transport in torch, for a GPU: blocks of like size as one padded batch, large ones in tiles of rows.

The same sweeps as on the processor (:mod:`psalm.core.solver`), with float32 exponents and float64 sums. What comes
between them is n + m numbers a block, and is left to the same code (:mod:`psalm.core.lockstep`); plans agree with the
processor's to the tolerance.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from psalm.core.lockstep import Lockstep
from psalm.core.problem import frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psalm.core._types import FloatArray
    from psalm.core.entropic import Entropic
    from psalm.core.matcher import Side

BATCH_PAIRS = 2**26
"""Padded pairs of a batch, and pairs of a tile: 256 MB in float32."""
LOWEST = -126 * float(np.log(2))
"""Exponent of the smallest normal float32."""
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
    x: Tensor  # (B, n, d) float32, centred, in units of their own
    y: Tensor  # (B, m, d) float32
    log_a: Tensor  # (B, n) float64, −∞ where padded
    log_b: Tensor  # (B, m)
    epsilons: FloatArray  # (B,)
    units: FloatArray  # (B,) of cost

    @classmethod
    def of(cls, entropic: Entropic, blocks: list[tuple[Side, Side]], device: str, epsilons: FloatArray) -> _Batch:
        sizes = [(len(x), len(y)) for x, y in blocks]
        n, m = (max(size[side] for size in sizes) for side in (0, 1))
        scores = [[np.asarray(side.scores, dtype=np.float64) for side in block] for block in blocks]
        frames = [frame(*pair) for pair in scores]
        x, y = ([(p[s] - centre) * k for p, (centre, _, k) in zip(scores, frames, strict=True)] for s in (0, 1))
        logs = [[np.log(block[s].mass) for block in blocks] for s in (0, 1)]
        units = np.array([unit for _, unit, _ in frames]) ** (1 if entropic.cost == "euclidean" else 2)
        return cls(
            entropic,
            sizes,
            _padded(x, n, 0.0, device).float(),
            _padded(y, m, 0.0, device).float(),
            _padded(logs[0], n, -np.inf, device),
            _padded(logs[1], m, -np.inf, device),
            epsilons,
            units,
        )

    def tiles(self) -> list[slice]:
        """Rows at a time."""
        n, pairs = self.x.shape[1], self.x.shape[0] * self.y.shape[1]
        height = max(1, BATCH_PAIRS // pairs)
        return [slice(i, min(i + height, n)) for i in range(0, n, height)]

    def costs(self, rows: slice) -> Tensor:
        """(B, rows, m) float32, in units of their own."""
        x = self.x[:, rows]
        squared = (x**2).sum(2)[:, :, None] + (self.y**2).sum(2)[:, None] - 2 * torch.bmm(x, self.y.mT)
        squared = squared.clamp_(min=0.0)
        return squared.sqrt_() if self.entropic.cost == "euclidean" else squared

    def mean_costs(self) -> FloatArray:
        """(B,) over real pairs."""
        total = torch.zeros(len(self.sizes), dtype=torch.float64, device=self.x.device)
        real = self.log_b.isfinite().float()
        for rows in self.tiles():
            per_row = torch.bmm(self.costs(rows), real[:, :, None])[:, :, 0].double()
            total += (per_row * self.log_a[:, rows].isfinite()).sum(1)
        return np.asarray(total.cpu().numpy() * self.units / [n * m for n, m in self.sizes])

    def sweep(self, g: Tensor, epsilon: Tensor, kappa: Tensor, cap: float) -> tuple[Tensor, Tensor]:
        """Best row potentials (B, n) for column potentials (B, m), over ε, and the column masses that they leave."""
        rounded = g.float()
        factor = torch.exp(g - rounded.double()).float().nan_to_num_(nan=0.0)
        masses, f = torch.zeros_like(self.log_b), torch.empty_like(self.log_a)
        for rows in self.tiles():
            exponent = self.costs(rows).div_(-epsilon.float()[:, None, None]).add_(rounded[:, None])
            peak = exponent.amax(2, keepdim=True)
            # no less than the processor's: from a column that underflowed to 0 no step leads on
            mass = exponent.sub_(peak).clamp_(min=LOWEST).exp_()
            total = torch.bmm(mass, factor[:, :, None])[:, :, 0].double()
            log_sum = total.log() + peak[:, :, 0]
            f[:, rows] = self.log_a[:, rows] + (-kappa[:, None] * log_sum).clamp(max=cap)
            u = torch.exp(f[:, rows] + peak[:, :, 0]).float()
            masses += torch.bmm(u[:, None], mass)[:, 0].double()
        return f, masses * factor

    def solve(self) -> list[Solution]:
        """Potentials of every block."""
        marginals = self.log_a.cpu().numpy(), self.log_b.cpu().numpy()
        iteration = Lockstep(marginals, self.sizes, self.entropic.settings, self.mean_costs(), self.epsilons)
        cap = self.entropic.settings[6]
        while iteration.active.any():
            given = iteration.g, iteration.epsilons / self.units, iteration.kappas
            g, epsilon, kappa = (torch.as_tensor(one, device=self.x.device) for one in given)
            f, masses = self.sweep(g, epsilon, kappa, cap)
            iteration(f.cpu().numpy(), masses.cpu().numpy())
        found = zip(iteration.f, iteration.g, iteration.outcome.tolist(), self.sizes, strict=True)
        return [(f[:n].copy(), g[:m].copy(), outcome) for f, g, outcome, (n, m) in found]
