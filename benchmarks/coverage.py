"""Measure how often `metrics.bootstrap_interval` holds the true mean; needs `practical` alone.

    .venv/bin/python benchmarks/coverage.py [--sets 20000] [--level 0.95]

Each data set is drawn from a distribution whose mean is known. Student's t interval of the same
data stands beside it.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy import stats

from practical.metrics import bootstrap_interval

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "uniform": (lambda random, shape: random.random(shape), 0.5),
    "log-normal": (lambda random, shape: random.lognormal(size=shape), float(np.exp(0.5))),
    "beta(0.3, 2)": (lambda random, shape: random.beta(0.3, 2, shape), 0.3 / 2.3),
}


def coverage(name: str, count: int, *, sets: int, level: float = 0.95) -> tuple[float, float]:
    """Return the share of data sets whose bootstrap and t intervals hold the true mean.

    Args:
        name: One of DISTRIBUTIONS.
        count: Images per data set.
        sets: Data sets, each a column with an interval of its own.
        level: Nominal confidence.
    """
    draw, mean = DISTRIBUTIONS[name]
    values = draw(np.random.default_rng(0), (count, sets))
    interval = bootstrap_interval(values, level=level)
    half = stats.t.ppf((1 + level) / 2, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
    ends = (interval.low, interval.high), (interval.mean - half, interval.mean + half)
    bootstrap, student = (float(np.mean((low <= mean) & (mean <= high))) for low, high in ends)
    return bootstrap, student


def main() -> None:
    """Print a row for each distribution and number of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=20_000, help="data sets (default: 20000)")
    parser.add_argument("--level", type=float, default=0.95, help="confidence (default: 0.95)")
    options = parser.parse_args()
    print("| values | images | `bootstrap_interval` | t interval |\n|---|---|---|---|")
    for name in DISTRIBUTIONS:
        for count in (8, 16, 32, 128):
            shares = coverage(name, count, sets=options.sets, level=options.level)
            print(f"| {name} | {count} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
