"""Means over images drawn with replacement."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._keys import one_key


def resampled_means(
    values: Float[Array, "images ..."], samples: int, key: Array | None
) -> Float[Array, "samples ..."]:
    """Return the means of `samples` draws of as many images, the same draws for the same key."""
    count = len(values)
    draws = jax.random.randint(one_key(key), (samples, count), 0, count)
    # How often each image was drawn, so that no (samples, images, ...) array is ever made.
    weights = jax.vmap(lambda draw: jnp.bincount(draw, length=count))(draws) / count
    return jnp.tensordot(weights.astype(jnp.float32), values, axes=1, precision="highest")


def percentile_ends(
    means: Float[Array, "samples ..."], level: float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the lower and the upper end of the percentile interval."""
    tail = 100 * (1 - level) / 2
    low, high = jnp.percentile(means, jnp.array([tail, 100 - tail]), axis=0)
    return low, high
