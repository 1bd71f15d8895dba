"""How many images fit into a device's memory at once: `chunk_size="auto"`."""

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal

from practical._programs import programs_in

_MOST = 256  # more images at a time make no device faster
_ROOT = Path("/")  # of the system's own accounts
_SHARE = 0.7  # of the free memory; the rest is for what the library and the driver need


def fitting_chunk(function: Callable, args: Sequence[Any], static: Mapping[str, Any]) -> int:
    """Return a power of two, at most 256, of images in flight that surely fit.

    It is reckoned from what one more image in flight adds to the arrays that the program holds at
    once if it is run line by line. XLA fuses lines and holds less, so this errs on the small side.
    """

    def held(chunk_size: int) -> int:
        program = partial(function, **{**static, "chunk_size": chunk_size})
        return _peak(jax.make_jaxpr(program)(*args).jaxpr)

    one, two = held(1), held(2)
    each = max(two - one, 1)
    fit = (_SHARE * _free() - max(one - each, 0)) / each
    return 2 ** int(np.log2(min(max(fit, 1), _MOST)))


def smaller_chunk(chunk_size: int, error: Exception) -> int:
    """Return half of a chunk that turned out not to fit, and say so.

    Raises:
        MemoryError: If it is one image.
    """
    if chunk_size == 1:
        raise MemoryError(
            f"the device's memory does not hold one image in flight ({_first_line(error)}); take "
            "smaller images or a smaller model, or end what else uses the device"
        ) from error
    warnings.warn(
        f'chunk_size="auto": {chunk_size} images in flight do not fit into the device\'s memory; '
        f"trying {chunk_size // 2}",
        stacklevel=4,
    )
    return chunk_size // 2


def is_out_of_memory(error: Exception) -> bool:
    """Return whether JAX says with `error` that the device's memory is full."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def too_large(chunk_size: int, error: Exception) -> MemoryError:
    """Return what to raise where the user chose a chunk that does not fit."""
    return MemoryError(
        f"the device's memory does not hold chunk_size={chunk_size} images in flight "
        f'({_first_line(error)}); take a smaller chunk_size, or "auto"'
    )


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


def _free() -> int:
    """Return how many bytes the default device has left."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    meminfo = _ROOT / "proc/meminfo"  # what Linux can hand out, caches included
    told = meminfo.exists() and re.search(r"^MemAvailable: *(\d+) kB", meminfo.read_text(), re.M)
    # macOS and Windows do not say; every machine that runs this has as much.
    return min(int(told[1]) * 1024 if told else 4 * 2**30, *_left_to_groups())


def _left_to_groups() -> list[int]:
    """Return what is left to each control group around this process that has a limit.

    A container or a batch job is killed at its own limit, and sees the memory of the whole machine.
    """
    listing = _ROOT / "proc/self/cgroup"
    named = listing.exists() and re.search(r"^0::/(.*)$", listing.read_text(), re.M)
    if not named:
        return [sys.maxsize]
    mounted, left = _ROOT / "sys/fs/cgroup", [sys.maxsize]
    for group in (mounted / named[1], *(mounted / named[1]).parents):
        limit = group / "memory.max"
        if group.is_relative_to(mounted) and limit.exists() and limit.read_text().strip() != "max":
            # Files that were read count as used, and can be dropped.
            used = int((group / "memory.current").read_text())
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.M)
            left.append(int(limit.read_text()) - used + (int(cached[1]) if cached else 0))
    return left


def _peak(jaxpr: Jaxpr) -> int:
    """Return the most bytes that a program holds at once, its arguments apart, run line by line."""
    last: dict[Any, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        last.update({v: number for v in equation.invars if not isinstance(v, Literal)})
    last.update({v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)})
    ends: dict[int, list[Any]] = {}
    for variable, number in last.items():
        ends.setdefault(number, []).append(variable)
    held: dict[Any, int] = {}
    live = most = 0
    for number, equation in enumerate(jaxpr.eqns):
        most = max(most, live + max(map(_peak, programs_in(equation)), default=0))
        for variable in equation.outvars:
            held[variable] = _size(variable.aval) if variable in last else 0
            live += held[variable]
        most = max(most, live)
        live -= sum(held.pop(variable, 0) for variable in ends.get(number, ()))
    return most


def _size(aval: Any) -> int:
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if shape is None or dtype is None:
        return 0
    return int(np.prod(shape, dtype=np.int64)) * getattr(dtype, "itemsize", 8)
