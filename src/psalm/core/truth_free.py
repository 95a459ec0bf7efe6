"""What can be said of a match where no true pair is known.

Expected R². With y the true partner's features, ŷ the matched average and ȳ the mean of the treatment's target cells,
the R² within treatments is ``[2 Σ (y − ȳ)·(ŷ − ŷ̄) − Σ ‖ŷ − ŷ̄‖² − n ‖ŷ̄ − ȳ‖²] / Σ ‖y − ȳ‖²``. Only the first term
needs y. If scores mean the same in both modalities, what ŷ has in common with y is what two matched averages ŷ₊ and ŷ₋
have in common that share neither the error of the scores nor a target cell: each is matched by another of two estimates
of the scores with independent errors, and averaged over another half of the target cells. As these estimates have twice
the error of the scores, this leans to the low side. What is stable but wrong, such as a variation that the modalities
do not share, it cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core.permutation import FEWEST_CELLS, Statistic, known_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psalm.core._types import BoolArray, FloatArray, IntArray
    from psalm.core.coupling import Coupling
    from psalm.core.permutation import Relation

N_ROUNDS = 5
"""Partners drawn for each source cell to see how they are spread."""


@dataclass(frozen=True)
class Expectation:
    """Sums of the expected R², one per block.

    Parameters
    ----------
    n_cells
        (n_blocks,) source cells with a matched average.
    product
        ``Σ (ŷ₊ − ŷ̄₊)·(ŷ₋ − ŷ̄₋)``, scaled from the cells for which both are known to all cells.
    null
        (n_permutations, n_blocks) the same with cells shuffled.
    lost
        ``Σ ‖ŷ − ŷ̄‖² + n ‖ŷ̄ − ȳ‖²``.
    total
        ``n / m Σ ‖y − ȳ‖²`` over the block's m target cells.
    """

    n_cells: IntArray
    product: FloatArray
    null: FloatArray
    lost: FloatArray
    total: FloatArray

    @classmethod
    def of(
        cls, coupling: Coupling, features: FloatArray, average: FloatArray, relations: Sequence[Relation]
    ) -> Expectation:
        """Sums for a coupling.

        Parameters
        ----------
        coupling
            The match.
        features, average
            (n_target, k) of the target, and (n_source, k) their matched averages.
        relations
            Of ŷ₊ and ŷ₋, one for each way to deal the target cells.
        """
        n_cells, lost, total = np.zeros((3, len(coupling.blocks)))
        for place, block in enumerate(coupling.blocks):
            found = average[block.source]
            found = found[~np.isnan(found).any(axis=1)]
            if not len(found):
                continue
            measured = features[block.target]
            mean = measured.mean(axis=0)
            n_cells[place], lost[place] = len(found), ((found - mean) ** 2).sum()
            total[place] = len(found) * ((measured - mean) ** 2).sum() / len(measured)
        seen = np.all([relation.n_cells > 0 for relation in relations], axis=0)  # else nothing stands for the truth
        n_cells, lost, total = n_cells * seen, lost * seen, total * seen
        scales = [n_cells / np.maximum(relation.n_cells, 1) / len(relations) for relation in relations]
        product = np.sum([r.product * scale for r, scale in zip(relations, scales, strict=True)], axis=0)
        null = np.sum([r.null * scale for r, scale in zip(relations, scales, strict=True)], axis=0)
        return cls(n_cells.astype(int), product, null, lost, total)

    def r2(self, blocks: IntArray) -> Statistic:
        """Expected R² of some blocks; its null is that of averages which have nothing in common."""
        n_cells, total, lost = (values[blocks].sum() for values in (self.n_cells, self.total, self.lost))
        null = self.null[:, blocks].sum(axis=1)
        if not total > 0:
            return Statistic(int(n_cells), float("nan"), np.full(len(null), np.nan))
        product = float(self.product[blocks].sum())
        return Statistic(int(n_cells), float((2 * product - lost) / total), (2 * null - lost) / total)


@dataclass(frozen=True)
class Noise:
    """Squares around the means of blocks, one number per block.

    Parameters
    ----------
    scores, error
        ``Σ ‖s‖²`` of the scores, and ``Σ ‖e‖²`` of a draw of their error.
    """

    scores: FloatArray
    error: FloatArray

    @classmethod
    def of(cls, scores: FloatArray, error: FloatArray, blocks: Sequence[IntArray]) -> Noise:
        """Sums over the cells of each block with a known error; 0 for fewer than three.

        Parameters
        ----------
        scores, error
            (n_cells, n_columns).
        blocks
            Positions of the cells of each block.
        """
        squares, known = np.zeros((2, len(blocks))), known_in(error)
        for place, block in enumerate(blocks):
            cells = block[known[block]]
            if len(cells) >= FEWEST_CELLS:
                own = (np.asarray(values[cells], dtype=np.float64) for values in (scores, error))
                squares[:, place] = [((values - values.mean(axis=0)) ** 2).sum() for values in own]
        return cls(squares[0], squares[1])

    def reliability(self, blocks: IntArray | None = None) -> float:
        """Share of the scores' variance that is not error, in some blocks, by default all; NaN where none varies."""
        chosen = slice(None) if blocks is None else blocks
        total = float(self.scores[chosen].sum())
        return 1 - float(self.error[chosen].sum()) / total if total > 0 else float("nan")


def halves(coupling: Coupling, rng: np.random.Generator) -> BoolArray:
    """Half of the target cells of every block (n_target,)."""
    found = np.zeros(coupling.n_target, dtype=bool)
    for block in coupling.blocks:
        found[rng.permutation(block.target)[: len(block.target) // 2]] = True
    return found


def averages_over(coupling: Coupling, features: FloatArray, chosen: BoolArray) -> FloatArray:
    """Matched averages (n_source, k) over some target cells only; NaN where a source cell has no mass on them."""
    found = coupling.pull(np.column_stack([features * chosen[:, None], chosen]))
    with np.errstate(invalid="ignore"):
        return np.asarray(found[:, :-1] / np.where(found[:, -1:] > 0, found[:, -1:], np.nan))


@dataclass(frozen=True)
class Spreading:
    """How evenly partners are spread over the target cells, where one is drawn for each source cell.

    Parameters
    ----------
    n_cells
        (n_blocks,) source cells that a partner was drawn for.
    met
        (n_rounds, n_blocks) pairs of source cells that drew the same partner, weighted by one over the partner's mass.
    null
        (n_permutations, n_blocks) the same if partners were drawn by their mass.
    """

    n_cells: IntArray
    met: FloatArray
    null: FloatArray

    @classmethod
    def of(cls, coupling: Coupling, mass: FloatArray, rng: np.random.Generator, n_permutations: int) -> Spreading:
        """Draw from a coupling.

        Parameters
        ----------
        coupling
            The match.
        mass
            (n_target,) positive weight of each target cell, that of its share of partners.
        rng, n_permutations
            Of the draws, and of those under chance.
        """
        partners = coupling.transpose.sampler().draw(np.arange(coupling.n_source), N_ROUNDS, rng)
        n_cells, met = np.zeros(len(coupling.blocks), int), np.zeros((N_ROUNDS, len(coupling.blocks)))
        null = np.zeros((n_permutations, len(coupling.blocks)))
        for place, block in enumerate(coupling.blocks):
            drawn = partners[block.source]
            drawn = drawn[drawn[:, 0] >= 0]
            share = mass[block.target] / mass[block.target].sum()
            column = np.full(coupling.n_target, -1)
            column[block.target] = np.arange(len(block.target))
            n_cells[place] = len(drawn)
            for turn in range(N_ROUNDS):
                met[turn, place] = _met(np.bincount(column[drawn[:, turn]], minlength=len(share)), share)
            for turn in range(n_permutations):
                null[turn, place] = _met(rng.multinomial(len(drawn), share), share)
        return cls(n_cells, met, null)

    def share(self, blocks: IntArray) -> Statistic:
        """Effective number of partners over the one that chance gives, for some blocks; low values are hubs.

        The value is a mean over rounds; the p-value is that of the first one.
        """
        null, met = self.null[:, blocks].sum(axis=1), self.met[:, blocks].sum(axis=1)
        n_cells = int(self.n_cells[blocks].sum())
        if not null.mean() > 0:
            return Statistic(n_cells, float("nan"), np.full(len(null), np.nan), low=True)
        return Statistic(
            n_cells, float(null.mean() / met.mean()), null.mean() / null, low=True, observed=float(null.mean() / met[0])
        )


def _met(counts: IntArray, share: FloatArray) -> float:
    """``Σ c_j² / (n² w_j)``: 1 where counts are as the shares, m where all n are on one of m equal cells."""
    n_drawn = counts.sum()
    return float((counts.astype(float) ** 2 / share).sum() / n_drawn) if n_drawn else 0.0


def label_shares(coupling: Coupling, codes: IntArray, n_labels: int) -> FloatArray:
    """Share of each source cell's mass on target cells of each label (n_source, n_labels).

    Target cells without a label (−1) take no part; NaN where none of a cell's mass is labelled.
    """
    indicator = np.zeros((coupling.n_target, n_labels))
    known = np.flatnonzero(codes >= 0)
    indicator[known, codes[known]] = 1
    shares = coupling.pull(indicator)
    total = shares.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(shares / np.where(total > 0, total, np.nan))


def one_hot(codes: IntArray, n_labels: int) -> FloatArray:
    """Indicator of each cell's label (n_cells, n_labels); NaN rows for cells without one."""
    found = np.full((len(codes), n_labels), np.nan)
    known = np.flatnonzero(codes >= 0)
    found[known] = 0
    found[known, codes[known]] = 1
    return found


def block_means(u: FloatArray, v: FloatArray, blocks: Sequence[IntArray]) -> FloatArray:
    """``n ū · v̄`` of each block: what a permutation leaves of ``Σ u_i · v_i``, cells with NaN left out.

    0 for blocks of fewer cells than :func:`psalm.core.permutation.relate` takes.
    """
    known = known_in(u, v)
    found = []
    for block in blocks:
        cells = block[known[block]]
        enough = len(cells) >= FEWEST_CELLS
        found.append(len(cells) * float(u[cells].mean(axis=0) @ v[cells].mean(axis=0)) if enough else 0.0)
    return np.array(found)
