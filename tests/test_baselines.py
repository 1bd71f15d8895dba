import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from practical.baselines import BASELINES, baseline_images
from tests.oracles import refuses

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 16, 9, 3), np.float32))


@pytest.mark.parametrize(("name", "value"), [("black", 0), ("grey", 0.5), ("white", 1)])
def test_colours(name, value):
    np.testing.assert_array_equal(baseline_images(name, IMAGES), np.full(IMAGES.shape, value))


def test_mean_is_each_images_own():
    expected = np.asarray(IMAGES, np.float64).mean((1, 2), keepdims=True)
    found = baseline_images("mean", IMAGES)
    np.testing.assert_allclose(found, np.broadcast_to(expected, IMAGES.shape), rtol=1e-6)


def test_minimum_is_each_images_own_in_any_channel():
    found = np.asarray(baseline_images("minimum", IMAGES))
    for image, low in zip(np.asarray(IMAGES), found, strict=True):
        np.testing.assert_array_equal(low, np.full(image.shape, image.min()))


def test_blur_is_an_11x11_gaussian_of_5_pixels():
    # SciPy's, cut at 5 pixels, with the edges repeated.
    expected = gaussian_filter(
        np.asarray(IMAGES, np.float64), (0, 5, 5, 0), radius=(0, 5, 5, 0), mode="nearest"
    )
    found = baseline_images("blur", IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.asarray(baseline_images("blur", jnp.ones_like(IMAGES))).max() <= 1


def test_rise_blur_is_what_the_code_of_rise_inserts_into():
    # Its gkern(11, 5) of evaluation.py, convolved in normalised space with zeros outside.
    pixel = np.zeros((11, 11))
    pixel[5, 5] = 1
    kernel = gaussian_filter(pixel, 5)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = (np.asarray(IMAGES, np.float64) - mean) / std
    blurred = convolve(normalised, kernel[None, :, :, None], mode="constant") * std + mean
    found = baseline_images("rise_blur", IMAGES)
    np.testing.assert_allclose(found, blurred, atol=1e-6)


def test_rise_blur_of_an_even_grey_image_without_three_channels():
    found = baseline_images("rise_blur", jnp.full((1, 20, 20, 1), 0.5))
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", ["blur", "rise_blur"])
def test_blur_of_an_image_smaller_than_the_window(name):
    found = np.asarray(baseline_images(name, IMAGES[:, :3, :2]))
    assert found.shape == (2, 3, 2, 3)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(
    "baseline",
    [
        0.25, 0, 1, np.float64(0.25), np.array([0.1, 0.2, 0.3]), np.asarray(IMAGES)[0],
        IMAGES[:, :1, :1], IMAGES,
    ],
)  # fmt: skip
def test_numbers_and_arrays_broadcast(baseline):
    found = baseline_images(baseline, IMAGES)
    assert found.dtype == jnp.float32
    expected = np.broadcast_to(np.asarray(baseline, np.float32), IMAGES.shape)
    np.testing.assert_array_equal(found, expected)


def test_names():
    assert BASELINES == (
        "black", "grey", "white", "mean", "imagenet_mean", "minimum", "blur", "rise_blur",
    )  # fmt: skip
    with refuses(r"one of black, grey, white, mean, imagenet_mean, minimum, blur, rise_blur, a "
                 r"number or an array, got 'blakc'; did you mean 'black'\?"):  # fmt: skip
        baseline_images("blakc", IMAGES)
    with refuses(r"got 'gray'; did you mean 'grey'\?"):
        baseline_images("gray", IMAGES)
    with refuses(r"baseline must be one of .*got 'zzz'$"):
        baseline_images("zzz", IMAGES)
    for wrong in (None, ["a"], object()):
        with refuses("baseline must be one of"):
            baseline_images(wrong, IMAGES)


def test_values():
    with refuses(r"baseline must be in \[0, 1\], in pixel units.*from 128 to 128"):
        baseline_images(128, IMAGES)
    with refuses(r"baseline must be in \[0, 1\].*from -2 to 0"):
        baseline_images(np.array([-2.0, 0, 0]), IMAGES)
    with refuses(r"baseline must be finite"):
        baseline_images(float("nan"), IMAGES)
    with refuses(r"baseline must broadcast against images of shape \(2, 16, 9, 3\), got"):
        baseline_images(np.zeros((3, 16, 9, 3), np.float32), IMAGES)
