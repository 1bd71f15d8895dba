"""What it costs to spread a benchmark over many devices: n devices with n times the images.

    python benchmarks/scaling.py [--devices 1 2 4 8]

Each row is a process of its own, in which JAX makes that many devices of the CPU. They share its
cores, so no time is saved, and what can be measured is what is added: the CPU time, of all threads,
of n devices with n times 16 images, over n times that of one device with 16. Nothing but
`practical` is needed.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

METHODS = ["saliency", "smooth_grad", "random"]
MEASURES = ["relevance_rank", "deletion_xplique"]
PART = 16  # images a device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=3, help="the median is printed")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.repeats)
        return
    print("| devices | images | CPU, s | n times one device's, s | overhead |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for count in options.devices:
        flags = os.environ.get("XLA_FLAGS", "")
        environment = {
            **os.environ, "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}",
        }  # fmt: skip
        command = [sys.executable, __file__, "--one", "--repeats", str(options.repeats)]
        subprocess.run(command, env=environment, check=True)


def measure(repeats: int) -> None:
    """Print one row."""
    import jax
    import numpy as np

    from practical import load_dataset, load_model

    devices = jax.devices()
    dataset, model = load_dataset("shapes", count=PART * len(devices)), load_model("shapes")
    dataset = dataset.select(slice(None))
    for some in (devices, devices[:1]):  # compile
        seconds(dataset.select(slice(PART * len(some))), model, some)
    # In turn, because other work on the machine slows both.
    pairs = [
        (seconds(dataset, model, devices), seconds(dataset.select(slice(PART)), model, devices[:1]))
        for _ in range(repeats)
    ]
    many, one = np.median(pairs, axis=0)
    overhead = np.median([a / (len(devices) * b) - 1 for a, b in pairs])
    print(
        f"| {len(devices)} | {len(dataset)} | {many:.1f} | {len(devices) * one:.1f} | "
        f"{100 * overhead:+.0f} % |",
        flush=True,
    )


def seconds(dataset, model, devices) -> float:
    """Return the CPU time of one benchmark, of all threads."""
    from practical.evaluation import evaluate

    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF)
        evaluate(
            dataset, model, Path(folder), methods=METHODS, measures=MEASURES, devices=devices,
            progress=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
