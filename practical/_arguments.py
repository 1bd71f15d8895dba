"""A model as an argument of a compiled program, so that the program follows the model's weights.

JAX compiles a function once for each structure of its arguments. Arrays in a pytree may change
from call to call. A function or an object has no arrays that JAX knows of, so it is compiled in,
and has to be traced in each call to see whether it still computes the same.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from practical._compiled import cleared_with_programs, drop_programs

# Bytes of captured arrays, which are constants of the compiled programs. A model that is explained
# after every training step would fill the memory with the programs of its old weights.
_MOST_CAPTURED = 2 * 2**30

_states: list["_State"] = []  # all that there may be programs of
cleared_with_programs(_states.clear)


def as_argument(model: Callable, images: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> Any:
    """Return `model` as a pytree that `jax.jit` takes, with its arrays as the leaves.

    A callable that JAX knows as a pytree (a `Classifier`, a flax.nnx or equinox module, a
    `jax.tree_util.Partial`), or a method of one, hands over its arrays as arguments; new values
    need no new program. Everything else that a model consists of (a plain function, an object of
    another kind, an activation function) is compiled in. It is traced in each call, and compiled
    again if it computes something else than before, because what it captured has changed.

    Not traced are the function of a `Partial` that has no closure, JAX's own functions, and the
    static data of a pytree (equinox's static fields), which JAX takes as constant. A NumPy array of
    float64 that is written to in place goes unnoticed: JAX keeps the array that it made of it at
    first.

    Args:
        model: The callable.
        images: What it will be called with; only shape and dtype are used.

    Raises:
        TypeError: If the model is not callable.
    """
    check_callable(model)
    model = without_self(model)
    unknown = jax.tree_util.all_leaves([model])  # not a pytree
    leaves, structure = jax.tree.flatten(jax.tree_util.Partial(model) if unknown else model)
    arrays = tuple(leaf if isinstance(leaf, jax.Array | np.ndarray) else None for leaf in leaves)
    others = tuple(None if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves)
    argument = _Argument(arrays, others, structure, None)
    if unknown or any(map(_may_change, others)) or any(map(_has_closure, _functions(structure))):
        return dataclasses.replace(argument, state=_state(argument, images))
    return argument


def check_callable(model: Any) -> None:
    """Raise TypeError unless `model` can be called."""
    if not callable(model):
        raise TypeError(
            f"model must be callable, from images (B, H, W, C) to logits (B, classes), "
            f"got {type(model).__name__}"
        )


def as_model(argument: Any) -> Any:
    """Return the model that `as_argument` was given, with the argument's arrays in it.

    Call this where the model is called: flax.nnx refuses a module that was built in one trace and
    is called in another, as under `jax.grad`, if it uses `nnx.remat` or `nnx.jit`.
    """
    return argument.model() if isinstance(argument, _Argument) else argument


def without_self(function: Callable) -> Callable:
    """Return a pytree's method as a `Partial`, so that the pytree's arrays are leaves."""
    if not inspect.ismethod(function) or jax.tree_util.all_leaves([function.__self__]):
        return function
    return jax.tree_util.Partial(function.__func__, function.__self__)


def is_traced(tree) -> bool:
    """Return whether any leaf of `tree` is a tracer: its values cannot be looked at."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    """What a model computed when it was traced; two states are equal only if they are one."""

    functions: Any  # equal for two models of the same functions
    program: str
    captured: list[Any]  # arrays

    def same(self, other: "_State") -> bool:
        return (
            self.functions == other.functions
            and self.program == other.program
            and len(self.captured) == len(other.captured)
            and all(map(_same, self.captured, other.captured))
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays"],
    meta_fields=["others", "structure", "state"],
)
@dataclasses.dataclass(frozen=True)
class _Argument:
    """The leaves of a model that is a pytree; each call builds the model from them again."""

    arrays: tuple[Any, ...]  # None where a leaf is not an array, as in equinox's modules
    others: tuple[Any, ...]  # None where it is one; hashable
    structure: Any  # a PyTreeDef
    state: _State | None  # of what is compiled in, if that may change

    def __call__(self, images):
        return self.model()(images)

    def model(self) -> Any:
        leaves = [
            other if array is None else array
            for array, other in zip(self.arrays, self.others, strict=True)
        ]
        model = jax.tree.unflatten(self.structure, leaves)
        alone = isinstance(model, jax.tree_util.Partial) and not (model.args or model.keywords)
        return model.func if alone else model


def _state(argument: _Argument, images: Any) -> _State:
    """Trace a model, and return the state of an earlier call if nothing has changed since."""
    functions = argument.others, argument.structure
    try:
        # A new function each time, because JAX keeps the traces of those that it knows.
        traced = jax.make_jaxpr(lambda argument, images: argument(images))(
            argument, jax.ShapeDtypeStruct(images.shape, images.dtype)
        )
    except Exception:  # the caller calls the model as well, and reports what is wrong with it
        return _State(functions, "", [])
    program = re.sub("0x[0-9a-f]+", "", str(traced.jaxpr))  # addresses differ in each trace
    if is_traced(traced.consts):  # inside somebody's own program, which is compiled once
        return _State(functions, program, [])
    # A NumPy array may be written to.
    captured = [np.copy(c) if isinstance(c, np.ndarray) else c for c in traced.consts]
    state = _State(functions, program, captured)
    for known in _states:
        if known.same(state):
            return known
    if sum(array.nbytes for known in _states for array in known.captured) > _MOST_CAPTURED:
        drop_programs()
    _states.append(state)
    return state


def _same(first: Any, second: Any) -> bool:
    return first is second or (
        first.dtype == second.dtype and bool(np.array_equal(np.asarray(first), np.asarray(second)))
    )


def _may_change(leaf: Any) -> bool:
    """Return whether a leaf is a function that may compute something else in the next call."""
    return callable(leaf) and (getattr(leaf, "__module__", None) or "").split(".")[0] != "jax"


def _has_closure(function: Any) -> bool:
    return inspect.isfunction(function) and bool(function.__closure__)


def _functions(structure: Any) -> Iterator[Any]:
    """Yield the functions of all `Partial` in a pytree's structure."""
    data = structure.node_data()
    if data is not None and data[0] is jax.tree_util.Partial:
        yield data[1]
    for child in structure.children():
        yield from _functions(child)
