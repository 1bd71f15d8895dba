"""Keeping what XLA compiled, so that it is there the next time."""

import hashlib
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from practical._files import cache_folder


def keep_compiled() -> None:
    """Keep compiled programs in `PRACTICAL_HOME`, for the next process that needs them.

    This is JAX's own cache, for all of the process's programs: some megabytes on a CPU. It has no
    limit, since to keep to one JAX reads all of it for each program; `make cleanup` empties it.
    Where one is set already (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`), it stays. A cache that
    cannot be read or written, or holds half of a program, costs a warning and the time to compile.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled") / machine()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def machine() -> str:
    """Return a name for what compiled code depends on: another processor may not run it."""
    cpu = Path("/proc/cpuinfo")
    flags = re.search(r"^(flags|Features)\s*:.*$", cpu.read_text(), re.M) if cpu.exists() else None
    about = [
        platform.machine(), flags[0] if flags else "", version("jax"), version("jaxlib"),
        str(os.cpu_count()),
    ]  # fmt: skip
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
