"""Explanations from hiding parts of the image and watching the target logit."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._chunks import fold_pairs, map_images
from practical._inputs import Images, Model, Targets, check_answer, check_count, check_inputs
from practical._jit import jit
from practical.baselines import Baseline, baseline_images


def occlusion(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    window: int = 16,
    stride: int = 8,
    baseline: Baseline = "black",
    chunk_size: int = 32,
) -> Float[Array, "batch height width"]:
    """Slide a square over each image and record how far the target logit falls.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        window: Side of the square in pixels. The last ones of a row or column may reach over the
            edge, so that every pixel is covered.
        stride: Pixels from one square to the next; at most `window`.
        baseline: What the square shows; see `baselines.baseline_images`.
        chunk_size: Occluded images in flight; memory does not grow with the number of squares.

    Returns:
        (B, H, W), signed: the mean fall, in logits, over the squares that cover the pixel.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    inputs = check_inputs(model, images, targets)
    height, width = inputs.images.shape[1:3]
    window = check_count("window", window)
    stride = check_count("stride", stride)
    chunk_size = check_count("chunk_size", chunk_size)
    if window > min(height, width):
        raise ValueError(f"window must fit the images of {height}x{width} pixels, got {window}")
    if stride > window:
        raise ValueError(
            f"stride must be at most window ({window}), or pixels between the squares would never "
            f"be hidden, got {stride}"
        )
    answer = _occlusion(
        *inputs,
        baseline_images(baseline, inputs.images),
        window=window,
        stride=stride,
        chunk_size=chunk_size,
    )
    return check_answer(answer, "occlusion")


def _occlusion_core(model, images, targets, hidden, *, window, stride, chunk_size):
    count, height, width, _ = images.shape
    down, across = (-(-(side - window) // stride) + 1 for side in (height, width))

    def square(k):
        """Return (chunk, H, W), True inside square `k`."""
        top, left = (k // across * stride)[:, None], (k % across * stride)[:, None]
        rows, columns = jnp.arange(height), jnp.arange(width)
        inside_rows = (rows >= top) & (rows < top + window)
        inside_columns = (columns >= left) & (columns < left + window)
        return inside_rows[:, :, None] & inside_columns[:, None, :]

    def visit(total, i, k, live):
        covered = square(k)
        shown = jnp.where(covered[..., None], hidden[i], images[i])
        logits = jnp.where(live, logit(shown, targets[i]), 0)
        return total.at[i].add(logits[:, None, None] * covered)

    def logit(images, targets):
        return jnp.take_along_axis(model(images), targets[:, None], 1)[:, 0]

    total = fold_pairs(visit, jnp.zeros((count, height, width)), count, down * across, chunk_size)
    # How many squares cover a pixel: rows times columns, never all squares at once.
    covers = _covers(height, down, window, stride)[:, None] * _covers(width, across, window, stride)
    return map_images(logit, chunk_size, images, targets)[:, None, None] - total / covers


def _covers(side: int, squares: int, window: int, stride: int) -> np.ndarray:
    starts = np.arange(squares)[:, None] * stride
    pixels = np.arange(side)
    return ((pixels >= starts) & (pixels < starts + window)).sum(0)


_occlusion = jit(_occlusion_core, static_argnames=["window", "stride", "chunk_size"])
