"""Bootstrap intervals over images: drawn with replacement, in blocks, in double precision."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import stats

FEWEST = 8  # images that an interval needs
_BLOCK = 2**20  # numbers in memory at a time, however many samples or images there are


def blocks(samples: int, width: int) -> Iterator[int]:
    """Split `samples` rows of `width` numbers each into blocks; give the rows of each."""
    rows = max(_BLOCK // width, 1)
    for start in range(0, samples, rows):
        yield min(rows, samples - start)


def resampled_weights(
    count: int, samples: int, random: np.random.Generator, *, width: int = 1
) -> Iterator[Float[np.ndarray, "rows images"]]:
    """Give how often each image is drawn in each sample, in blocks of rows.

    Args:
        count: Number of images.
        samples: Bootstrap samples.
        random: Decides the draws.
        width: How many numbers the caller computes per sample, if more than `count`.
    """
    for rows in blocks(samples, max(count, width)):
        draws = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        weights = np.bincount(draws.ravel(), minlength=rows * count)
        yield weights.reshape(rows, count).astype(np.float64)


def resampled_means(
    values: Float[np.ndarray, "images ..."], samples: int, random: np.random.Generator
) -> Float[np.ndarray, "samples ..."]:
    """Return the means of `samples` draws of as many images, with the images whole."""
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    center = columns.mean(0)  # so that no digit is lost where values are large and close together
    weights = resampled_weights(len(columns), samples, random, width=columns.shape[1])
    means = [block @ (columns - center) / len(columns) for block in weights]
    return (np.concatenate(means) + center).reshape(samples, *np.shape(values)[1:])


def interval_ends(
    statistics: Float[np.ndarray, "samples ..."], level: float, count: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return the ends of the expanded percentile interval, NaN for fewer than `FEWEST` images.

    The percentile interval of a mean is too short for few images: resampled means spread by
    sqrt((n - 1) / n) of the standard error, and the normal distribution's tails are thinner than
    Student's. The expanded interval takes the percentiles that make up for both.

    Args:
        statistics: The statistic of each bootstrap sample.
        level: Confidence, in (0, 1).
        count: Number of images.

    References:
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69,
        2015, section 5.3.
    """
    if count < FEWEST:
        nothing = np.full(statistics.shape[1:], np.nan)
        return nothing, nothing
    student = stats.t.ppf((1 + level) / 2, count - 1)
    tail = float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * student))
    low, high = np.quantile(statistics, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)
