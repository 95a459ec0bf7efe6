"""The hand-over between matching and everything after it: who is matched to whom, and with how much mass.

A coupling is a list of blocks, one per treatment. A block holds a plan, whose rows can be computed exactly a tile at
a time: from potentials where the plan is soft, from stored entries where it is sparse. Nothing here builds the dense
matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import sparse

from psalm.core.cost import row_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psalm.core._types import FloatArray, IntArray

TILE_BYTES = 64 * 2**20


class Plan(Protocol):
    """The matching of one block; its mass is what the block transports."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        ...

    @property
    def transpose(self) -> Plan:
        """The same plan with source and target exchanged."""
        ...

    def rows(self, tile: slice) -> FloatArray:
        """Exact mass of some source cells, dense (n_rows, n_target)."""
        ...

    def weighted(self, weight: float) -> Plan:
        """The same plan with its mass multiplied by ``weight``."""
        ...


@dataclass(frozen=True)
class SparsePlan:
    """A plan that is its stored entries.

    Parameters
    ----------
    mass
        CSR (n_source, n_target), non-negative.
    """

    mass: sparse.csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        return int(self.mass.shape[0]), int(self.mass.shape[1])

    @property
    def transpose(self) -> SparsePlan:
        """The same plan with source and target exchanged."""
        return SparsePlan(self.mass.T.tocsr())

    def rows(self, tile: slice) -> FloatArray:
        """Exact mass of some source cells."""
        return np.asarray(self.mass[tile].toarray())

    def weighted(self, weight: float) -> SparsePlan:
        """The same plan with its mass multiplied by ``weight``."""
        return SparsePlan(self.mass * weight)


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


@dataclass(frozen=True)
class Tile:
    """Some exact rows of a block: ``mass[i, j]`` between ``source[i]`` and ``target[j]``."""

    source: IntArray
    target: IntArray
    mass: FloatArray


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
        """Exact rows of every block, a bounded number at a time."""
        for block in self.blocks:
            for rows in row_tiles(*block.plan.shape, TILE_BYTES):
                yield Tile(block.source[rows], block.target, block.plan.rows(rows))

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
        for tile in self.tiles():
            mass = tile.mass.sum(axis=1, keepdims=True)
            with np.errstate(invalid="ignore"):
                averages[tile.source] = (tile.mass @ values[tile.target]) / np.where(mass > 0, mass, np.nan)
        return averages

    def entropies(self) -> tuple[FloatArray, FloatArray]:
        """Entropy in nats of every cell's normalised matches: (n_source,), (n_target,).

        ``exp(entropy)`` is the effective number of matches. NaN where a cell carries no mass.
        """
        source, target = np.full(self.n_source, np.nan), np.full(self.n_target, np.nan)
        for block in self.blocks:
            column_mass, column_sum = np.zeros(len(block.target)), np.zeros(len(block.target))
            for rows in row_tiles(*block.plan.shape, TILE_BYTES):
                mass = block.plan.rows(rows)
                surprise = -mass * np.log(mass, where=mass > 0, out=np.zeros_like(mass))
                source[block.source[rows]] = _entropy(mass.sum(axis=1), surprise.sum(axis=1))
                column_mass += mass.sum(axis=0)
                column_sum += surprise.sum(axis=0)
            target[block.target] = _entropy(column_mass, column_sum)
        return source, target

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
        draws = np.full((self.n_target, n_draws), -1)
        for tile in self.transpose.tiles():
            cumulative = np.cumsum(tile.mass, axis=1)
            for cell, row in zip(tile.source, cumulative, strict=True):
                if row[-1] > 0:
                    found = np.searchsorted(row, rng.random(n_draws) * row[-1], side="right")
                    draws[cell] = tile.target[np.minimum(found, len(row) - 1)]
        return draws

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
        """Put one CSR per block at its place among all cells."""
        rows, columns, mass = [np.empty(0, dtype=int)], [np.empty(0, dtype=int)], [np.empty(0)]
        for block, view in zip(self.blocks, views, strict=True):
            entries = view.tocoo()
            rows.append(block.source[entries.row])
            columns.append(block.target[entries.col])
            mass.append(entries.data)
        placed = (np.concatenate(mass), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(placed, shape=(self.n_source, self.n_target))


def _entropy(mass: FloatArray, surprise: FloatArray) -> FloatArray:
    """``−Σ (p/m) log (p/m)`` from ``m = Σ p`` and ``Σ −p log p``; rounding never makes it negative."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0, np.maximum(surprise / mass + np.log(mass), 0.0), np.nan)


def _sparse_rows(plan: Plan, per_row: int) -> sparse.csr_matrix:
    """The ``per_row`` largest entries of every row."""
    parts = []
    for rows in row_tiles(*plan.shape, TILE_BYTES):
        mass = plan.rows(rows)
        if per_row < mass.shape[1]:
            columns = np.argpartition(mass, -per_row, axis=1)[:, -per_row:]
            kept = np.zeros_like(mass)
            np.put_along_axis(kept, columns, np.take_along_axis(mass, columns, axis=1), axis=1)
            mass = kept
        parts.append(sparse.csr_matrix(mass))
    return sparse.vstack(parts, format="csr")


def _largest(plan: Plan, per_row: int) -> tuple[sparse.csr_matrix, FloatArray, FloatArray]:
    """Largest entries of every row and of every column, with the exact marginals."""
    view = _sparse_rows(plan, per_row)
    row_mass, column_mass = np.zeros(plan.shape[0]), np.zeros(plan.shape[1])
    best, best_row = np.zeros(plan.shape[1]), np.zeros(plan.shape[1], dtype=int)
    for rows in row_tiles(*plan.shape, TILE_BYTES):
        mass = plan.rows(rows)
        row_mass[rows] = mass.sum(axis=1)
        column_mass += mass.sum(axis=0)
        top = mass.argmax(axis=0)
        height = mass[top, np.arange(mass.shape[1])]
        best_row = np.where(height > best, rows.start + top, best_row)
        best = np.maximum(height, best)
    by_column = sparse.csr_matrix((best, (best_row, np.arange(len(best)))), shape=plan.shape)
    return view.maximum(by_column).tocsr(), row_mass, column_mass


def _rescale(view: sparse.csr_matrix, row_mass: FloatArray, column_mass: FloatArray) -> sparse.csr_matrix:
    """A few sparse Sinkhorn steps towards the exact marginals; the last one makes the rows exact."""
    scaled = view
    for _ in range(10):
        scaled = scaled @ sparse.diags(_ratio(column_mass, np.asarray(scaled.sum(axis=0)).ravel()))
        scaled = sparse.diags(_ratio(row_mass, np.asarray(scaled.sum(axis=1)).ravel())) @ scaled
    return scaled.tocsr()


def _ratio(wanted: FloatArray, found: FloatArray) -> FloatArray:
    return np.divide(wanted, found, where=found > 0, out=np.zeros_like(wanted))
