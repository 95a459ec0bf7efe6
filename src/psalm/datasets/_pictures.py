"""Small pictures of two objects over a background of random circles, drawn in portions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from psalm.core._types import FloatArray

N_CIRCLES, CIRCLE_RADIUS = 25, 0.3
LEAST_RADIUS = 1.0
"""In pixels: at least so large is an object drawn, so that it is seen in small images."""

PORTION = 2**18
"""Pixels painted at a time: few enough to stay in the processor's cache."""

N_LEVELS = 256
CHANNELS = ("red", "green", "blue")
OBJECT_COLOURS = ((20, 60, 220), (210, 20, 40))
SUMMER = ((0, 128, 102), (255, 255, 102))
WISTIA = ((228, 255, 122), (255, 232, 26), (255, 189, 0), (255, 160, 0), (252, 127, 0))


@dataclass(frozen=True)
class Brush:
    """How a view is drawn.

    Parameters
    ----------
    palette
        Red, green and blue (0–255) of equally spaced points of the background's palette.
    square
        Whether objects are squares rather than discs.
    """

    palette: tuple[tuple[int, int, int], ...]
    square: bool


def paint(
    centres: FloatArray, circles: FloatArray, levels: FloatArray, brush: Brush, size: int, radius: float
) -> NDArray[np.uint8]:
    """Pictures (n_cells, 3, size, size); places are shares of the picture, x from the left and y from the top.

    Parameters
    ----------
    centres
        (n_cells, 4): x and y of object 1, then of object 2, which lies over it.
    circles
        (n_cells, N_CIRCLES, 2): x and y of the background's circles, later ones over earlier ones.
    levels
        (n_cells, 1 + N_CIRCLES): place in the palette (0–1) of what is behind all circles, then of each circle.
    brush
        How to draw.
    size
        Height and width in pixels.
    radius
        Of a disc, and half the side of a square, as share of the picture; drawn no smaller than LEAST_RADIUS.
    """
    pictures = np.empty((len(centres), len(CHANNELS), size, size), dtype=np.uint8)
    colours = _palette(brush.palette)
    reach = max(radius * size, LEAST_RADIUS)
    for part in _portions(len(centres), size):
        background = _background(circles[part] * size, levels[part], size)
        picture = np.stack([np.take(channel, background) for channel in colours], axis=1)  # (n_part, 3, size, size)
        for number, colour in enumerate(np.array(OBJECT_COLOURS, dtype=np.float32)):
            places = centres[part, 2 * number : 2 * number + 2] * size
            covered = (_square if brush.square else _disc)(places, reach, size)[:, None]
            picture += covered * (colour[:, None, None] - picture)
        pictures[part] = np.rint(picture)
    return pictures


def block_means(pictures: NDArray[np.uint8], n_blocks: int) -> FloatArray:
    """Mean of each channel in a grid of blocks (n_cells, 3 · n_blocks²), channel after channel, row after row."""
    size = pictures.shape[-1]
    starts = size * np.arange(n_blocks) // n_blocks
    sides = np.diff(starts, append=size)
    means = np.empty((*pictures.shape[:2], n_blocks, n_blocks), dtype=np.float32)
    for part in _portions(len(pictures), size):
        by_column = np.add.reduceat(pictures[part], starts, axis=3, dtype=np.float32)
        means[part] = np.add.reduceat(by_column, starts, axis=2) / np.outer(sides, sides)
    return means.reshape(len(pictures), -1)


def _portions(n_cells: int, size: int) -> Iterator[slice]:
    step = max(1, PORTION // size**2)
    yield from (slice(start, start + step) for start in range(0, n_cells, step))


def _palette(points: tuple[tuple[int, int, int], ...]) -> FloatArray:
    """Colours (3, N_LEVELS)."""
    levels, places = np.linspace(0, 1, N_LEVELS), np.linspace(0, 1, len(points))
    return np.array([np.interp(levels, places, channel) for channel in zip(*points, strict=True)], dtype=np.float32)


def _background(circles: FloatArray, levels: FloatArray, size: int) -> NDArray[np.intp]:
    """Palette index of each pixel (n_part, size, size).

    A circle covers a pixel at distance d of its centre by ``r + 1/2 − d`` of it, between 0 and 1, which near the edge
    of a wide circle is ``(r² − d²) / 2r + 1/2``: a sum of a term for the row and one for the column.
    """
    radius = CIRCLE_RADIUS * size
    from_edge = _offsets(circles, size) ** 2 / np.float32(2 * radius)  # (n_part, N_CIRCLES, 2, size)
    rows = np.float32(radius / 2 + 0.5) - from_edge[:, :, 1, :, None]
    columns = from_edge[:, :, 0, None, :]
    shades = levels.astype(np.float32)[:, :, None, None]
    painted = np.broadcast_to(shades[:, 0], (len(circles), size, size)).copy()
    for circle in range(circles.shape[1]):
        covered = rows[:, circle] - columns[:, circle]
        np.clip(covered, 0, 1, out=covered)
        covered *= shades[:, circle + 1] - painted
        painted += covered
    return np.asarray(np.rint(painted * (N_LEVELS - 1)), dtype=np.intp)


def _disc(centres: FloatArray, radius: float, size: int) -> FloatArray:
    """Share of each pixel that a disc covers (n_part, size, size)."""
    squares = _offsets(centres, size) ** 2
    distances = np.sqrt(squares[:, 1, :, None] + squares[:, 0, None, :])
    return np.clip(np.float32(radius + 0.5) - distances, 0, 1)


def _square(centres: FloatArray, half: float, size: int) -> FloatArray:
    """Share of each pixel that a square covers (n_part, size, size)."""
    along = np.clip(np.float32(half + 0.5) - np.abs(_offsets(centres, size)), 0, 1)
    return np.asarray(along[:, 1, :, None] * along[:, 0, None, :])


def _offsets(centres: FloatArray, size: int) -> FloatArray:
    """Distance in pixels of each column's and row's middle from x and y of a centre: (..., 2) to (..., 2, size)."""
    return np.asarray(np.arange(size) + 0.5 - centres[..., None], dtype=np.float32)
