"""Explanations from hiding parts of the image and watching the model's answer."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._chunks import fold_pairs, map_images
from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_count,
    check_inputs,
)
from practical._jit import jit
from practical._keys import image_keys
from practical._outputs import check_logits, check_output, target_output
from practical.baselines import Baseline, baseline_images


def occlusion(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    window: int = 16,
    stride: int = 8,
    baseline: Baseline = "black",
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width"]:
    """Slide a square over each image and record how far the target logit falls.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        window: Side of the square in pixels. The last ones of a row or column may reach over the
            edge, so that every pixel is covered.
        stride: Pixels from one square to the next; at most `window`.
        baseline: What the square shows; see `baselines.baseline_images`.
        chunk_size: Occluded images in flight ("auto": as many as fit); memory does not grow with
            the number of squares.

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
    chunk_size = check_chunk_size(chunk_size)
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


def rise(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    samples: int = 4000,
    cells: int = 7,
    share: float = 0.5,
    baseline: Baseline = "mean",
    output: str = "probability",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width"]:
    """Show each image through random soft masks, and average the answers that a pixel was part of.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        samples: Masks of each image; the paper takes 4,000 to 8,000.
        cells: Side of the coarse grid that each mask is interpolated from, shifted at random.
        share: Probability that a cell of the grid is shown.
        baseline: What is seen where the mask is 0; see `baselines.baseline_images`. In the paper
            it is the data set's mean colour; "mean" is the image's own.
        output: "probability" (softmax), as in the paper, or "logit".
        key: Decides the masks; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Masked images in flight ("auto": as many as fit); memory does not grow with
            `samples`.

    Returns:
        (B, H, W): the mean answer over the masks, weighted by how much of the pixel each shows,
        in `output`'s unit.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Petsiuk et al., RISE, BMVC 2018, equation 5 (with the masks' own sum at each pixel in
        place of its expectation, samples * share).
    """
    inputs = check_inputs(model, images, targets)
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share!r}")
    answer = _rise(
        *inputs, baseline_images(baseline, inputs.images), jnp.float32(share),
        image_keys(key, len(inputs.images)),
        samples=check_count("samples", samples), cells=check_count("cells", cells, least=2),
        output=check_output(output, inputs), chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    check_logits(inputs, output, answer)
    return check_answer(answer, "rise")


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
        # Falls rather than logits: the rounding of a sum of large logits would pass for evidence.
        falls = jnp.where(live, clean[i] - logit(shown, targets[i]), 0)
        return total.at[i].add(falls[:, None, None] * covered)

    def logit(images, targets):
        return target_output(model, images, targets)

    clean = map_images(logit, chunk_size, images, targets)
    total = fold_pairs(visit, jnp.zeros((count, height, width)), count, down * across, chunk_size)
    # How many squares cover a pixel: rows times columns, never all squares at once.
    covers = _covers(height, down, window, stride)[:, None] * _covers(width, across, window, stride)
    return total / covers


def _covers(side: int, squares: int, window: int, stride: int) -> np.ndarray:
    starts = np.arange(squares)[:, None] * stride
    pixels = np.arange(side)
    return ((pixels >= starts) & (pixels < starts + window)).sum(0)


_occlusion = jit(
    _occlusion_core, static_argnames=["window", "stride", "chunk_size"],
    per_image=["images", "targets", "hidden"],
)  # fmt: skip


def soft_mask(
    key: Array, cells: int, share: float | Array, height: int, width: int
) -> Float[Array, "height width"]:
    """Return one of RISE's masks: a random grid of 0 and 1, enlarged, shifted, and cut out."""
    grid, shift = jax.random.split(key)
    shown = (jax.random.uniform(grid, (cells, cells)) < share).astype(jnp.float32)
    shifts = jax.random.uniform(shift, (2,))

    def line(side, shift):
        # The grid covers one cell more than the image, so that it can be shifted by up to a cell.
        cell = -(-side // cells)
        place = jnp.arange(side) + jnp.floor(shift * cell) + 0.5
        place = jnp.clip(place * cells / ((cells + 1) * cell) - 0.5, 0, cells - 1)
        return jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(cells)))

    rows, columns = line(height, shifts[0]), line(width, shifts[1])
    return jnp.einsum("yj,jk,xk->yx", rows, shown, columns, precision="highest")


def _rise_core(
    model, images, targets, hidden, share, keys, *, samples, cells, output, chunk_size
):  # fmt: skip
    count, height, width, _ = images.shape

    def mask(key, k):
        return soft_mask(jax.random.fold_in(key, k), cells, share, height, width)

    def visit(totals, i, k, live):
        masks = jax.vmap(mask)(keys[i], k)
        shown = hidden[i] + masks[..., None] * (images[i] - hidden[i])
        answers = target_output(model, shown, targets[i], output)
        masks = jnp.where(live[:, None, None], masks, 0)
        answers = jnp.where(live, answers, 0)[:, None, None] * masks
        return totals[0].at[i].add(answers), totals[1].at[i].add(masks)

    zeros = jnp.zeros((count, height, width))
    answers, shown = fold_pairs(visit, (zeros, zeros), count, samples, chunk_size)
    # A pixel that no mask has shown was part of no answer.
    return jnp.where(shown > 0, answers / jnp.where(shown > 0, shown, 1), 0)


_rise = jit(
    _rise_core, static_argnames=["samples", "cells", "output", "chunk_size"],
    per_image=["images", "targets", "hidden", "keys"],
)  # fmt: skip
