"""Images a second of a ResNet-50 on the device that is there, and what ImageNet would take.

    python benchmarks/throughput.py [--size 224] [--batch 32 128] [--devices 8]

Random weights. Forward passes and gradients of the pixels, as the explanations compute them; then
the hours of `python -m practical evaluate` on ImageNet's 50,000 validation images by all methods
and metrics. Nothing but `practical` is needed.
"""

import argparse
import time
from functools import partial

import jax
import numpy as np
import pandas as pd

from practical.attribution import METHODS, superpixels
from practical.attribution.gradients import _gradient
from practical.evaluation import MEASURES, method_options, summarise
from practical.models import new_resnet
from practical.models.predict import _apply

IMAGES = 50_000  # of ImageNet's validation set
# Its images have no masks. On mosaics and by repeated explanations only 32 images are measured.
LEFT_OUT = ("masks", "pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--devices", type=int, default=8, help="in the arithmetic")
    parser.add_argument("--seconds", type=float, default=2, help="for each number")
    options = parser.parse_args()

    model = new_resnet(
        [str(i) for i in range(1000)], key=jax.random.key(0), block="bottleneck",
        stage_sizes=(3, 4, 6, 3), widths=(64, 128, 256, 512), stem_width=64, pool=True,
    )  # fmt: skip
    images = np.random.default_rng(0).random((max(options.batch), *[options.size] * 2, 3))
    images = images.astype(np.float32)
    device = jax.devices()[0]
    print(
        f"{device.device_kind}, ResNet-50, {options.size} pixels, float32, JAX {jax.__version__}\n"
    )
    print("| images at a time | forward, images/s | gradient, images/s |")
    print("| --- | --- | --- |", flush=True)
    best = [0.0, 0.0]
    for batch in options.batch:
        some, targets = jax.device_put(images[:batch]), np.arange(batch, dtype=np.int32)
        forward = partial(_apply, model, some)
        gradient = partial(_gradient, model, some, targets, chunk_size=batch)
        rates = [batch * calls_a_second(call, options.seconds) for call in (forward, gradient)]
        print(f"| {batch} | {rates[0]:,.0f} | {rates[1]:,.0f} |", flush=True)
        best = np.maximum(best, rates)

    few = images[:4]
    cutting = len(few) * calls_a_second(partial(superpixels, few), 1)
    forwards, gradients = calls_an_image(options.size)
    hours = [
        IMAGES * count / rate / options.devices / 3600
        for count, rate in zip((forwards, gradients), best, strict=True)
    ]
    hours_of_superpixels = 2 * IMAGES / cutting / options.devices / 3600
    print(f"\nSuperpixels on one core of the host: {cutting:,.1f} images/s\n")
    print("| ImageNet, 50,000 images | an image | hours |")
    print("| --- | --- | --- |")
    print(f"| forward passes, {options.devices} devices | {forwards:,} | {hours[0]:.1f} |")
    print(f"| gradients, {options.devices} devices | {gradients:,} | {hours[1]:.1f} |")
    print(f"| both | | {sum(hours):.1f} |")
    print(f"| superpixels, {options.devices} cores | 2 | {hours_of_superpixels:.1f} |")
    print(f"| intervals and tests of the report, process 0 alone | | {hours_of_the_report():.1f} |")


def calls_a_second(call, seconds: float) -> float:
    """Return how often a second `call` runs, after the first time, which compiles."""
    for _ in range(2):
        jax.block_until_ready(call())
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        jax.block_until_ready(call())
        count += 1
    return count / (time.perf_counter() - start)


def calls_an_image(size: int) -> tuple[int, int]:
    """Return the forward passes and gradients of one image, by all methods and metrics."""
    given = method_options(size, size)
    counts = [method.calls(size, **given.get(name, {})) for name, method in METHODS.items()]
    measuring = sum(
        size + 1 if name.endswith("_rise") else MEASURES[name].calls  # RISE: a step for each row
        for name in metrics_of_all_images()
    )
    forwards, gradients = map(sum, zip(*counts, strict=True))
    return forwards + len(METHODS) * measuring, gradients


def metrics_of_all_images() -> list[str]:
    return [name for name, m in MEASURES.items() if m.needs not in LEFT_OUT and not m.repeats]


def hours_of_the_report() -> float:
    """Return what `summarise` takes: one metric's values of all images, times the metrics."""
    names = metrics_of_all_images()
    values = np.random.default_rng(0).random(IMAGES * len(METHODS))
    rows = pd.DataFrame(
        {
            "image": np.tile(np.arange(IMAGES), len(METHODS)),
            "method": np.repeat([*METHODS], IMAGES),
            "metric": names[0],
            "value": values,
        }
    )
    start = time.perf_counter()
    summarise(rows)
    return len(names) * (time.perf_counter() - start) / 3600


if __name__ == "__main__":
    main()
