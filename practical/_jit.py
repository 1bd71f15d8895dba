"""The one way that this package compiles: `jax.jit`, without compiler options.

Programs contain other people's models. An experimental option of XLA's (YNNPACK's fused products)
once computed some of them wrongly; benchmarks/README.md has what it gained.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh

from practical._arguments import is_traced
from practical._compiled import cleared_with_programs, limit_programs
from practical._memory import fitting_chunk, is_out_of_memory, smaller_chunk, too_large
from practical._rows import Rows
from practical._sharding import images_mesh, on_own_images, spread


def jit(
    function: Callable,
    *,
    static_argnames: Sequence[str] = (),
    per_image: Sequence[str] = (),
    precision: str = "float32",
) -> Callable:
    """Compile `function` on its first call, once per shape.

    Inside another trace it becomes a part of that one; under a `jax.grad` or `jax.vmap` that nobody
    compiles, it is compiled all the same, and not executed operation by operation. Nothing touches
    a device before the first call, so that importing the package stays cheap.

    `per_image` names the positional arguments that have a row an image, if all answers have one,
    too. Where one of them lies on several devices, split along that axis, each device runs the
    program on its own images. A function that names none has its images gathered by XLA as it
    needs them, so that a sum over images stays one. On one device, somewhat fewer images than a
    program was compiled for are filled up to as many (`_rows.py`). A static `chunk_size` may be
    "auto". All compiled programs of the process are dropped when there are too many
    (`_compiled.py`).

    `precision` is that of products, unless whoever calls the function has asked for another by
    `jax.default_matmul_precision`. A GPU's own default rounds what goes into a product to ten bits
    ("tensorfloat32"), and then more steps do not make integrated gradients complete beyond a point
    (docs/scale.md).
    """
    names = list(inspect.signature(function).parameters)
    own = [name in per_image for name in names]
    assert sum(own) == len(per_image), f"{per_image} must be among {names}"

    rows, chosen = Rows(own), {}
    cleared_with_programs(chosen.clear)

    @functools.cache
    def compiled(mesh: Mesh | None) -> Callable:
        program = with_products(function, precision)
        return jax.jit(
            program if mesh is None else on_own_images(program, mesh, own),
            static_argnames=tuple(static_argnames),
        )

    def run(mesh: Mesh | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        answer = compiled(mesh)(*args, **kwargs)
        # Chunked calls block, so that an out-of-memory error surfaces here; training steps do not,
        # so that Python prepares the next batch while the device computes.
        return jax.block_until_ready(answer) if "chunk_size" in kwargs else answer

    @functools.wraps(function)
    def call(*args, **kwargs):
        automatic = kwargs.get("chunk_size") == "auto"
        if is_traced((args, kwargs)) or _is_staged():
            if automatic:
                kwargs["chunk_size"] = fitting_chunk(function, args, kwargs)
            return compiled(None)(*args, **kwargs)
        limit_programs()
        mesh = images_mesh([arg for arg, its in zip(args, own, strict=False) if its])
        asked, key = rows.count(args), (asked_precision(), rows.key(args, kwargs))
        if mesh is None:
            args = rows.fill(args, asked, key)
        else:
            args = [spread(arg, mesh, rows=its) for arg, its in zip(args, own, strict=False)]
        count = rows.count(args)
        if automatic:
            if (key, count, mesh) not in chosen:
                chosen[key, count, mesh] = fitting_chunk(function, args, kwargs)
            kwargs["chunk_size"] = chosen[key, count, mesh]
        while True:
            try:
                answer = run(mesh, args, kwargs)
                break
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error) or "chunk_size" not in kwargs:
                    raise
                if not automatic:
                    raise too_large(kwargs["chunk_size"], error) from error
                kwargs["chunk_size"] = smaller_chunk(kwargs["chunk_size"], error)
                chosen[key, count, mesh] = kwargs["chunk_size"]
        if mesh is None:
            rows.note(key, count)
        return answer if asked == count else jax.tree.map(lambda array: array[:asked], answer)

    return call


def with_products(function: Callable, precision: str) -> Callable:
    """Return `function` with products of `precision`, unless the caller asked for another.

    It is traced under JAX's default promotion of dtypes and ranks, whatever the caller's settings:
    optax and parts of this package need it. A model is checked under the caller's own settings
    before, by `check_inputs`.
    """

    @functools.wraps(function)
    def traced(*args, **kwargs):
        with (
            jax.default_matmul_precision(asked_precision() or precision),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            return function(*args, **kwargs)

    return traced


def asked_precision() -> str | None:
    """Return the precision of products that `jax.default_matmul_precision` asks for, if any."""
    return jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]


def _is_staged() -> bool:
    """Return whether whatever is computed now becomes a part of somebody's program, if constant."""
    return isinstance(jnp.asarray(0), Tracer)
