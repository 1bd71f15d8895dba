"""Explanations that add up the gradient along paths from "nothing there" to the image."""

import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from practical._arguments import is_traced
from practical._chunks import fold_pairs, map_images
from practical._inputs import (
    ArrayLike,
    ChunkSize,
    Heatmaps,
    Images,
    Model,
    Targets,
    at_least_single,
    check_answer,
    check_chunk_size,
    check_count,
    check_finite,
    check_images,
    check_inputs,
)
from practical._jit import jit
from practical._keys import image_keys
from practical._outputs import wide_logits
from practical.attribution.gradients import input_gradient
from practical.baselines import Baseline, baseline_images


def integrated_gradients(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    baseline: Baseline = "black",
    steps: int = 50,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width channels"]:
    """Integrate the target logit's gradient along the line from `baseline` to each image.

    An image's attributions sum to `logit(image) - logit(baseline)` (completeness);
    `completeness_error` says how nearly.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        baseline: Start of the path, in pixel units; see `baselines.baseline_images`.
        steps: Points of the Gauss-Legendre rule, which is exact where the gradient is a polynomial
            of degree up to 2 * steps - 1 along the path.
        chunk_size: Path points of any images in flight ("auto": as many as fit); memory does not
            grow with `steps`.

    Returns:
        (B, H, W, C), signed, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, equation 1.
    """
    inputs = check_inputs(model, images, targets)
    steps = check_count("steps", steps)
    chunk_size = check_chunk_size(chunk_size)
    start = baseline_images(baseline, inputs.images)
    answer = _integrated_gradients(*inputs, start, *_path(steps), chunk_size=chunk_size)
    return check_answer(answer, "integrated_gradients")


class Integrated(NamedTuple):
    """Integrated gradients, how complete they are, and what that took."""

    attribution: Float[Array, "batch height width channels"]  # signed, in logits
    error: Float[Array, " batch"]  # |sum - change| / |change| of each image's logit
    steps: Int[Array, " batch"]  # path points that each image's map was made of


def adaptive_integrated_gradients(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    baseline: Baseline = "black",
    tolerance: float = 0.01,
    steps: int = 50,
    max_steps: int = 3200,
    chunk_size: ChunkSize = 32,
) -> Integrated:
    """Integrate the gradient with as many steps as each image needs to be complete.

    An image whose attributions do not yet add up to the change of its logit gets twice the steps,
    until they do: its path is cut into twice as many equal pieces of `steps` points each.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        baseline: Start of the path, in pixel units; see `baselines.baseline_images`.
        tolerance: Largest completeness error allowed, as a share of the change of the logit; a
            change below 0.01 logits counts as 0.01.
        steps: Path points of the first try, and of every piece later.
        max_steps: Where to give up, with a warning that names the images.
        chunk_size: Path points of any images in flight ("auto": as many as fit).

    Returns:
        The maps, (B,) their errors as `tolerance` defines them, and (B,) the steps that they took.

    Raises:
        ValueError: If an argument breaks its rule, the model answers NaN, or it is called under
            `jax.jit`, `jax.vmap` or `jax.grad`.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, proposition 1 and
        section 5, which asks to raise the steps until the sum is within 5 % of the change.
    """
    inputs = check_inputs(model, images, targets)
    steps = check_count("steps", steps)
    check_count("max_steps", max_steps, least=steps)
    chunk_size = check_chunk_size(chunk_size)
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance must be above 0, got {tolerance!r}")
    start = baseline_images(baseline, inputs.images)
    change = check_answer(
        _change(*inputs, start, chunk_size=chunk_size), "adaptive_integrated_gradients"
    )
    if is_traced(change):
        raise ValueError(
            "adaptive_integrated_gradients cannot run under jax.jit, vmap or grad, because its "
            "steps depend on the values of the logits; call it outside, or integrated_gradients"
        )
    change = np.asarray(change, np.float64)
    path = _path(steps)

    answer = np.zeros(inputs.images.shape, np.float64)
    error = np.full(len(change), np.inf)
    used = np.zeros(len(change), np.int32)
    wanted, pieces = np.arange(len(change)), 1
    while wanted.size and pieces * steps <= max_steps:
        # Each piece of an image's path is a path of its own, and their maps add up. They go
        # through in batches of the images' number, so that nothing is compiled anew.
        rows, piece = np.repeat(wanted, pieces), np.tile(np.arange(pieces), wanted.size)
        answer[wanted] = 0
        for first in range(0, len(rows), len(change)):
            these = np.arange(first, first + len(change)).clip(max=len(rows) - 1)
            row, low = rows[these], jnp.asarray(piece[these, None, None, None] / pieces)
            way = inputs.images[row] - start[row]
            ends = (start[row] + at * way for at in (low, low + 1 / pieces))
            begin, end = (at.astype(jnp.float32) for at in ends)
            maps = _integrated_gradients(
                inputs.model, end, inputs.targets[row], begin, *path, chunk_size=chunk_size
            )
            held = len(rows) - first
            np.add.at(answer, row[:held], np.asarray(maps, np.float64)[:held])
        check_finite(answer, "adaptive_integrated_gradients' answer (so the model's gradients)")
        sums = answer[wanted].reshape(len(wanted), -1).sum(1)
        error[wanted] = np.abs(sums - change[wanted]) / np.maximum(np.abs(change[wanted]), 0.01)
        used[wanted] = pieces * steps
        wanted, pieces = wanted[error[wanted] > tolerance], 2 * pieces
    if wanted.size:
        listed = ", ".join(f"{i} ({error[i]:.2g})" for i in wanted[:5])
        warnings.warn(
            f"adaptive_integrated_gradients stopped at max_steps={max_steps} with a completeness "
            f"error above tolerance={tolerance} for image {listed}"
            f"{', ...' if len(wanted) > 5 else ''}; raise max_steps, or tolerance",
            stacklevel=2,
        )
    return Integrated(
        jnp.asarray(answer, jnp.float32), jnp.asarray(error, jnp.float32), jnp.asarray(used)
    )


def expected_gradients(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    references: Float[ArrayLike, "references height width channels"] | None = None,
    samples: int = 200,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width channels"]:
    """Average integrated gradients over many baselines, with one random path point for each.

    It is also known as GradientSHAP. The attributions sum, in expectation, to the image's logit
    minus the mean logit of the references.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        references: (R, H, W, C) images to start from, usually some of the training data; by
            default every sample starts from a random colour of its own, uniform in [0, 1].
        samples: Pairs of a reference and a path point. The k-th point is drawn from the k-th of
            as many equal pieces of the path, which leaves the mean as it is and lowers the noise.
        key: Decides references and points; one key, or one an image; by default
            `jax.random.key(0)`.
        chunk_size: Path points of any images in flight ("auto": as many as fit); memory does not
            grow with `samples`.

    Returns:
        (B, H, W, C), signed, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Erion et al., Improving Performance of Deep Learning Models with Axiomatic Attribution
        Priors and Expected Gradients, Nature Machine Intelligence 3, 2021, equation 3; Lundberg
        and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017.
    """
    inputs = check_inputs(model, images, targets)
    if references is not None:
        references = check_images(references, name="references")
        if references.shape[1:] != inputs.images.shape[1:]:
            raise ValueError(
                f"references must be images of shape {inputs.images.shape[1:]}, as those that are "
                f"explained, got {references.shape[1:]}"
            )
    answer = _expected_gradients(
        *inputs, references, image_keys(key, len(inputs.images)),
        samples=check_count("samples", samples), chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    return check_answer(answer, "expected_gradients")


def completeness_error(
    model: Model,
    images: Images,
    targets: Targets,
    attribution: Float[ArrayLike, "batch height width channels"] | Heatmaps,
    *,
    baseline: Baseline = "black",
    relative: bool = True,
    chunk_size: ChunkSize = 32,
) -> Float[Array, " batch"]:
    """Return how far each image's attributions are from explaining its whole logit.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class that was explained in each image.
        attribution: (B, H, W, C) or (B, H, W), in logits.
        baseline: The one that the attribution was made with.
        relative: Divide by the size of the logit's change from baseline to image.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B,) of |sum of attributions - change| / |change|, or without the division, in logits.

    Raises:
        ValueError: If an argument breaks its rule, or `relative` is asked for where the logit of
            an image is that of its baseline.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, proposition 1.
    """
    inputs = check_inputs(model, images, targets)
    if np.shape(attribution) not in (inputs.images.shape, inputs.images.shape[:3]):
        raise ValueError(
            f"attribution must have the images' shape {inputs.images.shape}, with or without the "
            f"channels, got {np.shape(attribution)}"
        )
    check_finite(attribution, "attribution")
    start = baseline_images(baseline, inputs.images)
    chunk_size = check_chunk_size(chunk_size)
    change = check_answer(_change(*inputs, start, chunk_size=chunk_size), "completeness_error")
    total = at_least_single(attribution).reshape(len(change), -1).sum(1)
    error = jnp.abs(total - change)
    if not relative:
        return error
    share = error / jnp.abs(change)
    if not is_traced(share):
        wrong = np.flatnonzero(np.isfinite(error) & ~np.isfinite(share))
        if wrong.size:
            listed = ", ".join(map(str, wrong[:5])) + (", ..." if wrong.size > 5 else "")
            raise ValueError(
                "relative must be False where an image's logit is its baseline's: the relative "
                f"completeness_error would divide by 0 for image {listed}"
            )
    return check_answer(share, "the relative completeness_error")


_rule = functools.cache(np.polynomial.legendre.leggauss)  # seconds for a thousand points


def _path(steps: int) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
    """Return the points of the Gauss-Legendre rule on [0, 1], and their weights."""
    nodes, weights = _rule(steps)  # on [-1, 1]
    return jnp.asarray((nodes + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32)


def _integrated_gradients_core(
    model, images, targets, start, nodes, weights, *, chunk_size
):  # fmt: skip
    def visit(total, i, k, live):
        points = start[i] + nodes[k][:, None, None, None] * (images[i] - start[i])
        slopes = input_gradient(model, points, targets[i])
        weight = jnp.where(live, weights[k], 0)
        return total.at[i].add(weight[:, None, None, None] * slopes)

    mean = fold_pairs(visit, jnp.zeros_like(images), len(images), len(nodes), chunk_size)
    return mean * (images - start)


def _expected_gradients_core(
    model, images, targets, references, keys, *, samples, chunk_size
):  # fmt: skip
    def draw(key, k):
        where, what = jax.random.split(jax.random.fold_in(key, k))
        if references is None:
            start = jnp.broadcast_to(
                jax.random.uniform(what, (images.shape[-1],)), images.shape[1:]
            )
        else:
            start = references[jax.random.randint(what, (), 0, len(references))]
        return (k + jax.random.uniform(where)) / samples, start

    def visit(total, i, k, live):
        at, start = jax.vmap(draw)(keys[i], k)
        way = images[i] - start
        slopes = input_gradient(model, start + at[:, None, None, None] * way, targets[i])
        return total.at[i].add(jnp.where(live[:, None, None, None], slopes * way, 0))

    total = fold_pairs(visit, jnp.zeros_like(images), len(images), samples, chunk_size)
    return total / samples


def _change_core(model, images, targets, start, *, chunk_size):
    def change(images, targets, start):
        logits = wide_logits(model, images) - wide_logits(model, start)
        return jnp.take_along_axis(logits, targets[:, None], 1)[:, 0]

    return map_images(change, chunk_size, images, targets, start)


_integrated_gradients = jit(
    _integrated_gradients_core, static_argnames=["chunk_size"],
    per_image=["images", "targets", "start"],
)  # fmt: skip
_expected_gradients = jit(
    _expected_gradients_core, static_argnames=["samples", "chunk_size"],
    per_image=["images", "targets", "keys"],
)  # fmt: skip
_change = jit(
    _change_core, static_argnames=["chunk_size"], per_image=["images", "targets", "start"]
)
