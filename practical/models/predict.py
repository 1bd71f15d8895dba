"""Asking a model about many images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from practical._arguments import as_argument
from practical._inputs import check_count, check_finite, check_images, check_logits_shape
from practical._jit import jit


def predict(model, images, *, chunk_size: int = 64) -> Float[np.ndarray, "n c"]:
    """Return the logits of all images, `chunk_size` of them in flight.

    Args:
        model: Images (B, H, W, channels) in [0, 1] to logits (B, classes); a JAX pytree or any
            callable.
        images: (N, H, W, channels) in [0, 1]: an array, or a data set's lazy images.
        chunk_size: Images read and computed at a time; the answer does not depend on it.

    Returns:
        (N, classes) the logits, in float32 where the model's are narrower.

    Raises:
        ValueError: If there is no image, `chunk_size` is below 1, images are not as described, or
            the model answers NaN or with another shape.
    """
    check_count("chunk_size", chunk_size)
    if len(np.shape(images)) != 4:
        check_images(images)  # raises
    count = len(images)
    if count == 0:
        raise ValueError("images must hold at least one image, got none")
    size = min(chunk_size, count)
    argument = None
    logits = []
    for start in range(0, count, size):
        chunk = np.asarray(check_images(images[start : start + size], first=start))
        held = len(chunk)
        if held < size:  # one shape, one compilation
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], size - held, axis=0)])
        argument = as_argument(model, chunk) if argument is None else argument
        answer = np.asarray(check_logits_shape(_apply(argument, chunk), size))
        answer = answer.astype(np.promote_types(answer.dtype, np.float32), copy=False)
        check_finite(answer[:held], "the model's logits", first=start)
        logits.append(answer[:held])
    return np.concatenate(logits)


@jit
def _apply(model, images):
    return model(jnp.asarray(images))
