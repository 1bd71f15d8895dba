import jax
import numpy as np
from scipy import ndimage, stats

from practical import attribution


def test_random_is_uniform_and_keeps_to_its_key(small, batch):
    images, targets = batch
    maps = np.asarray(attribution.random(small, images, targets))
    assert stats.kstest(maps.ravel(), "uniform").pvalue > 0.01
    assert len({m.tobytes() for m in maps}) == 5, "each image has its own"
    np.testing.assert_array_equal(attribution.random(small, 1 - images, targets[::-1]), maps)
    other = attribution.random(small, images, targets, key=jax.random.key(1))
    assert not np.array_equal(other, maps)
    keys = jax.random.split(jax.random.key(2), 5)
    one = attribution.random(small, images, targets, key=keys)
    two = attribution.random(small, images[3:], targets[3:], key=keys[3:])
    np.testing.assert_array_equal(two, one[3:])


def test_center_in_closed_form(small, batch):
    maps = np.asarray(attribution.center(small, *batch))
    assert (maps == maps[0]).all()
    np.testing.assert_allclose(maps[0], maps[0, ::-1], rtol=1e-6)
    np.testing.assert_allclose(maps[0], maps[0, :, ::-1], rtol=1e-6)
    # 12x10 pixels: the corner's centre is at (11/12, 9/10) of the half sides.
    corner = 1 - np.hypot(11 / 12, 9 / 10) / np.sqrt(2)
    np.testing.assert_allclose(maps[0, 0, 0], corner, rtol=1e-6)
    assert maps[0].argmax() in np.ravel_multi_index(([5, 5, 6, 6], [4, 5, 4, 5]), (12, 10))


def test_edges_are_sobels(small, batch):
    images, targets = batch
    grey = images.astype(np.float64).mean(-1)
    # scipy's kernels sum to 8 for a unit step; "nearest" repeats the edge, as we do.
    rows = np.stack([ndimage.sobel(g, 0, mode="nearest") for g in grey]) / 8
    columns = np.stack([ndimage.sobel(g, 1, mode="nearest") for g in grey]) / 8
    maps = attribution.edges(small, images, targets)
    np.testing.assert_allclose(maps, np.hypot(rows, columns), rtol=1e-4, atol=1e-6)


def test_edges_of_a_ramp_and_of_nothing(small):
    ramp = np.broadcast_to(np.linspace(0, 1, 11)[:, None, None], (11, 9, 3))
    maps = np.asarray(attribution.edges(small, ramp[None].astype(np.float32), [0]))
    np.testing.assert_allclose(maps[0, 1:-1], 0.1, rtol=1e-5)  # pixel values a pixel
    flat = np.full((1, 8, 8, 3), 0.3, np.float32)
    assert not np.asarray(attribution.edges(small, flat, [0])).any()
    tiny = attribution.edges(small, np.float32(1e-22) * ramp[None].astype(np.float32), [0])
    np.testing.assert_allclose(np.float64(tiny), 1e-22 * maps, rtol=1e-5)
