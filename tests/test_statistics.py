import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from practical import _bootstrap
from practical.metrics import bootstrap_interval, holm, permutation_test, rank_agreement
from tests.oracles import refuses


def test_the_mean_is_the_mean_and_equal_images_leave_no_doubt():
    values = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    np.testing.assert_array_equal(bootstrap_interval(values).mean, [2, 4])
    same = bootstrap_interval(np.full((9, 2), 0.1))
    for end in same:
        np.testing.assert_allclose(end, 0.1, rtol=1e-12)
    assert (same.low <= same.mean).all()
    assert (same.mean <= same.high).all()


def test_fewer_than_eight_images_have_a_mean_and_no_interval():
    values = np.random.default_rng(0).random((8, 2))
    for count in range(1, 8):
        mean, low, high = bootstrap_interval(values[:count])
        np.testing.assert_allclose(mean, values[:count].mean(0))
        assert np.isnan([low, high]).all()
    assert np.isfinite(bootstrap_interval(values)).all()
    pair = np.stack([values[:7, 0], values[:7, 1]], 1)
    assert np.isnan(rank_agreement(pair, pair)[1:]).all()
    assert np.isfinite(rank_agreement(values, values)).all()


@pytest.mark.parametrize("count", [8, 16, 32])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda random, shape: random.random(shape), 0.5),
        (lambda random, shape: random.lognormal(size=shape), np.exp(0.5)),
        (lambda random, shape: random.beta(0.3, 2, shape), 0.3 / 2.3),
    ],
)
def test_the_interval_covers_the_mean_as_often_as_the_t_interval(draw, mean, count):
    values = draw(np.random.default_rng(0), (count, 500))  # a data set per column
    middle, low, high = bootstrap_interval(values)
    half = scipy.stats.t.ppf(0.975, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
    student = np.mean(abs(middle - mean) <= half)
    assert np.mean((low <= mean) & (mean <= high)) >= student - 0.01
    assert (low >= values.min(0)).all()
    assert (high <= values.max(0)).all()


def test_large_values_keep_the_digits_of_float64():
    values = np.random.default_rng(0).random(20)
    small, large = bootstrap_interval(values), bootstrap_interval(values + 2.0**24)
    np.testing.assert_allclose(np.subtract(large, 2.0**24), small, atol=1e-7)


def test_a_hundred_thousand_images_take_bounded_memory():
    values = np.random.default_rng(0).random(100_000)
    tracemalloc.start()
    interval = bootstrap_interval(values, samples=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # one (samples, images) array of float64 would be 40 MB, and its draws more
    assert interval.low < 0.5 < interval.high


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
    interval = bootstrap_interval(np.random.default_rng(0).random((8, 2, 3)).astype(np.float32))
    assert [end.shape for end in interval] == 3 * [(2, 3)]
    assert (interval.low <= interval.mean).all()
    assert (interval.mean <= interval.high).all()


def test_bad_arguments():
    values = np.ones(4, np.float32)
    for few in (np.float32(1), values[:0]):
        with refuses("values must hold at least one image, got shape"):
            bootstrap_interval(few)
    with refuses("values must be finite, got NaN or infinity for image 2"):
        bootstrap_interval(np.array([0, 1, np.nan, 1], np.float32))
    for level in (0, 1, 95, -0.5, float("nan")):
        with refuses(f"level must be between 0 and 1, got {level!r}"):
            bootstrap_interval(values, level=level)
    for samples in (0, 1.5, True):
        with refuses(f"samples must be an integer of at least 1, got {samples!r}"):
            bootstrap_interval(values, samples=samples)


# --- permutation_test ----------------------------------------------------------------------------


def two(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    """Two methods' values of the same images."""
    values = np.random.default_rng(seed).normal(size=(2, count)).astype(np.float32)
    values[0] += np.float32(shift)
    return values


def by_scipy(first, second, samples: float = np.inf) -> float:
    return scipy.stats.permutation_test(
        (first.astype(float), second.astype(float)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        rng=np.random.default_rng(0),
    ).pvalue


def test_signs_by_hand():
    # Differences 1, 2, 4: of the sums of +-1 +-2 +-4 only +-7 are as large as 7, and for
    # 1 + 2 - 4 = -1 all eight are.
    zeros = np.zeros(3, np.float32)
    for differences, extreme in (([1, 2, 4], 2), ([1, 2, -4], 8), ([-1, 2, 4], 4)):
        found = permutation_test(np.array(differences, np.float32), zeros)
        np.testing.assert_allclose(found.difference, np.mean(differences), rtol=1e-6)
        np.testing.assert_allclose(found.p_value, extreme / 8, rtol=1e-6)
        assert found.difference.shape == found.p_value.shape == ()


@pytest.mark.parametrize("count", [2, 5, 9])
def test_the_exact_test_is_scipys(count):
    for seed in range(4):
        first, second = two(seed, count, shift=seed / 3)
        found = permutation_test(first, second, samples=2**count)
        np.testing.assert_allclose(found.p_value, by_scipy(first, second), rtol=1e-6)
        np.testing.assert_allclose(found.difference, (first - second).mean(), atol=1e-6)
        other_key = permutation_test(first, second, samples=2**count, key=jax.random.key(1))
        assert other_key.p_value == found.p_value, "nothing is drawn"


@pytest.mark.parametrize(("count", "shift"), [(8, 1.5), (30, 0.3), (60, 0.3)])
def test_random_signs_approach_the_exact_test(count, shift):
    first, second = two(3, count, shift)
    samples = 20_000 if count > 8 else 255  # too few for all 2**8
    found = permutation_test(first, second, samples=samples)
    expected = by_scipy(first, second, samples=20_000 if count > 8 else np.inf)
    # Binomial, both sides drawn: four standard deviations.
    spread = np.sqrt(2 * expected * (1 - expected) / samples)
    assert 0.01 < expected < 0.6
    assert abs(found.p_value - expected) < 4 * spread


def test_the_observed_signs_are_counted_among_the_random_ones():
    # 2**40 choices of signs, of which two are as extreme: none of 99 random ones will be.
    values = np.ones(40, np.float32)
    np.testing.assert_allclose(permutation_test(values, 0 * values, samples=99).p_value, 1 / 100)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 10))
def test_rounding_breaks_no_ties(seed, count):
    # Tenths are rounded in every float dtype. The p-value is that of the whole numbers.
    whole = np.random.default_rng(seed).integers(0, 10, (2, count))
    differences = np.abs(
        np.array(list(itertools.product([-1, 1], repeat=count))) @ (whole[0] - whole[1])
    )
    expected = np.mean(differences >= differences[-1])  # the last signs are all 1
    for dtype in (np.float16, np.float32, np.float64):
        first, second = (whole / 10 + 0.3).astype(dtype)
        np.testing.assert_allclose(permutation_test(first, second).p_value, expected, rtol=1e-6)


def test_doubles_keep_their_precision():
    first, second = two(0, 9, shift=1).astype(np.float64)
    expected = permutation_test(first, second).p_value
    found = permutation_test(first * 1e-6 + 100, second * 1e-6 + 100)
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-6)


def test_methods_that_do_not_differ():
    values = two(0, 30)[0]
    for count in (5, 30):
        assert permutation_test(values[:count], values[:count]) == (0, 1)


@pytest.mark.parametrize("count", [10, 50])
def test_which_is_first_does_not_matter(count):
    first, second = two(0, count, shift=0.3)
    one, other = permutation_test(first, second), permutation_test(second, first)
    assert one.difference == -other.difference
    assert one.p_value == other.p_value
    larger = permutation_test(1024 * first, 1024 * second)
    assert larger.p_value == one.p_value


def test_false_alarms_are_as_rare_as_they_say():
    values = np.random.default_rng(0).normal(size=(400, 2, 25)).astype(np.float32)
    p_values = np.array([permutation_test(*pair, samples=199).p_value for pair in values])
    # Of 400 p-values 5 % are 20, with a standard deviation of 4.4; 50 % are 200 +- 10.
    for level, four_deviations in ((0.05, 17.6), (0.5, 40)):
        assert abs((p_values <= level).sum() - 400 * level) < four_deviations


def test_small_blocks_are_the_same_test(monkeypatch):
    first, second = two(1, 8, shift=0.4)
    exact = permutation_test(first, second).p_value
    drawn = permutation_test(*two(1, 40, shift=0.3)).p_value
    monkeypatch.setattr(_bootstrap, "_BLOCK", 100)  # 12 rows of 8 at a time, and a rest
    assert permutation_test(first, second).p_value == exact
    found = permutation_test(*two(1, 40, shift=0.3)).p_value
    assert abs(found - drawn) < 4 * np.sqrt(2 * drawn * (1 - drawn) / 10_000)


def test_the_key_decides_the_signs():
    pair = two(0, 30, shift=0.2)
    found = permutation_test(*pair)
    assert permutation_test(*pair, key=jax.random.key(0)) == found
    assert permutation_test(*pair, key=jax.random.key(7)).p_value != found.p_value


@pytest.mark.parametrize("count", [7, 40], ids=["all signs", "drawn signs"])
def test_a_column_is_a_test_of_its_own(count):
    first, second = np.stack([two(seed, count) for seed in range(6)], -1)
    first[:, 2] = second[:, 2]
    found = permutation_test(first.reshape(count, 2, 3), second.reshape(count, 2, 3), samples=999)
    alone = [permutation_test(first[:, i], second[:, i], samples=999) for i in range(6)]
    expected = np.reshape([pair.p_value for pair in alone], (2, 3))
    np.testing.assert_array_equal(found.p_value, expected)
    assert expected[0, 2] == 1 > expected[0, 0]
    differences = np.reshape([pair.difference for pair in alone], (2, 3))
    np.testing.assert_allclose(found.difference, differences, rtol=1e-6)


def test_bad_arguments_of_permutation_test():
    first, second = two(0, 5)
    with refuses(r"first must have shape \(images, ...\), at least two of each, got \(1,\)"):
        permutation_test(first[:1], second[:1])
    with refuses(r"second must have shape \(images, ...\), at least two of each, got \(\)"):
        permutation_test(first, second[0])
    with refuses(r"second must have first's shape.*: \(5,\), got \(5, 1\)"):
        permutation_test(first, second[:, None])
    with refuses(r"second must have first's shape, value by value.*: \(5,\), got \(4,\)"):
        permutation_test(first, second[:4])
    second[3] = np.inf
    with refuses("second must be finite, got NaN or infinity for image 3"):
        permutation_test(first, second)
    for samples in (0, 2.5, True):
        with refuses(f"samples must be an integer of at least 1, got {samples!r}"):
            permutation_test(first, first, samples=samples)
    with refuses("key must be one key made by jax.random.key"):
        permutation_test(first, first, key=jax.random.split(jax.random.key(0)))


# --- holm ----------------------------------------------------------------------------------------


def test_holm_by_hand():
    # In order 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, and the last not below the one before.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.2]), [0.2])
    np.testing.assert_array_equal(holm([0.6, 1.0, 0.0]), [1, 1, 0])
    np.testing.assert_allclose(holm([0.01, 0.01]), [0.02, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_rejects_what_the_procedure_rejects(p_values):
    adjusted = np.asarray(holm(np.array(p_values)))
    assert adjusted.dtype == np.float32
    order = np.argsort(p_values, kind="stable")
    for level in (0.01, 0.05, 0.3):
        # The paper's procedure: go up from the smallest until one is above level / (k - i).
        left = len(order)
        for place in order:
            if p_values[place] > level / left:
                break
            left -= 1
        rejected = np.zeros(len(order), bool)
        rejected[order[: len(order) - left]] = True
        certain = np.abs(adjusted - level) > 1e-6  # on either side of the level, beyond rounding
        np.testing.assert_array_equal((adjusted <= level)[certain], rejected[certain])
    assert (adjusted >= np.array(p_values, np.float32)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffle = np.random.default_rng(0).permutation(len(p_values))
    np.testing.assert_array_equal(holm(np.array(p_values)[shuffle]), adjusted[shuffle])


def test_holm_takes_the_tests_own_answers():
    found = [permutation_test(*two(seed, 6)).p_value for seed in range(3)]
    np.testing.assert_array_equal(holm(found), holm(jnp.stack(found)))


def test_bad_arguments_of_holm():
    for shape in ((), (0,), (2, 2)):
        with refuses(r"p_values must have shape \(tests,\), at least one, got"):
            holm(np.full(shape, 0.5))
    for wrong in (-0.1, 1.1, np.nan):
        with refuses(rf"p_values must be in \[0, 1\], got {wrong:.4g} at place 2"):
            holm([0, 1, wrong, 0.5])


# --- rank_agreement ------------------------------------------------------------------------------


def scores(seed: int, images: int = 12, methods: int = 6, levels: int = 0) -> np.ndarray:
    """Two metrics' values, of some ties between the means if there are few `levels`."""
    rng = np.random.default_rng(seed)
    shape = (2, images, methods)
    values = rng.integers(0, levels, shape) if levels else rng.normal(size=shape)
    return values.astype(np.float32)


@pytest.mark.parametrize(("images", "levels"), [(12, 0), (3, 2), (2, 3)])
def test_tau_is_scipys(images, levels):
    tied = 0
    for seed in range(10):
        first, second = scores(seed, images, levels=levels)
        means = first.mean(0, np.float64), second.mean(0, np.float64)
        tied += len(np.unique(means[0])) < 6
        found = rank_agreement(first, second, samples=2)
        expected = np.nan_to_num(scipy.stats.kendalltau(*means).statistic)  # NaN where all tie
        np.testing.assert_allclose(found.tau, expected, rtol=1e-6, atol=1e-7)
        assert found.tau.shape == found.low.shape == found.high.shape == ()
    assert tied == (10 if levels else 0)


def test_the_interval_against_a_slow_bootstrap():
    # 12 images of noise around the methods' true scores.
    noise = np.random.default_rng(1).normal(size=(2, 12, 5))
    first, second = (noise + np.arange(5) / 2).astype(np.float32)
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(2000):
        draw = rng.integers(0, 12, 12)
        taus.append(scipy.stats.kendalltau(first[draw].mean(0), second[draw].mean(0)).statistic)
    for level in (0.5, 0.95):
        found = rank_agreement(first, second, level=level)
        ends = np.percentile(taus, [50 * (1 - level), 50 * (1 + level)])
        np.testing.assert_allclose([found.low, found.high], ends, atol=0.201)  # a pair: 0.2
        assert found.low <= found.tau <= found.high


def test_one_order_and_its_opposite():
    first = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    np.testing.assert_array_equal(rank_agreement(first, 3 * first + 1), [1, 1, 1])
    np.testing.assert_array_equal(rank_agreement(first, -first), [-1, -1, -1])
    close = np.tile(1 + 1e-9 * np.arange(4), (10, 1))  # doubles: no ties
    np.testing.assert_array_equal(rank_agreement(close, close * 0 + np.arange(4)), [1, 1, 1])


def test_a_method_of_huge_values_leaves_the_order_of_the_others():
    first = np.tile([1e15, 0.1, 0.2, 0.3], (10, 1))
    second = np.tile([4.0, 3, 2, 1], (10, 1))
    np.testing.assert_array_equal(rank_agreement(first, second).tau, 0)  # 3 pairs agree, 3 do not


def test_images_are_drawn_together():
    # Image by image the metrics agree, but the images do not: drawn apart, the orders would differ.
    first = np.array(4 * [[0, 9], [9, 0]] + [[1, 0]], np.float32)
    np.testing.assert_array_equal(rank_agreement(first, 2 * first), [1, 1, 1])


def test_a_metric_under_which_all_tie_says_nothing():
    first = scores(0)[0]
    for constant in (np.zeros_like(first), np.full_like(first, 0.1)):
        for pair in ((first, constant), (constant, first), (constant, constant)):
            np.testing.assert_array_equal(rank_agreement(*pair), [0, 0, 0])
    # Each method has the same values, on other images: a tie, whatever the order of the sum.
    rng = np.random.default_rng(0)
    for _ in range(10):
        same = rng.permuted(np.tile(rng.random((50, 1)), 6), axis=0)
        assert len(np.unique(same.sum(0))) > 1, "the order of the sum would decide"
        assert rank_agreement(rng.random((50, 6)), same, samples=2).tau == 0


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([0, 2]))
def test_properties_of_rank_agreement(seed, levels):
    first, second = scores(seed, levels=levels)
    options = {"samples": 40}
    found = rank_agreement(first, second, **options)
    assert -1 <= found.low <= found.high <= 1
    assert -1 <= found.tau <= 1
    np.testing.assert_array_equal(rank_agreement(second, first, **options), found)
    order = np.random.default_rng(seed).permutation(6)
    moved = rank_agreement(first[:, order], second[:, order], **options)
    np.testing.assert_allclose(moved, found, atol=1e-6)
    np.testing.assert_allclose(rank_agreement(8 * first, second / 4, **options), found, atol=1e-6)
    opposite = rank_agreement(first, -second, **options)
    np.testing.assert_allclose(opposite, [-found.tau, -found.high, -found.low], atol=1e-6)


def test_the_key_and_the_block_decide_the_draws_alone(monkeypatch):
    first, second = scores(1, images=8)
    found = rank_agreement(first, second, samples=50)
    assert rank_agreement(first, second, samples=50, key=jax.random.key(0)) == found
    others = [rank_agreement(first, second, samples=50, key=jax.random.key(k)) for k in (1, 2, 3)]
    assert any(other != found for other in others)
    assert all(other.tau == found.tau for other in others)
    monkeypatch.setattr(_bootstrap, "_BLOCK", 7 * 36)
    np.testing.assert_allclose(rank_agreement(first, second, samples=50), found, atol=1e-6)


def test_bad_arguments_of_rank_agreement():
    first, second = scores(0)
    with refuses(r"first must have shape \(images, methods\), at least two of each, got \(12,\)"):
        rank_agreement(first[:, 0], second[:, 0])
    for few in (second[:1], second[:, :1]):
        with refuses(r"second must have shape \(images, methods\), at least two of each, got"):
            rank_agreement(first, few)
    with refuses(r"second must have first's shape.*: \(12, 6\), got \(12, 5\)"):
        rank_agreement(first, second[:, :5])
    first[4, 2] = np.nan
    with refuses("first must be finite, got NaN or infinity for image 4"):
        rank_agreement(first, second)
    for level in (0, 1, float("nan")):
        with refuses(f"level must be between 0 and 1, got {level!r}"):
            rank_agreement(second, second, level=level)
    with refuses("samples must be an integer of at least 1, got 0"):
        rank_agreement(second, second, samples=0)
