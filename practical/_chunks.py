"""Work on many model calls at a bounded number of images in flight."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Total = TypeVar("Total")
Visit = Callable[[Total, Int[Array, " chunk"], Int[Array, " chunk"], Bool[Array, " chunk"]], Total]


def map_images(function: Callable, chunk_size: int, *arrays: Array):
    """Return `function(*arrays)`, computed on at most `chunk_size` rows of the arrays at a time."""
    count = len(arrays[0])
    chunks, size = _even(count, chunk_size)
    if chunks == 1:
        return function(*arrays)

    def split(array: Array) -> Array:
        # Repeating the last row fills the last chunk; those answers are cut off below.
        padding = jnp.repeat(array[-1:], chunks * size - count, axis=0)
        return jnp.concatenate([array, padding]).reshape(chunks, size, *array.shape[1:])

    answers = jax.lax.map(lambda rows: function(*rows), tuple(split(array) for array in arrays))
    return jax.tree.map(lambda a: a.reshape(chunks * size, *a.shape[2:])[:count], answers)


def fold_pairs(visit: Visit, total: Total, images: int, points: int, chunk_size: int) -> Total:
    """Fold `visit` over every pair of an image and a point (a path step, a window, a mask).

    `visit(total, i, k, live)` gets at most `chunk_size` pairs: image indices, point indices, and
    which of them count; those that do not only fill the last chunk and repeat the last pair.
    Nothing grows with the number of points but what `total` holds.
    """
    pairs = images * points
    chunks, size = _even(pairs, chunk_size)

    def step(total: Total, start: Array) -> tuple[Total, None]:
        pair = start + jnp.arange(size)
        live = pair < pairs
        pair = jnp.minimum(pair, pairs - 1)
        return visit(total, pair // points, pair % points, live), None

    total, _ = jax.lax.scan(step, total, jnp.arange(chunks) * size)
    return total


def _even(count: int, most: int) -> tuple[int, int]:
    """Return into how many chunks `count` rows go, and of what size, so that the last is full.

    40 rows at no more than 32 are two chunks of 20, and not two of 32 of which the second is
    mostly filling.
    """
    chunks = -(-count // most)
    return chunks, -(-count // chunks)
