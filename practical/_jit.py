"""The one way that this package compiles: `jax.jit`, with the options that suit the platform."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer

# XLA:CPU's own convolutions reach a third to a half of the machine; the YNNPACK library's, which
# these fusions call, nearly all of it.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "ELTWISE", "REDUCE")
    )
}


def jit(function: Callable, *, static_argnames: Sequence[str] = ()) -> Callable:
    """Compile `function` on its first call, once per shape; inside another trace, join that trace.

    Nothing touches a device before the first call, so that importing the package stays cheap.
    """

    @functools.cache
    def compiled() -> Callable:
        return jax.jit(
            function, static_argnames=tuple(static_argnames), compiler_options=_options()
        )

    @functools.wraps(function)
    def call(*args, **kwargs):
        if is_traced((args, kwargs)):
            return function(*args, **kwargs)  # compiler options belong to the outermost jit
        return compiled()(*args, **kwargs)

    return call


def as_argument(model: Callable) -> Any:
    """Return `model` as a pytree that `jax.jit` takes: its own, or a leafless wrapper.

    A callable that JAX knows as a pytree (a `Classifier`, an equinox module, a
    `jax.tree_util.Partial`) hands over its weights as arguments; any other callable is compiled
    in, and compiles anew when another one is given.
    """
    if not callable(model):
        raise TypeError(
            f"model must be callable, from images (B, H, W, C) to logits (B, classes), "
            f"got {type(model).__name__}"
        )
    leaves = jax.tree.leaves(model)
    if len(leaves) == 1 and leaves[0] is model:
        return jax.tree_util.Partial(model)
    return model


def is_traced(tree) -> bool:
    """Return whether any leaf of `tree` is a tracer: its values cannot be looked at."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


@functools.cache
def _options() -> dict[str, str]:
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS)(0.0)
    except Exception:  # jaxlib has no public type for "no such option"; plain XLA is right, slower
        return {}
    return _CPU_OPTIONS
