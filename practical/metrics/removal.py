"""Does a heatmap's sum over some pixels tell what removing them does to the model's answer?"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._chunks import fold_pairs, map_images
from practical._inputs import (
    ChunkSize,
    Heatmaps,
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
from practical.metrics.faithfulness import check_maps


def infidelity(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps,
    *,
    samples: int = 200,
    largest: float = 0.5,
    baseline: Baseline = "mean",
    scale: bool = True,
    output: str = "logit",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, " batch"]:
    """Return how wrongly a heatmap's sum over a random square predicts the square's effect.

    The mean over squares S of (b * sum of the heatmap over S - (f(x) - f(x without S)))^2. Low is
    good; 0 for the shares of a linear model.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class whose answer is followed.
        heatmaps: (B, H, W): each pixel's share in the answer.
        samples: Squares an image, their places uniform, their sides uniform from 1 pixel.
        largest: The largest side, as a share of the image's shorter one, in (0, 1].
        baseline: What a removed square shows; see `baselines.baseline_images`.
        scale: Choose b for each image so that the error is least, which makes maps in other units
            than the answer's comparable; else b is 1.
        output: "logit", or "probability" (softmax).
        key: Decides the squares; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `samples`
            except for three numbers each.

    Returns:
        (B,) in `output`'s unit squared, at least 0. A map of zeros predicts no effect at all.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition
        2.1 with square removal, and the optimal scaling of section 2.
    """
    if not 0 < largest <= 1:
        raise ValueError(f"largest must be a share above 0 and at most 1, got {largest!r}")
    inputs = check_inputs(model, images, targets)
    side = max(1, int(largest * min(inputs.images.shape[1:3])))
    predicted, actual = _predictions(
        "infidelity", inputs, heatmaps, "square", side, samples, baseline, output, key, chunk_size
    )
    if scale:
        predicted = _normalized(predicted)
        total = (predicted**2).sum(1)
        best = (predicted * actual).sum(1) / np.where(total > 0, total, 1)
        predicted = best[:, None] * predicted
    return jnp.asarray(((predicted - actual) ** 2).mean(1), jnp.float32)


def sensitivity_n(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps,
    *,
    share: float = 0.1,
    samples: int = 200,
    baseline: Baseline = "mean",
    output: str = "logit",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, " batch"]:
    """Correlate a heatmap's sum over n random pixels with the effect of removing them.

    High is good; 1 for the shares of a linear model.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class whose answer is followed.
        heatmaps: (B, H, W): each pixel's share in the answer, in any unit.
        share: n over the number of pixels, in (0, 1).
        samples: Sets of n pixels an image, at least 2.
        baseline: What a removed pixel shows; see `baselines.baseline_images`.
        output: "logit", or "probability" (softmax).
        key: Decides the sets; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `samples`
            except for three numbers each.

    Returns:
        (B,) Pearson's correlation, from -1 to 1; 0 where the sums or the effects are all equal,
        as those of a constant map are.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods for Deep
        Neural Networks, ICLR 2018, definition 1.
    """
    inputs = check_inputs(model, images, targets)
    pixels = inputs.images.shape[1] * inputs.images.shape[2]
    size = round(share * pixels) if 0 < share < 1 else 0
    if not 0 < size < pixels:
        raise ValueError(
            f"share must be between 0 and 1 and take some of the {pixels} pixels, got {share!r}"
        )
    check_count("samples", samples, least=2)
    predicted, actual = _predictions(
        "sensitivity_n", inputs, heatmaps, "pixels", size, samples, baseline, output, key,
        chunk_size,
    )  # fmt: skip
    rows = zip(_normalized(predicted), _normalized(actual), strict=True)
    correlations = [_correlation(*pair) for pair in rows]
    return jnp.asarray(correlations, jnp.float32)


def _normalized(rows: np.ndarray) -> np.ndarray:
    """Return each row divided by its largest magnitude, so that no square underflows."""
    largest = abs(rows).max(-1, keepdims=True)
    return rows / np.where(largest > 0, largest, 1)


def _correlation(predicted: np.ndarray, actual: np.ndarray) -> float:
    # Sums of many float32 that would be equal differ in their last digits.
    spreads = [np.ptp(row) > 1e-5 * np.abs(row).max() for row in (predicted, actual)]
    return float(np.corrcoef(predicted, actual)[0, 1]) if all(spreads) else 0.0


def _predictions(
    metric, inputs, heatmaps, kind, size, samples, baseline, output, key, chunk_size
):  # fmt: skip
    """Return what each image's heatmap predicts for each random set, and what happens."""
    check_maps(heatmaps, inputs.images, any_scale=True)
    maps = np.asarray(heatmaps, np.float64)
    # Sums of float32 would lose small values beside a constant that all pixels share.
    level = maps.mean((1, 2), keepdims=True)
    differences = maps - level
    unit = abs(differences).max((1, 2), keepdims=True)  # float32 has neither 1e-42 nor 1e39
    unit = np.where(unit > 0, unit, 1)
    predicted, left, removed = _effects(
        *inputs, baseline_images(baseline, inputs.images),
        jnp.asarray(differences / unit, jnp.float32),
        image_keys(key, len(inputs.images)),
        kind=kind, size=size, samples=check_count("samples", samples),
        output=check_output(output, inputs), chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    check_logits(inputs, output, left)
    actual = np.asarray(check_answer(left, metric), np.float64)
    predicted = np.asarray(predicted, np.float64) * unit[..., 0]
    removed = np.asarray(removed, np.float64)
    # With as many pixels in each set, the level only moves all sums, and a correlation not at all.
    return (predicted if kind == "pixels" else predicted + level[..., 0] * removed), actual


def _effects_core(
    model, images, targets, hidden, heatmaps, keys, *, kind, size, samples, output, chunk_size
):  # fmt: skip
    count, height, width, _ = images.shape

    def whole(images, targets):
        return target_output(model, images, targets, output)

    def square(key):
        """Return a square of 1 to `size` pixels' side, anywhere inside of the image."""
        draws = jax.random.uniform(key, (3,))
        side = 1 + jnp.floor(draws[0] * size)
        top = jnp.floor(draws[1] * (height - side + 1))
        left = jnp.floor(draws[2] * (width - side + 1))
        rows, columns = jnp.arange(height), jnp.arange(width)
        inside = (rows >= top) & (rows < top + side)
        return inside[:, None] & ((columns >= left) & (columns < left + side))[None, :]

    def pixels(key):
        """Return `size` pixels, all sets of that size alike."""
        draws = jax.random.bits(key, (height * width,))  # 32 bits: one set in thousands has a tie
        return (draws < jnp.sort(draws)[size]).reshape(height, width)

    def draw(key, k):
        key = jax.random.fold_in(key, k)
        return square(key) if kind == "square" else pixels(key)

    def visit(totals, i, k, live):
        removed = jax.vmap(draw)(keys[i], k)
        shown = jnp.where(removed[..., None], hidden[i], images[i])
        predicted = (heatmaps[i] * removed).sum((1, 2))
        # Pairs that only fill the last chunk repeat its last pair, so they write the same value.
        left = target_output(model, shown, targets[i], output)
        values = predicted, left, removed.sum((1, 2)).astype(jnp.float32)
        return tuple(total.at[i, k].set(value) for total, value in zip(totals, values, strict=True))

    zeros = jnp.zeros((count, samples))
    predicted, left, sizes = fold_pairs(visit, (zeros,) * 3, count, samples, chunk_size)
    return predicted, map_images(whole, chunk_size, images, targets)[:, None] - left, sizes


_effects = jit(
    _effects_core, static_argnames=["kind", "size", "samples", "output", "chunk_size"],
    per_image=["images", "targets", "hidden", "heatmaps", "keys"],
)  # fmt: skip
