"""Maps that know nothing of the model: what an explanation has to beat."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._inputs import Images, Model, Targets, check_inputs
from practical._keys import image_keys


def random(
    model: Model, images: Images, targets: Targets, *, key: Array | None = None
) -> Float[Array, "batch height width"]:
    """Return uniform noise: the control that any explanation must beat.

    Args:
        model: Checked, and never asked.
        images: (B, H, W, C) in [0, 1]; only the size counts.
        targets: (B,) checked, and not used.
        key: Decides the noise; one key, or one an image; by default `jax.random.key(0)`.

    Returns:
        (B, H, W) in [0, 1), without a unit.

    Raises:
        ValueError: If an argument breaks its rule.

    References:
        Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE
        TNNLS 28, 2017, which measures explanations against random orders.
    """
    inputs = check_inputs(model, images, targets)
    keys = image_keys(key, len(inputs.images))
    return jax.vmap(lambda key: jax.random.uniform(key, inputs.images.shape[1:3]))(keys)


def center(
    model: Model, images: Images, targets: Targets
) -> Float[Array, "batch height width"]:  # fmt: skip
    """Return a map that is highest in the middle, where photographers put the object.

    Args:
        model: Checked, and never asked.
        images: (B, H, W, C) in [0, 1]; only the size counts.
        targets: (B,) checked, and not used.

    Returns:
        (B, H, W): 1 minus the distance from the image's centre, over that of its corners; 1 in
        the centre and 0 at the corners' outer ends.

    Raises:
        ValueError: If an argument breaks its rule.

    References:
        Judd et al., Learning to Predict Where Humans Look, ICCV 2009, section 4: a Gaussian in
        the centre predicts fixations better than most models of saliency.
    """
    shape = check_inputs(model, images, targets).images.shape[:3]
    # In units of the image's sides, from -1 to 1, so that the corners are sqrt(2) away.
    rows, columns = ((2 * jnp.arange(side) + 1) / side - 1 for side in shape[1:])
    distance = jnp.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)
    return jnp.broadcast_to(1 - distance / jnp.sqrt(2.0), shape)


def edges(
    model: Model, images: Images, targets: Targets
) -> Float[Array, "batch height width"]:  # fmt: skip
    """Return the strength of the image's edges, by Sobel's filter on the mean of the channels.

    Args:
        model: Checked, and never asked.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) checked, and not used.

    Returns:
        (B, H, W), at least 0: the length of the slope, in pixel values per pixel.

    Raises:
        ValueError: If an argument breaks its rule.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 5, which finds that
        some explanations do no more than this filter, due to Sobel and Feldman, 1968.
    """
    grey = check_inputs(model, images, targets).images.mean(-1)
    padded = jnp.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    weights = (1, 2, 1)
    height, width = grey.shape[1:]
    across = sum((w * padded[:, k : k + height] for k, w in enumerate(weights)), jnp.zeros(()))
    down = sum((w * padded[:, :, k : k + width] for k, w in enumerate(weights)), jnp.zeros(()))
    across = across[:, :, 2:] - across[:, :, :-2]
    down = down[:, 2:] - down[:, :-2]
    return jnp.hypot(across, down) / 8  # squares of 1e-22 would be 0 in float32
