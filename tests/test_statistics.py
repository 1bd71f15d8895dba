import jax
import numpy as np
from scipy.stats import norm

from practical.metrics import bootstrap_interval
from tests.oracles import refuses


def test_the_mean_is_the_mean_and_equal_images_leave_no_doubt():
    values = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    np.testing.assert_array_equal(bootstrap_interval(values).mean, [2, 4])
    same = bootstrap_interval(np.full((7, 2), 0.25, np.float32))
    for end in same:
        np.testing.assert_allclose(end, 0.25, rtol=1e-6)


def test_two_images_have_a_known_bootstrap_distribution():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4. So the central
    # 95 % are the whole of [0, 1], and the central 40 % (from 30 % to 70 %) the one point 1/2.
    values = np.array([0.0, 1.0], np.float32)
    np.testing.assert_allclose(bootstrap_interval(values)[1:], [0, 1])
    np.testing.assert_allclose(bootstrap_interval(values, level=0.4)[1:], [0.5, 0.5])


def test_many_normal_values_give_the_textbook_interval():
    values = np.random.default_rng(0).normal(3, 2, 400).astype(np.float32)
    for level in (0.5, 0.9, 0.99):
        interval = bootstrap_interval(values, level=level, samples=4000)
        half = norm.ppf(0.5 + level / 2) * values.std() / np.sqrt(400)
        # Percentiles of 4,000 samples: the 0.5 % one has a standard error of 8 % of half.
        np.testing.assert_allclose(interval.low, values.mean() - half, atol=0.25 * half)
        np.testing.assert_allclose(interval.high, values.mean() + half, atol=0.25 * half)


def test_images_are_drawn_whole():
    # Columns that always differ by 1 do so at both ends of the interval.
    first = np.random.default_rng(0).random((9, 1)).astype(np.float32)
    interval = bootstrap_interval(np.concatenate([first, first + 1], axis=1))
    np.testing.assert_allclose(interval.low[1] - interval.low[0], 1, rtol=1e-5)
    np.testing.assert_allclose(interval.high[1] - interval.high[0], 1, rtol=1e-5)


def test_the_key_decides():
    values = np.random.default_rng(0).random(20).astype(np.float32)
    options = {"samples": 50}
    first = bootstrap_interval(values, **options)
    default = bootstrap_interval(values, key=jax.random.key(0), **options)
    np.testing.assert_array_equal(first, default)
    assert first.low != bootstrap_interval(values, key=jax.random.key(1), **options).low


def test_shapes_are_kept():
    interval = bootstrap_interval(np.random.default_rng(0).random((4, 2, 3)).astype(np.float32))
    assert [end.shape for end in interval] == 3 * [(2, 3)]
    assert (interval.low <= interval.mean).all()
    assert (interval.mean <= interval.high).all()


def test_bad_arguments():
    values = np.ones(4, np.float32)
    for few in (np.float32(1), values[:1], values[:0]):
        with refuses("values must hold at least two images, got shape"):
            bootstrap_interval(few)
    with refuses("values must be finite, got NaN or infinity for image 2"):
        bootstrap_interval(np.array([0, 1, np.nan, 1], np.float32))
    for level in (0, 1, 95, -0.5, float("nan")):
        with refuses(f"level must be between 0 and 1, got {level!r}"):
            bootstrap_interval(values, level=level)
    for samples in (0, 1.5, True):
        with refuses(f"samples must be an integer of at least 1, got {samples!r}"):
            bootstrap_interval(values, samples=samples)
