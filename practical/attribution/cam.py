"""Explanations from the last convolutional feature maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._chunks import map_images
from practical._inputs import Images, Model, Targets, check_answer, check_count, check_inputs
from practical._jit import jit


def grad_cam(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    relu: bool = True,
    upsample: bool = True,
    chunk_size: int = 32,
) -> Float[Array, "batch rows columns"]:
    """Weigh the last feature maps by how much the target logit depends on each, and add them up.

    Args:
        model: Images in [0, 1] to logits, with `features(images)` -> (B, h, w, c) and
            `head(features)` -> logits, as `models.Classifier` has.
        images: (B, H, W, 3) in [0, 1].
        targets: (B,) the class to explain in each image.
        relu: Keep only evidence for the class, as in the paper.
        upsample: Interpolate bilinearly to the images' size; else return (B, h, w).
        chunk_size: Images in flight.

    Returns:
        (B, H, W), in logits up to a factor that is the same for all pixels of all images; at
        least 0 under `relu`.

    Raises:
        ValueError: If the model has no `features` and `head`, an argument breaks its rule, or the
            model answers NaN.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    missing = [name for name in ("features", "head") if not hasattr(model, name)]
    if missing:
        raise ValueError(
            f"model must have the methods features(images) and head(features) for grad_cam, "
            f"got {type(model).__name__} without {' and '.join(missing)}"
        )
    inputs = check_inputs(model, images, targets)
    chunk_size = check_count("chunk_size", chunk_size)
    answer = _grad_cam(*inputs, relu=relu, upsample=upsample, chunk_size=chunk_size)
    return check_answer(answer, "grad_cam")


def _grad_cam_core(model, images, targets, *, relu, upsample, chunk_size):
    if isinstance(model, jax.tree_util.Partial):
        model = model.func  # `as_argument` wraps what is no pytree

    def one(images, targets):
        features = model.features(images)
        if features.ndim != 4 or len(features) != len(images):
            raise ValueError(
                f"model.features must return maps of shape ({len(images)}, h, w, channels) for "
                f"{len(images)} images, got {features.shape}"
            )

        def total(features):
            logits = jnp.take_along_axis(model.head(features), targets[:, None], 1)
            return logits.sum(), logits

        slopes, logits = jax.grad(total, has_aux=True)(features)
        weights = jnp.where(jnp.isfinite(logits), slopes.mean((1, 2)), jnp.nan)
        cam = jnp.einsum("bhwc,bc->bhw", features, weights)
        cam = jax.nn.relu(cam) if relu else cam
        if not upsample:
            return cam
        return jax.image.resize(cam, images.shape[:3], "bilinear")

    return map_images(one, chunk_size, images, targets)


_grad_cam = jit(_grad_cam_core, static_argnames=["relu", "upsample", "chunk_size"])
