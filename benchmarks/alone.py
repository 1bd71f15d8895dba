"""One work in a process of its own: its first call, compilation and peak memory, as JSON.

    python benchmarks/alone.py FOLDER NETWORK WORK IMPLEMENTATION PRECISION

`speed.py` writes the folder, and reads the answer. A process holds one of the libraries alone.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

from work import OURS, WORKS


def measure_ours(folder: Path, work: str, precision: str) -> dict[str, float | None]:
    """Measure `practical`."""
    sys.modules["torch"] = None  # type: ignore[assignment]
    import jax_resnet  # noqa: F401 - it would import PyTorch, which the project does without

    del sys.modules["torch"]
    import jax
    import ours

    compiled: list[float] = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    ours.set_precision(precision)
    example = jax.block_until_ready(ours.load(folder))
    jax.monitoring.register_event_duration_secs_listener(listen)
    before, start = _resident(), time.perf_counter()
    ours.compute(work, example, WORKS[work].full)
    first = time.perf_counter() - start
    peak = _resident()
    if jax.default_backend() != "cpu":
        before, peak = 0, (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {"first": first, "compile": sum(compiled), "peak": peak, "before": before}


def measure_peer(
    folder: Path, network: str, work: str, name: str, precision: str
) -> dict[str, float | None]:
    """Measure somebody else."""
    import layouts
    import peers
    import torch

    layouts.set_up(precision)
    variant = name.partition(", ")[2]
    example = layouts.with_variant(layouts.load(folder, network), work, variant)
    layouts.synchronise()
    before, start = _resident(), time.perf_counter()
    peers.compute(name, work, example, WORKS[work].full)
    first = time.perf_counter() - start
    peak = _resident()
    if torch.cuda.is_available():
        before, peak = 0, torch.cuda.max_memory_allocated()
    return {"first": first, "compile": None, "peak": peak, "before": before}


def _resident() -> int:
    """Return the largest resident set so far, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss: there Linux counts in what the parent held when it started this process.
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    folder, network, work, name, precision = sys.argv[1:]
    if name == OURS:
        found = measure_ours(Path(folder), work, precision)
    else:
        found = measure_peer(Path(folder), network, work, name, precision)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
