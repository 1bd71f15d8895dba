"""The one way that this package compiles: `jax.jit`, with the options that suit the platform."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

# XLA:CPU's own convolutions reach a third to a half of the machine; the YNNPACK library's, which
# this fusion calls, nearly all of it. Not its fusions of elementwise operations and sums: they make
# a small ResNet half as fast again, and the first call of a ResNet-50 takes 45 seconds.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def jit(function: Callable, *, static_argnames: Sequence[str] = ()) -> Callable:
    """Compile `function` on its first call, once per shape.

    Inside another trace it becomes a part of that one; under a `jax.grad` or `jax.vmap` that nobody
    compiles, it is compiled all the same, and not executed operation by operation. Nothing touches
    a device before the first call, so that importing the package stays cheap.
    """

    @functools.cache
    def compiled() -> Callable:
        return jax.jit(
            function, static_argnames=tuple(static_argnames), compiler_options=_options()
        )

    @functools.cache
    def without_options() -> Callable:
        return jax.jit(function, static_argnames=tuple(static_argnames))

    @functools.wraps(function)
    def call(*args, **kwargs):
        # JAX takes options at the outermost alone.
        if is_traced((args, kwargs)) or not _options() or _is_double((args, kwargs)):
            return without_options()(*args, **kwargs)
        try:
            return jax.block_until_ready(compiled()(*args, **kwargs))
        except jax.errors.JaxRuntimeError as error:
            # Some matrix products of other people's models are in a layout that this fusion
            # refuses when they run. XLA's own code takes them.
            if "YNN" not in str(error):
                raise
            return without_options()(*args, **kwargs)

    return call


def as_argument(model: Callable) -> Any:
    """Return `model` as a pytree that `jax.jit` takes, with its arrays as the leaves.

    A callable that JAX knows as a pytree (a `Classifier`, a flax.nnx or equinox module, a
    `jax.tree_util.Partial`) hands over its arrays as arguments; what else it holds (an activation
    function, a rate) is compiled in. Any other callable is compiled in whole, and compiles anew
    when another one is given: changing such an object's weights in place changes nothing.
    """
    if not callable(model):
        raise TypeError(
            f"model must be callable, from images (B, H, W, C) to logits (B, classes), "
            f"got {type(model).__name__}"
        )
    leaves, structure = jax.tree.flatten(model)
    if len(leaves) == 1 and leaves[0] is model:
        return jax.tree_util.Partial(model)
    if all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
        return model
    arrays = [leaf if isinstance(leaf, jax.Array | np.ndarray) else None for leaf in leaves]
    others = [None if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
    return _Mixed(tuple(arrays), tuple(others), structure)


def as_model(argument: Any) -> Any:
    """Return the model that `as_argument` was given, with the argument's arrays in it."""
    if isinstance(argument, _Mixed):
        return argument.model()
    if isinstance(argument, jax.tree_util.Partial) and not (argument.args or argument.keywords):
        return argument.func
    return argument


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["arrays"], meta_fields=["others", "structure"]
)
@dataclasses.dataclass(frozen=True)
class _Mixed:
    """A pytree whose leaves are not all arrays, as equinox's modules are."""

    arrays: tuple[Any, ...]  # None where a leaf is no array
    others: tuple[Any, ...]  # None where it is one; hashable
    structure: Any

    def __call__(self, images):
        return self.model()(images)

    def model(self):
        leaves = [
            other if array is None else array
            for array, other in zip(self.arrays, self.others, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)


def is_traced(tree) -> bool:
    """Return whether any leaf of `tree` is a tracer: its values cannot be looked at."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _is_double(tree) -> bool:
    """Return whether JAX would compute with `tree` in float64, where YNNPACK takes tenfold."""
    return any(
        jax.dtypes.canonicalize_dtype(leaf.dtype) == np.float64
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array | np.ndarray) and leaf.dtype == np.float64
    )


@functools.cache
def _options() -> dict[str, str]:
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS)(0.0)
    except Exception:  # jaxlib has no public type for "no such option"; plain XLA is right, slower
        return {}
    return _CPU_OPTIONS
