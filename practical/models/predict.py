"""Asking a model about many images."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from practical._arguments import as_argument
from practical._inputs import check_count, check_finite, check_images, check_logits_shape
from practical._jit import jit

# How much the logits of equal rows may differ, relative to their range and to their magnitude. A
# program usually computes equal rows alike, to the last bit.
_TOLERANCE, _ROUNDING = 0.01, 1e-5


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
        answer = _logits(argument, chunk)
        check_finite(answer[:held], "the model's logits", first=start)
        logits.append(answer[:held])
    return np.concatenate(logits)


def check_rows(model, images, *, chunk_size: int = 8) -> None:
    """Check that a model's answer for an image depends only on that image.

    It does not in training mode: batch normalization uses the statistics of the batch, and dropout
    is random. Two batches are computed by the program that `predict` uses for this `chunk_size`:
    one of copies of the first image, and one whose first half is another image instead. All copies
    must get the same logits, up to rounding (1 % of the range of the logits).
    Randomness that is the same for all rows and in all calls, as dropout with one fixed mask for
    the whole batch, is not found.

    Args:
        model: Images (B, H, W, channels) in [0, 1] to logits (B, classes); a JAX pytree or any
            callable.
        images: (N, H, W, channels) in [0, 1]: an array, or a data set's lazy images. Only the first
            is used.
        chunk_size: Images in a batch; with 1, two.

    Raises:
        ValueError: If the logits of one image differ between rows, batches or calls, or if
            `images`, `chunk_size` or the model's answers break the rules of `predict`.
    """
    size = max(2, check_count("chunk_size", chunk_size))
    if len(np.shape(images)) != 4:
        check_images(images)  # raises
    image = np.asarray(check_images(images[:1]))
    copies = np.repeat(image, size, axis=0)
    # A gradient from black to dark gray or from light gray to white: the mean differs from that of
    # the image, and so do the patterns, for a model that normalizes the brightness of an image.
    dark = np.linspace(0, 0.25, image.size, dtype=np.float32).reshape(image.shape)
    other = dark if image.mean() > 0.5 else 1 - dark
    mixed = np.concatenate([np.repeat(other, size // 2, axis=0), copies[size // 2 :]])
    # The batches have one size, because rounding depends on it. The model becomes an argument
    # twice, because a function may capture other random numbers in the next call.
    first, second = (_logits(as_argument(model, batch), batch) for batch in (mixed, copies))
    difference = np.ptp(np.concatenate([first[size // 2 :], second]), axis=0).max()
    finite = np.concatenate([first, second]).ravel()
    finite = finite[np.isfinite(finite)]
    allowed = _TOLERANCE * np.ptp(finite) + _ROUNDING * abs(finite).max() if finite.size else 0
    if difference > allowed:  # not for NaN, which `predict` reports
        raise ValueError(
            f"the logits of one image differ by up to {difference:.3g} with the other images of "
            "the batch, its place in the batch, or from call to call; they must depend only on the "
            "image. Batch normalization or dropout seems to be in training mode. Turn that off: "
            "model.eval() for flax.nnx; train=False, use_running_average=True or "
            "deterministic=True for flax.linen; eqx.nn.inference_mode(model) for equinox; "
            "training=False for Keras"
        )


def _logits(argument, images: np.ndarray) -> np.ndarray:
    """Return the logits of one batch, in float32 where the model's are narrower."""
    answer = np.asarray(check_logits_shape(_apply(argument, images), len(images)))
    return answer.astype(np.promote_types(answer.dtype, np.float32), copy=False)


@jit
def _apply(model, images):
    return model(jnp.asarray(images))
