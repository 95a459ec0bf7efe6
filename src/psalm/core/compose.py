"""Two couplings that share a modality, as one: a to b and b to c become a to c.

Given the middle cell b, its partners on the two sides are taken to be independent:
``G_ac = Σ_b G_ab G_bc / Σ_c G_bc``. That is all that two pairwise matches can say of a and c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from psalm.core.coupling import Block, Coupling, plan_tiles
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.plan import Plan

SPLIT = (
    "The two couplings cut the cells that they share into different blocks, so that a cell would belong to two blocks "
    "of the composed one. Compose couplings made within the same treatments."
)


@dataclass(frozen=True)
class ComposedPlan:
    """``left · first · middle · second · right``: two plans through the cells that they share, with factors of cells.

    Parameters
    ----------
    first, second
        Plans (n_a, ·) and (·, n_c).
    shared
        Positions (k,) of the shared cells among the columns of the first, and among the rows of the second.
    left, middle, right
        Factors (n_a,), (k,) and (n_c,).
    """

    first: Plan
    second: Plan
    shared: tuple[IntArray, IntArray]
    left: FloatArray
    middle: FloatArray
    right: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Number of source and target cells."""
        return self.first.shape[0], self.second.shape[1]

    @property
    def transpose(self) -> ComposedPlan:
        """The same plan with source and target exchanged."""
        back = self.shared[1], self.shared[0]
        return ComposedPlan(self.second.transpose, self.first.transpose, back, self.right, self.middle, self.left)

    def rows(self, tile: slice) -> FloatArray:
        """Mass of some source cells, dense (n_rows, n_c); to 1e-6 where the second plan is soft."""
        first = self.first.rows(tile)
        weights = np.zeros((len(first), self.second.shape[0]))
        weights[:, self.shared[1]] = first[:, self.shared[0]] * self.middle
        found = np.zeros((len(first), self.shape[1]))
        for part, mass in plan_tiles(self.second):
            found += weights[:, part] @ mass
        return np.asarray(found * self.left[tile, None] * self.right)

    def weighted(self, weight: float) -> ComposedPlan:
        """The same plan with its mass multiplied by ``weight``."""
        return replace(self, left=self.left * weight)

    def stored(self) -> SparsePlan:
        """The plan as entries, where both plans are; nothing becomes dense but what is."""
        if not isinstance(self.first, SparsePlan) or not isinstance(self.second, SparsePlan):
            msg = "Only plans that are stored entries compose to stored entries."
            raise TypeError(msg)
        first = sparse.diags(self.left) @ self.first.mass[:, self.shared[0]] @ sparse.diags(self.middle)
        second = self.second.mass[self.shared[1]] @ sparse.diags(self.right)
        return SparsePlan(sparse.csr_matrix(first @ second))


def compose(first: Coupling, second: Coupling) -> Coupling:
    """The coupling of a and c from that of a and b and that of b and c.

    Every cell of a keeps the mass that it transports in ``first``: what goes to cells of b without mass in ``second``
    is spread over the others in proportion. Cells of a none of whose partners has a partner have no mass. Sums over a,
    the masses of c, are those of ``second`` only where the two couplings give the same mass to every cell of b.

    Parameters
    ----------
    first
        Rows a, columns b.
    second
        Rows b, columns c.

    Returns
    -------
    Rows a, columns c; a block for each pair of blocks that share cells of b, with the treatment of the first.

    Raises
    ------
    ValueError
        The couplings have different numbers of cells of b, or cut them into different blocks.
    """
    if first.n_target != second.n_source:
        msg = (
            f"The first coupling has {first.n_target} target cells and the second {second.n_source} source cells, "
            "which must be the same cells. Pass couplings that share a modality."
        )
        raise ValueError(msg)
    place = np.full((2, second.n_source), -1)  # block, and position in it, of every cell of b
    for number, block in enumerate(second.blocks):
        place[:, block.source] = np.full(len(block.source), number), np.arange(len(block.source))
    blocks: list[Block] = []
    used: set[int] = set()
    for block in first.blocks:
        numbers, positions = place[:, block.target]
        partners = set(numbers[numbers >= 0].tolist())
        if len(partners) > 1 or partners & used:
            raise ValueError(SPLIT)
        used |= partners
        shared = np.flatnonzero(numbers >= 0)
        for partner in partners:
            other = second.blocks[partner]
            plan = _through(block.plan, other.plan, (shared, positions[shared]))
            stored = isinstance(block.plan, SparsePlan) and isinstance(other.plan, SparsePlan)
            blocks.append(Block(block.treatment, block.source, other.target, plan.stored() if stored else plan))
    return Coupling(first.n_source, second.n_target, tuple(blocks))


def compose_entries(first: sparse.csr_matrix, second: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same for couplings that are entries, (n_a, n_b) and (n_b, n_c) CSR, without cutting them into blocks."""
    everyone = np.arange(second.shape[0])
    return _through(SparsePlan(first), SparsePlan(second), (everyone, everyone)).stored().mass


def _through(first: Plan, second: Plan, shared: tuple[IntArray, IntArray]) -> ComposedPlan:
    """One block, with the mass of each of its source cells as in the first plan."""
    of_middle = _row_mass(second, np.arange(second.shape[1]))[shared[1]]
    linked = of_middle > 0
    whole, reaching = (_row_mass(first, columns) for columns in (np.arange(first.shape[1]), shared[0][linked]))
    left = np.divide(whole, reaching, where=reaching > 0, out=np.zeros_like(whole))
    middle = np.divide(1.0, of_middle, where=linked, out=np.zeros_like(of_middle))
    return ComposedPlan(first, second, shared, left, middle, np.ones(second.shape[1]))


def _row_mass(plan: Plan, columns: IntArray) -> FloatArray:
    """Mass of every row of a plan in some of its columns."""
    if isinstance(plan, SparsePlan):
        return np.asarray(plan.mass[:, columns].sum(axis=1), dtype=np.float64).ravel()
    found = np.zeros(plan.shape[0])
    for rows, mass in plan_tiles(plan):
        found[rows] = mass[:, columns].sum(axis=1, dtype=np.float64)
    return found
