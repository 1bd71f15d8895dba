"""Is an explanation true of the model? Remove what it points at, and watch the model's answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from practical._chunks import fold_pairs
from practical._inputs import (
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

_OUTPUTS = {
    "probability": jax.nn.softmax,
    "logit": lambda logits: logits,
}


class Curve(NamedTuple):
    """How the model's answer changes as pixels are replaced, most relevant first."""

    fractions: Float[Array, " points"]  # share of the pixels replaced so far, from 0 to 1
    scores: Float[Array, "batch points"]  # the model's answer for the target, one row an image

    @property
    def auc(self) -> Float[Array, " batch"]:
        """Area under each image's curve, by the trapezoid rule over the true fractions."""
        return jnp.trapezoid(self.scores, self.fractions, axis=-1)


def deletion(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps,
    *,
    baseline: Baseline = "mean",
    steps: int = 28,
    output: str = "probability",
    key: Array | None = None,
    chunk_size: int = 32,
) -> Curve:
    """Replace each image's pixels by the baseline, the most relevant first; low area is good.

    All channels of a pixel go together, and both ends are measured: nothing and everything
    replaced.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class whose score is followed.
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts.
        baseline: What replaces a pixel; see `baselines.baseline_images`. The paper's is the data
            set's mean colour; "mean" is the image's own.
        steps: Equal steps from no pixel to all of them; the curve has one point more.
        output: "probability" (softmax) or "logit".
        key: Decides the order of pixels with equal values, the same for all images; by default
            `jax.random.key(0)`.
        chunk_size: Images in flight; memory does not grow with `steps`.

    Returns:
        The curve; `curve.auc` is one number an image.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Petsiuk et al., RISE, BMVC 2018, section 4.2 (there with the data set's mean colour and
        224 pixels a step).
    """
    return _curve(
        "deletion", model, images, targets, heatmaps, baseline=baseline, steps=steps,
        output=output, key=key, chunk_size=chunk_size,
    )  # fmt: skip


def insertion(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps,
    *,
    baseline: Baseline = "blur",
    steps: int = 28,
    output: str = "probability",
    key: Array | None = None,
    chunk_size: int = 32,
) -> Curve:
    """Put each image's pixels into the baseline, the most relevant first; high area is good.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class whose score is followed.
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts.
        baseline: What the pixels are put into; "blur" is the paper's.
        steps: Equal steps from no pixel to all of them; the curve has one point more.
        output: "probability" (softmax) or "logit".
        key: Decides the order of pixels with equal values, the same for all images; by default
            `jax.random.key(0)`.
        chunk_size: Images in flight; memory does not grow with `steps`.

    Returns:
        The curve; `curve.auc` is one number an image.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Petsiuk et al., RISE, BMVC 2018, section 4.2.
    """
    return _curve(
        "insertion", model, images, targets, heatmaps, baseline=baseline, steps=steps,
        output=output, key=key, chunk_size=chunk_size,
    )  # fmt: skip


def _curve(
    kind, model, images, targets, heatmaps, *, baseline, steps, output, key, chunk_size
) -> Curve:
    inputs = check_inputs(model, images, targets)
    shape = inputs.images.shape[:3]
    if np.shape(heatmaps) != shape:
        hint = "; attribution.heatmap makes one value a pixel" if np.ndim(heatmaps) == 4 else ""
        raise ValueError(
            f"heatmaps must have one value for each pixel of each image, shape {shape}, "
            f"got {np.shape(heatmaps)}{hint}"
        )
    check_finite(heatmaps, "heatmaps")
    pixels = shape[1] * shape[2]
    if check_count("steps", steps) > pixels:
        raise ValueError(f"steps must be at most the {pixels} pixels of an image, got {steps}")
    if output not in _OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(_OUTPUTS)}, got {output!r}")
    replacement = baseline_images(baseline, inputs.images)
    first, last = (
        (inputs.images, replacement) if kind == "deletion" else (replacement, inputs.images)
    )
    cutoffs = np.round(np.linspace(0, pixels, steps + 1)).astype(np.int32)
    scores = _scores(
        inputs.model, first, last, inputs.targets, jnp.asarray(heatmaps), jnp.asarray(cutoffs),
        jax.random.key(0) if key is None else key,
        output=output, chunk_size=check_count("chunk_size", chunk_size),
    )  # fmt: skip
    return Curve(jnp.asarray(cutoffs / np.float32(pixels)), check_answer(scores, kind))


def _ranks(heatmaps: Float[Array, "b h w"], key: Array) -> Int[Array, "b h w"]:
    """Return each pixel's place in its image's order, 0 the most relevant.

    Equal values are in a random order. In raster order, a map that is zero nearly everywhere
    would be scored for its zeros from top to bottom.
    """
    count, height, width = heatmaps.shape
    shuffle = jax.random.permutation(key, height * width)
    values = heatmaps.reshape(count, -1)[:, shuffle]
    order = shuffle[jnp.argsort(values, axis=1, stable=True, descending=True)]
    return jnp.argsort(order, axis=1).reshape(count, height, width)


def _scores_core(model, first, last, targets, heatmaps, cutoffs, key, *, output, chunk_size):
    ranks = _ranks(heatmaps, key)

    def visit(total, i, k, live):
        replaced = ranks[i] < cutoffs[k][:, None, None]
        logits = model(jnp.where(replaced[..., None], last[i], first[i]))
        # XLA:CPU's softmax may turn a row of NaN into finite numbers (jaxlib 0.10.2 does).
        answers = jnp.where((logits < jnp.inf).all(1)[:, None], _OUTPUTS[output](logits), jnp.nan)
        # Pairs that only fill the last chunk repeat its last pair, so they write the same value.
        return total.at[i, k].set(jnp.take_along_axis(answers, targets[i][:, None], 1)[:, 0])

    count, points = len(first), len(cutoffs)
    return fold_pairs(visit, jnp.zeros((count, points)), count, points, chunk_size)


_scores = jit(_scores_core, static_argnames=["output", "chunk_size"])
