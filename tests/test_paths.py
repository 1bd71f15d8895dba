import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from tests.oracles import Linear, power, refuses, saturating

LINEAR = Linear.random(2)


def test_adaptive_reaches_the_tolerance_with_the_steps_it_says(small, batch):
    images, targets = batch
    answer = attribution.adaptive_integrated_gradients(
        small, images, targets, steps=2, tolerance=0.01
    )
    error = attribution.completeness_error(small, images, targets, answer.attribution)
    assert np.asarray(error).max() < 0.0101
    np.testing.assert_allclose(answer.error, error, atol=1e-4)
    steps = np.asarray(answer.steps)
    assert set(steps) <= {2, 4, 8, 16, 32, 64, 128, 256}
    assert len(set(steps)) > 1, "each image has its own"
    # Fewer steps were not enough: with half of them, the rule of that many pieces is not complete.
    worst = steps.argmax()
    half = attribution.adaptive_integrated_gradients(small, images, targets, steps=2, tolerance=9e9)
    assert (np.asarray(half.steps) == 2).all()
    assert np.asarray(half.error)[worst] > 0.01


def test_adaptive_pieces_are_the_composite_rule(small, batch):
    # Two pieces of five points are Gauss-Legendre on each half of the path.
    images, targets = batch
    middle = images / 2
    first = attribution.integrated_gradients(small, middle, targets, steps=5)
    second = attribution.integrated_gradients(small, images, targets, steps=5, baseline=middle)
    with pytest.warns(UserWarning, match="stopped at max_steps=10.*for image 0 .*, 4 "):
        answer = attribution.adaptive_integrated_gradients(
            small, images, targets, steps=5, tolerance=1e-9, max_steps=10
        )
    np.testing.assert_allclose(answer.attribution, first + second, rtol=1e-4, atol=1e-5)
    assert (np.asarray(answer.steps) == 10).all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_completeness_error_of_other_channels(batch, channels):
    images, targets = batch
    maps = np.ones((5, 12, 10, channels), np.float32)
    with refuses(
        r"attribution must have the images' shape \(5, 12, 10, 3\), with or without the channels, "
        rf"got \(5, 12, 10, {channels}\)$"
    ):
        attribution.completeness_error(LINEAR, images, targets, maps)


@pytest.mark.parametrize("where", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_completeness_error_sums_half_precision_in_float32(batch, where):
    images, targets = batch
    maps = np.random.default_rng(0).random((5, 12, 10, 3)).astype(jnp.bfloat16)
    for some in (maps, maps[..., 0]):
        found = attribution.completeness_error(LINEAR, images, targets, where(some))
        expected = attribution.completeness_error(LINEAR, images, targets, some.astype(np.float32))
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected)


def test_completeness_error_names_the_image_that_is_its_baseline(batch):
    images, targets = batch
    images = images.copy()
    images[[1, 3]] = 0
    maps = attribution.gradient_x_input(LINEAR, images, targets)
    with refuses(
        "^relative must be False where an image's logit is its baseline's: the relative "
        "completeness_error would divide by 0 for image 1, 3$"
    ):
        attribution.completeness_error(LINEAR, images, targets, maps)
    with refuses("for image 1, 3$"):  # infinite, and not NaN
        attribution.completeness_error(LINEAR, images, targets, np.asarray(maps) + 1)
    error = attribution.completeness_error(LINEAR, images, targets, maps, relative=False)
    np.testing.assert_allclose(error, 0, atol=1e-4)


def test_adaptive_is_exact_at_once_for_polynomials():
    images = np.full((1, 2, 2, 3), 0.8, np.float32)
    answer = attribution.adaptive_integrated_gradients(
        power(3), images, [0], steps=2, tolerance=1e-5
    )
    assert np.asarray(answer.steps).tolist() == [2]
    np.testing.assert_allclose(answer.attribution[0, 0, 0, 0], 0.8**3, rtol=1e-5)


def test_adaptive_of_a_kink():
    # The slope is 2 up to 1/2 and then 0: attributions are 1 whatever the steps' number.
    images = np.ones((1, 2, 2, 3), np.float32)
    answer = attribution.adaptive_integrated_gradients(
        saturating, images, [0], steps=3, tolerance=1e-3
    )
    np.testing.assert_allclose(np.sum(answer.attribution), 1, atol=1e-3)


def test_adaptive_where_nothing_changes(small):
    # Image and baseline are the same: complete at once, and no division by 0.
    images = np.zeros((2, 12, 10, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = attribution.adaptive_integrated_gradients(small, images, [0, 1])
    assert not np.asarray(answer.attribution).any()
    assert not np.asarray(answer.error).any()


def test_adaptive_arguments(small, batch):
    with refuses("tolerance must be above 0, got 0"):
        attribution.adaptive_integrated_gradients(small, *batch, tolerance=0)
    with refuses("max_steps must be an integer of at least 50, got 20"):
        attribution.adaptive_integrated_gradients(small, *batch, max_steps=20)


def test_expected_gradients_of_a_linear_model(batch):
    # The gradient is the weights everywhere, so only the references' mean enters.
    images, targets = batch
    references = np.random.default_rng(0).random((1, 12, 10, 3), np.float32)
    maps = attribution.expected_gradients(LINEAR, images, targets, references=references, samples=3)
    expected = np.asarray(LINEAR.weights)[targets] * (images - references)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)


def test_expected_gradients_come_to_the_mean_of_integrated_gradients(small, batch):
    images, targets = batch
    references = np.random.default_rng(1).random((3, 12, 10, 3), np.float32)
    exact = np.mean(
        [
            attribution.integrated_gradients(small, images, targets, baseline=r, steps=100)
            for r in references
        ],
        0,
    )
    maps = np.asarray(
        attribution.expected_gradients(
            small, images, targets, references=references, samples=3000, chunk_size=500
        )
    )
    # The mean of 3,000 draws; its error over all values is a few per cent of the maps' size.
    assert np.sqrt(np.mean((maps - exact) ** 2)) < 0.05 * np.sqrt(np.mean(exact**2))
    # Completeness holds in expectation.
    total = np.asarray(small(images) - small(references).mean(0))[np.arange(5), targets]
    np.testing.assert_allclose(maps.sum((1, 2, 3)), total, atol=0.1 * np.abs(total).max())


def test_expected_gradients_from_random_colours():
    # f = sum of w x, with w = 1 in channel 0 alone: sum = x - 1/2 in expectation, per pixel.
    images = np.full((1, 8, 8, 2), 0.9, np.float32)

    def model(x):
        return x[..., 0].sum((1, 2))[:, None]

    maps = np.asarray(attribution.expected_gradients(model, images, [0], samples=4000))
    np.testing.assert_allclose(maps[0, ..., 0], 0.9 - 0.5, atol=4 * 0.29 / np.sqrt(4000))
    assert np.ptp(maps[0, ..., 0]) < 1e-5, "one colour for the whole image"
    assert not maps[..., 1].any()


def test_expected_gradients_arguments(small, batch):
    images, targets = batch
    with refuses(r"references must be images of shape \(12, 10, 3\).*got \(10, 12, 3\)"):
        attribution.expected_gradients(
            small, images, targets, references=images.transpose(0, 2, 1, 3)
        )
    with refuses(r"references must be in \[0, 1\]"):
        attribution.expected_gradients(small, images, targets, references=images * 255)
    keys = jax.random.split(jax.random.key(0), 5)
    one = attribution.expected_gradients(small, images, targets, samples=2, key=keys)
    two = attribution.expected_gradients(small, images[3:4], targets[3:4], samples=2, key=keys[3:4])
    np.testing.assert_allclose(two[0], one[3], rtol=1e-4, atol=1e-5)
    assert jnp.isfinite(one).all()


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_adaptive_steps_are_refused_where_logits_are_not_known(transform):
    model = Linear.random(0, height=4, width=4)

    def explain(image):
        images = image[None] if image.ndim == 3 else image
        return attribution.adaptive_integrated_gradients(model, images, [0]).attribution

    with refuses("adaptive_integrated_gradients cannot run under jax.jit.*or integrated_gradients"):
        transform(explain)(jnp.ones((1, 4, 4, 3)))
