"""Explanations from the gradient of the target logit with respect to the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._chunks import fold_pairs, map_images
from practical._inputs import (
    ArrayLike,
    Heatmaps,
    Images,
    Model,
    Targets,
    check_answer,
    check_count,
    check_finite,
    check_inputs,
)
from practical._jit import jit
from practical.baselines import Baseline, baseline_images

_REDUCTIONS = {
    "sum": lambda a: a.sum(-1),
    "l2": lambda a: jnp.sqrt((a * a).sum(-1)),
    "max_abs": lambda a: jnp.abs(a).max(-1),
}


def heatmap(
    attribution: Float[ArrayLike, "batch height width channels"], *, reduce: str = "sum"
) -> Float[Array, "batch height width"]:
    """Return one value a pixel from one a channel.

    Args:
        attribution: What a gradient method returned.
        reduce: "sum" keeps the sign and the total; "l2" and "max_abs" keep the magnitude.

    Raises:
        ValueError: If `reduce` is unknown, or `attribution` has another rank or a NaN.
    """
    _check_reduce(reduce)
    if np.ndim(attribution) != 4 or 0 in np.shape(attribution):
        raise ValueError(
            "attribution must have shape (batch, height, width, channels), "
            f"got {np.shape(attribution)}"
        )
    check_finite(attribution, "attribution")
    return _REDUCTIONS[reduce](jnp.asarray(attribution))


def gradient(
    model: Model, images: Images, targets: Targets, *, chunk_size: int = 32
) -> Float[Array, "batch height width channels"]:
    """Return the derivative of each image's target logit with respect to its pixels.

    Args:
        model: Images in [0, 1] to logits; each row depends on its own image alone.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        chunk_size: Images in flight; bounds the memory, does not change the answer.

    Returns:
        (B, H, W, 3), signed, in logits per unit of pixel value.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.
    """
    inputs = check_inputs(model, images, targets)
    chunk_size = check_count("chunk_size", chunk_size)
    return check_answer(_gradient(*inputs, chunk_size=chunk_size), "gradient")


def saliency(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    reduce: str = "max_abs",
    chunk_size: int = 32,
) -> Float[Array, "batch height width"]:
    """Return how strongly the target logit reacts to each pixel, whatever the direction.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        reduce: "max_abs", the largest magnitude over the channels, as in the paper; or "l2", the
            gradient's norm; "sum" is signed.
        chunk_size: Images in flight.

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
    chunk_size: int = 32,
) -> Float[Array, "batch height width channels"]:
    """Return the gradient times the image's difference from `baseline`.

    For a linear model that is each value's exact share in the logit.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        baseline: What stands for "nothing there"; see `baselines.baseline_images`. With "black"
            it is the paper's gradient times input.
        chunk_size: Images in flight.

    Returns:
        (B, H, W, 3), signed, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Shrikumar et al., Not Just a Black Box, arXiv:1605.01713, 2016.
    """
    start = baseline_images(baseline, check_inputs(model, images, targets).images)
    return gradient(model, images, targets, chunk_size=chunk_size) * (jnp.asarray(images) - start)


def integrated_gradients(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    baseline: Baseline = "black",
    steps: int = 50,
    chunk_size: int = 32,
) -> Float[Array, "batch height width channels"]:
    """Integrate the target logit's gradient along the line from `baseline` to each image.

    An image's attributions sum to `logit(image) - logit(baseline)` (completeness);
    `completeness_error` says how nearly.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        baseline: Start of the path, in pixel units; see `baselines.baseline_images`.
        steps: Points of the Gauss-Legendre rule, which is exact where the gradient is a polynomial
            of degree up to 2 * steps - 1 along the path.
        chunk_size: Path points of any images in flight; memory does not grow with `steps`.

    Returns:
        (B, H, W, 3), signed, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, equation 1.
    """
    inputs = check_inputs(model, images, targets)
    steps = check_count("steps", steps)
    chunk_size = check_count("chunk_size", chunk_size)
    start = baseline_images(baseline, inputs.images)
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    path = jnp.asarray((nodes + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32)
    answer = _integrated_gradients(*inputs, start, *path, chunk_size=chunk_size)
    return check_answer(answer, "integrated_gradients")


def completeness_error(
    model: Model,
    images: Images,
    targets: Targets,
    attribution: Float[ArrayLike, "batch height width channels"] | Heatmaps,
    *,
    baseline: Baseline = "black",
    relative: bool = True,
    chunk_size: int = 32,
) -> Float[Array, " batch"]:
    """Return how far each image's attributions are from explaining its whole logit.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class that was explained in each image.
        attribution: (B, H, W, 3) or (B, H, W), in logits.
        baseline: The one that the attribution was made with.
        relative: Divide by the size of the logit's change from baseline to image.
        chunk_size: Images in flight.

    Returns:
        (B,) of |sum of attributions - change| / |change|, or without the division, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or `relative` is asked for where the logit of
            an image is that of its baseline.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, proposition 1.
    """
    inputs = check_inputs(model, images, targets)
    if np.shape(attribution)[:3] != inputs.images.shape[:3] or np.ndim(attribution) not in (3, 4):
        raise ValueError(
            f"attribution must have the images' shape {inputs.images.shape}, with or without the "
            f"channels, got {np.shape(attribution)}"
        )
    check_finite(attribution, "attribution")
    start = baseline_images(baseline, inputs.images)
    chunk_size = check_count("chunk_size", chunk_size)
    change = check_answer(_change(*inputs, start, chunk_size=chunk_size), "completeness_error")
    total = jnp.asarray(attribution).reshape(len(change), -1).sum(1)
    error = jnp.abs(total - change)
    if not relative:
        return error
    return check_answer(error / jnp.abs(change), "the relative completeness_error")


def _check_reduce(reduce: str) -> None:
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(_REDUCTIONS)}, got {reduce!r}")


def _input_gradient(model, images, targets):
    def total(images):
        # Rows are independent, so the sum's gradient holds each row's own.
        logits = jnp.take_along_axis(model(images), targets[:, None], 1)
        return logits.sum(), logits

    slopes, logits = jax.grad(total, has_aux=True)(images)
    # A NaN logit may have a gradient of 0, and would pass for "no evidence".
    return jnp.where(jnp.isfinite(logits)[:, :, None, None], slopes, jnp.nan)


def _gradient_core(model, images, targets, *, chunk_size):
    def one(images, targets):
        return _input_gradient(model, images, targets)

    return map_images(one, chunk_size, images, targets)


def _integrated_gradients_core(
    model, images, targets, start, nodes, weights, *, chunk_size
):  # fmt: skip
    def visit(total, i, k, live):
        points = start[i] + nodes[k][:, None, None, None] * (images[i] - start[i])
        slopes = _input_gradient(model, points, targets[i])
        weight = jnp.where(live, weights[k], 0)
        return total.at[i].add(weight[:, None, None, None] * slopes)

    mean = fold_pairs(visit, jnp.zeros_like(images), len(images), len(nodes), chunk_size)
    return mean * (images - start)


def _change_core(model, images, targets, start, *, chunk_size):
    def change(images, targets, start):
        logits = model(images) - model(start)
        return jnp.take_along_axis(logits, targets[:, None], 1)[:, 0]

    return map_images(change, chunk_size, images, targets, start)


_gradient = jit(_gradient_core, static_argnames=["chunk_size"])
_integrated_gradients = jit(_integrated_gradients_core, static_argnames=["chunk_size"])
_change = jit(_change_core, static_argnames=["chunk_size"])
