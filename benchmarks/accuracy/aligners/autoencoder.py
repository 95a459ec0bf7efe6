"""The cross-modal autoencoder of Yang, Belyaeva et al. (Nature Communications 2021): one latent for both modalities.

Each modality has an encoder and a decoder. A discriminator learns to tell the modalities from the latent, and the
encoders, in turn, to have it say the other modality: labels are flipped, as in the authors' code
(uhlerlab/cross-modal-autoencoders). One linear classifier tells the treatment from the latent of either modality.
In valence-labs/prop-score-pairing one optimiser lowers the discriminator's loss for discriminator and encoders alike,
which drives modalities apart; here the two take turns.

As in the authors' `model_rna_atac`: latents are not sampled, absolute error, modality and treatment weigh the same,
Adam has β₁ = 0.5 and decay 1e-4, hidden layers have 100 units. As in their `train_rna_image`: batch normalisation,
three hidden layers in the discriminator, cross-entropy of flipped labels. Theirs are four hidden layers, 50 or 128
latent dimensions, minibatches of 32 and a rate of 1e-4 for 1,000 to 4,000 epochs. Here depth and latent are smaller
because that lowered the loss on held-out cells of scGEM, which knows no pairs; larger minibatches and rates are for
time, the discriminator's being the larger so that it keeps up. The held-out loss also says when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss

from aligners.training import inputs, step, trained
from psalm.core.image import convolutions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from problem import Problem

BETAS = (0.5, 0.999)
"""Of Adam, as in the authors' `model_rna_atac`: the turns of discriminator and encoders swing less."""


@dataclass(frozen=True)
class AdversarialAutoencoder:
    """Autoencoders whose latents tell the treatment but not the modality.

    Parameters
    ----------
    n_latent, n_hidden, n_layers
        Dimensions of the latent; width and number of the hidden layers of encoders and decoders.
    reconstruction, adversarial, classification
        Weights of the encoders' losses: mean absolute error of the features, flipped modality, treatment.
    learning_rate, weight_decay, batch_size
        Of Adam; cells of each modality in a minibatch.
    discriminator_rate, discriminator_steps
        The discriminator's own rate, and its steps a turn.
    max_epochs, patience
        Passes over the cells; stop once the held-out loss has not fallen for so many of them, and keep the best pass.
    image_shape
        (channels, height, width) where features are the pixels of images: encoders start with convolutions then, those
        of psalm's classifier of images.
    """

    n_latent: int = 16
    n_hidden: int = 100
    n_layers: int = 2
    reconstruction: float = 1.0
    adversarial: float = 1.0
    classification: float = 1.0
    learning_rate: float = 3e-4
    discriminator_rate: float = 1e-3
    discriminator_steps: int = 1
    weight_decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 200
    patience: int = 30
    image_shape: tuple[int, int, int] | None = None

    def __call__(self, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The latent, (n_source, n_latent) and (n_target, n_latent)."""
        networks, _ = self.fit(problem, seed)
        with torch.no_grad():
            source, target = (
                half.encoder(x).double().numpy() for half, x in zip(networks.halves, inputs(problem), strict=True)
            )
        return source, target

    def fit(self, problem: Problem, seed: int) -> tuple[Networks, list[dict[str, float]]]:
        """The networks of the best pass, and what the held-out cells said after each."""

        def start(n_features: list[int]) -> tuple[Networks, Turns]:
            networks = Networks(self, n_features, problem.n_treatments)
            return networks, Turns(self, networks)

        return trained(problem, seed, start, self.judge, self)

    @torch.no_grad()
    def judge(self, networks: Networks, x: list[Tensor], codes: list[Tensor]) -> dict[str, float]:
        """The encoders' loss on held-out cells, and shares of right answers, means over the modalities.

        In place of the flipped loss stands how far the discriminator's is from guessing, to either side.
        """
        latents = [half.encoder(side) for half, side in zip(networks.halves, x, strict=True)]
        loss = self.adversarial * abs(log(2) - networks.modality_loss(latents, flipped=False).item())
        found = []
        for modality, (half, latent, side, own) in enumerate(zip(networks.halves, latents, x, codes, strict=True)):
            treatment, again = networks.classifier(latent), half.decoder(latent)
            loss += self.reconstruction / 2 * l1_loss(again, side).item()
            loss += self.classification / 2 * cross_entropy(treatment, own).item()
            right = (networks.discriminator(latent) > 0) == bool(modality), treatment.argmax(dim=1) == own
            found.append([*(r.float().mean() for r in right), 1 - ((again - side) ** 2).mean() / (side**2).mean()])
        names = ("discriminator", "classifier", "reconstruction_r2")
        return {"loss": loss, **dict(zip(names, torch.tensor(found).mean(dim=0).tolist(), strict=True))}


class Half(nn.Module):
    """The autoencoder of one modality."""

    def __init__(self, model: AdversarialAutoencoder, n_features: int) -> None:
        super().__init__()
        widths = [model.n_hidden] * model.n_layers
        seen, n_seen = [], n_features
        if model.image_shape is not None:
            convolved, n_seen = convolutions(model.image_shape)
            seen = [nn.Unflatten(1, model.image_shape), *convolved]
        self.encoder = nn.Sequential(*seen, *layers([n_seen, *widths]), nn.Linear(model.n_hidden, model.n_latent))
        self.decoder = nn.Sequential(*layers([model.n_latent, *widths]), nn.Linear(model.n_hidden, n_features))


def layers(widths: list[int]) -> Iterator[nn.Module]:
    for n_in, n_out in pairwise(widths):
        yield from (nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())


class Networks(nn.Module):
    """Both autoencoders, the discriminator of modalities and the classifier of treatments."""

    def __init__(self, model: AdversarialAutoencoder, n_features: list[int], n_treatments: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList(Half(model, n) for n in n_features)
        hidden = [nn.Linear(model.n_latent, model.n_hidden), nn.ReLU()]
        for _ in range(2):
            hidden += [nn.Linear(model.n_hidden, model.n_hidden), nn.ReLU()]
        self.discriminator = nn.Sequential(*hidden, nn.Linear(model.n_hidden, 1))
        self.classifier = nn.Linear(model.n_latent, n_treatments)

    def modality_loss(self, latents: list[Tensor], *, flipped: bool) -> Tensor:
        """Cross-entropy of the discriminator, mean of the modalities."""
        losses = []
        for modality, latent in enumerate(latents):
            said = self.discriminator(latent)
            losses.append(binary_cross_entropy_with_logits(said, torch.full_like(said, float(modality != flipped))))
        return (losses[0] + losses[1]) / 2


class Turns:
    """One minibatch: the discriminator learns the modalities, then all else learns, with modalities flipped."""

    def __init__(self, model: AdversarialAutoencoder, networks: Networks) -> None:
        self.model, self.networks = model, networks
        others = [*networks.halves.parameters(), *networks.classifier.parameters()]
        self.others = adam(others, model.learning_rate, model.weight_decay)
        self.discriminator = adam(networks.discriminator.parameters(), model.discriminator_rate, model.weight_decay)

    def __call__(self, x: list[Tensor], codes: list[Tensor]) -> None:
        latents = [half.encoder(side) for half, side in zip(self.networks.halves, x, strict=True)]
        for _ in range(self.model.discriminator_steps):
            step(self.discriminator, self.networks.modality_loss([u.detach() for u in latents], flipped=False))
        loss = self.model.adversarial * self.networks.modality_loss(latents, flipped=True)
        for half, latent, side, own in zip(self.networks.halves, latents, x, codes, strict=True):
            loss = loss + self.model.reconstruction / 2 * l1_loss(half.decoder(latent), side)
            loss = loss + self.model.classification / 2 * cross_entropy(self.networks.classifier(latent), own)
        step(self.others, loss)


def adam(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=learning_rate, betas=BETAS, weight_decay=weight_decay, fused=True)
