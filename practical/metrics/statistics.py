"""From one value an image to statements about all images, methods and metrics."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._bootstrap import blocks, interval_ends, resampled_means, resampled_weights
from practical._inputs import ArrayLike, check_count, check_finite
from practical._keys import generator


class Interval(NamedTuple):
    """A mean over images and how far it can be trusted."""

    mean: Float[ArrayLike, "..."]
    low: Float[ArrayLike, "..."]  # lower end of the confidence interval; NaN below 8 images
    high: Float[ArrayLike, "..."]  # upper end


class Comparison(NamedTuple):
    """How two methods differ over the same images."""

    difference: Float[Array, "..."]  # mean of first - second
    p_value: Float[Array, "..."]  # of a difference so large if the methods were exchangeable


class Agreement(NamedTuple):
    """How nearly two metrics put methods into the same order."""

    tau: Float[Array, ""]  # Kendall's tau-b: 1 the same order, -1 the opposite one
    low: Float[Array, ""]  # lower end of the confidence interval; NaN below 8 images
    high: Float[Array, ""]  # upper end


def bootstrap_interval(
    values: Float[ArrayLike, "images ..."],
    *,
    level: float = 0.95,
    samples: int = 2000,
    key: Array | None = None,
) -> Interval:
    """Return the mean over images with its expanded bootstrap percentile interval.

    Images are drawn with replacement, whole: the points of a curve stay together. The percentiles
    are chosen so that few images get an interval as wide as Student's t (Hesterberg, 2015), and the
    ends never leave the range of the values. `benchmarks/coverage.py` measures how often the
    interval holds the true mean, at a nominal 95 %: for 8, 16 and 32 images 0.95, 0.95 and 0.95 of
    the time (uniform values), 0.84, 0.87 and 0.90 (log-normal), 0.87, 0.91 and 0.93
    (beta(0.3, 2)). The t interval holds it no more often in any of these cases.

    Args:
        values: (N, ...) one row per image. Below 8 images there is no interval: the ends are NaN.
        level: Confidence, in (0, 1).
        samples: Bootstrap samples; memory does not grow with them. Their draws take time in
            proportion to `samples` times N.
        key: Decides the samples; by default `jax.random.key(0)`.

    Returns:
        The mean and the ends, each of shape (...), in NumPy's double precision.

    Raises:
        ValueError: If there is no image, a NaN, or an argument is out of its range.

    References:
        Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979;
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69,
        2015, section 5.3.
    """
    if np.ndim(values) < 1 or len(values) < 1:
        raise ValueError(f"values must hold at least one image, got shape {np.shape(values)}")
    check_finite(values, "values")
    _check_level(level)
    samples, random = check_count("samples", samples), generator(key)
    values = np.asarray(values, np.float64)
    mean = values.mean(0)
    low, high = interval_ends(resampled_means(values, samples, random), level, len(values))
    # Where all values are equal, the ends differ from the mean by rounding.
    return Interval(mean, np.minimum(low, mean), np.maximum(high, mean))


def permutation_test(
    first: Float[ArrayLike, "images ..."],
    second: Float[ArrayLike, "images ..."],
    *,
    samples: int = 10_000,
    key: Array | None = None,
) -> Comparison:
    """Test whether two methods differ in their mean over the same images, on either side.

    If it did not matter which method is which, each image's difference could as well have the
    other sign. The p-value is the share of all choices of signs whose mean difference is at least
    as large as the one observed: of all 2**N for N images if those are at most `samples`, and
    then it is exact; else of `samples` random ones, with the observed one counted among them.
    Means count as equal if rounding the values could have made the difference between them.

    Args:
        first: (N, ...) one row an image, N at least 2; each column is a test of its own, and all
            have the same signs. Many tests together take little longer than one.
        second: (N, ...) of the same images.
        samples: Choices of signs looked at; memory does not grow with them.
        key: Decides the random ones; by default `jax.random.key(0)`.

    Returns:
        The mean of `first - second` over the images, and the two-sided p-value, above 0 and at
        most 1, of each test: (...).

    Raises:
        ValueError: If the values are not of the same two or more images, there is a NaN, or an
            argument is out of its range.

    References:
        Fisher, The Design of Experiments, 1935, section 21. Phipson and Smyth, Permutation
        P-values Should Never Be Zero, Statistical Applications in Genetics and Molecular
        Biology 9, 2010.
    """
    a, b = _pair(first, second, "images", more=True)
    samples, random = check_count("samples", samples), generator(key)
    count = len(a)
    differences = a - b
    # The values came rounded to their precision, and a sum of N terms is rounded N times.
    slack = _precision(first, second) * (abs(a) + abs(b)).sum(0)
    slack += count * np.finfo(np.float64).eps * abs(differences).sum(0)
    least = (abs(differences.sum(0)) - slack).ravel()
    columns = differences.reshape(count, -1)
    exact = count < 63 and 2**count <= samples
    signs = _all_signs(count) if exact else _random_signs(count, samples, random)
    extreme = np.sum([(abs(block @ columns) >= least).sum(0) for block in signs], axis=0)
    p_values = extreme / 2**count if exact else (1 + extreme) / (1 + samples)
    return Comparison(_float32(differences.mean(0)), _float32(p_values.reshape(slack.shape)))


def holm(
    p_values: Float[ArrayLike, " tests"] | Sequence[float | ArrayLike],
) -> Float[Array, " tests"]:
    """Return p-values adjusted for there being several tests; below 0.05 is still significant.

    Rejecting where the adjusted value is at most a level keeps the chance of any false rejection
    at that level, however the tests depend on each other.

    Args:
        p_values: (k,) of all tests that were made, also those that found nothing.

    Returns:
        (k,) in the same order: the smallest times k, the next times k - 1, ..., none below that
        of a smaller one, and at most 1.

    Raises:
        ValueError: If `p_values` is no row of one or more numbers in [0, 1].

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics 6, 1979.
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"p_values must have shape (tests,), at least one, got {values.shape}")
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if wrong.size:
        raise ValueError(
            f"p_values must be in [0, 1], got {values[wrong[0]]:.4g} at place {wrong[0]}"
        )
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return _float32(adjusted)


def rank_agreement(
    first: Float[ArrayLike, "images methods"],
    second: Float[ArrayLike, "images methods"],
    *,
    level: float = 0.95,
    samples: int = 2000,
    key: Array | None = None,
) -> Agreement:
    """Do two metrics put the methods into the same order?

    Kendall's tau-b between the methods' mean scores, with its expanded bootstrap percentile
    interval (as in `bootstrap_interval`): images are drawn with replacement, whole, all methods
    under both metrics together. In both metrics, higher must be better: negate a metric for which
    lower is better.

    Args:
        first: (N, M) one metric's values of M methods, M at least 2, on N images, N at least 2.
        second: (N, M) another metric's values of the same methods on the same images.
        level: Confidence, in (0, 1).
        samples: Bootstrap samples; memory does not grow with them.
        key: Decides the samples; by default `jax.random.key(0)`.

    Returns:
        Tau-b and its interval, in [-1, 1]; below 8 images the ends are NaN. Where all methods tie
        under a metric, it does not order them, and tau is 0 by definition here.

    Raises:
        ValueError: If the values are not of the same two or more images and methods, there is a
            NaN, or an argument is out of its range.

    References:
        Kendall, The Treatment of Ties in Ranking Problems, Biometrika 33, 1945.
    """
    a, b = _pair(first, second, "images, methods")
    _check_level(level)
    samples, random = check_count("samples", samples), generator(key)
    count, methods = a.shape
    taus = [
        _tau_b(_order(weights, a), _order(weights, b))
        for weights in resampled_weights(count, samples, random, width=methods**2)
    ]
    low, high = interval_ends(np.concatenate(taus), level, count)
    whole = np.ones((1, count))
    tau = _tau_b(_order(whole, a), _order(whole, b))[0]
    return Agreement(_float32(tau), _float32(low), _float32(high))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")


def _pair(
    first: ArrayLike, second: ArrayLike, named: str, *, more: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return both in double precision, checked to be of the same images (and methods)."""
    axes = 1 + named.count(",")
    for name, values in (("first", first), ("second", second)):
        shape = np.shape(values)
        right = len(shape) >= axes if more else len(shape) == axes
        if not right or min(shape[:axes]) < 2:
            raise ValueError(
                f"{name} must have shape ({named}{', ...' * more}), at least two of each, "
                f"got {shape}"
            )
        check_finite(values, name)
    if np.shape(second) != np.shape(first):
        raise ValueError(
            f"second must have first's shape, value by value of the same {named}: "
            f"{np.shape(first)}, got {np.shape(second)}"
        )
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def _precision(*values: ArrayLike) -> float:
    """Return the coarsest relative precision of the values' dtypes; integers are exact."""
    dtypes = [np.asarray(value).dtype for value in values]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return max((float(jnp.finfo(dtype).eps) for dtype in floats), default=0.0)


def _float32(values: float | np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)


def _all_signs(count: int) -> Iterator[Float[np.ndarray, "rows images"]]:
    """Give all 2**count choices of signs, -1 and 1, in blocks of rows."""
    start = 0
    for rows in blocks(2**count, count):
        numbers = np.arange(start, start + rows)[:, None]
        yield (numbers >> np.arange(count) & 1) * 2.0 - 1
        start += rows


def _random_signs(
    count: int, samples: int, random: np.random.Generator
) -> Iterator[Float[np.ndarray, "rows images"]]:
    for rows in blocks(samples, count):
        octets = random.integers(0, 256, (rows, -(-count // 8)), np.uint8)
        yield np.unpackbits(octets, axis=1, count=count) * 2.0 - 1


def _order(
    weights: Float[np.ndarray, "rows images"], values: Float[np.ndarray, "images methods"]
) -> Float[np.ndarray, "rows pairs"]:
    """Return for each pair of methods which has the higher mean: 1, 0 (a tie) or -1."""
    one, other = np.triu_indices(values.shape[1], 1)
    totals = weights @ values
    gaps = totals[:, one] - totals[:, other]
    # Equal sums of the same numbers in another order differ by rounding.
    sizes = len(values) * np.finfo(np.float64).eps * (weights @ abs(values))
    slack = np.maximum(sizes[:, one], sizes[:, other])
    return np.sign(gaps) * (abs(gaps) > slack)


def _tau_b(
    first: Float[np.ndarray, "rows pairs"], second: Float[np.ndarray, "rows pairs"]
) -> Float[np.ndarray, " rows"]:
    untied = np.sqrt(abs(first).sum(1) * abs(second).sum(1))
    agreeing = (first * second).sum(1)
    return np.divide(agreeing, untied, out=np.zeros_like(untied), where=untied > 0)
