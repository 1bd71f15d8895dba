"""Is an explanation true of the model? Remove what it points at, and watch the model's answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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
    check_finite,
    check_inputs,
    without_scale,
)
from practical._jit import jit
from practical._keys import image_keys, one_key
from practical._outputs import check_logits, check_output, target_output
from practical.baselines import Baseline, baseline_images
from practical.metrics.imputation import impute
from practical.metrics.protocols import IMPUTE, Protocol, find_protocol


class Curve(NamedTuple):
    """How the model's answer changes as pixels are replaced, in the order of a heatmap."""

    fractions: Float[Array, " points"]  # share of the pixels replaced so far, from 0 to 1
    scores: Float[Array, "batch points"]  # the model's answer for the target, one row an image
    weights: Float[Array, " points"] | None = None  # of the points in the area; by default
    # those of the trapezoid rule over the fractions

    @property
    def auc(self) -> Float[Array, " batch"]:
        """Area under each image's curve."""
        if self.weights is None:
            return jnp.trapezoid(self.scores, self.fractions, axis=-1)
        return (self.scores * self.weights[None]).sum(-1)


def deletion(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps | Float[ArrayLike, "batch height width channels"],
    *,
    protocol: Protocol | str = "practical",
    baseline: Baseline | None = None,
    steps: int | None = None,
    output: str | None = None,
    order: str | None = None,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Curve:
    """Replace each image's pixels by the baseline, the most relevant first; low area is good.

    All channels of a pixel go together, and both ends are measured, nothing and everything
    replaced, unless the protocol says otherwise.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class whose score is followed.
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts. A protocol of
            single values takes (B, H, W, C) as well.
        protocol: A `metrics.Protocol`, or the name of one in `metrics.PROTOCOLS`. The options
            that follow change it for this call.
        baseline: What replaces a pixel; see `baselines.baseline_images`. "mean", the default
            protocol's, is the image's own mean colour; RISE takes the data set's. "impute"
            interpolates a pixel from those that are left, as ROAD does.
        steps: Equal steps from no pixel to all of them; the curve has one point more.
        output: "probability" (softmax) or "logit".
        order: "most" or "least" relevant pixels first.
        key: Decides the order of pixels with equal values, the same for all images, and the noise
            of imputed ones; by default `jax.random.key(0)`. Keys, one an image, decide the noise
            of their images alone.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `steps`.

    Returns:
        The curve; `curve.auc` is one number an image.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Petsiuk et al., RISE, BMVC 2018, section 4.2; Rong et al., A Consistent and Efficient
        Evaluation Strategy for Attribution Methods, ICML 2022 (imputation).
    """
    return _curve(
        "deletion", model, images, targets, heatmaps, protocol, {"deletion": baseline}, steps,
        output, order, key, chunk_size,
    )  # fmt: skip


def insertion(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps | Float[ArrayLike, "batch height width channels"],
    *,
    protocol: Protocol | str = "practical",
    baseline: Baseline | None = None,
    steps: int | None = None,
    output: str | None = None,
    order: str | None = None,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Curve:
    """Put each image's pixels into the baseline, the most relevant first; high area is good.

    All channels of a pixel go together, and both ends are measured, nothing and everything
    inserted, unless the protocol says otherwise.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class whose score is followed.
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts. A protocol of
            single values takes (B, H, W, C) as well.
        protocol: A `metrics.Protocol`, or the name of one in `metrics.PROTOCOLS`. The options
            that follow change it for this call.
        baseline: What the pixels are put into; see `baselines.baseline_images`. The default
            protocol's is "blur".
        steps: Equal steps from no pixel to all of them; the curve has one point more.
        output: "probability" (softmax) or "logit".
        order: "most" or "least" relevant pixels first.
        key: Decides the order of pixels with equal values, the same for all images, and the noise
            of imputed ones; by default `jax.random.key(0)`. Keys, one an image, decide the noise
            of their images alone.
        chunk_size: Images in flight ("auto": as many as fit); memory does not grow with `steps`.

    Returns:
        The curve; `curve.auc` is one number an image.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Petsiuk et al., RISE, BMVC 2018, section 4.2.
    """
    return _curve(
        "insertion", model, images, targets, heatmaps, protocol, {"insertion": baseline}, steps,
        output, order, key, chunk_size,
    )  # fmt: skip


def road(
    model: Model,
    images: Images,
    targets: Targets,
    heatmaps: Heatmaps,
    *,
    protocol: Protocol | str = "road",
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, " batch"]:
    """Return how much more the least relevant pixels can be missed than the most relevant ones.

    The area under the deletion curve with the least relevant pixels first, minus that with the
    most relevant first, halved. Pixels are interpolated from those that are left, so that nothing
    but their information goes. High is good; a random map gets 0.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class whose score is followed.
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts.
        protocol: How pixels are removed; "road" measures the probability at 10 %, 20 %, ... 90 %.
        key: Decides ties and the noise of imputed pixels; by default `jax.random.key(0)`. Keys, one
            an image, decide the noise of their images alone.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B,) one number an image, from -1/2 to 1/2 for probabilities.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods,
        ICML 2022; combined as in pytorch-grad-cam's ROADCombined.
    """
    most, least = (
        deletion(
            model, images, targets, heatmaps, protocol=protocol, order=order, key=key,
            chunk_size=chunk_size,
        ).auc
        for order in ("most", "least")
    )  # fmt: skip
    return (least - most) / 2


def _curve(
    kind, model, images, targets, heatmaps, protocol, baseline, steps, output, order, key,
    chunk_size,
) -> Curve:  # fmt: skip
    protocol = find_protocol(protocol, **baseline, steps=steps, output=output, order=order)
    inputs = check_inputs(model, images, targets)
    heatmaps = check_maps(heatmaps, inputs.images, values=protocol.unit == "value", any_scale=True)
    height, width, channels = inputs.images.shape[1:]
    cutoffs = protocol.cutoffs(height, width, channels)
    replacing = getattr(protocol, kind)
    imputing = isinstance(replacing, str) and replacing == IMPUTE
    if imputing:
        if kind == "insertion" or protocol.unit == "value":
            raise ValueError(
                f'baseline "{IMPUTE}" is for deletion of whole pixels, got {kind} of '
                f"{protocol.unit}s; give a colour"
            )
        if cutoffs[-1] == height * width:
            raise ValueError(
                f'baseline "{IMPUTE}" needs some pixels that are left, so the protocol must be '
                'without ends: Protocol(ends="neither")'
            )
        first = last = inputs.images
    else:
        last = baseline_images(replacing, inputs.images)
        first = inputs.images
        if kind == "insertion":
            first, last = last, first
    check_output(protocol.output, inputs)
    keys = image_keys(key, len(inputs.images))
    ties = one_key(None if key is keys else key)
    heatmaps = -heatmaps if protocol.order == "least" else heatmaps
    chunk_size = check_chunk_size(chunk_size)
    if imputing:
        scores = _imputed_scores(
            inputs, heatmaps, cutoffs, ties, keys, protocol.output, chunk_size
        )  # fmt: skip
    else:
        scores = _scores(
            inputs.model, first, last, inputs.targets, heatmaps, jnp.asarray(cutoffs), ties,
            output=protocol.output, chunk_size=chunk_size,
        )  # fmt: skip
    check_logits(inputs, protocol.output, scores)
    units = height * width * (channels if protocol.unit == "value" else 1)
    fractions = (cutoffs / units).astype(np.float32)
    weights = protocol.weights(cutoffs / units).astype(np.float32)
    return Curve(jnp.asarray(fractions), check_answer(scores, kind), jnp.asarray(weights))


def check_maps(
    heatmaps, images: Float[Array, "b h w c"], *, values: bool = False, any_scale: bool = False
) -> Float[Array, "b h w _"]:
    """Return heatmaps as floats with a channel axis, or say why they do not fit the images.

    With `any_scale`, where only the order within an image counts, each may be multiplied.
    """
    shape = images.shape[:3]
    own = values and np.shape(heatmaps) == images.shape
    if not own and np.shape(heatmaps) != shape:
        hint = "; attribution.heatmap makes one value a pixel" if np.ndim(heatmaps) == 4 else ""
        raise ValueError(
            f"heatmaps must have one value for each pixel of each image, shape {shape}, "
            f"got {np.shape(heatmaps)}{hint}"
        )
    check_finite(heatmaps, "heatmaps")
    heatmaps = at_least_single(without_scale(heatmaps) if any_scale else heatmaps)
    if own:
        return heatmaps
    heatmaps = heatmaps[..., None]
    return jnp.broadcast_to(heatmaps, images.shape) if values else heatmaps


def _ranks(heatmaps: Float[Array, "b h w c"], key: Array) -> Int[Array, "b h w c"]:
    """Return each pixel's place in its image's order, 0 the most relevant.

    Equal values are in a random order. In raster order, a map that is zero nearly everywhere
    would be scored for its zeros from top to bottom.
    """
    values = heatmaps.reshape(len(heatmaps), -1)
    shuffle = jax.random.permutation(key, values.shape[1])
    order = shuffle[jnp.argsort(values[:, shuffle], axis=1, stable=True, descending=True)]
    return jnp.argsort(order, axis=1).reshape(heatmaps.shape)


def _scores_core(
    model, first, last, targets, heatmaps, cutoffs, key, *, output, chunk_size
):  # fmt: skip
    ranks = _ranks(heatmaps, key)

    def visit(total, i, k, live):
        replaced = ranks[i] < cutoffs[k][:, None, None, None]
        shown = jnp.where(replaced, last[i], first[i])
        # Pairs that only fill the last chunk repeat its last pair, so they write the same value.
        return total.at[i, k].set(target_output(model, shown, targets[i], output))

    count, points = len(first), len(cutoffs)
    return fold_pairs(visit, jnp.zeros((count, points)), count, points, chunk_size)


def _imputed_scores(inputs, heatmaps, cutoffs, ties, keys, output, chunk_size):
    """Impute all images for one point of the curve, and ask the model, point by point."""
    ranks = _jit_ranks(heatmaps, ties)
    columns = []
    for k, cutoff in enumerate(cutoffs):
        shown = _imputed(inputs.images, ranks, cutoff, keys, k, chunk_size=chunk_size)
        columns.append(
            _answers(inputs.model, shown, inputs.targets, output=output, chunk_size=chunk_size)
        )
    return jnp.stack(columns, 1)


def _imputed_core(images, ranks, cutoff, keys, k, *, chunk_size):
    def one(image, ranks, key):
        return impute(image, ranks[..., 0] < cutoff, jax.random.fold_in(key, k))

    return map_images(jax.vmap(one), chunk_size, images, ranks, keys)


def _answers_core(model, images, targets, *, output, chunk_size):
    def one(images, targets):
        return target_output(model, images, targets, output)

    return map_images(one, chunk_size, images, targets)


_jit_ranks = jit(_ranks, per_image=["heatmaps"])
_imputed = jit(_imputed_core, static_argnames=["chunk_size"], per_image=["images", "ranks", "keys"])
_scores = jit(
    _scores_core, static_argnames=["output", "chunk_size"],
    per_image=["first", "last", "targets", "heatmaps"],
)  # fmt: skip
_answers = jit(
    _answers_core, static_argnames=["output", "chunk_size"], per_image=["images", "targets"]
)
