"""Programs are compiled for one number of images; fewer of them can use what is there."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from practical._compiled import cleared_with_programs

# At most this many times the images that were asked for. To compute twice as many each time takes a
# CPU longer than to compile once; other devices compile as slowly, and compute much faster.
_WASTE_ON_A_CPU, _WASTE_ELSEWHERE = 1.5, 8.0


class Rows:
    """For how many rows a program was compiled, and filling up fewer to that many.

    A last batch that is shorter than the others is thus computed by the program of the others. How
    many rows there are decides about rounding alone: a row's answer depends on itself.
    """

    def __init__(self, per_image: Sequence[bool]):
        self._per_image = per_image
        self._known: dict[Any, set[int]] = {}
        cleared_with_programs(self._known.clear)

    def count(self, args: Sequence[Any]) -> int | None:
        """Return the number of rows, or None where no argument has any, or they differ."""
        own = [arg for arg, rows in zip(args, self._per_image, strict=False) if rows]
        counts = {len(leaf) for leaf in jax.tree.leaves(own)}
        return counts.pop() if len(counts) == 1 else None

    def key(self, args: Sequence[Any], static: Mapping[str, Any]) -> Any:
        """Return what tells one program from another, but for the number of rows."""
        shapes = tuple(
            (leaf.shape[1:] if rows else leaf.shape, leaf.dtype)
            if isinstance(leaf, jax.Array | np.ndarray)
            else type(leaf)
            for arg, rows in zip(args, self._per_image, strict=False)
            for leaf in jax.tree.leaves(arg)
        )
        return jax.tree.structure(args), shapes, tuple(sorted(static.items()))

    def fill(self, args: Sequence[Any], count: int | None, key: Any) -> Sequence[Any]:
        """Return the arguments with as many rows as the program of `key` was compiled for."""
        known = self._known.get(key, set())
        if count is None or count in known:
            return args
        waste = _WASTE_ON_A_CPU if jax.default_backend() == "cpu" else _WASTE_ELSEWHERE
        larger = [number for number in known if count < number <= waste * count]
        if not larger:
            return args
        more = min(larger) - count
        return [
            jax.tree.map(lambda leaf: _repeat_last(leaf, more), arg) if rows else arg
            for arg, rows in zip(args, self._per_image, strict=False)
        ]

    def note(self, key: Any, count: int | None) -> None:
        """Remember that the program of `key` is there for `count` rows."""
        if count is not None:
            self._known.setdefault(key, set()).add(count)


def _repeat_last(leaf: Any, more: int) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], more, axis=0)])
    array = np.asarray(leaf)  # so that nothing is compiled for it
    filled = np.concatenate([array, np.repeat(array[-1:], more, axis=0)])
    # Who has put the others on a device of their own wants the answer there.
    chosen = isinstance(leaf, jax.Array) and leaf.committed
    return jax.device_put(filled, leaf.sharding) if chosen else filled
