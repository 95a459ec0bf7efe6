import numpy as np
import pytest
import torch
from scipy import sparse

from psalm.core.image import ImageClassifier
from psalm.core.image_shape import image_shape

QUICK = ImageClassifier(max_epochs=2, device="cpu")


@pytest.fixture
def corners(rng):
    """Two channels of noise, 12 × 10; the treatment is the corner where the first is brighter."""
    codes = rng.integers(4, size=600)
    images = rng.normal(100, 15, size=(600, 2, 12, 10))
    for corner in range(4):
        top, left = 6 * (corner // 2), 5 * (corner % 2)
        images[codes == corner, 0, top : top + 6, left : left + 5] += 15
    return np.clip(images, 0, 255).astype(np.uint8), codes


def test_the_place_within_the_image_is_seen(corners):
    """Independent: images are mirrored copies of each other in distribution, so that only place tells."""
    images, codes = corners
    fitted = ImageClassifier(max_epochs=10, device="cpu").fit(images[:450], codes[:450], 4)
    assert (fitted.log_likelihood(images[450:]).argmax(axis=1) == codes[450:]).mean() > 0.9


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_rows_of_a_matrix_are_the_same_images(corners, as_matrix):
    images, codes = corners
    flat = as_matrix(images.reshape(600, -1).astype(np.float64))
    whole = QUICK.fit(images, codes, 4, 3).log_likelihood(images)
    folded = ImageClassifier((2, 12, 10), max_epochs=2, device="cpu").fit(flat, codes, 4, 3).log_likelihood(flat)
    np.testing.assert_allclose(whole, folded, atol=1e-4)


def test_the_unit_of_a_channel_does_not_matter(corners):
    images, codes = corners
    scaled = images * np.array([1e-3, 50.0])[:, None, None] - 7.0
    plain, other = (QUICK.fit(x, codes, 4, 3).log_likelihood(x) for x in (images, scaled))
    np.testing.assert_allclose(plain, other, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 9, 33), (3, 96, 20), (1, 256, 256), (4, 2, 2)])
def test_any_size_and_number_of_channels(rng, shape):
    images, codes = rng.normal(size=(6, *shape)), np.arange(6) % 2
    fitted = ImageClassifier(n_channels=2, max_epochs=1, device="cpu").fit(images, codes, 2)
    assert np.isfinite(fitted.log_likelihood(images)).all()


def test_same_seed_same_model_and_the_global_stream_is_left_alone(corners):
    images, codes = corners
    state = torch.random.get_rng_state()
    first, second, other = (QUICK.fit(images, codes, 4, seed).log_likelihood(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("array", "stated", "match"),
    [
        pytest.param((4, 32, 32, 3), None, "looks like channels", id="channels last"),
        pytest.param((4, 32, 32, 5), None, "looks like channels", id="five channels last"),
        pytest.param((4, 48, 64, 8), None, "looks like channels", id="eight channels last, not square"),
        pytest.param((4, 16, 16, 40), None, "looks like channels", id="many channels last"),
        pytest.param((4, 32, 32), None, r"3 axes.*images\[:, None\]", id="no channels"),
        pytest.param((4, 2, 7, 32, 32), None, r"5 axes.*images.max\(axis=2\)", id="z-stacks"),
        pytest.param((4, 3, 8, 8), (3, 8, 9), "Leave `shape` out", id="contradicted"),
        pytest.param((4, 192), None, "features are a matrix", id="flat without shape"),
        pytest.param((4, 192), (3, 8, 9), "has 192 columns", id="flat of another size"),
        pytest.param((4, 192), (-3, -8, 8), "has 192 columns", id="negative"),
    ],
)
def test_what_is_no_image_is_refused(array, stated, match):
    with pytest.raises(ValueError, match=match):
        ImageClassifier(stated).fit(np.zeros(array), np.array([0, 0, 1, 1]), 2)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 4, 4), (5, 9, 33), (40, 20, 20), (8, 8, 8), (1, 1, 100), (3, 96, 20)])
def test_channels_first_is_not_taken_for_channels_last(shape):
    assert image_shape((7, *shape)) == shape


@pytest.mark.parametrize("shape", [(40, 30, 20), (8, 8, 12)])
def test_images_that_only_look_like_channels_last_are_taken_once_this_is_said(shape):
    with pytest.raises(ValueError, match=r"long and narrow.*swapaxes\(2, 3\)"):
        image_shape((7, *shape))
    channels, height, width = shape
    assert image_shape((7, channels, width, height)) == (channels, width, height)
    assert image_shape((7, *shape), shape) == shape
