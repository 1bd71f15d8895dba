"""Hiding frequencies where occlusion hides places: what an artefact without a place gives away."""

import numpy as np
import scipy.fft
from jaxtyping import Float

from practical._inputs import Images, Model, Targets, check_count, check_images, check_inputs
from practical.models import predict


def remove_band(
    images: Images, row: int, column: int, *, bands: int = 8
) -> Float[np.ndarray, "n h w c"]:
    """Return the images without one band of frequencies.

    Their mean colour stays, but for what is then cut off to stay in [0, 1].

    An image's discrete cosine transform has as many coefficients as the image has pixels, from the
    constant at the top left to the finest checkerboard at the bottom right. They are divided into
    `bands` x `bands` rectangles, and those in one of them are set to 0.

    Args:
        images: (N, H, W, C) in [0, 1].
        row: Of the band, from 0 to `bands` - 1: how fast it changes from top to bottom.
        column: Of the band: how fast it changes from left to right.
        bands: In each direction, at most H and W.

    Returns:
        (N, H, W, C) in [0, 1]: what would be outside is cut off.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    images = np.asarray(check_images(images), np.float32)
    _check_bands(bands, images.shape[1:3])
    for name, value in (("row", row), ("column", column)):
        if check_count(name, value, least=0) >= bands:
            raise ValueError(f"{name} must be less than the {bands} bands, got {value}")
    return _without(_transform(images), row, column, bands)


def frequency_occlusion(
    model: Model, images: Images, targets: Targets, *, bands: int = 8, chunk_size: int = 64
) -> Float[np.ndarray, "n bands bands"]:
    """Hide each band of frequencies in turn, and record how far the target logit falls.

    Args:
        model: Images in [0, 1] to logits.
        images: (N, H, W, C) in [0, 1].
        targets: (N,) the class to explain in each image.
        bands: In each direction; see `remove_band`.
        chunk_size: Images in flight.

    Returns:
        (N, bands, bands), signed, in logits; rows are frequencies from top to bottom, and the
        coarsest band is at the top left.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        After occlusion (Zeiler and Fergus, ECCV 2014); Yin et al., A Fourier Perspective on Model
        Robustness in Computer Vision, NeurIPS 2019, add noise to frequencies in its place.
    """
    inputs = check_inputs(model, images, targets)
    images, targets = np.asarray(inputs.images), np.asarray(inputs.targets)
    _check_bands(bands, images.shape[1:3])
    of_target = np.arange(len(targets)), targets
    before = predict(model, images, chunk_size=chunk_size)[of_target]
    coefficients = _transform(images)
    fall = np.empty((len(images), bands, bands), np.float32)
    for row, column in np.ndindex(bands, bands):
        hidden = _without(coefficients, row, column, bands)
        fall[:, row, column] = before - predict(model, hidden, chunk_size=chunk_size)[of_target]
    return fall


def _check_bands(bands: int, shape: tuple[int, ...]) -> None:
    if check_count("bands", bands) > min(shape):
        raise ValueError(
            f"bands must be at most the images' {shape[0]}x{shape[1]} pixels, got {bands}"
        )


def _transform(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
    return np.asarray(scipy.fft.dctn(images, axes=(1, 2), norm="ortho"))


def _without(
    coefficients: Float[np.ndarray, "n h w c"], row: int, column: int, bands: int
) -> Float[np.ndarray, "n h w c"]:
    """Return the images of these coefficients, but for one band of them and never the mean."""
    here = tuple(
        slice(place * side // bands, (place + 1) * side // bands)
        for place, side in zip((row, column), coefficients.shape[1:3], strict=True)
    )
    left = coefficients.copy()
    left[:, *here] = 0
    left[:, 0, 0] = coefficients[:, 0, 0]
    images = np.asarray(scipy.fft.idctn(left, axes=(1, 2), norm="ortho"))
    return np.clip(images, 0, 1).astype(np.float32)
