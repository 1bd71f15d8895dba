"""From one value an image to a statement about all images."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._inputs import ArrayLike, check_count, check_finite


class Interval(NamedTuple):
    """A mean over images and how far it can be trusted."""

    mean: Float[Array, "..."]
    low: Float[Array, "..."]  # lower end of the confidence interval
    high: Float[Array, "..."]  # upper end


def bootstrap_interval(
    values: Float[ArrayLike, "images ..."],
    *,
    level: float = 0.95,
    samples: int = 2000,
    key: Array | None = None,
) -> Interval:
    """Return the mean over images with its bootstrap percentile interval.

    Images are drawn with replacement, whole: the points of a curve stay together.

    Args:
        values: (N, ...) one row an image, N at least 2.
        level: Confidence, in (0, 1).
        samples: Bootstrap samples.
        key: Decides the samples; by default `jax.random.key(0)`.

    Raises:
        ValueError: If there are fewer than two images, a NaN, or an argument is out of its range.

    References:
        Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979.
    """
    values = jnp.asarray(values, jnp.float32)
    if values.ndim < 1 or len(values) < 2:
        raise ValueError(f"values must hold at least two images, got shape {values.shape}")
    check_finite(values, "values")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    check_count("samples", samples)
    key = jax.random.key(0) if key is None else key
    count = len(values)
    draws = jax.random.randint(key, (samples, count), 0, count)
    # How often each image was drawn, so that no (samples, images, ...) array is ever made.
    weights = jax.vmap(lambda draw: jnp.bincount(draw, length=count))(draws) / count
    means = jnp.tensordot(weights.astype(jnp.float32), values, axes=1, precision="highest")
    tail = 100 * (1 - level) / 2
    low, high = jnp.percentile(means, jnp.array([tail, 100 - tail]), axis=0)
    return Interval(values.mean(0), low, high)
