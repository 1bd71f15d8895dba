"""What only the device can tell: is the network still the plain one, what do fewer digits cost.

    python benchmarks/accelerator.py [resnet50 ...] [--size 224] [--batch 32]

Needs `practical` alone. On a GPU it takes minutes; on a CPU name one network and a small size.
Exits with status 1 if the networks differ by more than `MOST`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from plain import NAMES, plain_logits, random_network

from practical import attribution, load_dataset, load_model, metrics, models, predict
from practical.models.convolution import _by_phases, _direct, _Options
from practical.models.pooling import max_pool

ROUNDS = 10
# Of the root mean square: a logit's difference, and in float64 a gradient's. In float32 a ReLU
# whose input is 0 but for rounding turns a path on or off, in either network, and changes all of an
# image's gradient: so these differences are printed (of all images, of the one with the smallest,
# and of each network from its own float64, two images), and not judged.
MOST = 1e-4


def main() -> int:
    """Print four tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=[*NAMES], metavar="NETWORK")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", choices=("networks", "pieces", "completeness", "areas"))
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    images = smooth_images(options.batch, options.size)
    tables = {
        "networks": lambda: networks(options.networks, images),
        "pieces": lambda: pieces(images),
        "completeness": lambda: completeness(options.networks[-1], images[:4]),
        "areas": areas,
    }
    apart = 0.0
    for name, table in tables.items():
        if options.only in (None, name):
            apart = max(apart, table() or 0.0)
    if not apart <= MOST:
        print(f"\nDIFFERS by {apart:.1e}")
    return int(not apart <= MOST)


def header(*names: str) -> None:
    """Print the first two lines of a table."""
    print("\n| " + " | ".join(names) + " |\n|" + " --- |" * len(names))


def smooth_images(count: int, side: int) -> np.ndarray:
    """Return images in [0, 1]: smooth colours, and noise on them."""
    rng = np.random.default_rng(0)
    coarse = jnp.asarray(rng.random((count, 8, 8, 3), np.float32))
    smooth = jax.image.resize(coarse, (count, side, side, 3), "linear")
    return np.clip(0.7 * smooth + 0.3 * rng.random((count, side, side, 3), np.float32), 0, 1)


def networks(names: list[str], images: np.ndarray) -> float:
    """Compare the plain network with the one that runs, time both, and return the difference."""
    worst = 0.0
    header(
        "network", "logits: max", "gradient, float64: max", "float32: rms", "nearest image",
        "plain's own", "ours", "forward: plain, ms", "ours, ms", "gradient: plain, ms", "ours, ms",
    )  # fmt: skip
    for name in names:
        model = random_network(name)
        forward = [precise(plain_logits), precise(lambda model, images: model(images))]
        gradient = [precise(slopes(plain_logits)), precise(slopes(lambda m, images: m(images)))]
        logits = [f(model, images) for f in forward]
        back = [f(model, images) for f in gradient]
        times = [median(lambda f=f: f(model, images)) for f in (*forward, *gradient)]  # noqa: B023
        nearest = min(far(*pair)[1] for pair in zip(*back, strict=True))
        exact = in_float64(gradient, model, images[:2])
        own = [far(*pair)[1] for pair in zip(exact, (array[:2] for array in back), strict=True)]
        cells = [far(*logits)[0], far(*exact)[0], far(*back)[1], nearest, *own]
        print(f"| {name} | " + " | ".join(f"{one:.1e}" for one in cells), end=" | ")
        print(" | ".join(f"{1e3 * one:.2f}" for one in times), "|", flush=True)
        worst = float(np.max([worst, *cells[:2]]))  # a NaN stays
    return worst


def in_float64(
    functions: list[Callable], model: models.Classifier, images: np.ndarray
) -> list[np.ndarray]:
    """Return what each function computes from the same weights and images in float64."""
    with jax.enable_x64(True):
        model, given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (model, images))
        return [np.asarray(function(model, given)) for function in functions]


def precise(function: Callable) -> Callable:
    """Compile with float32 products."""

    def exact(*arguments):
        with jax.default_matmul_precision("float32"):
            return function(*arguments)

    return jax.jit(exact)


def slopes(logits: Callable) -> Callable:
    """Return the gradient of each image's first logit."""
    return jax.grad(lambda model, images: logits(model, images)[:, 0].sum(), argnums=1)


def far(expected: ArrayLike, found: ArrayLike) -> tuple[float, float]:
    """Return the largest and the root mean square difference, over the array's own."""
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    scale = float(np.sqrt((expected**2).mean()))
    error = found - expected
    return float(np.abs(error).max()) / scale, float(np.sqrt((error**2).mean())) / scale


def pieces(images: np.ndarray) -> None:
    """Time the stem and the max-pool in XLA's form and in ours."""
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(7, 7, 3, 64)), jnp.float32)
    stem_options = _Options(strides=(2, 2), padding=((3, 3), (3, 3)))
    maps = jax.nn.relu(_direct(jnp.asarray(images), kernel, stem_options))

    def stem(images):
        return _direct(images, kernel, stem_options)

    def by_phases(images):
        return _by_phases(images, kernel, stem_options)

    def pool(maps):
        edges = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)

    header("piece", "forward, ms", "forward and gradient, ms")
    for name, function, given in (
        ("stem, XLA", stem, images), ("stem, by blocks", by_phases, images),
        ("max-pool, XLA", pool, maps), ("max-pool, ours", max_pool, maps),
    ):  # fmt: skip
        forward, sides = precise(function), jax.eval_shape(function, given).shape
        weights = jnp.asarray(rng.normal(size=sides), jnp.float32)

        def pulled(given, weights, function=function):
            answer, pull = jax.vjp(function, given)
            return answer, pull(weights)

        both = precise(pulled)
        times = median(lambda: forward(given)), median(lambda: both(given, weights))  # noqa: B023
        print(f"| {name} | " + " | ".join(f"{1e3 * one:.2f}" for one in times) + " |", flush=True)


def median(call: Callable) -> float:
    """Return the seconds that a warm call takes."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def completeness(name: str, images: np.ndarray) -> None:
    """Print how far integrated gradients are from complete, by the precision of products."""
    model, targets = random_network(name), np.zeros(len(images), int)
    print(f"\nCompleteness error of integrated gradients, {name}, largest of {len(images)} images")
    header("precision", "50 steps", "200 steps", "1000 steps", "seconds for 50 steps")
    for precision in ("float32", "tensorfloat32"):
        errors = []
        with jax.default_matmul_precision(precision):
            for steps in (50, 200, 1000):
                maps = attribution.integrated_gradients(model, images, targets, steps=steps)
                with jax.default_matmul_precision("float32"):
                    error = attribution.completeness_error(model, images, targets, maps)
                errors.append(float(error.max()))
            seconds = median(
                lambda: attribution.integrated_gradients(model, images, targets, steps=50)
            )
        cells = " | ".join(f"{error:.1e}" for error in errors)
        print(f"| {precision} | {cells} | {seconds:.3f} |", flush=True)


def areas() -> None:
    """Print what fewer digits change in areas under curves, on the embedded network and images."""
    dataset, model = load_dataset("shapes", count=200), load_model("shapes")
    targets = predict(model, dataset.images).argmax(1)
    images = np.asarray(dataset.images)
    heat = attribution.heatmap(attribution.gradient_x_input(model, images, targets))
    header(
        "precision", "deletion, mean area", "largest change", "mean change",
        "insertion, largest change", "mean change", "another prediction",
    )  # fmt: skip
    exact = None
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        asked = models.with_precision(model, precision)
        curves = [
            f(asked, images, targets, heat).auc for f in (metrics.deletion, metrics.insertion)
        ]
        exact = exact or curves
        apart = [np.abs(np.asarray(a - b)) for a, b in zip(curves, exact, strict=True)]
        other = int((np.asarray(asked(images)).argmax(1) != targets).sum())
        cells = [apart[0].max(), apart[0].mean(), apart[1].max(), apart[1].mean()]
        print(f"| {precision} | {float(curves[0].mean()):.4f} | ", end="")
        print(
            " | ".join(f"{one:.1e}" for one in cells), f"| {other} of {len(images)} |", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
