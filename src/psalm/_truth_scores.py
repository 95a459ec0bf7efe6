"""The metrics of a match whose truth is known, as ratios of sums over its cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psalm.core import metrics
from psalm.core.bootstrap import Ratio, estimate
from psalm.core.feature_ranks import feature_ranks
from psalm.core.truth_free import label_shares

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray
    from psalm.core.bootstrap import Estimate
    from psalm.core.coupling import Coupling


@dataclass(frozen=True)
class Truth:
    """What is known.

    Parameters
    ----------
    partner
        (n_source,) position of each source cell's partner, −1 where it has none.
    features
        (n_target, k) in which averages are compared, or None where no pair is known.
    latents
        True latents of source and target, or None.
    labels
        Codes of a label of source and target and their number, or None.
    k
        Of recall.
    """

    partner: IntArray
    features: FloatArray | None
    latents: tuple[FloatArray, FloatArray] | None
    labels: tuple[IntArray, IntArray, int] | None
    k: int


@dataclass(frozen=True)
class Scored:
    """Metrics over some cells.

    Parameters
    ----------
    ratios
        By name.
    block
        (n_cells,) code of each cell's block.
    """

    ratios: dict[str, Ratio]
    block: IntArray

    def estimates(
        self, groups: dict[int, int], n_groups: int, rng: np.random.Generator, n_draws: int
    ) -> dict[str, list[Estimate]]:
        """By group of blocks, and over all."""
        numbers = np.array([groups[code] for code in self.block.tolist()], dtype=int)
        return estimate(self.ratios, numbers, n_groups, rng, n_draws)


def scored(coupling: Coupling, truth: Truth) -> list[Scored]:
    """Everything that the truth allows: of pairs, of latents, of labels."""
    found = []
    pairs = _of_pairs(coupling, truth)
    found.append(pairs)
    cells = np.concatenate([block.source for block in coupling.blocks])
    codes = np.concatenate([np.full(len(block.source), block.treatment) for block in coupling.blocks])
    if truth.latents is not None:
        matched, uniform = metrics.latent_errors(coupling, *truth.latents)
        uniform[np.isnan(matched)] = np.nan
        found.append(Scored({"latent_error": Ratio(matched[cells], uniform[cells])}, codes))
    if truth.labels is not None:
        accuracy, chance = _labels(coupling, *truth.labels)
        ones = np.ones(len(cells))
        ratios = {"label_accuracy": Ratio(accuracy[cells], ones), "label_chance": Ratio(chance[cells], ones)}
        found.append(Scored(ratios, codes))
    return found


def _of_pairs(coupling: Coupling, truth: Truth) -> Scored:
    ranks = metrics.pair_ranks(coupling, truth.partner, truth.k)
    ones = np.ones(len(ranks.source))
    names = ("foscttm", "foscttm_source", "foscttm_target", "recall", "recall_chance", "trace", "lift")
    ratios = {name: Ratio(getattr(ranks, name), ones) for name in names}
    if truth.features is not None:
        average = coupling.pull(truth.features)
        errors = metrics.matched_average_errors(coupling, ranks, truth.features, average)
        near = feature_ranks(coupling, ranks, truth.features, average)
        ratios["foscttm_features"] = Ratio(near, ones)
        ratios["r2"] = Ratio(errors.matched, errors.treatment_mean, complement=True)
        ratios["r2_total"] = Ratio(errors.matched, errors.total_mean, complement=True)
    return Scored(ratios, ranks.treatment)


def _labels(coupling: Coupling, source: IntArray, target: IntArray, n_labels: int) -> tuple[FloatArray, FloatArray]:
    """Whether each source cell's label is the one with most mass among its matches, and in its block.

    Labels that are tied share the hit. NaN for cells without a label or without labelled matches.
    """
    shares = label_shares(coupling, target, n_labels)
    common = np.full_like(shares, np.nan)
    for block in coupling.blocks:
        known = target[block.target]
        common[block.source] = np.bincount(known[known >= 0], minlength=n_labels)
    return _hits(shares, source), _hits(np.where(np.isnan(shares), np.nan, common), source)


def _hits(shares: FloatArray, codes: IntArray) -> FloatArray:
    found = np.full(len(codes), np.nan)
    scored = np.flatnonzero((codes >= 0) & ~np.isnan(shares).any(axis=1))
    best = shares[scored] >= shares[scored].max(axis=1, keepdims=True) * (1 - 1e-9)
    found[scored] = best[np.arange(len(scored)), codes[scored]] / best.sum(axis=1)
    return found
