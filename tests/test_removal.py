import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from practical import attribution, metrics
from tests.oracles import Linear, refuses

LINEAR = Linear.random(6)


def shares(images, targets, baseline):
    """The exact share of each pixel in a linear model's logit."""
    return (np.asarray(LINEAR.weights)[targets] * (images - baseline)).sum(-1)


def test_the_shares_of_a_linear_model_are_perfect(batch):
    images, targets = batch
    maps = shares(images, targets, 0.5)
    options = {"baseline": "grey", "samples": 50}
    for scale in (True, False):
        wrong = metrics.infidelity(LINEAR, images, targets, maps, scale=scale, **options)
        assert np.asarray(wrong).max() < 1e-6
    good = metrics.sensitivity_n(LINEAR, images, targets, maps, **options)
    np.testing.assert_allclose(good, 1, atol=1e-5)
    np.testing.assert_allclose(
        metrics.sensitivity_n(LINEAR, images, targets, -maps, **options), -1, atol=1e-5
    )
    # Another unit does not matter, unless one asks.
    scaled = metrics.infidelity(LINEAR, images, targets, 3 * maps, **options)
    assert np.asarray(scaled).max() < 1e-6
    strict = metrics.infidelity(LINEAR, images, targets, 3 * maps, scale=False, **options)
    nothing = metrics.infidelity(LINEAR, images, targets, 0 * maps, **options)
    np.testing.assert_allclose(strict, 4 * np.asarray(nothing), rtol=1e-4)  # (3 - 1)^2


def squares(key, side, samples, height, width):
    """The squares that the docstring promises, drawn in plain Python."""
    for k in range(samples):
        draws = np.asarray(jax.random.uniform(jax.random.fold_in(key, k), (3,)))
        length = 1 + int(draws[0] * side)
        top, left = int(draws[1] * (height - length + 1)), int(draws[2] * (width - length + 1))
        gone = np.zeros((height, width), bool)
        gone[top : top + length, left : left + length] = True
        yield gone


@pytest.mark.parametrize("scale", [True, False])
def test_infidelity_against_plain_numpy(small, batch, scale):
    images, targets = batch
    maps = np.random.default_rng(0).normal(size=(5, 12, 10)).astype(np.float32)
    key = jax.random.key(4)
    found = metrics.infidelity(
        small,
        images,
        targets,
        maps,
        samples=30,
        largest=0.6,
        baseline="white",
        scale=scale,
        key=key,
    )
    for i in range(5):
        predicted, actual = [], []
        for gone in squares(jax.random.fold_in(key, i), 6, 30, 12, 10):
            shown = np.where(gone[..., None], np.float32(1), images[i])
            both = np.asarray(small(np.stack([images[i], shown])), np.float64)[:, targets[i]]
            predicted.append(maps[i][gone].sum(dtype=np.float64))
            actual.append(both[0] - both[1])
        predicted, actual = np.array(predicted), np.array(actual)
        best = (predicted @ actual) / (predicted @ predicted) if scale else 1
        np.testing.assert_allclose(found[i], np.mean((best * predicted - actual) ** 2), rtol=1e-3)


def test_sensitivity_n_against_plain_numpy(small, batch):
    images, targets = batch
    maps = np.random.default_rng(0).normal(size=(5, 12, 10)).astype(np.float32)
    key = jax.random.key(4)
    found = metrics.sensitivity_n(
        small, images, targets, maps, share=0.2, samples=30, baseline="black", key=key
    )
    for i in range(5):
        predicted, actual = [], []
        for k in range(30):
            own = jax.random.fold_in(jax.random.fold_in(key, i), k)
            draws = np.asarray(jax.random.bits(own, (120,)))
            gone = np.zeros(120, bool)
            gone[np.argsort(draws, kind="stable")[:24]] = True
            shown = np.where(gone.reshape(12, 10, 1), 0, images[i]).astype(np.float32)
            both = np.asarray(small(np.stack([images[i], shown])), np.float64)[:, targets[i]]
            predicted.append(maps[i].ravel()[gone].sum(dtype=np.float64))
            actual.append(both[0] - both[1])
        np.testing.assert_allclose(found[i], stats.pearsonr(predicted, actual)[0], atol=1e-3)


@pytest.fixture
def unchecked():
    """Turn the check of the annotations off, which promise floats."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("dtype", [np.uint8, bool, jnp.bfloat16, np.float16])
@pytest.mark.parametrize("where", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_sums_are_those_of_the_same_values_in_float32(small, batch, dtype, where, unchecked):
    images, targets = batch
    levels = 200 * np.random.default_rng(4).random((5, 12, 10))
    maps = levels > 100 if dtype is bool else levels.astype(dtype)
    single = maps.astype(np.float32)
    for metric, options in (
        (metrics.infidelity, {}),
        (metrics.infidelity, {"scale": False}),
        (metrics.sensitivity_n, {}),
    ):
        found = metric(small, images, targets, where(maps), samples=9, **options)
        expected = metric(small, images, targets, single, samples=9, **options)
        np.testing.assert_array_equal(found, expected)


def test_the_scale_of_a_map_counts_where_it_says_so(batch):
    # b is 1: a map a factor of 1e-25 too small predicts no effect, and is not made larger.
    images, targets = batch
    maps = shares(images, targets, 0.5)
    options = {"baseline": "grey", "samples": 9, "scale": False}
    found = metrics.infidelity(LINEAR, images, targets, maps * 1e-25, **options)
    nothing = metrics.infidelity(LINEAR, images, targets, 0 * maps, **options)
    np.testing.assert_allclose(found, nothing, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e-42, 1e38, 1e200])
def test_maps_of_any_magnitude_give_the_same_answer(small, batch, factor):
    images, targets = batch
    maps = np.random.default_rng(0).normal(size=(5, 12, 10))
    for metric in (metrics.infidelity, metrics.sensitivity_n):
        scaled = metric(small, images, targets, maps * factor, samples=9)
        expected = metric(small, images, targets, maps, samples=9)
        np.testing.assert_allclose(scaled, expected, rtol=1e-4)


def test_maps_that_say_nothing_have_a_defined_answer(small, batch):
    images, targets = batch
    flat = np.ones((5, 12, 10), np.float32)
    # Every set has as many pixels, so every sum is the same: no correlation.
    for maps in (flat, 0 * flat, 0.1 * flat):
        assert not np.asarray(metrics.sensitivity_n(small, images, targets, maps, samples=9)).any()
    nothing = metrics.infidelity(small, images, targets, 0 * flat, samples=9)
    assert np.asarray(nothing).all()  # predicts no effect, and is wrong by it

    def deaf(images):
        return 0 * images.mean((1, 2, 3))[:, None] + 1

    deaf_targets = np.zeros(5, int)
    maps = np.random.default_rng(0).random((5, 12, 10), np.float32)
    assert not np.asarray(metrics.infidelity(deaf, images, deaf_targets, 0 * flat)).any()
    assert not np.asarray(metrics.sensitivity_n(deaf, images, deaf_targets, maps)).any()


def test_one_image_has_its_own_sets(small, batch):
    images, targets = batch
    maps = np.random.default_rng(0).random((5, 12, 10), np.float32)
    keys = jax.random.split(jax.random.key(0), 5)
    for metric in (metrics.infidelity, metrics.sensitivity_n):
        whole = metric(small, images, targets, maps, samples=9, key=keys, chunk_size=4)
        some = metric(small, images[3:], targets[3:], maps[3:], samples=9, key=keys[3:])
        np.testing.assert_allclose(some, whole[3:], rtol=1e-3, atol=1e-4)


def test_arguments(small, batch):
    maps = np.zeros((5, 12, 10), np.float32)
    for share in (0, 1, -1, 0.001):
        with refuses("share must be between 0 and 1 and take some of the 120 pixels"):
            metrics.sensitivity_n(small, *batch, maps, share=share)
    with refuses("samples must be an integer of at least 2, got 1"):
        metrics.sensitivity_n(small, *batch, maps, samples=1)
    for largest in (0, 1.5):
        with refuses("largest must be a share above 0 and at most 1"):
            metrics.infidelity(small, *batch, maps, largest=largest)
    with refuses("heatmaps must have one value for each pixel"):
        metrics.infidelity(small, *batch, maps[:2])


# --- robustness ----------------------------------------------------------------------------------


def test_max_sensitivity_of_what_does_not_move(small, batch):
    assert not np.asarray(metrics.max_sensitivity(small, *batch, attribution.center)).any()
    # A linear model's gradient is the same everywhere.
    still = metrics.max_sensitivity(LINEAR, *batch, attribution.gradient, samples=2)
    assert np.asarray(still).max() < 1e-6


def test_max_sensitivity_in_closed_form():
    # The map is the image itself (gradient of sum x^2 / 2): the change is the noise.
    images = np.full((1, 40, 40, 3), 0.5, np.float32)

    def model(x):
        return (x**2).sum((1, 2, 3))[:, None] / 2

    worst = metrics.max_sensitivity(model, images, [0], attribution.gradient, radius=0.1)
    # Uniform noise of radius r has root mean square r / sqrt(3); ten samples of 4,800 values.
    np.testing.assert_allclose(worst, 0.1 / np.sqrt(3) / 0.5, rtol=0.03)


def test_max_sensitivity_stays_in_range_and_takes_the_largest(small, batch):
    images, targets = batch
    asked = []

    def method(model, images, targets):
        asked.append(np.asarray(images))
        return asked[-1].mean(-1) * (1 if len(asked) != 3 else 100)

    worst = metrics.max_sensitivity(small, images, targets, method, radius=1.0, samples=4)
    assert len(asked) == 5
    assert min(a.min() for a in asked) >= 0
    assert max(a.max() for a in asked) <= 1
    sizes = np.linalg.norm(asked[0].mean(-1).reshape(5, -1), axis=1)
    expected = [
        np.linalg.norm((100 * asked[2].mean(-1) - asked[0].mean(-1))[i]) / sizes[i]
        for i in range(5)
    ]
    np.testing.assert_allclose(worst, expected, rtol=1e-4)


def test_max_sensitivity_of_a_zero_map(small, batch):
    images, targets = batch
    zero = metrics.max_sensitivity(
        small, images, targets, lambda m, x, t: np.zeros(x.shape[:3]), samples=1
    )
    assert not np.asarray(zero).any()
    with refuses("radius must be above 0 and at most 1, in pixel units, got 0"):
        metrics.max_sensitivity(small, images, targets, attribution.gradient, radius=0)
    with refuses("the explanation must be finite, got NaN or infinity for image 1"):
        metrics.max_sensitivity(
            small, images, targets,
            lambda m, x, t: np.where(np.arange(5)[:, None, None] == 1, np.nan, x[..., 0]),
        )  # fmt: skip
