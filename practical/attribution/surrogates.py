"""Explanations by a linear model of the network's answer to hidden superpixels."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from practical._arguments import is_traced
from practical._chunks import fold_pairs, map_images
from practical._inputs import (
    ArrayLike,
    ChunkSize,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_count,
    check_images,
    check_inputs,
)
from practical._jit import jit
from practical._keys import image_keys
from practical._outputs import check_logits, check_output, target_output
from practical.baselines import Baseline, baseline_images

Segments = Integer[ArrayLike, "batch height width"]


def superpixels(
    images: Images, *, count: int = 50, compactness: float = 10.0
) -> Int[np.ndarray, "batch height width"]:
    """Cut each image into connected regions of similar colour (SLIC, from scikit-image).

    Args:
        images: (B, H, W, C) in [0, 1].
        count: About how many regions an image gets.
        compactness: How much nearness weighs against colour; higher is squarer. It is doubled
            for an image that would be a single region, as fine texture is, until there are more.

    Returns:
        (B, H, W), the number of each pixel's region, from 0 without gaps.

    Raises:
        ValueError: If an argument breaks its rule.

    References:
        Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, IEEE
        TPAMI 34, 2012.
    """
    from skimage.segmentation import relabel_sequential, slic

    images = check_images(images)
    if is_traced(images):
        raise ValueError(
            "images must be known to be cut into superpixels, and under jax.jit they are not; "
            "give segments=superpixels(images), made outside of it"
        )
    check_count("count", count)
    if not 0 < compactness < np.inf:
        raise ValueError(f"compactness must be above 0, got {compactness!r}")
    arrays = np.asarray(images)
    # SLIC compares three colours in Lab, where black and white are 100 apart; others as they are.
    arrays = arrays.repeat(3, -1) if arrays.shape[-1] == 1 else arrays
    channels = arrays.shape[-1]
    apart = 1.0 if channels == 3 else 100 / math.sqrt(channels)

    def cut(image):
        # Fine texture leaves only splinters, which SLIC merges into one region: none to compare.
        for doubled in range(12):
            labels = slic(
                image, n_segments=count, compactness=2**doubled * compactness / apart,
                start_label=1, channel_axis=-1,
            )  # fmt: skip
            if count == 1 or labels.max() > labels.min():
                break
        return relabel_sequential(labels)[0] - 1

    return np.stack([cut(image) for image in arrays]).astype(np.int32)


def lime(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    segments: Segments | None = None,
    count: int = 50,
    samples: int = 1000,
    baseline: Baseline = "mean",
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    output: str = "logit",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width"]:
    """Hide random sets of superpixels, and fit a ridge regression to the answers near the image.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        segments: (B, H, W) the number of each pixel's superpixel, from 0 without gaps; by default
            `superpixels(images, count=count)`.
        count: About how many superpixels, where `segments` are not given.
        samples: Random sets; each superpixel is shown with probability 1/2. The first set shows
            all.
        baseline: What a hidden superpixel shows; see `baselines.baseline_images`.
        kernel_width: A set's weight is exp(-d^2 / (2 kernel_width^2)), with d the cosine distance
            from the whole image, 1 - sqrt(share shown).
        ridge: Penalty on the squared coefficients; the intercept is free.
        output: "logit", or "probability" (softmax).
        key: Decides the sets; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `samples`.

    Returns:
        (B, H, W), signed: at each pixel the coefficient of its superpixel, in `output`'s unit.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Ribeiro et al., "Why Should I Trust You?": Explaining the Predictions of Any Classifier,
        KDD 2016, equation 2. The kernel, its width and the penalty are those of the authors'
        `lime_image`, whose weight sqrt(exp(-d^2 / width^2)) is the same.
    """
    for name, value in ("kernel_width", kernel_width), ("ridge", ridge):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be above 0, got {value!r}")
    return _surrogate(
        "lime", model, images, targets, segments, count, samples, baseline, output, key,
        chunk_size, kernel_width=float(kernel_width), ridge=float(ridge),
    )  # fmt: skip


def kernel_shap(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    segments: Segments | None = None,
    count: int = 50,
    samples: int = 1000,
    baseline: Baseline = "mean",
    output: str = "logit",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width"]:
    """Estimate each superpixel's Shapley value by a weighted regression on random sets.

    The values of an image's superpixels sum to its answer minus the baseline's. They are exact
    where `samples` is enough for all sets: 2**n - 2 for the image's n superpixels.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        segments: (B, H, W) the number of each pixel's superpixel, from 0 without gaps, at least
            two an image; by default `superpixels(images, count=count)`.
        count: About how many superpixels, where `segments` are not given.
        samples: Sets, drawn by the Shapley kernel, each followed by its complement.
        baseline: What a hidden superpixel shows; see `baselines.baseline_images`.
        output: "logit", or "probability" (softmax).
        key: Decides the sets; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `samples`.

    Returns:
        (B, H, W), signed: at each pixel the value of its whole superpixel, in `output`'s unit.

    Raises:
        ValueError: If an argument breaks its rule, `samples` are too few to tell the superpixels
            apart, or the model answers NaN.

    References:
        Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017,
        theorem 2; Covert and Lee, Improving KernelSHAP, AISTATS 2021 (complements, and the sum as
        a constraint).
    """
    return _surrogate(
        "kernel_shap", model, images, targets, segments, count, samples, baseline, output, key,
        chunk_size, kernel_width=0.0, ridge=0.0,
    )  # fmt: skip


def _surrogate(
    kind, model, images, targets, segments, count, samples, baseline, output, key, chunk_size,
    *, kernel_width, ridge,
) -> Float[Array, "batch height width"]:  # fmt: skip
    inputs = check_inputs(model, images, targets)
    check_count("count", count, least=2)
    segments = superpixels(inputs.images, count=count) if segments is None else segments
    segments, regions = _check_segments(segments, inputs.images.shape[:3], kind)
    samples = check_count("samples", samples)
    most = int(regions.max())
    everything = 2.0 ** np.minimum(regions, 64) - 2 <= samples
    if kind == "kernel_shap" and not everything.all() and samples < 2 * most:
        raise ValueError(
            f"samples must be at least twice the superpixels of each image, {2 * most} for image "
            f"{regions.argmax()}, or their values are not determined, got {samples}; raise "
            "samples, or lower count"
        )
    if kind == "kernel_shap" and everything.all():
        samples = 2**most - 2
    sums = _sums(
        *inputs, baseline_images(baseline, inputs.images), jnp.asarray(segments, jnp.int32),
        jnp.asarray(regions, jnp.int32), jnp.asarray(everything),
        image_keys(key, len(inputs.images)), jnp.float32(kernel_width),
        kind=kind, most=most, samples=samples, output=check_output(output, inputs),
        chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    check_logits(inputs, output, check_answer(sums[-1], kind))
    values, singular = _solve(*sums, regions, jnp.float32(ridge), kind=kind)
    if not is_traced(singular) and np.any(singular):
        raise ValueError(
            f"samples must be enough to tell the superpixels apart, got {samples} for "
            f"{regions[np.argmax(singular)]} of them in image {np.argmax(singular)}; raise "
            "samples, or lower count"
        )
    check_answer(values, kind)
    return jax.vmap(lambda values, segments: values[segments])(values, jnp.asarray(segments))


def _check_segments(segments, shape, kind):
    if np.shape(segments) != shape:
        raise ValueError(
            f"segments must have one number for each pixel of each image, shape {shape}, "
            f"got {np.shape(segments)}"
        )
    if is_traced(segments):
        raise ValueError(
            "segments must be known, and under jax.jit they are not; close over them instead"
        )
    segments = np.asarray(segments)
    if not np.issubdtype(segments.dtype, np.integer):
        raise ValueError(f"segments must be integers, got {segments.dtype}")
    regions = segments.reshape(len(segments), -1).max(1).astype(np.int64) + 1
    for i, numbers in enumerate(segments):
        if not np.array_equal(np.unique(numbers), np.arange(regions[i])):
            raise ValueError(
                f"segments must number each image's superpixels from 0 without gaps, got "
                f"{np.unique(numbers)[:8].tolist()} for image {i}; "
                "skimage.segmentation.relabel_sequential numbers them anew"
            )
    least = 2 if kind == "kernel_shap" else 1
    if regions.min() < least:
        raise ValueError(
            f"segments must be at least {least} an image for {kind}, got {regions.min()} for "
            f"image {regions.argmin()}; raise count"
        )
    return segments, regions


def _lime_set(key, k, regions, most, kernel_width):
    """Return a random set of superpixels, (most,) bool, and its weight."""
    real = jnp.arange(most) < regions
    shown = (jax.random.bernoulli(jax.random.fold_in(key, k), shape=(most,)) | (k == 0)) & real
    distance = 1 - jnp.sqrt(shown.sum() / regions)
    return shown, jnp.exp(-0.5 * (distance / kernel_width) ** 2)


def _shapley_set(key, k, regions, most):
    """Return a set drawn by the Shapley kernel, or the complement of the one before.

    The kernel of a set of size s is (n - 1) / (C(n, s) s (n - s)), so s is drawn by
    1 / (s (n - s)), then a set of that size, all alike; their weights are equal.
    """
    real = jnp.arange(most) < regions
    which, what = jax.random.split(jax.random.fold_in(key, k // 2))
    sizes = jnp.arange(1, most)
    odds = jnp.where(sizes < regions, -jnp.log(sizes * jnp.maximum(regions - sizes, 1)), -jnp.inf)
    size = sizes[jax.random.categorical(which, odds)]
    places = jnp.argsort(jnp.argsort(jnp.where(real, jax.random.uniform(what, (most,)), 2)))
    return jnp.where(k % 2 == 0, places < size, places >= size) & real, jnp.float32(1)


def _every_set(k, regions, most, samples):
    """Return the set whose bits are k + 1, with its Shapley kernel, 0 past the image's sets.

    It is meant for images whose sets are no more than `samples`: `wide` superpixels at most.
    """
    wide = min(most, (samples + 2).bit_length() - 1)
    table = np.zeros((wide + 1, wide + 1), np.float32)
    for n, s in itertools.product(range(2, wide + 1), range(1, wide)):
        if s < n:
            table[n, s] = (n - 1) / (math.comb(n, s) * s * (n - s))
    regions = jnp.minimum(regions, wide)  # no shift beyond the bits of an int32
    shown = jnp.zeros(most, jnp.int32).at[:wide].set(((k + 1) >> jnp.arange(wide)) & 1)
    inside = (k + 1) < (1 << regions) - 1
    weight = jnp.asarray(table)[regions, shown.sum()]
    return (shown > 0) & inside, jnp.where(inside, weight, 0)


def _sums_core(
    model, images, targets, hidden, segments, regions, everything, keys, kernel_width,
    *, kind, most, samples, output, chunk_size,
):  # fmt: skip
    def answer(images, targets):
        return target_output(model, images, targets, output)

    whole = map_images(answer, chunk_size, images, targets)
    nothing = map_images(answer, chunk_size, hidden, targets)

    def draw(key, k, regions, everything):
        if kind == "lime":
            return _lime_set(key, k, regions, most, kernel_width)
        every, drawn = _every_set(k, regions, most, samples), _shapley_set(key, k, regions, most)
        return jax.tree.map(lambda a, b: jnp.where(everything, a, b), every, drawn)

    def visit(totals, i, k, live):
        shown, weights = jax.vmap(draw)(keys[i], k, regions[i], everything[i])
        pixels = jnp.take_along_axis(shown, segments[i].reshape(len(i), -1), 1)
        pixels = pixels.reshape(segments[i].shape)[..., None]
        # From the empty image's answer, so that large logits do not swamp small differences.
        answers = answer(jnp.where(pixels, images[i], hidden[i]), targets[i]) - nothing[i]
        weights = jnp.where(live, weights, 0)
        rows = jnp.concatenate([shown, jnp.ones((len(i), 1))], 1)  # the last one: intercept
        products = weights[:, None, None] * rows[:, :, None] * rows[:, None, :]
        sums = (weights * answers)[:, None] * rows
        return totals[0].at[i].add(products), totals[1].at[i].add(sums)

    size = most + 1
    zeros = jnp.zeros((len(images), size, size)), jnp.zeros((len(images), size))
    products, sums = fold_pairs(visit, zeros, len(images), samples, chunk_size)
    return products, sums, whole - nothing


@functools.partial(jax.jit, static_argnames=["kind"])
def _solve(products, sums, change, regions, ridge, *, kind):
    if kind == "lime":
        values = jax.vmap(_ridge, (0, 0, None))(products, sums, ridge)
        return values, jnp.zeros(len(values), bool)
    return jax.vmap(_constrained)(products, sums, regions, change)


def _ridge(products, sums, ridge):
    """Solve weighted least squares with a penalty on all coefficients but the intercept."""
    total = products[-1, -1]
    middle, level = products[:-1, -1] / total, sums[-1] / total
    spread = products[:-1, :-1] - total * jnp.outer(middle, middle)
    slopes = sums[:-1] - total * middle * level
    return jnp.linalg.solve(spread + ridge * jnp.eye(len(spread)), slopes)


def _constrained(products, sums, regions, change):
    """Solve weighted least squares with no intercept, the coefficients summing to `change`.

    The second answer is whether the sets leave that open.
    """
    gram, right = products[:-1, :-1], sums[:-1]
    real = jnp.arange(len(gram)) < regions
    # Superpixels that an image does not have get an equation of their own: value = 0.
    gram = gram + jnp.diag(jnp.where(real, 0, gram.max()))
    free, direction = jnp.linalg.solve(
        gram, jnp.stack([jnp.where(real, right, 0), real.astype(jnp.float32)], 1)
    ).T
    values = free + direction * (change - free.sum()) / direction.sum()
    return values, ~(jnp.linalg.cond(gram) < 1e6)  # beyond it float32 has no digit left


_sums = jit(
    _sums_core,
    static_argnames=["kind", "most", "samples", "output", "chunk_size"],
    per_image=["images", "targets", "hidden", "segments", "regions", "everything", "keys"],
)
