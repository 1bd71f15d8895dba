"""The metrics against closed forms, against every way to break ties, and against slow witnesses."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from practical.metrics import (
    Localization,
    focus,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from tests.oracles import refuses

METRICS = [pointing_game, relevance_mass, relevance_rank]
every_metric = pytest.mark.parametrize("metric", METRICS)


def quadrants(*places: int, height: int = 4, width: int = 6) -> np.ndarray:
    """A mask of whole quadrants, which are numbered row by row."""
    chosen = np.isin(np.arange(4), places).reshape(2, 2)
    return chosen.repeat(height // 2, 0).repeat(width // 2, 1)


def random_masks(rng, count: int, height: int, width: int) -> np.ndarray:
    """Masks of every kind of area, none empty and none full."""
    order = rng.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)
    return (order < rng.integers(1, height * width, (count, 1))).reshape(count, height, width)


@st.composite
def cases(draw, ties: bool = True):
    """Three maps of 4x5 pixels, of few values or of many, with masks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = rng.integers(-2, 3, (3, 4, 5)) if ties and draw(st.booleans()) else rng.normal(size=60)
    return maps.reshape(3, 4, 5).astype(np.float32), random_masks(rng, 3, 4, 5)


# --- values that are known -----------------------------------------------------------------------

MAP = np.array([[[4, -9, 1], [0, 2, 3]]], np.float32)
MASK = np.array([[[True, True, False], [False, True, False]]])


def test_a_small_map_by_hand():
    # The maximum, 4, is on the mask. Of 4 + 1 + 2 + 3 = 10 positive relevance 4 + 2 are. Of the
    # three highest, 4, 3 and 2, two are. Half of the pixels are on the mask.
    for metric, value in ((pointing_game, 1), (relevance_mass, 0.6), (relevance_rank, 2 / 3)):
        found = metric(MAP, MASK)
        assert isinstance(found, Localization)
        np.testing.assert_allclose(found.value, [value], rtol=1e-6)
        np.testing.assert_allclose(found.chance, [0.5], rtol=1e-6)
        np.testing.assert_allclose(found.adjusted, [2 * value - 1], rtol=1e-5)
        for part in (*found, found.adjusted):
            assert part.shape == (1,)
            assert part.dtype == jnp.float32


@every_metric
def test_perfect_and_worst_maps(metric):
    masks = random_masks(np.random.default_rng(0), 20, 5, 4)
    np.testing.assert_array_equal(metric(masks * 3.0, masks).value, 1)
    np.testing.assert_array_equal(metric(masks * 3.0, masks).adjusted, 1)
    np.testing.assert_allclose(metric(masks * 3.0, masks).chance, masks.mean((1, 2)), rtol=1e-6)
    small = masks & (masks.mean((1, 2), keepdims=True) <= 0.5)
    small = small[small.any((1, 2))]  # the rank metric's K highest must fit beside the mask
    wrong = metric(1.0 - small, small)
    np.testing.assert_array_equal(wrong.value, 0)
    share = small.mean((1, 2))
    np.testing.assert_allclose(wrong.adjusted, -share / (1 - share), rtol=1e-5)


@every_metric
@pytest.mark.parametrize("constant", [0, 0.1, 7e30, -0.3])
def test_a_constant_map_is_exactly_at_chance(metric, constant):
    masks = random_masks(np.random.default_rng(1), 40, 7, 9)
    found = metric(np.full((40, 7, 9), constant, np.float32), masks)
    np.testing.assert_array_equal(found.value, found.chance)
    np.testing.assert_array_equal(found.adjusted, 0)


def test_no_positive_relevance_points_nowhere():
    maps = -np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    masks = random_masks(np.random.default_rng(2), 3, 4, 4)
    np.testing.assert_array_equal(relevance_mass(maps, masks).adjusted, 0)
    maps[1, 2, 3] = 1e-30  # and one positive value is all that counts
    assert relevance_mass(maps, masks).value[1] == masks[1, 2, 3]


def test_negative_relevance_counts_as_none():
    maps = np.random.default_rng(0).normal(size=(5, 4, 4)).astype(np.float32)
    masks = random_masks(np.random.default_rng(3), 5, 4, 4)
    np.testing.assert_array_equal(
        relevance_mass(maps, masks).value, relevance_mass(np.maximum(maps, 0), masks).value
    )


# --- ties ----------------------------------------------------------------------------------------


def over_all_tie_breakings(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the mean of both metrics of order, over every order that the values allow."""
    hits, shares = [], []
    for order in itertools.permutations(range(values.size)):
        first = sorted(range(values.size), key=lambda k: (-values.flat[k], order[k]))
        hits.append(mask.flat[first[0]])
        shares.append(np.mean([mask.flat[k] for k in first[: mask.sum()]]))
    return float(np.mean(hits)), float(np.mean(shares))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_ties_are_the_mean_over_all_ways_to_break_them(levels):
    rng = np.random.default_rng(levels)
    maps = rng.integers(0, levels, (6, 2, 3)).astype(np.float32)
    masks = random_masks(rng, 6, 2, 3)
    expected = np.array([over_all_tie_breakings(*pair) for pair in zip(maps, masks, strict=True)])
    np.testing.assert_allclose(pointing_game(maps, masks).value, expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(relevance_rank(maps, masks).value, expected[:, 1], rtol=1e-6)


def test_minus_zero_ties_with_zero():
    signs = np.where(np.random.default_rng(0).random((4, 5, 5)) < 0.5, -0.0, 0.0)
    masks = random_masks(np.random.default_rng(4), 4, 5, 5)
    for metric in METRICS:
        np.testing.assert_array_equal(metric(signs, masks).adjusted, 0)


# --- tolerance -----------------------------------------------------------------------------------


def test_a_widened_pixel_is_a_disk():
    # Lattice points in a disk of radius r: Gauss's circle problem, OEIS A000328.
    mask = np.zeros((1, 21, 23), bool)
    mask[0, 10, 11] = True
    maps = np.zeros((1, 21, 23), np.float32)
    for tolerance, points in enumerate([1, 5, 13, 29, 49, 81, 113, 149, 197, 253, 317]):
        found = pointing_game(maps, mask, tolerance=tolerance)
        np.testing.assert_allclose(found.chance, [points / (21 * 23)], rtol=1e-6)
        np.testing.assert_array_equal(found.adjusted, 0)


@pytest.mark.parametrize("tolerance", [1, 2, 3, 5, 8, 15])
def test_tolerance_is_the_distance_to_the_nearest_pixel(tolerance):
    rng = np.random.default_rng(tolerance)
    masks = rng.random((30, 17, 29)) < np.repeat([0.002, 0.01, 0.2], 10)[:, None, None]
    masks[:, 0, 0] |= ~masks.any((1, 2))
    near = np.stack([distance_transform_edt(~mask) for mask in masks]) <= tolerance
    some = ~near.all((1, 2))
    assert some.sum() >= 5
    maps, masks, near = rng.random((30, 17, 29))[some], masks[some], near[some]
    found = pointing_game(maps, masks, tolerance=tolerance)
    places = maps.reshape(len(maps), -1).argmax(1)
    np.testing.assert_array_equal(
        found.value, near.reshape(len(near), -1)[range(len(near)), places]
    )
    np.testing.assert_allclose(found.chance, near.mean((1, 2)), rtol=1e-6)


def test_tolerance_by_hand():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 0, 0] = True
    maps = np.zeros((1, 9, 9))
    maps[0, 3, 4] = 1  # five pixels away: 3, 4, 5
    assert pointing_game(maps, mask, tolerance=4).value == 0
    assert pointing_game(maps, mask, tolerance=5).value == 1
    # Further than the image is wide, but not its diagonal, which is 11.3.
    maps[0, 3, 4], maps[0, 8, 8] = 0, 1
    assert pointing_game(maps, mask, tolerance=11).value == 0


# --- properties ----------------------------------------------------------------------------------


@every_metric
@given(case=cases(), power=st.integers(-20, 20))
def test_a_positive_scale_changes_nothing(metric, case, power):
    maps, masks = case
    np.testing.assert_array_equal(
        metric(maps, masks).value, metric(maps * np.float32(2.0**power), masks).value
    )


@every_metric
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_pixels_have_no_order(metric, case, seed):
    order = np.random.default_rng(seed).permutation(20)
    moved = [array.reshape(3, 20)[:, order].reshape(3, 4, 5) for array in case]
    for found, expected in zip(metric(*moved), metric(*case), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("metric", [pointing_game, relevance_rank])
@given(case=cases())
def test_only_the_order_counts(metric, case):
    maps, masks = case
    np.testing.assert_array_equal(
        metric(maps, masks).value, metric(np.arctan(maps.astype(np.float64)) - 5, masks).value
    )


@every_metric
@given(case=cases())
def test_ranges(metric, case):
    maps, masks = case
    found = metric(maps, masks)
    assert (0 <= found.value).all()
    assert (found.value <= 1).all()
    assert (found.adjusted <= 1).all()
    np.testing.assert_allclose(found.chance, masks.mean((1, 2)), rtol=1e-6)
    for i in range(3):  # an image's answer is its own
        alone = metric(maps[i : i + 1], masks[i : i + 1])
        np.testing.assert_array_equal(alone.value[0], found.value[i])


@pytest.mark.parametrize(
    ("metric", "options"),
    [*((metric, {}) for metric in METRICS), (pointing_game, {"tolerance": 2})],
)
def test_a_random_map_gets_its_chance_on_average(metric, options):
    mask = np.zeros((9, 11), bool)
    mask[2:5, 3:9] = True
    maps = np.random.default_rng(0).normal(size=(4000, 9, 11)).astype(np.float32)
    found = metric(maps, np.broadcast_to(mask, maps.shape), **options)
    value = np.asarray(found.value, np.float64)
    assert abs(value.mean() - found.chance[0]) < 4 * value.std() / np.sqrt(4000)


# --- focus ---------------------------------------------------------------------------------------


def test_focus_is_the_relevance_mass_of_a_mosaic():
    masks = np.stack([quadrants(*pair) for pair in itertools.combinations(range(4), 2)])
    maps = np.random.default_rng(0).normal(size=masks.shape).astype(np.float32)
    found = focus(maps, masks)
    np.testing.assert_array_equal(found.chance, 0.5)
    np.testing.assert_array_equal(found.value, relevance_mass(maps, masks).value)
    for value, relevance, mask in zip(found.value, np.maximum(maps, 0), masks, strict=True):
        np.testing.assert_allclose(value, relevance[mask].sum() / relevance.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        quadrants(0),
        quadrants(0, 1, 2),
        quadrants(0, 3) & (np.arange(6) > 0),  # a column is missing
        quadrants(0) | (np.arange(24).reshape(4, 6) == 23),  # one pixel stands for a quadrant
        quadrants(0, 1) | (np.arange(24).reshape(4, 6) == 23),  # one pixel too many
    ],
)
def test_focus_takes_mosaics_alone(mask):
    masks = np.stack([quadrants(1, 2), mask, quadrants(0, 3)])
    with refuses(r"masks must be True on exactly two whole quadrants.* not so for image 1; data"):
        focus(np.ones(masks.shape), masks)


@pytest.mark.parametrize("shape", [(1, 5, 6), (1, 6, 5)])
def test_focus_takes_even_sides_alone(shape):
    masks = np.zeros(shape, bool)
    masks[:, :3] = True
    with refuses(rf"of even height and width, got {shape[1]}x{shape[2]} pixels; data.mosaics"):
        focus(np.ones(shape), masks)


# --- what may come in ----------------------------------------------------------------------------


@every_metric
def test_kinds_of_arrays(metric):
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(3, 4, 5)).astype(np.float32), random_masks(rng, 3, 4, 5)
    expected = metric(maps, masks)
    for same in (jnp.asarray(maps), maps.astype(np.float64), np.asfortranarray(maps)):
        for on in (masks, masks.astype(np.uint8), jnp.asarray(masks), masks.astype(np.int64)):
            np.testing.assert_array_equal(metric(same, on).value, expected.value)
    with refuses("masks must be bool, or integers 0 and 1, got float64; for masks of shares, mas"):
        metric(maps, masks * 1.0)
    for other in (2, -1):
        wrong = masks.astype(int)
        wrong[2, 1, 1] = other
        with refuses("masks must be bool, or integers 0 and 1, got others in image 2$"):
            metric(maps, wrong)


@pytest.mark.parametrize("largest", [3e38, 1.7e308, 5e-324])
def test_very_large_and_very_small_relevance(largest):
    maps = np.array([[[largest, largest], [largest, -largest]]])
    mask = np.array([[[True, False], [False, True]]])
    np.testing.assert_allclose(relevance_mass(maps, mask).value, [1 / 3], rtol=1e-6)
    np.testing.assert_allclose(pointing_game(maps, mask).value, [1 / 3], rtol=1e-6)


def test_bad_arguments():
    maps, masks = np.zeros((3, 4, 6)), np.repeat(quadrants(0, 1)[None], 3, 0)
    for metric in (*METRICS, focus):
        empty, full = masks.copy(), masks.copy()
        empty[1], full[2] = False, True
        with refuses("masks must mark at least one pixel of each image, got none for image 1; "):
            metric(maps, empty)
        with refuses("masks must leave at least one pixel.* unmarked.* got none for image 2; leav"):
            metric(maps, full)
        with refuses(r"masks must have the heatmaps' shape, \(3, 4, 6\), got \(2, 4, 6\)"):
            metric(maps, masks[:2])
        with refuses(r"heatmaps must have shape \(batch, height, width\).*add a batch axis"):
            metric(maps[0], masks[0])
        with refuses(r"got \(3, 4, 6, 1\); attribution.heatmap makes one value a pixel"):
            metric(maps[..., None], masks)
        with refuses(r"heatmaps must have shape.* at least one of each, got \(0, 4, 6\)"):
            metric(maps[:0], masks[:0])
        broken = maps.copy()
        broken[1, 0, 0] = np.nan
        with refuses("heatmaps must be finite, got NaN or infinity for image 1$"):
            metric(broken, masks)
    many = np.zeros((9, 4, 6), bool)
    with refuses(r"got none for image 0, 1, 2, 3, 4, \.\.\.; leave"):
        relevance_mass(np.zeros((9, 4, 6)), many)
    for tolerance in (-1, 1.5, True, "15"):
        with refuses(f"tolerance must be an integer of at least 0, got {tolerance!r}"):
            pointing_game(maps, masks, tolerance=tolerance)
    assert pointing_game(maps, masks, tolerance=1).chance[0] == 0.75
    masks[1, 3, 3] = True
    with refuses("tolerance must leave a place to miss, got 2, with which.* all of image 0, 1, 2"):
        pointing_game(maps, masks, tolerance=2)
    masks[[0, 2]] = np.arange(24).reshape(4, 6) == 0
    masks[1, 1:] = False
    with refuses("got 3, with which the mask covers all of image 1; lower it"):
        pointing_game(maps, masks, tolerance=3)
    with refuses("got 10000000, with which the mask covers all of image 0, 1, 2; lower it"):
        pointing_game(maps, masks, tolerance=10_000_000)
