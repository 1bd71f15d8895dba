"""Asking a model about many images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from practical._jit import as_argument, jit


def predict(model, images, *, chunk_size: int = 64) -> Float[np.ndarray, "n c"]:
    """Return the logits of all images, `chunk_size` of them in flight.

    Args:
        model: Images (B, H, W, 3) in [0, 1] to logits (B, C); a JAX pytree or any callable.
        images: (N, H, W, 3) in [0, 1]: an array, or a data set's lazy images.
        chunk_size: Images read and computed at a time; the answer does not depend on it.

    Raises:
        ValueError: If there is no image, or `chunk_size` is below 1.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    count = len(images)
    if count == 0:
        raise ValueError("images must hold at least one image, got none")
    size = min(chunk_size, count)
    argument = as_argument(model)
    logits = []
    for start in range(0, count, size):
        chunk = np.asarray(images[start : start + size], np.float32)
        short = size - len(chunk)
        if short:  # one shape, one compilation
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)])
        logits.append(_apply(argument, chunk))
    return np.concatenate([np.asarray(chunk) for chunk in logits])[:count]


@jit
def _apply(model, images):
    return model(jnp.asarray(images))
