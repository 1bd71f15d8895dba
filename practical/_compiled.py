"""What XLA compiled: kept for the next process, and not too much of it in this one."""

import contextlib
import hashlib
import os
import platform
import re
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax

from practical._files import cache_folder

# Each compiled program holds about 34 memory maps on a CPU. Linux allows a process 65,530
# (vm.max_map_count), and a process that needs more ends in a segmentation fault.
_MOST_PROGRAMS = 1000

_compiled = 0  # programs since JAX's caches were last cleared
_caches: list[Callable[[], None]] = []  # functions that clear what is known about programs


def keep_compiled() -> None:
    """Keep compiled programs in `PRACTICAL_HOME`, for the next process that needs them.

    This is JAX's own cache, for all of the process's programs: some megabytes on a CPU. It has no
    limit, because JAX would read all of it for each program to keep to one; `make cleanup` empties
    it. A cache folder that is set already (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`) stays. A
    folder that cannot be read or written costs a warning and the time to compile. A file that a
    full disk cut short is removed here, so that its program is compiled and kept again.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    folder = cache_folder("compiled") / machine()
    with contextlib.suppress(OSError):  # JAX itself warns about a folder that it cannot use
        _remove_damaged(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def limit_programs() -> None:
    """Clear JAX's caches if this process has compiled many programs since they last were."""
    if _compiled >= _MOST_PROGRAMS:
        drop_programs()


def drop_programs() -> None:
    """Clear JAX's caches, and all that is known about the programs in them."""
    global _compiled
    jax.clear_caches()
    for clear in _caches:
        clear()
    _compiled = 0


def cleared_with_programs(clear: Callable[[], None]) -> None:
    """Have `clear` called whenever the compiled programs are dropped."""
    _caches.append(clear)


def _count(event: str, duration_secs: float, **_) -> None:
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


def _remove_damaged(folder: Path) -> None:
    """Remove the programs that are not whole; each is read once, by the next process.

    JAX never writes to a file that is there, so it would warn about a damaged one for ever.
    """
    checked = folder / "checked"
    since = checked.stat().st_mtime if checked.exists() else 0.0
    folder.mkdir(parents=True, exist_ok=True)
    checked.touch()
    for entry in folder.glob("*-cache"):
        if entry.stat().st_mtime >= since and not _is_whole(entry.read_bytes()):
            entry.unlink(missing_ok=True)


def _is_whole(program: bytes) -> bool:
    if program.startswith(b"\x28\xb5\x2f\xfd"):  # zstd, which JAX prefers where it is installed
        try:
            from compression import zstd  # pyright: ignore[reportMissingImports]
        except ImportError:  # Python before 3.14
            return True
        errors, decompress = zstd.ZstdError, zstd.decompress
    else:
        errors, decompress = zlib.error, zlib.decompress
    try:
        decompress(program)
    except (errors, EOFError):
        return False
    return True


def machine() -> str:
    """Return a name for what compiled code depends on: another processor may not run it."""
    cpu = Path("/proc/cpuinfo")
    flags = re.search(r"^(flags|Features)\s*:.*$", cpu.read_text(), re.M) if cpu.exists() else None
    about = [
        platform.machine(), flags[0] if flags else "", version("jax"), version("jaxlib"),
        str(os.cpu_count()),
    ]  # fmt: skip
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
