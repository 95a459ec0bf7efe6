"""How images lie in an array: (n_cells, channels, height, width), or rows of a matrix that are folded so."""

from __future__ import annotations

import numpy as np

N_IMAGE_AXES = 4
N_MATRIX_AXES = 2
FEW = 4
"""First two axes of an image that are equal and no longer than this may well be channels and height."""


def image_shape(
    found: tuple[int, ...], stated: tuple[int, int, int] | None = None, said: str = "The array"
) -> tuple[int, int, int]:
    """(channels, height, width) of the images in an array.

    Parameters
    ----------
    found
        Shape of the array, cells first.
    stated
        What the user says the images are.
    said
        Where they are, for messages.

    Raises
    ------
    ValueError
        The array holds no images, others than stated, or images whose channels seem to be last.
    """
    if len(found) == N_MATRIX_AXES:
        return _flat_shape(found, stated)
    if len(found) != N_IMAGE_AXES:
        msg = f"{said} has {len(found)} axes, {found}, but images are (n_cells, channels, height, width). "
        raise ValueError(msg + _remedy(len(found)))
    _, channels, height, width = found
    if stated is not None and tuple(stated) != (channels, height, width):
        msg = f"Images are {found[1:]}, but `shape` is {tuple(stated)}. Leave `shape` out: it is for matrices."
        raise ValueError(msg)
    if stated is None and _seems_channels_last(channels, height, width):
        msg = (
            f"{said} has shape {found}, but images are (n_cells, channels, height, width), and the last axis looks "
            "like channels. Move it: `numpy.moveaxis(images, -1, 1)`. If channels are first and the images are so "
            "long and narrow, lay them on their side: `images.swapaxes(2, 3)`."
        )
        raise ValueError(msg)
    return channels, height, width


def _seems_channels_last(channels: int, height: int, width: int) -> bool:
    """The last axis is the shortest, or the first two are the equal sides of a square."""
    return width < min(channels, height) or (channels == height != width and height > FEW)


def _remedy(n_axes: int) -> str:
    if n_axes < N_IMAGE_AXES:
        return "Give images of one channel an axis for it: `images[:, None]`."
    return (
        "Of a z-stack or a film take one plane or a projection along the further axis, e.g. `images.max(axis=2)`, or "
        "make its planes channels: `images.reshape(len(images), -1, height, width)`."
    )


def _flat_shape(found: tuple[int, ...], stated: tuple[int, int, int] | None) -> tuple[int, int, int]:
    remedy = "Pass `shape=(channels, height, width)`, whose product is the number of columns."
    if stated is None:
        msg = f"Images are expected, but features are a matrix, {found}, and nothing says how to fold it. {remedy}"
        raise ValueError(msg)
    if len(stated) != N_IMAGE_AXES - 1 or min(stated) < 1 or int(np.prod(stated)) != found[1]:
        msg = f"`shape` is {tuple(stated)}, but the matrix has {found[1]} columns. {remedy}"
        raise ValueError(msg)
    channels, height, width = stated
    return channels, height, width
