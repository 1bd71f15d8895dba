"""Peak memory of every explanation on a ResNet-50, with few and then with many samples.

    python benchmarks/memory.py [--methods rise lime] [--batch 32] [--side 224] [--chunk-size 32]

Each measurement is a process of its own, whose peak resident set is read when it ends. What it
needs without explaining anything (Python, JAX, the weights, the images) is measured as well.
Nothing but `practical` is needed. Exits with status 1 if the peak grows with the samples by more
than the tolerance; with `--batches 16 32 64`, which compares batches in place of samples, if it
grows with those that take more than one chunk.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The option that a method's cost grows with, two values for it, and what else it is given. Both are
# small, because on a CPU a ResNet-50 takes seconds a batch; tests/test_jit.py goes to thousands.
GROWING = {
    "occlusion": ("stride", 112, 56, {"window": 112}),  # 4 and 9 squares
    "rise": ("samples", 2, 8, {}),
    "lime": ("samples", 2, 8, {}),
    "integrated_gradients": ("steps", 2, 6, {}),
    "expected_gradients": ("samples", 2, 6, {}),
    "smooth_grad": ("samples", 2, 6, {}),
    "squaregrad": ("samples", 2, 6, {}),
    "vargrad": ("samples", 2, 6, {}),
}
TOLERANCE = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", help="by default all of attribution.METHODS")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", help="compare these, with few samples")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--chunk-size", type=int, default=32)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a method and its options, as JSON
    options = parser.parse_args()
    if options.one is not None:
        explain(options)
        return 0

    with tempfile.TemporaryDirectory() as folder:
        options.weights = Path(folder) / "resnet50.safetensors"
        write_resnet50(options.weights)
        return compare_batches(options) if options.batches else compare(options)


def compare(options: argparse.Namespace) -> int:
    """Measure each method, and print the table."""
    from practical.attribution import METHODS

    nothing, _ = measure(options, None, {})
    print(f"without an explanation: {nothing:.2f} GB\n")
    print("| method | few | peak, GB | many | peak, GB | ratio | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    grown = []
    for name in options.methods or METHODS:
        if name not in GROWING:
            peak, seconds = measure(options, name, {})
            print(f"| {name} | | {peak:.2f} | | | | {seconds:.0f} |", flush=True)
            continue
        option, few, many, given = GROWING[name]
        first, _ = measure(options, name, {option: few, **given})
        second, seconds = measure(options, name, {option: many, **given})
        ratio = second / first
        print(
            f"| {name} | {option} {few} | {first:.2f} | {many} | {second:.2f} | {ratio:.3f} | "
            f"{seconds:.0f} |",
            flush=True,
        )
        if not ratio <= TOLERANCE:
            grown.append(name)
    return status(grown, "samples")


def compare_batches(options: argparse.Namespace) -> int:
    """Measure each method at each number of images, with few samples, and print the table."""
    from practical.attribution import METHODS

    options.batches.sort()
    print("| method | " + " | ".join(f"{batch} images, GB" for batch in options.batches) + " |")
    print("|---|" + "---|" * len(options.batches), flush=True)
    grown = []
    for name in (None, *(options.methods or METHODS)):
        option, few, _, given = GROWING.get(name, (None, None, None, {}))
        chosen = {option: few, **given} if option else {}
        peaks = {}
        for batch in options.batches:
            options.batch = batch
            peaks[batch], _ = measure(options, name, chosen)
        cells = " | ".join(f"{peak:.2f}" for peak in peaks.values())
        print(f"| {name or 'no explanation'} | {cells} |", flush=True)
        whole = [peak for batch, peak in peaks.items() if batch >= options.chunk_size]
        if whole and not max(whole) <= TOLERANCE * whole[0]:
            grown.append(name or "no explanation")
    return status(grown, "chunks")


def status(grown: list[str], what: str) -> int:
    """Return the exit status, and say whose peak grew."""
    if grown:
        print(f"\nGROWS beyond {TOLERANCE} with the {what}: {', '.join(grown)}")
    return int(bool(grown))


def write_resnet50(path: Path) -> None:
    """Write a ResNet-50 of random weights, once for all processes."""
    import jax

    from practical.models import new_resnet

    new_resnet(
        [str(i) for i in range(1000)], key=jax.random.key(0), block="bottleneck",
        stage_sizes=(3, 4, 6, 3), widths=(64, 128, 256, 512), stem_width=64, pool=True,
    ).save(path)  # fmt: skip


def measure(options: argparse.Namespace, name: str | None, given: dict) -> tuple[float, float]:
    """Return the peak memory in GB of a process that explains a batch, and its seconds."""
    command = [
        sys.executable, __file__, "--batch", str(options.batch), "--side", str(options.side),
        "--chunk-size", str(options.chunk_size), "--weights", str(options.weights),
        "--one", json.dumps([name, given]),
    ]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} {given} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1]), time.monotonic() - started


def explain(options: argparse.Namespace) -> None:
    """Explain one batch, and print this process's peak resident set in GB."""
    import numpy as np

    from practical.attribution import METHODS
    from practical.models import Classifier

    name, given = json.loads(options.one)
    model = Classifier.load(options.weights)
    rng = np.random.default_rng(0)
    side = options.side
    images = rng.random((options.batch, side, side, 3), np.float32)
    if name is not None:
        method = METHODS[name]
        if method.needs != "nothing":
            given["chunk_size"] = options.chunk_size
        if name in ("lime", "kernel_shap"):
            quarters = np.arange(side)[:, None] * 2 // side * 2 + np.arange(side) * 2 // side
            given["segments"] = np.broadcast_to(quarters, images.shape[:3])
        if name == "kernel_shap":
            given["samples"] = 14  # all sets of four; its loop is LIME's
        maps = method.heatmap(model, images, np.arange(options.batch), **given)
        assert np.isfinite(np.asarray(maps)).all()
    # Linux counts in KiB.
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


if __name__ == "__main__":
    sys.exit(main())
