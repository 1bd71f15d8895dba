"""Explanations from the last convolutional feature maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._arguments import as_model
from practical._chunks import map_images
from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_inputs,
)
from practical._jit import jit
from practical._outputs import wide_logits


def grad_cam(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    relu: bool = True,
    upsample: bool = True,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch rows columns"]:
    """Weigh the last feature maps by how much the target logit depends on each, and add them up.

    Args:
        model: Images in [0, 1] to logits, with `features(images)` -> (B, h, w, c) and
            `head(features)` -> logits, as `models.Classifier` has, and `models.Split` gives to any
            other model.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        relu: Keep only evidence for the class, as in the paper.
        upsample: Interpolate bilinearly to the images' size; else return (B, h, w).
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W), in logits up to a factor that is the same for all pixels of all images; at
        least 0 under `relu`.

    Raises:
        ValueError: If the model has no `features` and `head`, an argument breaks its rule, or the
            model answers NaN.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    return _explain(
        "grad_cam", model, images, targets, relu=relu, upsample=upsample, chunk_size=chunk_size
    )


def grad_cam_plus_plus(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    upsample: bool = True,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch rows columns"]:
    """Weigh the feature maps by their positive gradients, so that small objects count as large.

    The paper explains exp(logit), whose higher derivatives are powers of the logit's gradient; the
    factor exp(logit), the same for all pixels of an image, is left out.

    Args:
        model: Images in [0, 1] to logits, with `features` and `head` as `grad_cam` needs them.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        upsample: Interpolate bilinearly to the images' size; else return (B, h, w).
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W), at least 0; only the pattern within an image means something, not the unit.

    Raises:
        ValueError: If the model has no `features` and `head`, an argument breaks its rule, or the
            model answers NaN.

    References:
        Chattopadhyay et al., Grad-CAM++, WACV 2018, equations 5, 7 and 19.
    """
    return _explain(
        "grad_cam_plus_plus", model, images, targets, relu=True, upsample=upsample,
        chunk_size=chunk_size,
    )  # fmt: skip


def _explain(kind, model, images, targets, *, relu, upsample, chunk_size):
    missing = [name for name in ("features", "head") if not hasattr(model, name)]
    if missing:
        raise ValueError(
            f"model must have the methods features(images) and head(features) for {kind}, "
            f"got {type(model).__name__} without {' and '.join(missing)}; "
            "models.Split(features, head) makes a model of two functions"
        )
    inputs = check_inputs(model, images, targets)
    answer = _cam(
        *inputs, kind=kind, relu=relu, upsample=upsample,
        chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    return check_answer(answer, kind)


def _cam_core(model, images, targets, *, kind, relu, upsample, chunk_size):
    def one(images, targets):
        features = as_model(model).features(images)
        if features.ndim != 4 or len(features) != len(images):
            raise ValueError(
                f"model.features must return maps of shape ({len(images)}, h, w, channels) for "
                f"{len(images)} images, got {features.shape}"
            )

        def total(features):
            logits = jnp.take_along_axis(
                wide_logits(as_model(model).head, features), targets[:, None], 1
            )
            return logits.sum(), logits

        slopes, logits = jax.grad(total, has_aux=True)(features)
        weights = _WEIGHTS[kind](features, slopes)
        weights = jnp.where(jnp.isfinite(logits), weights, jnp.nan)
        cam = jnp.einsum("bhwc,bc->bhw", features, weights)
        cam = jax.nn.relu(cam) if relu else cam
        if not upsample:
            return cam
        return jax.image.resize(cam, images.shape[:3], "bilinear")

    return map_images(one, chunk_size, images, targets)


def _plus_plus(features, slopes):
    # Only positive slopes count, and there the denominator is positive, too, while features are.
    # alpha = g^2 / (2 g^2 + sum(A) g^3), without the g^2, which is 0 in float32 if g is 1e-23.
    rising = jax.nn.relu(slopes)
    denominator = 2 + features.sum((1, 2), keepdims=True) * rising
    counts = (rising > 0) & (denominator > 0)
    alpha = jnp.where(counts, 1 / jnp.where(counts, denominator, 1), 0)
    return (alpha * rising).sum((1, 2))


_WEIGHTS = {
    "grad_cam": lambda features, slopes: slopes.mean((1, 2)),
    "grad_cam_plus_plus": _plus_plus,
}

_cam = jit(
    _cam_core, static_argnames=["kind", "relu", "upsample", "chunk_size"],
    per_image=["images", "targets"],
)  # fmt: skip
