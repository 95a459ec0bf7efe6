"""How embedders are trained: by minibatches with equal treatments in both modalities, until held-out cells say stop."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from psalm.core.folds import deal_folds
from psalm.core.minibatch import moments, reproducible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from problem import Problem

    Cells = list[Tensor]
    Turn = Callable[[Cells, Cells], Any]

Network = TypeVar("Network", bound=nn.Module)

N_FOLDS = 5
"""One of so many folds is held out."""


class Schedule(Protocol):
    """Cells of each modality in a minibatch, most passes, and passes without a better one after which to stop."""

    batch_size: int
    max_epochs: int
    patience: int


def trained(
    problem: Problem,
    seed: int,
    start: Callable[[list[int]], tuple[Network, Turn]],
    judge: Callable[[Network, Cells, Cells], dict[str, float]],
    schedule: Schedule,
) -> tuple[Network, list[dict[str, float]]]:
    """The network of the best pass, and what the held-out cells said after each.

    Parameters
    ----------
    problem, seed
        Cells, and what everything that is drawn follows from.
    start
        From the numbers of features to a network, and what is done with a minibatch: features and treatments of both
        modalities.
    judge
        From the network and the held-out cells to figures, "loss" among them.
    schedule
        How long.
    """
    rng, x = np.random.default_rng(seed), inputs(problem)
    codes = [torch.tensor(side.codes) for side in problem.sides]
    training, held_out = split(problem, rng)
    with reproducible(seed, "cpu"):
        network, turn = start([side.shape[1] for side in x])
        stop = EarlyStop(schedule.patience)
        while len(stop.history) < schedule.max_epochs and not stop.over:
            network.train()
            for batch in batches(problem, training, schedule.batch_size, rng):
                turn(*chosen(x, codes, batch))
            network.eval()
            stop.see(network, judge(network, *chosen(x, codes, held_out)))
    network.load_state_dict(stop.weights)
    return network, stop.history


def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


class EarlyStop:
    """Keep the weights of the pass with the least held-out loss."""

    def __init__(self, patience: int) -> None:
        self.patience, self.history, self.weights = patience, [], {}
        self.best, self.least = 0, float("inf")

    @property
    def over(self) -> bool:
        return len(self.history) - self.best > self.patience

    def see(self, network: nn.Module, judged: dict[str, float]) -> None:
        """Note what the held-out cells said after a pass."""
        self.history.append(judged)
        if judged["loss"] < self.least:
            self.best, self.least = len(self.history), judged["loss"]
            self.weights = copy.deepcopy(network.state_dict())


def inputs(problem: Problem) -> list[Tensor]:
    """Features of every cell, standardised by the cells that have a treatment."""
    found = []
    for side in problem.sides:
        mean, scale = moments([side.features[side.codes >= 0]])
        found.append(torch.as_tensor((side.features - mean) / scale, dtype=torch.float32))
    return found


def split(problem: Problem, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cells to train on and cells to stop by, of each modality; the folds are drawn apart."""
    folds = [deal_folds(side.codes, N_FOLDS, rng) for side in problem.sides]
    return [np.flatnonzero(fold > 0) for fold in folds], [np.flatnonzero(fold == 0) for fold in folds]


def chosen(
    x: list[Tensor], codes: list[Tensor], cells: tuple[np.ndarray, np.ndarray] | list[np.ndarray]
) -> tuple[list[Tensor], list[Tensor]]:
    return [side[c] for side, c in zip(x, cells, strict=True)], [code[c] for code, c in zip(codes, cells, strict=True)]


def batches(
    problem: Problem, training: list[np.ndarray], size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pass: cells of both modalities with the same treatments, so that treatments do not give the modality away.

    Where a treatment has fewer cells in one modality they are taken several times.
    """
    found = []
    for blocks in problem.blocks():
        own = [np.intersect1d(block, cells) for block, cells in zip(blocks, training, strict=True)]
        n = max(map(len, own))
        found.append([np.resize(rng.permutation(cells), n) for cells in own])
    pairs = np.concatenate(found, axis=1)
    pairs = pairs[:, rng.permutation(pairs.shape[1])]
    for batch in np.array_split(pairs, max(1, round(pairs.shape[1] / size)), axis=1):
        yield batch[0], batch[1]
