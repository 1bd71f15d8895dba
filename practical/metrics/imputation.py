"""Removed pixels interpolated from what is left, so that they cannot be seen to be missing."""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float

from practical._inputs import ArrayLike

# ROAD's: a removed pixel is the weighted mean of its neighbours, removed ones included.
_WEIGHTS = {
    (dy, dx): 1 / 6 if 0 in (dy, dx) else 1 / 12
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if (dy, dx) != (0, 0)
}
_NOISE = 0.01  # standard deviation, in pixel units
_TOLERANCE = 1e-4  # of the residual, relative; a hundredth of the noise


def impute(
    image: Float[ArrayLike, "h w c"], removed: Bool[ArrayLike, "h w"], key: Array
) -> Float[Array, "h w c"]:
    """Return an image whose removed pixels are the weighted mean of their neighbours, with noise.

    At the edges the weights of the neighbours that exist are scaled up to 1. At least one pixel
    must be left.

    References:
        Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
        2022, section 4 ("noisy linear imputation").
    """
    image, removed = jnp.asarray(image), jnp.asarray(removed)

    def neighbours(values):
        padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)))
        height, width = values.shape[:2]
        return sum(
            weight * padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            for (dy, dx), weight in _WEIGHTS.items()
        )

    gone = removed[..., None]
    total = neighbours(jnp.ones_like(image))  # 1 inside, less at the edges

    def equations(values):
        """Apply the system of the removed pixels: symmetric, positive definite."""
        return jnp.where(gone, total * values - neighbours(values), 0)

    known = jnp.where(gone, 0, image)
    # From the mean of what is left, not from black: a good start saves half of the iterations.
    level = known.sum((0, 1)) / jnp.maximum((~gone).sum(), 1)
    start = jnp.where(gone, level, 0)
    right = jnp.where(gone, neighbours(known), 0)
    filled, _ = cg(equations, right, x0=start, tol=_TOLERANCE, maxiter=sum(image.shape[:2]) * 4)
    noise = _NOISE * jax.random.normal(key, image.shape)
    return jnp.where(gone, filled + noise, image)
