"""What a pixel looks like when its information is gone: a colour that a person can name."""

import difflib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._arguments import is_traced
from practical._inputs import ArrayLike, check_finite
from practical._jit import jit

Baseline = str | float | tuple[float, ...] | ArrayLike

_COLOURS = {"black": 0.0, "grey": 0.5, "white": 1.0}
BASELINES = (*_COLOURS, "mean", "imagenet_mean", "minimum", "blur", "rise_blur")
_BLUR_SIGMA, _BLUR_RADIUS = 5.0, 5  # in pixels
_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # the zero of RISE's normalised space


def baseline_images(
    baseline: Baseline, images: Float[ArrayLike, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Return the images whose pixels stand for "nothing there", in pixel units.

    Args:
        baseline: "black", "grey" or "white"; "mean", each image's own mean color; "imagenet_mean",
            the mean color of ImageNet, or middle gray for images that do not have three channels;
            "minimum", the image's lowest value in any channel (what Quantus calls black); "blur",
            each image under an 11x11 Gaussian (sigma 5 pixels, edges repeated); "rise_blur", as
            RISE's code blurs it: the same Gaussian folded back into its 11x11 pixels, which is
            nearly flat, and "imagenet_mean" beyond the edges; a
            number in [0, 1]; or an array that broadcasts against `images`: a colour (C,), an image
            (H, W, C), or one for each (B, H, W, C).
        images: In [0, 1].

    Raises:
        ValueError: If the name is unknown, or values are outside [0, 1] or do not fit the images.
    """
    if isinstance(baseline, str):
        if baseline in _COLOURS:
            return jnp.full_like(images, _COLOURS[baseline])
        if baseline == "mean":
            return jnp.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
        if baseline == "imagenet_mean":
            color = _IMAGENET_MEAN if images.shape[3] == 3 else (0.5,)
            color = jnp.array(color)[None, None, None]
            return jnp.broadcast_to(color, images.shape)
        if baseline == "minimum":
            return jnp.broadcast_to(images.min((1, 2, 3), keepdims=True), images.shape)
        if baseline == "blur":
            # Rounding may step over by one unit in the last place.
            return jnp.clip(_blur(images, _gaussian(_BLUR_RADIUS)), 0, 1)
        if baseline == "rise_blur":
            color = baseline_images("imagenet_mean", images)
            blurred = _blur(images - color, _folded_gaussian(), mode="constant")
            return jnp.clip(blurred + color, 0, 1)
        near = difflib.get_close_matches(baseline, BASELINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"baseline must be one of {', '.join(BASELINES)}, a number or an array, "
            f"got {baseline!r}{hint}"
        )
    try:
        array = jnp.asarray(baseline, jnp.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"baseline must be one of {', '.join(BASELINES)}, a number or an array, "
            f"got {baseline!r}"
        ) from error
    try:
        array = jnp.broadcast_to(array, images.shape)
    except ValueError:
        raise ValueError(
            f"baseline must broadcast against images of shape {images.shape}, "
            f"got shape {array.shape}"
        ) from None
    if not is_traced(array):
        values = np.asarray(array)
        check_finite(values, "baseline")
        if values.min() < 0 or values.max() > 1:
            raise ValueError(
                "baseline must be in [0, 1], in pixel units, not normalised ones; got values from "
                f"{values.min():.4g} to {values.max():.4g}"
            )
    return array


def _gaussian(radius: int) -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _BLUR_SIGMA) ** 2)
    return weights / weights.sum()


def _folded_gaussian() -> np.ndarray:
    """Return a Gaussian of radius 4 sigma, mirrored into the window wherever it leaves it.

    RISE's `gkern` blurs a single white pixel inside its 11x11 window by SciPy's gaussian_filter.
    """
    reach, size = int(4 * _BLUR_SIGMA), 2 * _BLUR_RADIUS + 1
    places = (np.arange(-reach, reach + 1) + _BLUR_RADIUS) % (2 * size)
    mirrored = np.where(places < size, places, 2 * size - 1 - places)
    return np.bincount(mirrored, _gaussian(reach), size)


def _blur_core(
    images: Float[Array, "b h w c"], weights: Float[Array, " size"], *, mode: str = "edge"
) -> Float[Array, "b h w c"]:
    radius = len(weights) // 2
    padded = jnp.pad(images, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode=mode)
    height, width = images.shape[1:3]
    rows = blurred = jnp.zeros(())
    for k, weight in enumerate(weights):
        rows += weight * jax.lax.slice_in_dim(padded, k, k + height, axis=1)
    for k, weight in enumerate(weights):
        blurred += weight * jax.lax.slice_in_dim(rows, k, k + width, axis=2)
    return blurred


_blur = jit(_blur_core, static_argnames=["mode"], per_image=["images"])
