"""A simulation that fulfils the method's assumptions, with every truth known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from psalm import _checks
from psalm._containers import stack

if TYPE_CHECKING:
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray

SLOPE = 0.3


def simulated(
    *,
    n_cells: int = 1000,
    n_treatments: int = 8,
    n_latent: int = 4,
    n_private: int = 4,
    n_features: tuple[int, int] = (40, 30),
    strength: float = 2.0,
    paired: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> MuData:
    """Two modalities of cells under soft interventions on a shared Gaussian latent.

    A cell of treatment t has the latent ``z ~ N(μ_t, I)``: a soft intervention moves the mean and leaves the spread.
    Modality e shows ``f_e(z, u_e)``: an injective network (random linear, leaky ReLU, random linear) of the latent and
    of private noise ``u_e ~ N(0, I)``. The propensity then has the closed form ``P(t | z) ∝ p_t exp(−‖z − μ_t‖²/2)``.

    Parameters
    ----------
    n_cells
        Cells of each modality.
    n_treatments
        T, "control" (μ = 0) included; treatments are equally frequent in expectation.
    n_latent
        Dimension d of the shared latent. Scores cannot locate a cell unless T > d.
    n_private
        Dimension of each modality's private noise.
    n_features
        Features of modality "a" and of modality "b", each at least ``n_latent + n_private``.
    strength
        Distance of a treatment's mean from control, in standard deviations of the latent.
    paired
        Measure the same cells in both modalities (same names), for evaluations that need pairs.
    rng
        Seed or generator.

    Returns
    -------
    MuData of modalities "a" and "b" with ``obs["perturbation"]``, ``obsm["latent"]`` (n_cells, d) and
    ``obsm["propensity_true"]`` (n_cells, T): centred log-odds in nats, columns in the order of the categories.
    Cells of the two modalities are disjoint, unless ``paired``.

    Raises
    ------
    ValueError
        A size is too small.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=100, n_treatments=3)
    >>> mdata["a"].obsm["propensity_true"].shape
    (100, 3)
    """
    sizes = {"n_treatments": (n_treatments, 2), "n_latent": (n_latent, 1), "n_private": (n_private, 0)}
    sizes |= {"n_cells": (n_cells, n_treatments), "n_features": (min(n_features), n_latent + n_private)}
    for name, (value, least) in sizes.items():
        _checks.whole_number(name, value, least=least)
    generator = _checks.generator(rng)
    directions = generator.normal(size=(n_treatments, n_latent))
    means = strength * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    means[0] = 0

    modalities, drawn = {}, None
    for name, width in zip(("a", "b"), n_features, strict=True):
        if drawn is None or not paired:
            drawn = _draw(means, n_cells, generator)
        features = _measure(drawn[1], n_private, width, generator)
        prefix = "cell" if paired else name
        modalities[name] = _modality(features, *drawn, means, f"{prefix}_", f"{name}_feature_")
    return stack(modalities)


def _draw(means: FloatArray, n_cells: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Treatment (n_cells,) and latent (n_cells, d)."""
    codes = rng.integers(len(means), size=n_cells)
    return codes, means[codes] + rng.normal(size=(n_cells, means.shape[1]))


def _measure(latent: FloatArray, n_private: int, width: int, rng: np.random.Generator) -> FloatArray:
    """Features (n_cells, width): injective in latent and private noise almost surely."""
    hidden = np.column_stack([latent, rng.normal(size=(len(latent), n_private))])
    hidden = hidden @ rng.normal(size=(hidden.shape[1], width)) / np.sqrt(hidden.shape[1])
    hidden = np.where(hidden > 0, hidden, SLOPE * hidden)
    return np.asarray(hidden @ rng.normal(size=(width, width)) / np.sqrt(width))


def _modality(
    features: FloatArray, codes: IntArray, latent: FloatArray, means: FloatArray, cell: str, feature: str
) -> AnnData:
    names = ["control", *(f"t{number}" for number in range(1, len(means)))]
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical.from_codes(codes, categories=names)},
        index=[f"{cell}{number}" for number in range(len(codes))],
    )
    var = pd.DataFrame(index=[f"{feature}{number}" for number in range(features.shape[1])])
    log_odds = -0.5 * ((latent[:, None, :] - means) ** 2).sum(axis=2)  # equal frequencies: log p_t is constant
    truth = {"latent": latent, "propensity_true": log_odds - log_odds.mean(axis=1, keepdims=True)}
    return AnnData(features, obs=obs, var=var, obsm=truth)
