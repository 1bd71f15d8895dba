import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra.numpy import arrays

from practical import attribution
from practical.baselines import BASELINES, baseline_images
from tests.oracles import Linear, Small, power, product, saturating

LINEAR = Linear.random(7)
# float32 sums of some hundred terms of size 1 agree to about 1e-6 of the largest term
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def test_gradient_of_a_linear_model_is_its_weights(batch):
    images, targets = batch
    maps = attribution.gradient(LINEAR, images, targets)
    np.testing.assert_array_equal(maps, LINEAR.weights[targets])
    assert maps.dtype == np.float32


@pytest.mark.parametrize("baseline", [*BASELINES, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_gradient_x_input_and_integrated_gradients_of_a_linear_model_are_exact(
    batch, baseline, steps
):
    images, targets = batch
    start = baseline_images(baseline, jnp.asarray(images))
    expected = LINEAR.weights[targets] * (images - start)
    integrated = attribution.integrated_gradients(
        LINEAR, images, targets, baseline=baseline, steps=steps
    )
    np.testing.assert_allclose(integrated, expected, **CLOSE)
    product = attribution.gradient_x_input(LINEAR, images, targets, baseline=baseline)
    np.testing.assert_allclose(product, expected, **CLOSE)


def one_row(*reds: float) -> np.ndarray:
    image = np.zeros((1, 1, len(reds), 3), np.float32)
    image[0, 0, :, 0] = reds
    return image


@pytest.mark.parametrize(
    ("image", "baseline"), [((0.6, 0.5), (0, 0)), ((0.6, 0.5), (1, 0.25)), ((0.2, 1), (0.2, 0))]
)
def test_integrated_gradients_of_a_product(image, baseline):
    # The integral of d(ab)/da along the line: (a - a0) times b's mean on the way, (b + b0) / 2.
    (a, b), (a0, b0) = image, baseline
    maps = attribution.integrated_gradients(
        product, one_row(a, b), [0], baseline=one_row(a0, b0), steps=1
    )
    expected = [(a - a0) * (b + b0) / 2, (b - b0) * (a + a0) / 2]
    np.testing.assert_allclose(maps[0, 0, :, 0], expected, rtol=1e-6, atol=1e-7)
    assert not np.asarray(maps[..., 1:]).any()  # nothing reads green and blue


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_gauss_legendre_is_exact_up_to_its_degree(steps):
    # n points integrate a gradient of degree 2n - 1 exactly: that of x^(2n). So IG = 1 - 0.2^(2n).
    maps = attribution.integrated_gradients(
        power(2 * steps), one_row(1.0), [0], baseline=0.2, steps=steps
    )
    np.testing.assert_allclose(maps[0, 0, 0, 0], 1 - 0.2 ** (2 * steps), rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "degree", "value"),
    [
        (1, 3, 3 / 4),  # 3t² at t = 1/2
        (2, 5, 35 / 36),  # 5t⁴ at t = 1/2 ± 1/√12: the mean of t⁴ is 1/9 + 1/12
    ],
)
def test_gauss_legendre_one_degree_further_has_its_own_known_error(steps, degree, value):
    # Any other rule with as many points gives another number.
    maps = attribution.integrated_gradients(power(degree), one_row(1.0), [0], steps=steps)
    np.testing.assert_allclose(maps[0, 0, 0, 0], value, rtol=1e-6)


@pytest.mark.parametrize("image", [0.6, 1.0])
def test_saturation_hides_from_the_gradient_and_not_from_the_integral(image):
    images = one_row(image)
    assert not np.asarray(attribution.gradient(saturating, images, [0])).any()
    assert not np.asarray(attribution.gradient_x_input(saturating, images, [0])).any()
    # The logit rises from 0 to 1 on the way, all of it because of this pixel. 40 points: near
    # the kink at x = 1/2 a rule misplaces at most one point, of weight below pi / 2 / 40.
    maps = attribution.integrated_gradients(saturating, images, [0], steps=40)
    np.testing.assert_allclose(maps[0, 0, 0, 0], 1, atol=2 * image * np.pi / 80)


def test_integrated_gradients_against_a_fine_riemann_sum(small, batch):
    images, targets = batch
    image, target = images[0], int(targets[0])
    maps = attribution.integrated_gradients(small, image[None], [target], steps=400)
    path = (np.arange(4000, dtype=np.float32) + 0.5) / 4000

    def slope(t):
        return jax.grad(lambda x: small(x[None])[0, target])(t * jnp.asarray(image))

    mean = jax.jit(lambda path: jax.lax.map(slope, path, batch_size=200).mean(0))(path)
    # The gradient jumps where a ReLU switches, so a rule of n points is right to about 1 / n.
    np.testing.assert_allclose(maps[0], mean * image, rtol=1e-2, atol=1e-2 * np.abs(maps).max())


def test_saliency_is_the_largest_magnitude_or_the_norm(batch):
    images, targets = batch
    weights = np.asarray(LINEAR.weights)[targets]
    for reduce, expected in (
        ("max_abs", np.abs(weights).max(-1)),
        ("l2", np.sqrt((weights**2).sum(-1))),
        ("sum", weights.sum(-1)),
    ):
        maps = attribution.saliency(LINEAR, images, targets, reduce=reduce)
        np.testing.assert_allclose(maps, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(attribution.heatmap(weights, reduce=reduce), maps)
    default = attribution.saliency(LINEAR, images, targets)
    np.testing.assert_array_equal(default, np.abs(weights).max(-1))


def test_heatmap_by_hand():
    attributions = np.array([[[[3.0, -4.0, 0.0], [-1.0, -1.0, -2.0]]]], np.float32)
    for reduce, expected in (("sum", [-1, -4]), ("l2", [5, 6**0.5]), ("max_abs", [4, 2])):
        maps = attribution.heatmap(attributions, reduce=reduce)
        np.testing.assert_allclose(maps, [[expected]], rtol=1e-6)
    np.testing.assert_array_equal(attribution.heatmap(attributions), [[[-1, -4]]])


def test_completeness_error_by_hand(batch):
    images, targets = batch
    exact = LINEAR.weights[targets] * images
    change = np.asarray(exact).sum((1, 2, 3))
    off = np.asarray(exact).copy()
    off[2, 3, 3, 1] += 0.5  # one wrong value in image 2
    absolute = attribution.completeness_error(LINEAR, images, targets, off, relative=False)
    np.testing.assert_allclose(absolute, [0, 0, 0.5, 0, 0], atol=1e-4)
    relative = attribution.completeness_error(LINEAR, images, targets, off)
    np.testing.assert_allclose(relative, np.array([0, 0, 0.5, 0, 0]) / abs(change), atol=1e-4)
    summed = attribution.completeness_error(LINEAR, images, targets, off.sum(-1))
    np.testing.assert_allclose(summed, relative, atol=1e-5)
    twice = attribution.completeness_error(LINEAR, images, targets, 2 * exact)
    np.testing.assert_allclose(twice, 1, rtol=1e-4)


@pytest.mark.parametrize("baseline", ["black", "white", "blur", 0.4])
def test_completeness(small, batch, baseline):
    images, targets = batch
    maps = attribution.integrated_gradients(small, images, targets, baseline=baseline, steps=300)
    error = attribution.completeness_error(
        small, images, targets, maps, baseline=baseline, relative=False
    )
    # Logits here are of size 10; a kinked gradient converges as 1 / steps.
    assert np.asarray(error).max() < 0.02
    few = attribution.integrated_gradients(small, images, targets, baseline=baseline, steps=1)
    coarse = attribution.completeness_error(
        small, images, targets, few, baseline=baseline, relative=False
    )
    assert np.asarray(coarse).max() > 0.05  # or the bound above would show nothing


def test_a_baseline_equal_to_the_image_gives_nothing(small, batch):
    images, targets = batch
    for method in (attribution.integrated_gradients, attribution.gradient_x_input):
        assert not np.asarray(method(small, images, targets, baseline=images)).any()


def test_a_constant_image_is_explained_like_any_other(small):
    images, targets = np.full((2, 12, 10, 3), 0.5, np.float32), [0, 1]
    for name in ("gradient", "saliency", "gradient_x_input", "integrated_gradients"):
        maps = np.asarray(attribution.METHODS[name](small, images, targets))
        assert np.isfinite(maps).all()
        assert maps[0].any()
    # "mean" and "blur" of a constant image are the image (to a rounding), so there is nothing to
    # explain.
    for baseline in ("mean", "blur"):
        maps = attribution.integrated_gradients(small, images, targets, baseline=baseline)
        assert np.abs(maps).max() < 1e-5


image_values = arrays(np.float32, (2, 12, 10, 3), elements=st.floats(0, 1, width=32))


@hypothesis.given(image_values, st.integers(0, 2), st.floats(0, 1, width=32))
def test_completeness_of_a_linear_model_for_any_image_and_baseline(images, target, baseline):
    maps = attribution.integrated_gradients(LINEAR, images, [target, 0], baseline=baseline, steps=3)
    error = attribution.completeness_error(
        LINEAR, images, [target, 0], maps, baseline=baseline, relative=False
    )
    assert np.asarray(error).max() < 1e-4  # 360 terms of up to 3


@hypothesis.given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), st.integers(0, 3))
def test_gradients_are_linear_in_the_model(a, b, seed):
    from tests.oracles import Weighted

    rng = np.random.default_rng(seed)
    images, targets = rng.random((2, 12, 10, 3), np.float32), rng.integers(0, 3, 2)
    first, second = Small.random(1), Small.random(2)
    both = Weighted(jnp.float32(a), first, jnp.float32(b), second)
    for method in (
        attribution.gradient, attribution.gradient_x_input, attribution.integrated_gradients
    ):  # fmt: skip
        separate = a * method(first, images, targets) + b * method(second, images, targets)
        np.testing.assert_allclose(method(both, images, targets), separate, atol=1e-4)
