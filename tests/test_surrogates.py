import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from practical.attribution import superpixels
from practical.attribution.perturbation import soft_mask
from practical.baselines import baseline_images
from tests.oracles import Linear, refuses

# 12x10 pixels in four tall and six small regions.
SEGMENTS = np.stack([np.arange(120).reshape(12, 10) % 10 // 3] * 3 + [np.kron(
    np.arange(6).reshape(2, 3), np.ones((6, 4), int)
)[:, :10]] * 2)  # fmt: skip
OPTIONS = {"segments": SEGMENTS, "baseline": "grey"}


def answers(model, image, target, segments, shown):
    """The model's answer with only the superpixels in `shown` visible."""
    visible = np.isin(segments, list(shown))[..., None]
    return float(model(np.where(visible, image, np.float32(0.5))[None])[0, target])


def shapley(model, image, target, segments):
    """Shapley values by their definition, over all sets."""
    count = segments.max() + 1
    values = {
        frozenset(s): answers(model, image, target, segments, s)
        for size in range(count + 1)
        for s in itertools.combinations(range(count), size)
    }
    phi = np.zeros(count)
    for i in range(count):
        for s, value in values.items():
            if i not in s:
                weight = math.factorial(len(s)) * math.factorial(count - len(s) - 1)
                phi[i] += weight / math.factorial(count) * (values[s | {i}] - value)
    return phi


def test_kernel_shap_is_exact_with_all_sets(small, batch):
    images, targets = batch
    maps = np.asarray(attribution.kernel_shap(small, images, targets, samples=62, **OPTIONS))
    for i, segments in enumerate(SEGMENTS):
        expected = shapley(small, images[i], targets[i], segments)[segments]
        np.testing.assert_allclose(maps[i], expected, rtol=1e-3, atol=1e-3)


def test_kernel_shap_of_an_image_does_not_depend_on_its_neighbours(small, batch):
    # 64 sets are all of those of 6 superpixels, and a draw of those of 18.
    images, targets = batch
    segments = np.stack([
        SEGMENTS[4],
        np.kron(np.arange(18).reshape(6, 3), np.ones((2, 4), int))[:, :10],
    ])  # fmt: skip
    keys = jax.random.split(jax.random.key(7), 2)

    def maps(rows):
        return np.asarray(
            attribution.kernel_shap(
                small, images[rows], targets[rows], segments=segments[rows], samples=64,
                baseline="grey", key=keys[rows],
            )
        )  # fmt: skip

    expected = shapley(small, images[0], targets[0], segments[0])[segments[0]]
    together = maps(slice(2))
    np.testing.assert_allclose(maps(slice(1))[0], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(together[0], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(maps(slice(1, 2))[0], together[1], rtol=1e-4, atol=1e-4)


def test_every_set_beside_images_of_more_superpixels_than_an_int_has_bits(batch):
    def model(x):  # far from additive
        return jnp.exp(x[:, :, :5].mean((1, 2)) * x[:, :, 5:].mean((1, 2)) * 20)

    images, targets = batch[0][:2], batch[1][:2]
    segments = np.stack([SEGMENTS[4], np.arange(120).reshape(12, 10) // 3])  # 6 and 40
    maps = attribution.kernel_shap(
        model, images, targets, segments=segments, samples=200, baseline="grey"
    )
    expected = shapley(model, images[0], targets[0], segments[0])[segments[0]]
    np.testing.assert_allclose(maps[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_as_many_superpixels_as_no_float_has_sets():
    images = np.random.default_rng(0).random((1, 33, 33, 1), np.float32)
    segments = np.arange(33 * 33).reshape(1, 33, 33)  # 2.0 ** 1089 is infinite
    maps = attribution.lime(
        lambda x: x.sum((1, 2)), images, [0], segments=segments, samples=4, chunk_size=2
    )
    assert np.isfinite(maps).all()


def test_kernel_shap_comes_near_with_random_sets(small, batch):
    images, targets = batch
    segments = np.tile(np.kron(np.arange(20).reshape(4, 5), np.ones((3, 2), int)), (5, 1, 1))
    few, many = (
        np.asarray(
            attribution.kernel_shap(
                small, images, targets, segments=segments, samples=n, chunk_size=256
            )
        )
        for n in (100, 4000)
    )
    first = segments[0].ravel().tolist().index
    values = many.reshape(5, -1)[:, [first(k) for k in range(20)]]
    # Efficiency holds for any samples.
    change = np.asarray(small(images) - small(np.asarray(baseline_images("mean", images))))
    change = change[np.arange(5), targets]
    np.testing.assert_allclose(values.sum(1), change, rtol=1e-3, atol=1e-3)
    # `Small` is nearly additive in distant regions: the two estimates agree but for noise.
    spread = np.abs(many).max()
    assert np.abs(few - many).max() < 0.2 * spread


def test_kernel_shap_of_a_linear_model_needs_few_samples(batch):
    images, targets = batch
    model = Linear.random(4)
    segments = np.tile(np.kron(np.arange(20).reshape(4, 5), np.ones((3, 2), int)), (5, 1, 1))
    shares = (np.asarray(model.weights)[targets] * (images - 0.25)).sum(-1)
    expected = shares.reshape(5, 4, 3, 5, 2).sum((2, 4)).repeat(3, 1).repeat(2, 2)
    maps = attribution.kernel_shap(
        model, images, targets, segments=segments, samples=60, baseline=0.25
    )
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=2e-3)


def test_lime_is_ridge_regression(small, batch):
    """Draw the same sets, and solve with NumPy."""
    images, targets = batch
    key = jax.random.key(3)
    maps = np.asarray(
        attribution.lime(small, images, targets, samples=40, ridge=0.7, key=key, **OPTIONS)
    )
    most = SEGMENTS.max() + 1
    for i, segments in enumerate(SEGMENTS):
        count = segments.max() + 1
        own = jax.random.fold_in(key, i)
        rows = np.array(
            [jax.random.bernoulli(jax.random.fold_in(own, k), shape=(most,)) for k in range(40)]
        )[:, :count]
        rows[0] = True
        y = np.array(
            [answers(small, images[i], targets[i], segments, np.flatnonzero(r)) for r in rows]
        )
        distance = 1 - np.sqrt(rows.mean(1))
        weights = np.sqrt(np.exp(-(distance**2) / 0.25**2))  # as lime_image writes it
        design = np.column_stack([rows, np.ones(40)])
        penalty = np.diag([0.7] * count + [0.0])
        gram = design.T @ (weights[:, None] * design) + penalty
        slopes = np.linalg.solve(gram, design.T @ (weights * y))[:count]
        np.testing.assert_allclose(maps[i], slopes[segments], rtol=2e-3, atol=2e-3)


def test_lime_of_a_linear_model(batch):
    # With hardly any penalty the coefficients are the regions' shares.
    images, targets = batch
    model = Linear.random(4)
    maps = attribution.lime(model, images, targets, samples=60, ridge=1e-4, **OPTIONS)
    shares = (np.asarray(model.weights)[targets] * (images - 0.5)).sum(-1)
    for i, segments in enumerate(SEGMENTS):
        totals = np.bincount(segments.ravel(), shares[i].ravel())
        np.testing.assert_allclose(maps[i], totals[segments], rtol=1e-2, atol=1e-2)


def test_superpixels():
    images = np.zeros((2, 24, 32, 3), np.float32)
    images[0, :, 16:] = 1  # two halves
    images[1] = np.linspace(0, 1, 24)[:, None, None]  # a ramp
    found = superpixels(images, count=6)
    assert found.shape == (2, 24, 32)
    for labels in found:
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
        assert labels.max() >= 1
    left, right = set(found[0][:, :16].ravel()), set(found[0][:, 16:].ravel())
    assert not left & right, "no region crosses the edge"
    grey = superpixels(images[..., :1], count=6)  # any number of channels
    assert grey.shape == (2, 24, 32)
    assert superpixels(images.repeat(3, -1)[..., :7], count=6).max() >= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_superpixels_follow_a_disc_in_any_number_of_channels(channels):
    y, x = np.mgrid[:48, :48]
    disc = (y - 22) ** 2 + (x - 25) ** 2 < 13**2
    images = np.where(disc, 0.1, 0.9)[None, ..., None].repeat(channels, -1).astype(np.float32)
    labels = superpixels(images, count=20)[0]
    assert labels.max() >= 8
    # A region lies inside of the disc or outside; where it does not, its smaller part is wrong.
    inside = np.bincount(labels.ravel(), disc.ravel())
    wrong = np.minimum(inside, np.bincount(labels.ravel()) - inside).sum()
    assert wrong < 0.01 * disc.size


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_texture_is_more_than_one_superpixel(channels):
    images = np.random.default_rng(0).random((2, 32, 32, channels), np.float32)
    assert superpixels(images, count=4).reshape(2, -1).max(1).min() >= 1
    assert superpixels(images, count=1).max() == 0


def test_segments_of_ones_own(small, batch):
    images, targets = batch
    with refuses(r"segments must have one number for each pixel.*got \(12, 10\)"):
        attribution.lime(small, images, targets, segments=SEGMENTS[0])
    with refuses(r"segments must be integers, got float64"):
        attribution.lime(small, images, targets, segments=SEGMENTS * 1.0)
    with refuses(r"segments must number each image's superpixels from 0 without gaps, got \[0, 2"):
        attribution.lime(small, images, targets, segments=SEGMENTS * 2)
    with refuses("segments must be at least 2 an image for kernel_shap, got 1 for image 0"):
        attribution.kernel_shap(small, images, targets, segments=np.zeros_like(SEGMENTS))
    twice = "samples must be at least twice the superpixels of each image, 12 for image 3, .*got 9"
    with refuses(twice):
        attribution.kernel_shap(small, images, targets, segments=SEGMENTS, samples=9)
    same = np.tile(np.kron(np.arange(20).reshape(4, 5), np.ones((3, 2), int)), (5, 1, 1))
    with refuses("samples must be enough to tell the superpixels apart, got 40 for 20 of them"):
        attribution.kernel_shap(small, images, targets, segments=same, samples=40)
    for name in ("ridge", "kernel_width"):
        with refuses(f"{name} must be above 0, got 0"):
            attribution.lime(small, images, targets, **{name: 0})
    with refuses(r"under jax.jit they are not; give segments=superpixels\(images\)"):
        jax.jit(lambda x: attribution.lime(small, x, targets))(images)


# --- RISE, whose masks are no superpixels but whose oracles are alike ----------------------------


def test_soft_masks():
    keys = jax.random.split(jax.random.key(0), 400)
    masks = np.asarray(jax.vmap(lambda k: soft_mask(k, 4, 0.3, 20, 28))(keys))
    assert masks.shape == (400, 20, 28)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # The mean of 400 masks is the share, at every pixel; a cell is shown or not.
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=5 * 0.46 / np.sqrt(400))
    # Smooth: cells of 5 and 7 pixels, so neighbours differ by at most about a cell's slope.
    assert np.abs(np.diff(masks, axis=1)).max() < 1 / 4
    assert np.abs(np.diff(masks, axis=2)).max() < 1 / 6


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_rise_against_plain_numpy(small, batch, output):
    images, targets = batch
    key = jax.random.key(2)
    maps = attribution.rise(
        small, images, targets, samples=25, cells=3, share=0.4, baseline="white", output=output,
        key=key, chunk_size=7,
    )  # fmt: skip
    for i in range(5):
        own = jax.random.fold_in(key, i)
        masks = np.stack([soft_mask(jax.random.fold_in(own, k), 3, 0.4, 12, 10) for k in range(25)])
        shown = masks[..., None] * images[i] + (1 - masks[..., None])
        logits = np.asarray(small(shown.astype(np.float32)), np.float64)
        if output == "probability":
            logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        score = logits[:, targets[i]]
        expected = (score[:, None, None] * masks).sum(0) / masks.sum(0)
        np.testing.assert_allclose(maps[i], expected, rtol=1e-3, atol=1e-4)


def test_rise_finds_the_pixel_that_counts():
    images = np.ones((1, 28, 28, 3), np.float32)

    def model(x):
        return x[:, 5, 20, :1]

    maps = attribution.rise(
        model, images, [0], samples=800, output="logit", baseline="black", chunk_size=200
    )
    place = np.unravel_index(np.argmax(maps[0]), (28, 28))
    assert np.hypot(place[0] - 5, place[1] - 20) < 4  # a cell has four pixels


def test_rise_arguments(small, batch):
    with refuses("share must be between 0 and 1, got 1"):
        attribution.rise(small, *batch, share=1)
    with refuses("cells must be an integer of at least 2, got 1"):
        attribution.rise(small, *batch, cells=1)
    with refuses("output must be one of probability, logit, got 'softmax'"):
        attribution.rise(small, *batch, output="softmax")
