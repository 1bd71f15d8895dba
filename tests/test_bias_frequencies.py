"""Hidden frequencies: linear models whose answers owe known amounts to known frequencies."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from practical.bias import Fault, frequency_occlusion, plant, remove_band
from practical.data import Dataset
from tests.oracles import refuses

HEIGHT, WIDTH = 16, 12
RNG = np.random.default_rng(0)
IMAGES = (0.5 + 0.1 * RNG.uniform(-1, 1, (5, HEIGHT, WIDTH, 3))).astype(np.float32)


def wave(row: int, column: int) -> np.ndarray:
    """Return the cosine with so many half periods down and across, of length 1."""
    down = np.cos(np.pi * row * (np.arange(HEIGHT) + 0.5) / HEIGHT)
    across = np.cos(np.pi * column * (np.arange(WIDTH) + 0.5) / WIDTH)
    one = np.outer(down, across)
    return (one / np.linalg.norm(one)).astype(np.float32)


@given(row=st.integers(0, HEIGHT - 1), column=st.integers(0, WIDTH - 1))
def test_what_answers_to_one_frequency_falls_in_its_band_alone(row, column):
    pattern = wave(row, column)

    def model(images):
        answer = (images * pattern[..., None]).sum((1, 2, 3))
        return jnp.stack([jnp.zeros_like(answer), answer], 1)

    fall = frequency_occlusion(model, IMAGES, [1] * 5, bands=4)
    expected = np.zeros((5, 4, 4))
    if (row, column) != (0, 0):  # the mean stays
        expected[:, row * 4 // HEIGHT, column * 4 // WIDTH] = model(IMAGES)[:, 1]
    np.testing.assert_allclose(fall, expected, atol=1e-4)
    np.testing.assert_array_equal(frequency_occlusion(model, IMAGES, [0] * 5, bands=4), 0)


@given(bands=st.integers(1, WIDTH))
def test_bands_are_all_there_is_but_the_mean(bands):
    left = IMAGES
    for row, column in np.ndindex(bands, bands):
        left = remove_band(left, row, column, bands=bands)
    mean = IMAGES.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(left, np.broadcast_to(mean, IMAGES.shape), atol=1e-5)


def test_values_stay_in_range_and_images_as_they_are():
    hard = (RNG.random((3, HEIGHT, WIDTH, 3)) > 0.5).astype(np.float32)
    kept = hard.copy()
    changed = remove_band(hard, 0, 1, bands=6)
    assert (changed.min(), changed.max(), changed.dtype) == (0, 1, np.float32)
    np.testing.assert_array_equal(hard, kept)


def test_a_checkerboard_is_in_the_finest_band():
    dataset = Dataset(IMAGES, np.zeros(5, np.int32), ("a", "b"))
    board = plant(dataset, Fault("checkerboard", only=0)).dataset.images

    def model(images):  # the contrast between neighbours
        signs = (-1.0) ** np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))
        return jnp.stack([100 * (images * signs[..., None]).mean((1, 2, 3))] * 2, 1)

    falls = [frequency_occlusion(model, some, [0] * 5).mean(0) for some in (board, IMAGES)]
    more = falls[0] - falls[1]
    assert np.unravel_index(more.argmax(), more.shape) == (7, 7)
    # A checkerboard's amplitude 4/255 is 1.57 of the model's answer, and leaks to lower frequencies
    # by the transform's half-pixel shift.
    np.testing.assert_allclose(more.sum(), 400 / 255, rtol=1e-3)
    assert more[7, 7] > 0.6 * more.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGES[0], 0, 0), "images must have shape"),
        ((IMAGES, 8, 0), "row must be less than the 8 bands, got 8"),
        ((IMAGES, 0, 8), "column must be less than the 8 bands, got 8"),
        ((IMAGES, -1, 0), "row must be an integer of at least 0, got -1"),
        ((IMAGES * 3, 0, 0), "images must be in"),
    ],
)
def test_what_is_no_band_is_refused(arguments, message):
    with refuses(message):
        remove_band(*arguments)


def test_more_bands_than_pixels_are_refused():
    with refuses("bands must be at most the images' 16x12 pixels, got 13"):
        remove_band(IMAGES, 0, 0, bands=13)
    with refuses("bands must be at most the images' 16x12 pixels, got 13"):
        frequency_occlusion(lambda x: x[:, 0, 0], IMAGES, [0] * 5, bands=13)
