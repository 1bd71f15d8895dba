"""The max-pool of our networks, with a gradient that costs little more than reading its maps."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_SIDE, _NONE = 3, 9  # a window's side; the place of no pixel in it
_EDGES = ((0, 0), (1, 1), (1, 1), (0, 0))


@jax.custom_vjp
def max_pool(maps: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """Return the maxima of 3x3 windows, every other row and column, over maps padded by one.

    Of equal values the first has the gradient, as in PyTorch.
    """
    return lax.platform_dependent(maps, cpu=_by_places, default=_by_windows)


def _by_windows(maps):
    return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), _EDGES)


def _by_places(maps):
    """Return the same; XLA:CPU looks into each window alone, and takes twice as long."""
    return functools.reduce(jnp.maximum, _places(maps))


def _places(maps):
    """Return the first pixel of each window, the second, and so on; padding is -inf."""
    rows, columns = ((side - 1) // 2 + 1 for side in maps.shape[1:3])
    padded = jnp.pad(maps, _EDGES, constant_values=-jnp.inf)
    return [
        padded[:, row : row + 2 * rows - 1 : 2, column : column + 2 * columns - 1 : 2]
        for row in range(_SIDE)
        for column in range(_SIDE)
    ]


def _forward(maps):
    # XLA's own gradient (select-and-scatter) looks for each window's maximum once more, and writes
    # pixel by pixel: on a CPU it takes four times as long as this.
    maxima = max_pool(maps)
    winners = jnp.full(maxima.shape, _NONE, jnp.int8)
    for place, seen in reversed(list(enumerate(_places(maps)))):  # the first one is written last
        winners = jnp.where(seen == maxima, jnp.int8(place), winners)
    return maxima, (winners, maps.shape)


def _backward(saved, slopes):
    winners, (batch, height, width, channels) = saved
    rows, columns = slopes.shape[1:3]
    after = ((0, 0), (0, 1), (0, 1), (0, 0))
    slopes = jnp.pad(slopes, after)
    winners = jnp.pad(winners, after, constant_values=_NONE)
    # A row of even number is the middle of one window; one of odd number is the last of a window
    # and the first of the next. (Rows in a window, and which window from there on.)
    windows = [[(1, 0)], [(2, 0), (0, 1)]]

    def of_window(row, down, column, right):
        own = slice(None), slice(down, down + rows), slice(right, right + columns)
        return jnp.where(winners[own] == _SIDE * row + column, slopes[own], 0)

    def phase(odd_row, odd_column):
        return sum(
            of_window(*rows, *columns)
            for rows in windows[odd_row]
            for columns in windows[odd_column]
        )

    grid = jnp.stack([jnp.stack([phase(i, j) for j in (0, 1)], 3) for i in (0, 1)], 2)
    return (grid.reshape(batch, 2 * rows, 2 * columns, channels)[:, :height, :width],)


max_pool.defvjp(_forward, _backward)
