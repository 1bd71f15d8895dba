import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from practical.metrics import entropy, sparseness
from tests.oracles import refuses

METRICS = [sparseness, entropy]
every_metric = pytest.mark.parametrize("metric", METRICS)


def random_maps(seed: int, count: int = 4) -> np.ndarray:
    """Maps of both signs, from even to concentrated."""
    rng = np.random.default_rng(seed)
    powers = np.arange(1, count + 1)[:, None, None]
    return (rng.normal(size=(count, 5, 7)) ** (2 * powers - 1)).astype(np.float32)


def test_a_small_map_by_hand():
    # Magnitudes 1, 1, 2, 4. Their mean difference over all 16 ordered pairs is
    # 2 * (0 + 1 + 3 + 1 + 3 + 2) / 16 = 5/4; half of it over the mean, 2, is the Gini index.
    maps = np.array([[[2.0, -1.0], [-4.0, 1.0]]], np.float32)
    np.testing.assert_allclose(sparseness(maps), [5 / 16], rtol=1e-6)
    # Shares 1/8, 1/8, 1/4, 1/2: 3/8 + 3/8 + 2/4 + 1/2 bits.
    np.testing.assert_allclose(entropy(maps), [1.75 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("constant", [0, -0.0, 0.1, -3e38, 1e-45])
def test_constant_maps_and_zeros(constant):
    maps = np.full((2, 9, 11), constant, np.float32)
    np.testing.assert_array_equal(sparseness(maps), [0, 0])
    np.testing.assert_array_equal(entropy(maps), np.float32(np.log([99, 99])))
    maps[:, ::2] *= -1  # the sign does not count
    np.testing.assert_array_equal(sparseness(maps), [0, 0])


def test_a_zero_map_beside_others():
    maps = random_maps(0)
    maps[2] = 0
    for metric, constant in ((sparseness, 0), (entropy, np.log(35))):
        found = metric(maps)
        np.testing.assert_allclose(found[2], constant, rtol=1e-6)
        rest = [0, 1, 3]
        np.testing.assert_array_equal(found[np.array(rest)], metric(maps[rest]))


@pytest.mark.parametrize("pixels", [1, 2, 10, 99])
def test_equal_relevance_on_some_pixels(pixels):
    # k of n: the Gini index is 1 - k / n, the entropy log(k).
    maps = np.zeros(99)
    maps[np.random.default_rng(0).permutation(99)[:pixels]] = -0.3
    maps = maps.reshape(1, 9, 11)
    np.testing.assert_allclose(sparseness(maps), [1 - pixels / 99], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(entropy(maps), [np.log(pixels)], rtol=1e-6, atol=1e-12)


def test_one_pixel_of_a_large_image():
    maps = np.zeros((1, 224, 224), np.float32)
    maps[0, 100, 7] = 1e-30
    np.testing.assert_allclose(sparseness(maps), [1 - 1 / 224**2], rtol=1e-6)
    np.testing.assert_array_equal(entropy(maps), [0])


@given(seed=st.integers(0, 2**32 - 1))
def test_against_the_definitions(seed):
    maps = random_maps(seed)
    values = np.abs(maps.reshape(len(maps), -1)).astype(np.float64)
    pairs = np.abs(values[:, :, None] - values[:, None, :]).mean((1, 2))
    np.testing.assert_allclose(sparseness(maps), pairs / (2 * values.mean(1)), rtol=1e-5)
    np.testing.assert_allclose(entropy(maps), scipy.stats.entropy(values, axis=1), rtol=1e-5)


@every_metric
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-60, 60))
def test_scale_sign_and_place_do_not_count(metric, seed, power):
    maps = random_maps(seed)
    rng = np.random.default_rng(seed)
    expected = metric(maps)
    np.testing.assert_array_equal(metric(maps * 2.0**power), expected)
    np.testing.assert_array_equal(metric(maps * rng.choice([-1.0, 1.0], maps.shape)), expected)
    moved = maps.reshape(len(maps), -1)[:, rng.permutation(35)].reshape(maps.shape)
    np.testing.assert_allclose(metric(moved), expected, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_ranges_and_directions(seed):
    maps = random_maps(seed)
    maps[3] = 1 + 1e-7 * maps[1]  # nearly constant
    found = sparseness(maps), entropy(maps)
    for values, highest in zip(found, (1 - 1 / 35, np.log(35)), strict=True):
        assert values.shape == (4,)
        assert values.dtype == jnp.float32
        assert (values >= 0).all()
        assert (values <= np.float32(highest)).all()
    # Sharper maps are sparser and of less entropy.
    sharper = maps[:3] * np.abs(maps[:3])
    assert (sparseness(sharper) > found[0][:3]).all()
    assert (entropy(sharper) < found[1][:3]).all()


def test_rounding_makes_no_map_less_sparse_than_a_constant_one():
    # Some pixels are the next double: the index is 1e-17 or so, and rounded.
    rng = np.random.default_rng(0)
    maps = rng.random((2000, 1, 1)) * np.ones((2000, 6, 6))
    found = sparseness(np.where(rng.random(maps.shape) < 0.02, np.nextafter(maps, 2), maps))
    assert (found >= 0).all()
    assert (found < 1e-15).all()


@every_metric
@pytest.mark.parametrize("largest", [1.7e308, 5e-324])
def test_very_large_and_very_small_relevance(metric, largest):
    maps = np.array([[[1.0, -1.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(metric(maps * largest), metric(maps))


@every_metric
def test_kinds_of_arrays(metric):
    maps = random_maps(0)
    for same in (jnp.asarray(maps), maps.astype(np.float64), np.asfortranarray(maps)):
        np.testing.assert_allclose(metric(same), metric(maps), rtol=1e-6)


@every_metric
def test_bad_arguments(metric):
    maps = random_maps(0)
    with refuses(r"heatmaps must have shape.*got \(5, 7\); add a batch axis: heatmaps\[None\]"):
        metric(maps[0])
    with refuses(r"got \(4, 5, 7, 1\); attribution.heatmap makes one value a pixel"):
        metric(maps[..., None])
    with refuses(r"at least one of each, got \(4, 5, 0\)$"):
        metric(maps[:, :, :0])
    maps[2, 0, 0] = np.inf
    with refuses("heatmaps must be finite, got NaN or infinity for image 2$"):
        metric(maps)
