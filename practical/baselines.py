"""What a pixel looks like when its information is gone: a colour that a person can name."""

import difflib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._inputs import ArrayLike, check_finite
from practical._jit import is_traced, jit

Baseline = str | float | tuple[float, ...] | ArrayLike

_COLOURS = {"black": 0.0, "grey": 0.5, "white": 1.0}
BASELINES = (*_COLOURS, "mean", "minimum", "blur")
_BLUR_SIGMA, _BLUR_RADIUS = 5.0, 5  # RISE's: 11x11 pixels, sigma 5


def baseline_images(
    baseline: Baseline, images: Float[ArrayLike, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Return the images whose pixels stand for "nothing there", in pixel units.

    Args:
        baseline: "black", "grey" or "white"; "mean", each image's own mean colour; "minimum",
            its lowest value in any channel (what Quantus calls black); "blur", each image under
            RISE's 11x11 Gaussian (sigma 5 pixels, edges repeated); a number in [0, 1]; or an
            array that broadcasts against `images`: a colour (C,), an image (H, W, C), or one for
            each (B, H, W, C).
        images: In [0, 1].

    Raises:
        ValueError: If the name is unknown, or values are outside [0, 1] or do not fit the images.
    """
    if isinstance(baseline, str):
        if baseline in _COLOURS:
            return jnp.full_like(images, _COLOURS[baseline])
        if baseline == "mean":
            return jnp.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)
        if baseline == "minimum":
            return jnp.broadcast_to(images.min((1, 2, 3), keepdims=True), images.shape)
        if baseline == "blur":
            return _blur(images)
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


@jit
def _blur(images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    offsets = jnp.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = jnp.exp(-0.5 * (offsets / _BLUR_SIGMA) ** 2)
    weights = weights / weights.sum()
    radius = ((0, 0), (_BLUR_RADIUS, _BLUR_RADIUS), (_BLUR_RADIUS, _BLUR_RADIUS), (0, 0))
    padded = jnp.pad(images, radius, mode="edge")
    height, width = images.shape[1:3]
    rows = blurred = jnp.zeros(())
    for k, weight in enumerate(weights):
        rows += weight * jax.lax.slice_in_dim(padded, k, k + height, axis=1)
    for k, weight in enumerate(weights):
        blurred += weight * jax.lax.slice_in_dim(rows, k, k + width, axis=2)
    return jnp.clip(blurred, 0, 1)  # rounding may step over by one unit in the last place
