"""Pictures of two objects under interventions on where they lie, in two views, with every truth known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from psalm import _checks
from psalm._containers import stack
from psalm.datasets import _pictures

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from psalm.core._types import BoolArray, FloatArray, IntArray

COORDINATES = ("x1", "y1", "x2", "y2")
VALUES = (0.25, 0.5, 0.75)
TREATMENTS = [f"{coordinate}={value:g}" for coordinate in COORDINATES for value in VALUES]
INTERVENTIONS = ("hard", "soft")

LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
BEND, TURN, SHIFT, STEEPNESS = 1.25, 0.3 * np.pi, 0.2, 2.0
MOST_TINT = 4.0
"""Without shared treatments, palette places are u**4 under the first treatment to u**(1/4) under the last."""

LEAST_SIZE, LARGEST_RADIUS = 8, 0.1
N_BLOCKS = 4

BRUSHES = {
    "view1": _pictures.Brush(_pictures.SUMMER, square=False),
    "view2": _pictures.Brush(_pictures.WISTIA, square=True),
}


def interventional_images(
    n_cells: int = 1000,
    *,
    size: int = 32,
    intervention: str = "hard",
    spread: float = 0.15,
    shared: bool = True,
    radius: float = 0.02,
    paired: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> MuData:
    """Two views of two objects in a plane, after an intervention on one coordinate of one of them.

    The latent ``z = (x1, y1, x2, y2)`` is where the objects lie. Without intervention x1 and y1 are uniform on
    (0.1, 0.9); if ``1.25 (x1² + y1²) ≥ 1``, x2 is uniform on (0.1, 0.5) and y2 on (0.5, 0.9), else x2 on (0.5, 0.9) and
    y2 on (0.1, 0.5). Each sample gets one of 12 treatments, equally frequent in expectation: a coordinate, and 0.25,
    0.5 or 0.75. Object 2 is drawn after object 1 and follows where an intervention puts it.

    View 1 shows z as a blue disc (object 1) and a red one over circles in the palette "summer". View 2 shows squares in
    the same colours over circles in "Wistia", at ``sigmoid(2 (R (z − 0.5) + 0.2))`` of each object's coordinates, where
    R turns by 0.3 π from x to y. A background is 25 circles of radius 0.3 at random places over a plain ground, all in
    random colours of the palette; it is drawn anew for every picture. Places and lengths are shares of the picture, x
    from the left and y from the top. Object 2 lies over object 1, and hides half of it or more in 1% of pictures of 128
    pixels, and in 4% of those of view 2 at 24 pixels (larger objects: more often).

    The published sets have 20,000 training, 5,000 validation and 20,000 test samples of 128 pixels and hard
    interventions, drawn by a game engine. The colours of the objects, the ground and antialiasing are this package's.

    Parameters
    ----------
    n_cells
        Samples of each view.
    size
        Height and width in pixels; pictures of the same ``rng`` differ in nothing else. A view takes
        ``n_cells · 3 · size²`` bytes (983 MB for 20,000 of 128 pixels), and drawing it about 50 MB beside.
    intervention
        "hard" sets the coordinate to the value, as published: the treatment can be read off the picture, so that
        treatments do not overlap and the propensity is 0 or 1.
        "soft" multiplies the coordinate's density by ``exp(−(coordinate − value)² / (2 spread²))``, a truncated normal
        on the interval it had before. All treatments can then have led to any picture.
    spread
        Of soft interventions, in shares of the picture. Smaller ones tell treatments better and overlap less: at 0.1,
        0.15 and 0.2 a sample's own treatment has a mean probability of 0.21, 0.15 and 0.12 given z (1/12 by chance),
        and the least probability of any treatment is about 1e-10, 1e-5 and 6e-4.
    shared
        Let the treatment act through z alone, as the method assumes (A1 of the paper). Otherwise it also tints the
        background of view 1, and of view 1 only: from green under the first treatment to yellow under the last.
    radius
        Of a disc, and half the side of a square, as share of the picture, up to 0.1. Objects are drawn with a radius of
        1 pixel where this is less, which is so below 50 pixels for the published 0.02. Large objects are learnt easily.
    paired
        Show the same samples in both views (same names in the same order), for evaluations that need pairs.
    rng
        Seed or generator.

    Returns
    -------
    MuData of modalities "view1" and "view2" with

    - ``obsm["image"]`` (n_cells, 3, size, size), uint8 of red, green and blue, for ``classifier="image"``;
    - ``obs["intervention"]``, the treatment, such as "x1=0.25", in the order of coordinates and values;
    - ``obsm["latent"]`` (n_cells, 4), z as drawn, of view 2 also before its transform;
    - ``obsm["propensity_true"]`` (n_cells, 12), if interventions are soft: centred log-odds of ``p(t | z)`` in nats,
      columns in the order of the categories. Hard ones have none that are finite;
    - ``X`` (n_cells, 48) float32: mean of each channel (0–255) in 4 × 4 blocks. Mostly background: steps that need a
      matrix run on it, but the objects are to be found in the images.

    Samples of the two views are disjoint, unless ``paired``.

    Raises
    ------
    ValueError
        A size or length is out of its range, or the kind of intervention is not known.

    References
    ----------
    Xi, Osea, Xu and Hartford, *Propensity Score Alignment of Unpaired Multimodal Data*, NeurIPS 2024: the synthetic
    images.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.interventional_images(100, size=24, intervention="soft")
    >>> mdata["view1"].obsm["image"].shape
    (100, 3, 24, 24)
    >>> mdata["view2"].obsm["propensity_true"].shape
    (100, 12)
    """
    _check(n_cells, size, intervention, spread, radius)
    width = spread if intervention == "soft" else None
    generator = _checks.generator(rng)
    modalities, drawn = {}, None
    for name, brush in BRUSHES.items():
        if drawn is None or not paired:
            drawn = _draw(n_cells, width, generator)
        codes, latent = drawn
        tint = np.ones(n_cells) if shared or name != "view1" else _tint(codes)
        circles = generator.random((n_cells, _pictures.N_CIRCLES, 2))
        levels = generator.random((n_cells, 1 + _pictures.N_CIRCLES)) ** tint[:, None]
        places = latent if name == "view1" else _moved(latent)
        pictures = _pictures.paint(places, circles, levels, brush, size, radius)
        modalities[name] = _modality(pictures, codes, latent, name, "cell" if paired else name)
        if width is not None:
            modalities[name].obsm["propensity_true"] = _log_odds(latent, width)
    return stack(modalities)


def _check(n_cells: int, size: int, intervention: str, spread: float, radius: float) -> None:
    _checks.whole_number("n_cells", n_cells, least=len(TREATMENTS))
    _checks.whole_number("size", size, least=LEAST_SIZE)
    _checks.one_of("intervention", intervention, INTERVENTIONS)
    _checks.positive("spread", spread)
    _checks.positive("radius", radius)
    if radius > LARGEST_RADIUS:
        msg = (
            f"`radius={radius!r}` is a share of the picture and must be {LARGEST_RADIUS} or less, so that objects lie "
            f"within it. Pass pixels divided by `size={size}`."
        )
        raise ValueError(msg)


def _draw(n_cells: int, spread: float | None, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Treatment (n_cells,) and latent (n_cells, 4); interventions are hard where there is no spread."""
    codes = rng.integers(len(TREATMENTS), size=n_cells)
    treated, values = codes // len(VALUES), np.array(VALUES)[codes % len(VALUES)]
    quantiles = rng.random((n_cells, len(COORDINATES)))
    latent = np.empty((n_cells, len(COORDINATES)))
    for column in range(len(COORDINATES)):  # object 1 first: it bounds object 2
        low, high = _bounds(latent[:, :2], column)
        rows = treated == column
        latent[:, column] = low + (high - low) * quantiles[:, column]
        latent[rows, column] = values[rows]
        if spread is not None:
            latent[rows, column] = _tilted(quantiles[rows, column], values[rows], low[rows], high[rows], spread)
    return codes, latent


def _bounds(first: FloatArray, column: int) -> tuple[FloatArray, FloatArray]:
    """Least and greatest value (n_cells,) of a coordinate, given x1 and y1 (n_cells, 2) if it is object 2's."""
    if column < first.shape[1]:
        return np.full(len(first), LOW), np.full(len(first), HIGH)
    far: BoolArray = BEND * (first**2).sum(axis=1) >= 1
    upper = far if COORDINATES[column] == "y2" else ~far
    return np.where(upper, MIDDLE, LOW), np.where(upper, HIGH, MIDDLE)


def _tilted(quantiles: FloatArray, values: FloatArray, low: FloatArray, high: FloatArray, spread: float) -> FloatArray:
    """Coordinates at quantiles (n_cells,) of normals around the values, truncated to the bounds."""
    from scipy.stats import truncnorm

    drawn = truncnorm.ppf(quantiles, (low - values) / spread, (high - values) / spread, values, spread)
    return np.asarray(np.clip(drawn, low, high))


def _log_odds(latent: FloatArray, spread: float) -> FloatArray:
    """Centred log p(t | z) (n_cells, 12).

    A soft intervention replaces one factor of the density of z, ``1 / (high − low)`` of its coordinate, by a truncated
    normal density; all other factors are common to the treatments, and treatments are equally frequent.
    """
    from scipy.stats import truncnorm

    log_odds = np.empty((len(latent), len(TREATMENTS)))
    for column in range(len(COORDINATES)):
        low, high = _bounds(latent[:, :2], column)
        for number, value in enumerate(VALUES):
            ends = (low - value) / spread, (high - value) / spread
            density = truncnorm.logpdf(latent[:, column], *ends, value, spread)
            log_odds[:, column * len(VALUES) + number] = density + np.log(high - low)
    return np.asarray(log_odds - log_odds.mean(axis=1, keepdims=True))


def _moved(latent: FloatArray) -> FloatArray:
    """Where view 2 shows the objects (n_cells, 4)."""
    from scipy.special import expit

    turn = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    objects = latent.reshape(-1, 2, 2) - 0.5  # (n_cells, object, coordinate)
    return np.asarray(expit(STEEPNESS * (objects @ turn.T + SHIFT)).reshape(latent.shape))


def _tint(codes: IntArray) -> FloatArray:
    """Power of the background's palette places (n_cells,)."""
    return np.asarray(np.geomspace(MOST_TINT, 1 / MOST_TINT, len(TREATMENTS))[codes])


def _modality(pictures: NDArray[np.uint8], codes: IntArray, latent: FloatArray, view: str, prefix: str) -> AnnData:
    obs = pd.DataFrame(
        {"intervention": pd.Categorical.from_codes(codes, categories=TREATMENTS)},
        index=[f"{prefix}_{number}" for number in range(len(codes))],
    )
    blocks = [(row, column) for row in range(N_BLOCKS) for column in range(N_BLOCKS)]
    names = [f"{view}_{channel}_{row}_{column}" for channel in _pictures.CHANNELS for row, column in blocks]
    means = _pictures.block_means(pictures, N_BLOCKS)
    truth = {"image": pictures, "latent": latent.copy()}
    return AnnData(means, obs=obs, var=pd.DataFrame(index=names), obsm=truth)
