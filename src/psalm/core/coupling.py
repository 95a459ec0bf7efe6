"""The hand-over between matching and everything after it: who is matched to whom, and with how much mass.

A coupling is a list of blocks, one per treatment. A block holds a plan, whose rows can be computed exactly a tile at
a time: from potentials where the plan is soft, from stored entries where it is sparse. Nothing here builds the dense
matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.cost import row_tiles
from psalm.core.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.plan import Plan

TILE_BYTES = 64 * 2**20
ROUNDS = 10
"""Sparse Sinkhorn steps that bring a view near the marginals."""


@dataclass(frozen=True)
class Block:
    """One treatment's place in the coupling.

    Parameters
    ----------
    treatment
        Code of the treatment, or of the treatment and stratum.
    source, target
        Positions of the block's cells among all source and all target cells.
    plan
        Mass between them.
    """

    treatment: int
    source: IntArray
    target: IntArray
    plan: Plan

    def pull(self, values: FloatArray) -> FloatArray:
        """As :meth:`Coupling.pull`, of all cells' values, for the block's source cells (n_block_source, k)."""
        own = values[self.target]
        averages = np.full((len(self.source), own.shape[1]), np.nan)
        for rows, mass in plan_tiles(self.plan):
            sums = _sum(mass, 1)[:, None]
            with np.errstate(invalid="ignore"):
                averages[rows] = (mass @ own) / np.where(sums > 0, sums, np.nan)
        return averages


@dataclass(frozen=True)
class Tile:
    """Some exact rows of a block: ``mass[i, j]`` between ``source[i]`` and ``target[j]``."""

    source: IntArray
    target: IntArray
    mass: FloatArray


@dataclass(frozen=True)
class Spread:
    """How much mass each cell transports, and over how many matches.

    Parameters
    ----------
    source_mass, target_mass
        NaN for cells of no block.
    source_entropy, target_entropy
        Nats; ``exp(entropy)`` is the effective number of matches. NaN where a cell carries no mass.
    """

    source_mass: FloatArray
    source_entropy: FloatArray
    target_mass: FloatArray
    target_entropy: FloatArray


@dataclass(frozen=True)
class Coupling:
    """Mass transported between source and target cells, block by block.

    Parameters
    ----------
    n_source, n_target
        All cells of the two modalities, matched or not.
    blocks
        One per matched treatment; no cell is in two.
    """

    n_source: int
    n_target: int
    blocks: tuple[Block, ...]

    @property
    def transpose(self) -> Coupling:
        """The coupling read from the target's side."""
        return Coupling(
            self.n_target,
            self.n_source,
            tuple(Block(b.treatment, b.target, b.source, b.plan.transpose) for b in self.blocks),
        )

    def tiles(self) -> Iterator[Tile]:
        """Rows of every block, a bounded number at a time; of soft plans to float32's accuracy (1e-6)."""
        for block in self.blocks:
            for rows, mass in plan_tiles(block.plan):
                yield Tile(block.source[rows], block.target, mass)

    def push(self, values: FloatArray) -> FloatArray:
        """Matched average of source values (n_source, k) for each target cell: :meth:`pull` the other way."""
        return self.transpose.pull(values)

    def pull(self, values: FloatArray) -> FloatArray:
        """Matched average of target values for each source cell, ``Σ_j G_ij y_j / Σ_j G_ij``.

        Parameters
        ----------
        values
            (n_target, k).

        Returns
        -------
        (n_source, k); NaN where a source cell carries no mass.
        """
        averages = np.full((self.n_source, values.shape[1]), np.nan)
        for block in self.blocks:
            averages[block.source] = block.pull(values)
        return averages

    def entropies(self) -> tuple[FloatArray, FloatArray]:
        """Entropy in nats of every cell's normalised matches: (n_source,), (n_target,), see :class:`Spread`."""
        spread = self.spread()
        return spread.source_entropy, spread.target_entropy

    def spread(self) -> Spread:
        """Mass and entropy of every cell, in one pass."""
        source, target = np.full((2, self.n_source), np.nan), np.full((2, self.n_target), np.nan)
        for block in self.blocks:
            column_mass, column_sum = np.zeros(len(block.target)), np.zeros(len(block.target))
            for rows, mass in plan_tiles(block.plan):
                surprise = np.log(mass, where=mass > 0, out=np.zeros_like(mass))
                surprise *= -mass
                row_mass = _sum(mass, 1)
                source[:, block.source[rows]] = row_mass, _entropy(row_mass, _sum(surprise, 1))
                column_mass += mass.sum(axis=0)
                column_sum += surprise.sum(axis=0)
            target[:, block.target] = column_mass, _entropy(column_mass, column_sum)
        return Spread(*source, *target)

    def top(self, n_partners: int) -> tuple[IntArray, FloatArray]:
        """Strongest partners of each source cell.

        Parameters
        ----------
        n_partners
            How many.

        Returns
        -------
        Positions of target cells (n_source, n_partners), strongest first, and their share of the source cell's mass;
        −1 and 0 where a cell has fewer.
        """
        partners = np.full((self.n_source, n_partners), -1)
        shares = np.zeros((self.n_source, n_partners))
        for tile in self.tiles():
            k = min(n_partners, tile.mass.shape[1])
            best = np.argpartition(tile.mass, -k, axis=1)[:, -k:]
            mass = np.take_along_axis(tile.mass, best, axis=1).astype(np.float64)
            order = np.argsort(-mass, axis=1, kind="stable")
            best, mass = np.take_along_axis(best, order, axis=1), np.take_along_axis(mass, order, axis=1)
            total = tile.mass.sum(axis=1, keepdims=True)
            shares[tile.source, :k] = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
            partners[tile.source, :k] = np.where(mass > 0, tile.target[best], -1)
        return partners, shares

    def sample(self, n_draws: int, rng: np.random.Generator) -> IntArray:
        """Draw partners for every target cell i from ``M_i``, its column normalised over source cells.

        Parameters
        ----------
        n_draws
            Independent draws per target cell.
        rng
            Source of the draws.

        Returns
        -------
        (n_target, n_draws) positions of source cells; −1 where a target cell carries no mass.
        """
        return self.sampler().draw(np.arange(self.n_target), n_draws, rng)

    def sampler(self) -> Sampler:
        """Draws partners of target cells after one pass over the coupling."""
        return Sampler(self.n_target, [(b.target, b.source, b.plan.transpose) for b in self.blocks])

    def to_csr(self) -> sparse.csr_matrix:
        """All exact entries above zero, (n_source, n_target). Costs memory in the number of pairs."""
        return self._gather([_sparse_rows(block.plan, block.plan.shape[1]) for block in self.blocks])

    def compact(self, max_entries: int) -> tuple[sparse.csr_matrix, FloatArray]:
        """View of the coupling that fits a budget: its largest entries, rescaled towards the exact marginals.

        Parameters
        ----------
        max_entries
            Entries to keep. Where all pairs of all blocks fit, the view is the exact coupling;
            else every row keeps its ``max_entries / n_source`` largest entries and every column its largest, and
            rescaling makes row sums exact and column sums nearly so.

        Returns
        -------
        (n_source, n_target) CSR, and per block the share of its mass that the kept entries carry before rescaling.
        """
        n_pairs = sum(int(np.prod(block.plan.shape)) for block in self.blocks)
        n_rows = sum(block.plan.shape[0] for block in self.blocks)
        per_row = max(1, max_entries // max(1, n_rows))
        views, kept = [], np.ones(len(self.blocks))
        for position, block in enumerate(self.blocks):
            n_columns = block.plan.shape[1]
            if n_pairs <= max_entries or per_row >= n_columns:
                views.append(_sparse_rows(block.plan, n_columns))
                continue
            view, row_mass, column_mass = _largest(block.plan, per_row)
            kept[position] = view.sum() / row_mass.sum()
            views.append(_rescale(view, row_mass, column_mass))
        return self._gather(views), kept

    def _gather(self, views: list[sparse.csr_matrix]) -> sparse.csr_matrix:
        """Put one CSR per block at its place among all cells; a cell is in one block at most."""
        counts = np.zeros(self.n_source, dtype=np.int64)
        for block, view in zip(self.blocks, views, strict=True):
            counts[block.source] = np.diff(view.indptr)
        ends = np.concatenate([[0], np.cumsum(counts)])
        columns, mass = np.empty(ends[-1], dtype=np.int64), np.empty(ends[-1])
        for block, view in zip(self.blocks, views, strict=True):
            shift = np.repeat(ends[block.source] - view.indptr[:-1], np.diff(view.indptr))
            places = np.arange(view.nnz) + shift
            columns[places], mass[places] = block.target[view.indices], view.data
        placed = sparse.csr_matrix((mass, columns, ends), shape=(self.n_source, self.n_target))
        placed.sort_indices()
        return placed


def plan_tiles(plan: Plan) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of a plan, a bounded number at a time; of soft plans to float32's accuracy (1e-6)."""
    fast = getattr(plan, "fast_rows", None)
    rows_of = plan.rows if fast is None else fast()
    for rows in row_tiles(*plan.shape, TILE_BYTES):
        yield rows, rows_of(rows)


def _sum(values: FloatArray, axis: int) -> FloatArray:
    return np.asarray(values.sum(axis=axis, dtype=np.float64))


def _entropy(mass: FloatArray, surprise: FloatArray) -> FloatArray:
    """``−Σ (p/m) log (p/m)`` from ``m = Σ p`` and ``Σ −p log p``; rounding never makes it negative."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0, np.maximum(surprise / mass + np.log(mass), 0.0), np.nan)


def _sparse_rows(plan: Plan, per_row: int) -> sparse.csr_matrix:
    """The ``per_row`` largest entries of every row; where that is all of them, exact ones."""
    parts = []
    whole = per_row >= plan.shape[1]
    exact = ((rows, plan.rows(rows)) for rows in row_tiles(*plan.shape, TILE_BYTES))
    for _, mass in exact if whole else plan_tiles(plan):
        if per_row < mass.shape[1]:
            columns = np.sort(np.argpartition(mass, -per_row, axis=1)[:, -per_row:], axis=1)
            kept = np.take_along_axis(mass, columns, axis=1).astype(np.float64)
            ends = np.arange(len(mass) + 1) * per_row
            parts.append(sparse.csr_matrix((kept.ravel(), columns.ravel(), ends), shape=mass.shape))
            continue
        parts.append(sparse.csr_matrix(mass))
    return sparse.vstack(parts, format="csr")


def _largest(plan: Plan, per_row: int) -> tuple[sparse.csr_matrix, FloatArray, FloatArray]:
    """Largest entries of every row and of every column, with the exact marginals."""
    view = _sparse_rows(plan, per_row)
    row_mass, column_mass = np.zeros(plan.shape[0]), np.zeros(plan.shape[1])
    best, best_row = np.zeros(plan.shape[1]), np.zeros(plan.shape[1], dtype=int)
    for rows, mass in plan_tiles(plan):
        row_mass[rows] = _sum(mass, 1)
        column_mass += mass.sum(axis=0)
        top = mass.argmax(axis=0)
        height = mass[top, np.arange(mass.shape[1])]
        best_row = np.where(height > best, rows.start + top, best_row)
        best = np.maximum(height, best)
    by_column = sparse.csr_matrix((best, (best_row, np.arange(len(best)))), shape=plan.shape)
    return view.maximum(by_column).tocsr(), row_mass, column_mass


def _rescale(view: sparse.csr_matrix, row_mass: FloatArray, column_mass: FloatArray) -> sparse.csr_matrix:
    """A few sparse Sinkhorn steps towards the exact marginals; the last one makes the rows exact."""
    by_column, of_row = view.T.tocsr(), np.ones(view.shape[0])
    of_column = np.ones(view.shape[1])
    for _ in range(ROUNDS):
        of_column = _ratio(column_mass, by_column @ of_row)
        of_row = _ratio(row_mass, view @ of_column)
    scaled = view.copy()
    scaled.data = view.data * np.repeat(of_row, np.diff(view.indptr)) * of_column[view.indices]
    return scaled


def _ratio(wanted: FloatArray, found: FloatArray) -> FloatArray:
    return np.divide(wanted, found, where=found > 0, out=np.zeros_like(wanted))
