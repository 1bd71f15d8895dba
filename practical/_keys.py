"""Random numbers that belong to an image, whatever batch it comes in."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def image_keys(key: Array | None, count: int) -> Array:
    """Return one key for each of `count` images.

    Args:
        key: One key, folded with the image's number in the batch; or (count,) keys, taken as they
            are, so that an image can keep its own in any batch; None is `jax.random.key(0)`.
        count: How many images.

    Raises:
        ValueError: If `key` is no typed key of JAX's, or there are more or fewer than images.
    """
    key = one_key(key) if key is None or jnp.ndim(key) == 0 else key
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"key must be made by jax.random.key (a typed key), got an array of {key.dtype}"
        )
    if key.ndim == 0:
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    if key.shape != (count,):
        raise ValueError(
            f"key must be one key, or one for each of the {count} images, got shape {key.shape}"
        )
    return key


def one_key(key: Array | None) -> Array:
    """Return `key`, by default `jax.random.key(0)`.

    Raises:
        ValueError: If `key` is not one typed key of JAX's.
    """
    if key is None:
        return jax.random.key(0)
    dtype = getattr(key, "dtype", type(key))
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key) or jnp.ndim(key) != 0:
        raise ValueError(
            f"key must be one key made by jax.random.key, for example jax.random.key(0), "
            f"got {dtype} of shape {jnp.shape(key)}"
        )
    return key


def generator(key: Array | None) -> np.random.Generator:
    """Return NumPy's generator, seeded by `key`: nothing to compile for each shape.

    Raises:
        ValueError: If `key` is not one typed key of JAX's.
    """
    return np.random.default_rng(np.asarray(jax.random.key_data(one_key(key))).tolist())
