"""Group-level contrastive learning: cells of the two modalities are drawn together when they share a treatment.

GroupCLIP, the loss that carries GROOVE (Gorla et al., "Group contrastive learning for weakly paired multimodal data",
arXiv 2602.04021), stands between CLIP (Radford et al., ICML 2021) and supervised contrastive learning (Khosla et al.,
NeurIPS 2020). This is our own reading of it, without GROOVE's back-translating autoencoder: with unit embeddings u of
source and v of target cells, and P(i) the target cells of the batch that share the treatment of source cell i,

    L = mean_i −1/|P(i)| Σ_{p ∈ P(i)} log [exp(u_i·v_p/τ) / Σ_j exp(u_i·v_j/τ)],

the "out" form of Khosla et al. across modalities, averaged with the same from target to source. Encoders see the cells
they embed; the same loss on cells held out says when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from aligners.training import inputs, step, trained

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from problem import Problem

LEAST_TEMPERATURE = 0.01
"""CLIP's bound."""


@dataclass(frozen=True)
class GroupContrastive:
    """Two encoders trained by a contrastive loss on treatments, to the unit sphere.

    Parameters
    ----------
    n_embedding, n_hidden, n_layers, dropout
        Dimensions of the sphere's space; width, number and dropout of the hidden layers.
    temperature, learn_temperature
        τ, or where it starts.
    within
        Weight of the same loss within each modality, where a cell is no positive of itself; cross-modal terms have 1.
    learning_rate, weight_decay, batch_size
        Of AdamW; cells of each modality in a minibatch.
    max_epochs, patience
        Passes over the cells; stop once the held-out loss has not fallen for so many of them, and keep the best pass.
    """

    n_embedding: int = 128
    n_hidden: int = 128
    n_layers: int = 2
    dropout: float = 0.2
    temperature: float = 0.1
    learn_temperature: bool = False
    within: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    max_epochs: int = 200
    patience: int = 20

    def __call__(self, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(n_source, n_embedding) and (n_target, n_embedding), of length 1."""
        encoders, _ = self.fit(problem, seed)
        with torch.no_grad():
            source, target = (u.double().numpy() for u in encoders(inputs(problem)))
        return source, target

    def fit(self, problem: Problem, seed: int) -> tuple[Encoders, list[dict[str, float]]]:
        """The encoders of the best pass, and what the held-out cells said after each."""

        def start(n_features: list[int]) -> tuple[Encoders, Callable[[list[Tensor], list[Tensor]], None]]:
            encoders = Encoders(self, n_features)
            optimiser = torch.optim.AdamW(encoders.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
            return encoders, lambda x, codes: step(optimiser, self.loss(encoders, x, codes))

        return trained(problem, seed, start, self.judge, self)

    def loss(self, encoders: Encoders, x: list[Tensor], codes: list[Tensor]) -> Tensor:
        """Both directions across modalities, and within them where asked for."""
        temperature, units = encoders.temperature, encoders(x)
        loss = across(*units, *codes, temperature)
        if self.within:
            inside = [group_loss(u, u, c, c, temperature, itself=True) for u, c in zip(units, codes, strict=True)]
            loss = loss + self.within * (inside[0] + inside[1]) / 2
        return loss

    @torch.no_grad()
    def judge(self, encoders: Encoders, x: list[Tensor], codes: list[Tensor]) -> dict[str, float]:
        """The loss across modalities of held-out cells, and how often the nearest of the other shares the treatment."""
        (source, target), (rows, columns) = encoders(x), codes
        likeness = source @ target.T
        right = [columns[likeness.argmax(dim=1)] == rows, rows[likeness.argmax(dim=0)] == columns]
        loss = across(source, target, rows, columns, encoders.temperature)
        return {"loss": loss.item(), "nearest": torch.cat(right).float().mean().item()}


class Encoders(nn.Module):
    """One perceptron per modality, and the temperature."""

    def __init__(self, model: GroupContrastive, n_features: list[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(perceptron(model, n) for n in n_features)
        self.log_scale = nn.Parameter(-torch.tensor(model.temperature).log(), requires_grad=model.learn_temperature)

    @property
    def temperature(self) -> Tensor:
        return (-self.log_scale).exp().clamp(min=LEAST_TEMPERATURE)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Embeddings of length 1, of both modalities."""
        return [normalize(network(side)) for network, side in zip(self.networks, x, strict=True)]


def perceptron(model: GroupContrastive, n_features: int) -> nn.Sequential:
    found, n_in = [], n_features
    for _ in range(model.n_layers):
        found += [nn.Linear(n_in, model.n_hidden), nn.LayerNorm(model.n_hidden), nn.GELU(), nn.Dropout(model.dropout)]
        n_in = model.n_hidden
    return nn.Sequential(*found, nn.Linear(n_in, model.n_embedding))


def across(u: Tensor, v: Tensor, rows: Tensor, columns: Tensor, temperature: Tensor) -> Tensor:
    """The loss from source to target and back, averaged."""
    there = group_loss(u, v, rows, columns, temperature)
    return (there + group_loss(v, u, columns, rows, temperature)) / 2


def group_loss(
    u: Tensor, v: Tensor, rows: Tensor, columns: Tensor, temperature: Tensor, *, itself: bool = False
) -> Tensor:
    """Mean over u of the mean over its positives in v of −log softmax(u·v/τ); cells without a positive take no part.

    With `itself`, u and v are the same cells, and no cell is compared with itself.
    """
    logits, positive = u @ v.T / temperature, rows[:, None] == columns
    if itself:
        same = torch.eye(len(u), dtype=torch.bool)
        logits, positive = logits.masked_fill(same, -torch.inf), positive & ~same
    log_share = torch.log_softmax(logits, dim=1).masked_fill(~positive, 0.0)
    n_positive = positive.sum(dim=1)
    per_cell = -log_share.sum(dim=1) / n_positive.clamp(min=1)
    return per_cell[n_positive > 0].mean()
