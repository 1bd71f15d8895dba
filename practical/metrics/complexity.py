"""How much of a map must be looked at? Measures of concentration, from the heatmaps alone."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import xlogy

from practical._inputs import Heatmaps, check_finite


def sparseness(heatmaps: Heatmaps) -> Float[Array, " batch"]:
    """Return the Gini index of each map's magnitudes: high where few pixels hold the relevance.

    Computed on the host, in double precision.

    Args:
        heatmaps: (B, H, W), any scale; the sign does not count.

    Returns:
        (B,) from 0, where all magnitudes are equal, to 1 - 1 / (H W), where one pixel holds all.
        A map of zeros is a constant map: 0.

    Raises:
        ValueError: If `heatmaps` has another rank, no pixel, or a NaN.

    References:
        Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training,
        ICML 2020.
    """
    magnitudes = np.sort(_magnitudes(heatmaps), axis=1)
    pixels = magnitudes.shape[1]
    # 2 * rank - pixels - 1, with ranks from 1 for the smallest magnitude.
    weights = np.arange(1 - pixels, pixels, 2, dtype=np.float64)
    gini = magnitudes @ weights / (pixels * magnitudes.sum(1))
    # The weighted sum of nearly equal magnitudes may be rounded to just below 0.
    return jnp.asarray(np.maximum(gini, 0), jnp.float32)


def entropy(heatmaps: Heatmaps) -> Float[Array, " batch"]:
    """Return the Shannon entropy of each map's shares |a| / sum |a|: low where few pixels matter.

    Bhatt et al. call it the complexity of an explanation. Computed on the host, in double
    precision.

    Args:
        heatmaps: (B, H, W), any scale; the sign does not count.

    Returns:
        (B,) in nats, from 0, where one pixel holds all, to log(H W), where all magnitudes are
        equal. A map of zeros is a constant map: log(H W).

    Raises:
        ValueError: If `heatmaps` has another rank, no pixel, or a NaN.

    References:
        Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020.
    """
    magnitudes = _magnitudes(heatmaps)
    total = magnitudes.sum(1)
    # The largest magnitude is 1, so neither term is negative and nothing cancels.
    nats = np.log(total) - xlogy(magnitudes, magnitudes).sum(1) / total
    return jnp.asarray(nats, jnp.float32)


def check_heatmaps(heatmaps: Heatmaps) -> Float[np.ndarray, "batch height width"]:
    """Return `heatmaps` on the host, float32 or float64, or say what is wrong with them."""
    shape = np.shape(heatmaps)
    if len(shape) != 3 or 0 in shape:
        hint = {
            2: "; add a batch axis: heatmaps[None]",
            4: "; attribution.heatmap makes one value a pixel",
        }.get(len(shape), "")
        raise ValueError(
            f"heatmaps must have shape (batch, height, width), at least one of each, got {shape}"
            f"{hint}"
        )
    check_finite(heatmaps, "heatmaps")
    maps = np.asarray(heatmaps)
    return maps.astype(np.result_type(maps, np.float32), copy=False)


def _magnitudes(heatmaps: Heatmaps) -> Float[np.ndarray, "batch pixels"]:
    """Return |a| over its largest; equal magnitudes, zeros as well, become exactly 1."""
    maps = check_heatmaps(heatmaps)
    magnitudes = np.abs(maps.reshape(len(maps), -1)).astype(np.float64)
    largest = magnitudes.max(1, keepdims=True)
    return np.divide(magnitudes, largest, out=np.ones_like(magnitudes), where=largest > 0)
