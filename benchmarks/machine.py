"""The machine that `speed.py` runs on: what it is, and how fast it multiplies matrices."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from layouts import synchronise

from practical._jit import jit


def describe(precision: str) -> dict[str, str]:
    """Return what a reader of the table has to know."""
    on_gpu = torch.cuda.is_available()
    versions = [f"Python {platform.python_version()}"]
    for name in ("jax", "torch", "torchvision", "captum", "quantus"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    found = {
        "commit": _commit(),
        "processor": f"{_processor()}, {torch.get_num_threads()} threads",
        "versions": ", ".join(versions),
        "JAX computes on": ", ".join(str(one) for one in jax.devices()),
        "PyTorch computes on": torch.cuda.get_device_name() if on_gpu else "cpu",
    }
    if on_gpu or jax.default_backend() != "cpu":
        found["products on the GPU"] = {"highest": "float32", "tf32": "TF32"}[precision]
    return found


def product_side() -> int:
    """Return the side of the matrices: large enough for the machine, and no larger."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def product_rates(rounds: int = 10) -> dict[str, float]:
    """Return each library's best rate at a square float32 product, in FLOP/s."""
    side = product_side()
    array = np.random.default_rng(0).random((side, side), np.float32)
    ours, theirs = jnp.asarray(array), torch.from_numpy(array)
    theirs = theirs.cuda() if torch.cuda.is_available() else theirs

    def multiply(a: Any, b: Any) -> Any:
        return a @ b

    plain, options = jax.jit(multiply), jit(multiply)

    def product() -> None:
        torch.mm(theirs, theirs)
        synchronise()

    calls: dict[str, Callable[[], Any]] = {
        "JAX": lambda: jax.block_until_ready(plain(ours, ours)),
        "JAX with the package's options": lambda: jax.block_until_ready(options(ours, ours)),
        "PyTorch": product,
    }
    return {name: 2 * side**3 / min(_times(call, rounds)) for name, call in calls.items()}


def _times(call: Callable[[], Any], rounds: int) -> list[float]:
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    try:
        return (git("rev-parse", "--short", "HEAD") or "unknown") + (
            " and changes" if git("status", "--porcelain", "-uno") else ""
        )
    except OSError:
        return "unknown"
