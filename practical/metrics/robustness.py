"""Does an explanation stay when the image hardly changes?"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_chunk_size,
    check_count,
    check_finite,
    check_inputs,
)
from practical._keys import image_keys
from practical.metrics.sanity import takes_chunk_size


def max_sensitivity(
    model: Model,
    images: Images,
    targets: Targets,
    method: Callable,
    *,
    radius: float = 0.02,
    samples: int = 10,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, " batch"]:
    """Return the largest relative change of an explanation among images close by; low is good.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image, and in those close by.
        method: Any explanation, `method(model, images, targets)`, such as
            `attribution.integrated_gradients`; options through `functools.partial`.
        radius: Largest change of any pixel value, in pixel units; changes are uniform in
            [-radius, radius], and the changed image is cut to [0, 1].
        samples: Images close by.
        key: Decides the changes; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Passed on to `method`, if it takes one.

    Returns:
        (B,) of max |method(x + change) - method(x)| / |method(x)|, Euclidean norms, at least 0.
        Where the explanation of x is all 0, the change is not divided by anything.

    Raises:
        ValueError: If an argument breaks its rule, or the explanation is not finite.

    References:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition
        3.1, divided by the explanation's norm as in Captum's and Quantus' implementations.
    """
    inputs = check_inputs(model, images, targets)
    samples = check_count("samples", samples)
    if not 0 < radius <= 1:
        raise ValueError(f"radius must be above 0 and at most 1, in pixel units, got {radius!r}")
    options = {"chunk_size": check_chunk_size(chunk_size)} if takes_chunk_size(method) else {}
    keys = image_keys(key, len(inputs.images))

    def explain(images):
        maps = np.asarray(method(model, images, targets, **options))
        check_finite(maps, "the explanation")
        return maps.reshape(len(maps), -1).astype(np.float64)

    def near(k):
        def change(key):
            key = jax.random.fold_in(key, k)
            shape = inputs.images.shape[1:]
            return jax.random.uniform(key, shape, minval=-radius, maxval=radius)

        return jnp.clip(inputs.images + jax.vmap(change)(keys), 0, 1)

    origin = explain(inputs.images)
    size = np.linalg.norm(origin, axis=1)
    worst = np.zeros(len(origin))
    for k in range(samples):
        worst = np.maximum(worst, np.linalg.norm(explain(near(k)) - origin, axis=1))
    return jnp.asarray(worst / np.where(size > 0, size, 1), jnp.float32)
