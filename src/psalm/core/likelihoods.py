"""Distributions of the target's features given the source: which loss a prediction is measured by.

A network gives one number η per cell and feature; a likelihood says what it means. With s the size factor of the
target cell (its total over the median total; 1 where sizes play no part):

- "gaussian": y standardised, mean η, loss ``(y − η)²``;
- "poisson": mean ``μ = s·exp(η)·m``, m the feature's mean, loss ``μ − y log μ``;
- "nb": negative binomial with the same mean and one dispersion θ per feature, variance ``μ + μ²/θ``, loss its negative
  log-likelihood;
- "bernoulli": probability ``σ(η + logit m)``, loss the cross-entropy.

All but "nb" are linear in (y, s): their mean under a plan is their value at the matched averages. Imports torch, so it
is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from psalm.core.counts import counts

if TYPE_CHECKING:
    from psalm.core._types import FloatArray

LARGEST = 15.0
"""η of counts and probabilities is kept within so many nats."""
LEAST_MEAN = 1e-6
OVERDISPERSED = 0.05
"""Counts whose median over features of ``(variance − mean) / mean²`` is above this are negative binomial."""


class Likelihood(nn.Module):
    """What a network's output means; fitted to the means and scales of the target's features.

    Parameters
    ----------
    n_features
        Features of the target.
    """

    linear: ClassVar[bool] = True
    sized: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Take the mean and the standard deviation of each feature, at size one; a constant keeps scale one."""
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("scale").copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def expected(self, output: Tensor) -> Tensor:
        """Mean of the features at size one, in their units, for outputs (n_cells, n_features)."""
        raise NotImplementedError

    def output_of(self, mean: Tensor) -> Tensor:
        """The output whose :meth:`expected` is this."""
        raise NotImplementedError

    def loss(self, output: Tensor, target: Tensor, size: Tensor) -> Tensor:
        """(n_cells, n_features) loss of every value; ``size`` is (n_cells, 1)."""
        raise NotImplementedError


class Gaussian(Likelihood):
    """Real-valued features."""

    def standardised(self, target: Tensor) -> Tensor:
        """Features in units of their standard deviation."""
        return (target - self.get_buffer("mean")) / self.get_buffer("scale")

    def expected(self, output: Tensor) -> Tensor:
        """Mean at size one."""
        return output * self.get_buffer("scale") + self.get_buffer("mean")

    def output_of(self, mean: Tensor) -> Tensor:
        """Output of a mean."""
        return self.standardised(mean)

    def loss(self, output: Tensor, target: Tensor, size: Tensor) -> Tensor:
        """Loss of every value."""
        return (self.standardised(target) - output) ** 2


class Poisson(Likelihood):
    """Counts whose variance is their mean."""

    sized: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, np.inf)

    def _log_mean(self) -> Tensor:
        return self.get_buffer("mean").clamp(min=LEAST_MEAN).log()

    def expected(self, output: Tensor) -> Tensor:
        """Mean at size one."""
        return (output.clamp(-LARGEST, LARGEST) + self._log_mean()).exp()

    def output_of(self, mean: Tensor) -> Tensor:
        """Output of a mean."""
        return mean.clamp(min=LEAST_MEAN).log() - self._log_mean()

    def loss(self, output: Tensor, target: Tensor, size: Tensor) -> Tensor:
        """Loss of every value."""
        log_rate = output.clamp(-LARGEST, LARGEST) + self._log_mean()
        return size * log_rate.exp() - target * log_rate


class NegativeBinomial(Poisson):
    """Counts whose variance exceeds their mean."""

    linear: ClassVar[bool] = False

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_dispersion = nn.Parameter(torch.zeros(n_features))

    def loss(self, output: Tensor, target: Tensor, size: Tensor) -> Tensor:
        """Loss of every value."""
        theta = self.log_dispersion.clamp(-LARGEST, LARGEST).exp()
        log_mean = output.clamp(-LARGEST, LARGEST) + self._log_mean() + size.log()
        log_total = torch.logaddexp(log_mean, theta.log())
        found = theta * (theta.log() - log_total) + target * (log_mean - log_total)
        return -(found + torch.lgamma(target + theta) - torch.lgamma(theta) - torch.lgamma(target + 1))


class Bernoulli(Likelihood):
    """Features that are there or not, such as open chromatin."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def _logit(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=LEAST_MEAN)

    def expected(self, output: Tensor) -> Tensor:
        """Mean at size one."""
        return torch.sigmoid(output.clamp(-LARGEST, LARGEST) + self._logit(self.get_buffer("mean")))

    def output_of(self, mean: Tensor) -> Tensor:
        """Output of a mean."""
        return self._logit(mean) - self._logit(self.get_buffer("mean"))

    def loss(self, output: Tensor, target: Tensor, size: Tensor) -> Tensor:
        """Loss of every value."""
        logit = output.clamp(-LARGEST, LARGEST) + self._logit(self.get_buffer("mean"))
        return softplus(logit) - target * logit


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "bernoulli": Bernoulli,
}


def suited(values: FloatArray) -> str:
    """The likelihood that some cells' features (n_cells, n_features) call for.

    Whole numbers that are not negative are counts: 0 and 1 only, "bernoulli"; else "nb" where the variance exceeds the
    mean by more than 5 % of its square in at least half of the features that vary, and "poisson" where not. All other
    values are "gaussian".
    """
    if not counts(values):
        return "gaussian"
    if np.max(values, initial=0) <= 1:
        return "bernoulli"
    total = values.sum(axis=1, dtype=np.float64)
    size = total[total > 0] / np.median(total[total > 0])
    scaled = values[total > 0] / size[:, None]
    mean, variance = scaled.mean(axis=0), scaled.var(axis=0)
    seen = mean > 0
    excess = (variance[seen] - mean[seen] * (1 / size).mean()) / mean[seen] ** 2  # the mean is Poisson's, cell by cell
    return "nb" if seen.any() and np.median(excess) > OVERDISPERSED else "poisson"
