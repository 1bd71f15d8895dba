"""Random changes to training images that leave their class: (key, images) -> images in [0, 1]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _none(key, images):
    return images


def _flip(key, images):
    """Mirror half of the images left to right."""
    flips = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flips, images[:, :, ::-1], images)


def _dihedral(key, images):
    """Turn and mirror each image to one of the eight symmetries of the square."""
    keys = jax.random.split(key, 3)
    images = _flip(keys[0], images)
    upside = jax.random.bernoulli(keys[1], shape=(len(images), 1, 1, 1))
    images = jnp.where(upside, images[:, ::-1], images)
    swap = jax.random.bernoulli(keys[2], shape=(len(images), 1, 1, 1))
    return jnp.where(swap, images.swapaxes(1, 2), images)


def _photo(key, images):
    """Mirror, zoom to a random 50 to 100 % of the area, and change brightness and contrast."""
    flip, zoom, place, light = jax.random.split(key, 4)
    images = _flip(flip, images)
    count, height, width, _ = images.shape
    size = jnp.array([height, width], jnp.float32)
    scale = jax.random.uniform(zoom, (count, 1), minval=0.5, maxval=1.0) ** -0.5
    shift = -jax.random.uniform(place, (count, 2)) * (scale - 1) * size

    def crop(image, scale, shift):
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), jnp.broadcast_to(scale, 2), shift, "linear", antialias=False
        )

    images = jax.vmap(crop)(images, scale, shift)
    gain, offset = jax.random.uniform(light, (2, count, 1, 1, 1), minval=-1)
    mean = images.mean((1, 2, 3), keepdims=True)
    return jnp.clip((images - mean) * (1 + 0.3 * gain) + mean + 0.15 * offset, 0, 1)


AUGMENTATIONS: dict[str, Callable] = {
    "none": _none,
    "flip": _flip,
    "dihedral": _dihedral,
    "photo": _photo,
}
