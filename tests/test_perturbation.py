import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from practical.baselines import baseline_images
from tests.oracles import Linear, one_pixel, refuses

LINEAR = Linear.random(3)


def witness(model, images, targets, window, stride, hidden):
    """Slide the square in plain Python, as the docstring says it."""
    count, height, width, _ = images.shape
    total, covers = np.zeros((count, height, width)), np.zeros((height, width))
    clean = np.asarray(model(images))[np.arange(count), targets]

    def starts(side):
        places = [0]
        while places[-1] + window < side:
            places.append(places[-1] + stride)
        return places

    for top in starts(height):
        for left in starts(width):
            square = np.s_[top : top + window, left : left + window]
            shown = images.copy()
            shown[:, *square] = hidden[:, *square]
            fall = clean - np.asarray(model(shown))[np.arange(count), targets]
            total[:, *square] += fall[:, None, None]
            covers[square] += 1
    return total / covers


@pytest.mark.parametrize(
    ("window", "stride", "baseline"),
    [(4, 4, "black"), (5, 3, "mean"), (1, 1, 0.5), (10, 7, "blur"), (3, 2, "white")],
)
def test_against_plain_python(small, batch, window, stride, baseline):
    images, targets = batch
    hidden = np.asarray(baseline_images(baseline, np.asarray(images)))
    for model in (LINEAR, small) if window == 5 else (LINEAR,):
        maps = attribution.occlusion(
            model, images, targets, window=window, stride=stride, baseline=baseline
        )
        expected = witness(model, images, targets, window, stride, hidden)
        # Differences of logits of size 20, in float32.
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4)


def test_tiles_of_a_linear_model_hold_their_own_share(batch):
    # With stride = window each pixel is in one square, whose fall is sum of w * (x - baseline).
    images, targets = batch
    images = images[:, :, :8]
    model = Linear.random(3, width=8)
    maps = attribution.occlusion(model, images, targets, window=4, stride=4, baseline=0.25)
    shares = (np.asarray(model.weights)[targets] * (images - 0.25)).sum(-1)
    tiles = shares.reshape(5, 3, 4, 2, 4).sum((2, 4))
    np.testing.assert_allclose(maps, tiles.repeat(4, 1).repeat(4, 2), rtol=1e-4, atol=1e-4)


def test_one_pixel_lights_exactly_the_squares_that_reach_it():
    images = np.ones((1, 12, 12, 3), np.float32)
    maps = np.asarray(attribution.occlusion(one_pixel, images, [0], window=3, stride=3))
    expected = np.zeros((12, 12))
    expected[0:3, 3:6] = 1  # of pixel (2, 3)
    np.testing.assert_array_equal(maps[0], expected)
    # The other class does not look at it.
    assert not np.asarray(attribution.occlusion(one_pixel, images, [1], window=3, stride=3)).any()


def test_the_last_squares_reach_over_the_edge():
    # 7 pixels, window 4, stride 2: squares at 0, 2, 4; the last covers 4 to 6. The corner pixel
    # is in one square alone, so its value is that square's.
    images = np.random.default_rng(0).random((1, 7, 7, 3), np.float32)
    model = Linear.random(0, height=7, width=7)
    maps = attribution.occlusion(model, images, [0], window=4, stride=2)
    share = (np.asarray(model.weights)[0] * images[0])[4:, 4:].sum()
    np.testing.assert_allclose(maps[0, 6, 6], share, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.1, 1234.567])
def test_a_constant_logit_falls_nowhere(value):
    images = np.random.default_rng(0).random((2, 9, 13, 5), np.float32)
    maps = attribution.occlusion(
        lambda images: jnp.full((len(images), 2), value), images, [0, 1], window=5, stride=2
    )
    np.testing.assert_array_equal(maps, 0)


def test_a_whole_window_hides_everything(small, batch):
    images, targets = batch
    square = images[:, :10]
    maps = attribution.occlusion(small, square, targets, window=10, stride=10, baseline="white")
    logits = np.asarray(small(square))[np.arange(5), targets]
    hidden = np.asarray(small(np.ones_like(square)))[np.arange(5), targets]
    expected = (logits - hidden)[:, None, None]
    np.testing.assert_allclose(maps, np.broadcast_to(expected, maps.shape), rtol=1e-4, atol=1e-5)


def test_bad_windows(batch):
    images, targets = batch
    with refuses(r"window must fit the images of 12x10 pixels, got 11"):
        attribution.occlusion(LINEAR, images, targets, window=11)
    with refuses(r"stride must be at most window \(4\).*got 5"):
        attribution.occlusion(LINEAR, images, targets, window=4, stride=5)
