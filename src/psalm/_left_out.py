"""Predictors of treatments that a model has not seen, and their scores: what :func:`psalm.tl.holdout` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from psalm.core.coupling import Block, Coupling
from psalm.core.held_out import Features, Space, Sums, distribution_scores, pair_scores
from psalm.core.plan import SparsePlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.rows import Rows
    from psalm.model import CrossModal
    from psalm.model._fit import Schedule

    Scored = tuple[dict[str, Any], Features, Sums | None]

MODEL, PAIRS = "model", "model on true pairs"
N_SPACE = 20_000
"""Training cells that the space of comparison is taken from, at most."""


@dataclass(frozen=True)
class Material:
    """What the groups share: the match with the treatment of each block, features, sizes, true partners."""

    coupling: Coupling
    treatments: list[str]
    targets: Rows
    size: FloatArray
    partner: IntArray

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.treatments))

    def without(self, group: Sequence[str]) -> tuple[Coupling, list[str]]:
        kept = [k for k, name in enumerate(self.treatments) if name not in group]
        blocks = tuple(self.coupling.blocks[k] for k in kept)
        return Coupling(self.coupling.n_source, self.coupling.n_target, blocks), [self.treatments[k] for k in kept]

    def blocks(self, name: str) -> Iterator[Block]:
        return (b for b, t in zip(self.coupling.blocks, self.treatments, strict=True) if t == name)

    def measured(self, cells: IntArray) -> FloatArray:
        return np.asarray(self.targets.take(cells) / self.size[cells][:, None], dtype=np.float64)


def material(mdata: MuData, model: CrossModal, partner: IntArray) -> Material:
    from psalm.model._reading import coupling_of, sizes_of, target_rows

    coupling, names = coupling_of(mdata, model.setup, ())
    targets = target_rows(mdata, model.setup)
    return Material(coupling, names, targets, sizes_of(targets, coupling, model.setup), partner)


@dataclass(frozen=True)
class Trainer:
    """How predictors are trained."""

    mdata: MuData
    model: CrossModal
    schedule: Schedule
    loss: str

    def predictions(self, coupling: Coupling, names: list[str], cells: IntArray, seed: int) -> FloatArray:
        """Of some source cells, by the model trained on a coupling with the treatment of each of its blocks."""
        self.model._train_on(coupling, names, self.loss, self.schedule, np.random.default_rng(seed), progress=False)
        return np.asarray(self.model.predict(self.mdata.mod[self.model.setup.source][cells]))


def one_group(trainer: Trainer, data: Material, group: list[str], rng: np.random.Generator) -> list[Scored]:
    """Train without some treatments, and score all predictors on each."""
    coupling, names = data.without(group)
    seen = np.sort(np.concatenate([block.target for block in coupling.blocks]))
    space = Space.of(data.measured(np.sort(rng.permutation(seen)[:N_SPACE])))
    cells = np.concatenate([block.source for name in group for block in data.blocks(name)])
    seed = int(rng.integers(2**31))
    predictions = {MODEL: trainer.predictions(coupling, names, cells, seed)}
    if (data.partner[cells] >= 0).any():
        predictions[PAIRS] = trainer.predictions(_true_pairs(coupling, data.partner), names, cells, seed)
    place = np.full(coupling.n_source, -1)
    place[cells] = np.arange(len(cells))
    return [row for name in group for row in _score(name, data, predictions, place, space, rng)]


def _true_pairs(coupling: Coupling, partner: IntArray) -> Coupling:
    """The same blocks, all mass between true partners."""
    blocks = []
    for block in coupling.blocks:
        place = np.full(coupling.n_target + 1, -1)
        place[block.target] = np.arange(len(block.target))
        columns = place[partner[block.source]]
        rows = np.flatnonzero(columns >= 0)
        shape = (len(block.source), len(block.target))
        mass = sparse.csr_matrix((np.ones(len(rows)), (rows, columns[rows])), shape=shape)
        blocks.append(Block(block.treatment, block.source, block.target, SparsePlan(mass)))
    return Coupling(coupling.n_source, coupling.n_target, tuple(blocks))


def _score(
    name: str,
    data: Material,
    predictions: dict[str, FloatArray],
    place: IntArray,
    space: Space,
    rng: np.random.Generator,
) -> list[Scored]:
    """One row per predictor, and the sums that R² is pooled from; ``place`` finds a cell among the predictions."""
    blocks = list(data.blocks(name))
    cells = np.concatenate([block.source for block in blocks])
    measured = [data.measured(block.target) for block in blocks]
    every = np.concatenate(measured)
    random = [values[rng.integers(len(values), size=len(b.source))] for b, values in zip(blocks, measured, strict=True)]
    averages = [_averages(block, values) for block, values in zip(blocks, measured, strict=True)]
    guesses = {
        MODEL: predictions[MODEL][place[cells]],
        "treatment mean": np.broadcast_to(every.mean(axis=0), (len(cells), every.shape[1])),
        "random match": np.concatenate(random),
        "matched average": np.concatenate(averages),
    }
    if PAIRS in predictions:
        guesses[PAIRS] = predictions[PAIRS][place[cells]]
    known = data.partner[cells] >= 0
    truth = space(data.measured(data.partner[cells[known]])) if known.any() else None
    rows: list[Scored] = []
    for predictor, guess in guesses.items():
        standard = space(guess)
        row: dict[str, Any] = {
            "treatment": name,
            "predictor": predictor,
            "n_source": len(cells),
            "n_target": len(every),
        }
        row |= distribution_scores(standard, space(every), space, rng)
        sums = None
        if truth is not None:
            scores, sums = pair_scores(standard[known], truth, space(every).mean(axis=0))
            row |= scores
        pairs = None if truth is None else (standard[known], truth)
        rows.append((row, Features.of(standard, space(every), pairs), sums))
    return rows


def _averages(block: Block, values: FloatArray) -> FloatArray:
    """Matched average of each source cell of a block; the block's mean where a cell has no mass."""
    shape = block.plan.shape
    alone = Coupling(*shape, (Block(0, np.arange(shape[0]), np.arange(shape[1]), block.plan),))
    found = alone.pull(values)
    return np.where(np.isnan(found), values.mean(axis=0), found)
