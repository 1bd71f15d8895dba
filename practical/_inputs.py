"""What every explanation and metric checks before it computes, and after."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from practical._arguments import as_argument, is_traced
from practical._sharding import without_explicit_axes

ArrayLike = jax.Array | np.ndarray
Images = Float[ArrayLike, "batch height width channels"]
Targets = Integer[ArrayLike, " batch"] | Sequence[int | np.integer]
Heatmaps = Float[ArrayLike, "batch height width"]
Model = Callable[[Array], Array]
ChunkSize = int | Literal["auto"]


class Inputs(NamedTuple):
    """Checked arguments, ready for a jitted core."""

    model: Model  # a pytree
    images: Float[Array, "batch height width channels"]
    targets: Int[Array, " batch"]


def check_inputs(model: Model, images: Images, targets: Targets) -> Inputs:
    """Check a model with its images and targets, and return them as a jitted core takes them.

    Values are looked at only where they exist: under somebody's own `jax.jit` the shapes are
    checked and the values are not.

    Raises:
        ValueError: If images, targets or the model's answers break the contract.
        TypeError: If the model is not callable.
    """
    images = check_images(images)
    argument = as_argument(model, images)
    logits = logits_shape(argument, images)
    return Inputs(argument, images, _check_targets(targets, len(images), logits.shape[1]))


def check_images(
    images: Images, *, name: str = "images", first: int = 0
) -> Float[Array, "b h w c"]:
    """Return `images` as float32, or say what is wrong with them; `first` is row 0's number."""
    check_layout(images, name=name)
    array = jnp.asarray(images, jnp.float32)
    if not is_traced(array):
        array = without_explicit_axes(array)
        check_finite(array, name, first=first)
        lows, highs = _on_device(_extremes, array)
        if lows.min() < 0 or highs.max() > 1:
            wrong = int(np.flatnonzero((lows < 0) | (highs > 1))[0]) + first
            raise ValueError(
                f"{name} must be in [0, 1] (normalisation belongs to the model), got values from "
                f"{lows.min():.4g} to {highs.max():.4g}, first in image {wrong}"
            )
    return array


def check_layout(images: Images, *, name: str = "images") -> None:
    """Raise a ValueError if shape or dtype are not those of images, whatever the values."""
    shape = np.shape(images)
    if len(shape) != 4:
        hint = "; add a batch axis: images[None]" if len(shape) == 3 else ""
        raise ValueError(
            f"{name} must have shape (batch, height, width, channels), got {shape}{hint}"
        )
    # An image of at most four rows and at least sixteen channels is one with its axes exchanged.
    if 0 < shape[1] <= 4 and shape[2] >= 16 and shape[3] >= 16:
        raise ValueError(
            f"{name} must have channels last, (batch, height, width, channels), got {shape}; "
            "images.transpose(0, 2, 3, 1) moves them there"
        )
    if 0 in shape:
        raise ValueError(f"{name} must hold at least one image and pixel, got shape {shape}")
    dtype = np.asarray(images).dtype if not hasattr(images, "dtype") else images.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating-point numbers in [0, 1], got {dtype}; for 8-bit images "
            "divide by 255"
        )


def check_finite(values: ArrayLike, name: str, *, first: int = 0) -> None:
    """Raise ValueError if any row of `values` is not finite, saying which; tracers pass."""
    if is_traced(values):
        return
    (finite,) = _on_device(_finite, values)
    if not finite.all():
        wrong = np.flatnonzero(~finite) + first
        listed = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise ValueError(f"{name} must be finite, got NaN or infinity for image {listed}")


def at_least_single(values: ArrayLike) -> Float[Array, "..."]:
    """Return integers, bools and numbers of half precision as float32, and other ones as they are.

    Negated, uint8 wraps around, and a sum of bfloat16 keeps two or three digits.
    """
    if not isinstance(values, jax.Array):
        values = np.asarray(values)
    wide = jnp.issubdtype(values.dtype, jnp.floating) and values.dtype.itemsize >= 4
    return jnp.asarray(values if wide else values.astype(np.float32))


def without_scale(values: ArrayLike) -> ArrayLike:
    """Return rows whose order is all that counts with a magnitude that float32 takes.

    XLA takes what is below 1e-38 for 0, and float64 below 1e-45 or above 3e38 does not survive
    JAX's float32: the values would tie. Rows of usual magnitude, and tracers, stay as they are.
    """
    if is_traced(values):
        return values
    if _is_usual(*_on_device(_peaks, values)).all():
        return values
    rows = np.asarray(values).astype(np.float64)  # NumPy keeps what XLA takes for 0
    (peaks,) = _peaks(rows.reshape(len(rows), -1), np)
    usual = _is_usual(peaks)
    # Powers of two, so that no digit changes; and the largest, so that small values keep theirs.
    shifts = np.where(usual, 0, 127 - np.frexp(peaks)[1])
    return np.ldexp(rows, shifts.reshape(-1, *(1,) * (rows.ndim - 1)))


def _is_usual(peaks: np.ndarray) -> np.ndarray:
    """Return whether float32 has 20 digits below a row's largest magnitude, or more."""
    peaks = peaks.astype(np.float64)
    return (peaks > 1e-18) & (peaks < 1e30)


def _peaks(rows, np_or_jnp):
    return (np_or_jnp.abs(rows).max(1),)


def _finite(rows, np_or_jnp):
    return (np_or_jnp.isfinite(rows).all(1),)


def _extremes(rows, np_or_jnp):
    return rows.min(1), rows.max(1)


def _on_device(function: Callable, values: ArrayLike) -> tuple[np.ndarray, ...]:
    """Return what `function` says of each row of `values`, computed where they lie.

    To fetch a batch's gradients from a GPU takes longer than to compute them. On a CPU, NumPy sees
    the same memory, and compiles nothing.
    """
    if isinstance(values, jax.Array) and not _in_main_memory(values):
        with jax.ensure_compile_time_eval():  # also in somebody's own `jax.jit`
            return tuple(map(np.asarray, _compiled(function)(values)))
    array = np.asarray(values)
    return function(array.reshape(len(array), -1), np)


@functools.cache
def _compiled(function: Callable) -> Callable:
    return jax.jit(lambda values: function(values.reshape(len(values), -1), jnp))


def _in_main_memory(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


def check_answer(values: Array, method: str) -> Array:
    """Return a method's answer, or say for which images the model made it NaN or infinite."""
    check_finite(values, f"{method}'s answer (so the model's logits or their gradients)")
    return values


def check_count(name: str, value: int, *, least: int = 1) -> int:
    """Return `value`, or raise ValueError unless it is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def check_chunk_size(value: ChunkSize) -> ChunkSize:
    """Return `value`, or raise ValueError unless it is "auto" or an integer of at least 1."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    return check_count("chunk_size", value)


def _check_targets(targets: Targets, count: int, classes: int) -> Int[Array, " batch"]:
    dtype = getattr(targets, "dtype", None) or np.asarray(targets).dtype
    shape = np.shape(cast(ArrayLike, targets))
    if shape != (count,):
        raise ValueError(
            f"targets must give one class for each of the {count} images, shape ({count},), "
            f"got shape {shape}"
        )
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"targets must be integers (class indices), got {dtype}")
    if not is_traced(targets):
        values = np.asarray(targets)
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if wrong.size:
            raise ValueError(
                f"targets must be classes from 0 to {classes - 1}, got {values[wrong[0]]} for "
                f"image {wrong[0]}"
            )
    return jnp.asarray(targets, jnp.int32)


_call = jax.jit(lambda model, images: model(images))  # its traces are cached


def logits_shape(model: Model, images: Array) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of the model's logits, without computing them.

    Raises:
        ValueError: If the model does not take the images, or returns anything but logits.
    """
    spec = jax.ShapeDtypeStruct(images.shape, images.dtype)
    try:
        answer = _call.eval_shape(model, spec)
    except Exception as error:
        hint = ""
        if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
            hint = " (channels must be last: images.transpose(0, 2, 3, 1) moves them there)"
        raise ValueError(
            f"model must accept images of shape {images.shape} in float32{hint}; it raised "
            f"{type(error).__name__}: {_shortened(str(error))}"
        ) from error
    return check_logits_shape(answer, len(images))


def check_logits_shape(answer: Any, count: int) -> Any:
    """Return a model's answer for `count` images, or raise ValueError unless it is logits."""
    shape, dtype = getattr(answer, "shape", None), getattr(answer, "dtype", None)
    if shape is None or dtype is None:
        found = "None" if answer is None else f"a {type(answer).__name__}"
        if isinstance(answer, tuple | list | dict):
            index = next(iter(answer), 0) if isinstance(answer, dict) else 0
            found += (
                f" of {len(answer)}; return only the logits, for example "
                f"lambda images: model(images)[{index!r}]"
            )
    elif len(shape) == 2 and shape[0] == count and jnp.issubdtype(dtype, jnp.floating):
        return answer
    else:
        found = f"{dtype} of shape {shape}"
    raise ValueError(
        f"model must return floating-point logits of shape ({count}, classes) for {count} images, "
        f"got {found}"
    )


def _shortened(message: str, most: int = 600) -> str:
    return message if len(message) <= most else f"{message[:most]} ..."
