import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from tests.oracles import Linear, refuses

LINEAR = Linear.random(2)


def copies(images, key, noise, samples):
    """The noisy copies that the docstring promises, (samples, B, H, W, C)."""
    keys = [jax.random.fold_in(key, i) for i in range(len(images))]
    return np.stack(
        [
            [
                image + noise * np.asarray(jax.random.normal(jax.random.fold_in(k, s), image.shape))
                for image, k in zip(images, keys, strict=True)
            ]
            for s in range(samples)
        ]
    ).astype(np.float32)


@pytest.mark.parametrize("name", ["smooth_grad", "squaregrad", "vargrad"])
def test_against_plain_numpy(small, batch, name):
    images, targets = batch
    key = jax.random.key(5)
    gradient = jax.vmap(jax.grad(lambda image, t: small(image[None])[0, t]))
    each = np.stack(
        [np.asarray(gradient(x, targets), np.float64) for x in copies(images, key, 0.2, 6)]
    )
    expected = {
        "smooth_grad": each.mean(0), "squaregrad": (each**2).mean(0), "vargrad": each.var(0),
    }[name]  # fmt: skip
    method = getattr(attribution, name)
    maps = method(small, images, targets, noise=0.2, samples=6, key=key, chunk_size=4)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


def test_a_linear_model_has_one_gradient(batch):
    images, targets = batch
    gradient = np.asarray(LINEAR.weights)[targets]
    smooth = attribution.smooth_grad(LINEAR, images, targets, samples=3)
    np.testing.assert_allclose(smooth, gradient, rtol=1e-5)
    square = attribution.squaregrad(LINEAR, images, targets, samples=3)
    np.testing.assert_allclose(square, gradient**2, rtol=1e-5)
    # Not only small: where the gradient is 2, its float32 square is exact to 5e-7.
    assert np.asarray(attribution.vargrad(LINEAR, images, targets, samples=3)).max() < 1e-12


def test_a_quadratic_model_in_closed_form():
    # f = sum x^2 / 2 has gradient x, so with noise e: mean x, mean square x^2 + s^2, variance s^2.
    images = np.full((1, 30, 30, 3), 0.5, np.float32)

    def model(x):
        return (x**2).sum((1, 2, 3))[:, None] / 2

    options = {"noise": 0.3, "samples": 20}
    smooth = attribution.smooth_grad(model, images, [0], **options)
    square = attribution.squaregrad(model, images, [0], **options)
    variance = attribution.vargrad(model, images, [0], **options)
    # 2,700 pixels x 20 samples; the variance of 20 is biased by 19/20.
    np.testing.assert_allclose(np.mean(smooth), 0.5, atol=4 * 0.3 / np.sqrt(54_000))
    np.testing.assert_allclose(np.mean(square), 0.25 + 0.09, atol=0.01)
    np.testing.assert_allclose(np.mean(variance), 0.09 * 19 / 20, atol=0.004)


@pytest.mark.parametrize(
    "method",
    [
        attribution.saliency,
        attribution.METHODS["gradient_x_input"],
        attribution.guided_backprop,
        functools.partial(attribution.integrated_gradients, steps=3, baseline="mean"),
        attribution.occlusion,
        attribution.grad_cam,
    ],
)
def test_any_method_inside(small, method):
    rng = np.random.default_rng(5)
    images, targets = rng.random((2, 20, 18, 3), np.float32), np.array([0, 2])
    key = jax.random.key(1)
    noisy = copies(images, key, 0.05, 2)
    # Whole copies may leave [0, 1], so the witness calls the method inside a trace, too.
    each = [np.asarray(jax.jit(lambda x: method(small, x, targets))(jnp.asarray(x))) for x in noisy]
    maps = attribution.smooth_grad(
        small, images, targets, method=method, noise=0.05, samples=2, key=key
    )
    np.testing.assert_allclose(maps, np.mean(each, 0), rtol=1e-3, atol=1e-5)


RANDOM = {
    "expected_gradients": functools.partial(attribution.expected_gradients, samples=3),
    "rise": functools.partial(attribution.rise, samples=4, cells=2),
}


@pytest.mark.parametrize("method", RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("kind", ["smooth_grad", "squaregrad", "vargrad"])
def test_a_random_method_has_a_key_for_each_copy(small, batch, kind, method):
    images, targets = batch[0][:2], batch[1][:2]

    def maps(chunk_size, key):
        return np.asarray(
            getattr(attribution, kind)(
                small, images, targets, method=method, samples=8, key=key, chunk_size=chunk_size
            )
        )

    first = maps(32, jax.random.key(1))
    for chunk_size in (1, 4):
        again = maps(chunk_size, jax.random.key(1))
        np.testing.assert_allclose(again, first, rtol=1e-3, atol=1e-5 * np.abs(first).max())
    assert np.abs(maps(32, jax.random.key(2)) - first).max() > 1e-3 * np.abs(first).max()


def test_the_key_of_a_random_method():
    # A method that answers with its key: each copy has another, unless one is bound.
    def method(model, images, targets, *, key=None, chunk_size=32):
        keys = jnp.broadcast_to(jax.random.key(0) if key is None else key, (len(images),))
        return jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:3]))(keys)

    images, options = np.zeros((2, 12, 10, 3), np.float32), {"samples": 4}
    spread = attribution.vargrad(LINEAR, images, [0, 1], method=method, **options)
    assert np.asarray(spread).min() > 1e-4
    mean = np.asarray(attribution.smooth_grad(LINEAR, images, [0, 1], method=method, **options))
    assert np.abs(mean[0] - mean[1]).min() > 1e-4
    bound = functools.partial(method, key=jax.random.key(3))
    fixed = attribution.smooth_grad(LINEAR, images, [0, 1], method=bound, **options)
    expected = jax.random.uniform(jax.random.key(3), (12, 10))
    np.testing.assert_allclose(fixed, np.stack([expected] * 2), rtol=1e-6)


def test_seeds(small, batch):
    images, targets = batch
    options = {"samples": 2}
    first = np.asarray(attribution.smooth_grad(small, images, targets, **options))
    again = attribution.smooth_grad(small, images, targets, key=jax.random.key(0), **options)
    other = attribution.smooth_grad(small, images, targets, key=jax.random.key(1), **options)
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(other, first)


def test_bad_options(small, batch):
    images, targets = batch
    for noise in (0, -1, np.nan, np.inf):
        with refuses("noise must be a standard deviation above 0, in pixel units, got"):
            attribution.smooth_grad(small, images, targets, noise=noise)
    with refuses("method must be an explanation, such as attribution.gradient, got 'saliency'"):
        attribution.vargrad(small, images, targets, method="saliency")
    with refuses(r"key must be one key, or one for each of the 5 images, got shape \(3,\)"):
        attribution.smooth_grad(small, images, targets, key=jax.random.split(jax.random.key(0), 3))
    with refuses(r"key must be made by jax.random.key \(a typed key\), got an array of uint32"):
        attribution.smooth_grad(small, images, targets, key=jax.random.PRNGKey(0))
