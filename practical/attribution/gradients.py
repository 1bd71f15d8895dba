"""Explanations from the gradient of the target logit with respect to the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from practical._chunks import map_images
from practical._inputs import (
    ArrayLike,
    ChunkSize,
    Heatmaps,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_finite,
    check_inputs,
)
from practical._jit import jit
from practical._outputs import wide_logits
from practical.baselines import Baseline, baseline_images

_REDUCTIONS = {
    "sum": lambda a: a.sum(-1),
    "l2": lambda a: norm(a, -1)[..., 0],
    "max_abs": lambda a: jnp.abs(a).max(-1),
}


def heatmap(
    attribution: Float[ArrayLike, "batch height width channels"] | Heatmaps, *, reduce: str = "sum"
) -> Float[Array, "batch height width"]:
    """Return one value a pixel from one a channel.

    Args:
        attribution: What an explanation returned: (B, H, W, C); or (B, H, W), which has one value
            a pixel already and comes back as it is.
        reduce: "sum" keeps the sign and the total; "l2" and "max_abs" keep the magnitude.

    Raises:
        ValueError: If `reduce` is unknown, or `attribution` has another rank or a NaN.
    """
    _check_reduce(reduce)
    if np.ndim(attribution) not in (3, 4) or 0 in np.shape(attribution):
        raise ValueError(
            "attribution must have shape (batch, height, width, channels) or (batch, height, "
            f"width), got {np.shape(attribution)}"
        )
    check_finite(attribution, "attribution")
    attribution = jnp.asarray(attribution)
    return attribution if attribution.ndim == 3 else _REDUCTIONS[reduce](attribution)


def gradient(
    model: Model, images: Images, targets: Targets, *, chunk_size: ChunkSize = 32
) -> Float[Array, "batch height width channels"]:
    """Return the derivative of each image's target logit with respect to its pixels.

    Args:
        model: Images in [0, 1] to logits; each row depends on its own image alone.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        chunk_size: Images in flight ("auto": as many as fit); bounds the memory, does not change
            the answer.

    Returns:
        (B, H, W, C), signed, in logits per unit of pixel value.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.
    """
    inputs = check_inputs(model, images, targets)
    chunk_size = check_chunk_size(chunk_size)
    return check_answer(_gradient(*inputs, chunk_size=chunk_size), "gradient")


def saliency(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    reduce: str = "max_abs",
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width"]:
    """Return how strongly the target logit reacts to each pixel, whatever the direction.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        reduce: "max_abs", the largest magnitude over the channels, as in the paper; or "l2", the
            gradient's norm; "sum" is signed.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W), at least 0 (but for "sum"), in logits per unit of pixel value.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014, section 3.1.
    """
    _check_reduce(reduce)
    return _REDUCTIONS[reduce](gradient(model, images, targets, chunk_size=chunk_size))


def gradient_x_input(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    baseline: Baseline = "black",
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width channels"]:
    """Return the gradient times the image's difference from `baseline`.

    For a linear model that is each value's exact share in the logit.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        baseline: What stands for "nothing there"; see `baselines.baseline_images`. With "black"
            it is the paper's gradient times input.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W, C), signed, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Shrikumar et al., Not Just a Black Box, arXiv:1605.01713, 2016.
    """
    inputs = check_inputs(model, images, targets)
    way = inputs.images - baseline_images(baseline, inputs.images)
    return gradient(model, images, targets, chunk_size=chunk_size) * way


def norm(values: Float[Array, "..."], axes: int | tuple[int, ...]) -> Float[Array, "..."]:
    """Return the Euclidean norm over `axes`, which stay; squares of 1e-22 would be 0 in float32."""
    largest = jnp.abs(values).max(axes, keepdims=True)
    scaled = values / jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt((scaled * scaled).sum(axes, keepdims=True))


def _check_reduce(reduce: str) -> None:
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(_REDUCTIONS)}, got {reduce!r}")


def input_gradient(
    model: Model, images: Float[Array, "b h w c"], targets: Int[Array, " b"]
) -> Float[Array, "b h w c"]:
    """Return each target logit's gradient in its image, NaN where the logit is not finite."""

    def total(images):
        # Rows are independent, so the sum's gradient holds each row's own.
        logits = jnp.take_along_axis(wide_logits(model, images), targets[:, None], 1)
        return logits.sum(), logits

    slopes, logits = jax.grad(total, has_aux=True)(images)
    # A NaN logit may have a gradient of 0, and would pass for "no evidence".
    return jnp.where(jnp.isfinite(logits)[:, :, None, None], slopes, jnp.nan)


def _gradient_core(model, images, targets, *, chunk_size):
    def one(images, targets):
        return input_gradient(model, images, targets)

    return map_images(one, chunk_size, images, targets)


_gradient = jit(_gradient_core, static_argnames=["chunk_size"], per_image=["images", "targets"])
