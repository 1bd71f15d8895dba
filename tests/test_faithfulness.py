import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from practical import metrics
from practical.baselines import baseline_images
from practical.metrics import deletion, insertion
from tests.oracles import Linear, one_pixel, refuses

PIXELS = 12 * 10


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pixel_maps(value: float) -> np.ndarray:
    """A map of no ties whose pixel (2, 3), the one that `one_pixel` reads, holds `value`."""
    maps = np.random.default_rng(0).permutation(PIXELS).reshape(1, 12, 10).astype(np.float32)
    maps[0, 2, 3] = value
    return maps


@pytest.fixture
def white():
    return np.ones((1, 12, 10, 3), np.float32)


def test_a_perfect_map_of_a_one_pixel_model(white):
    # Deletion: 1 with nothing removed, 0 from the first step on. Trapezoid: half of the first
    # step, (1/steps) / 2. Insertion: 0, then 1 from the first step on: 1 - (1/steps) / 2.
    options = {"baseline": "black", "steps": 8, "output": "logit"}
    gone = deletion(one_pixel, white, [0], pixel_maps(1e3), **options)
    np.testing.assert_array_equal(gone.scores, [[1] + 8 * [0]])
    np.testing.assert_allclose(gone.fractions, np.arange(9) / 8, rtol=1e-6)
    np.testing.assert_allclose(gone.auc, [1 / 16], rtol=1e-6)
    back = insertion(one_pixel, white, [0], pixel_maps(1e3), **options)
    np.testing.assert_array_equal(back.scores, [[0] + 8 * [1]])
    np.testing.assert_allclose(back.auc, [1 - 1 / 16], rtol=1e-6)


def test_the_worst_map_of_a_one_pixel_model(white):
    options = {"baseline": "black", "steps": 8, "output": "logit"}
    gone = deletion(one_pixel, white, [0], pixel_maps(-1e3), **options)
    np.testing.assert_array_equal(gone.scores, [8 * [1] + [0]])
    np.testing.assert_allclose(gone.auc, [1 - 1 / 16], rtol=1e-6)
    back = insertion(one_pixel, white, [0], pixel_maps(-1e3), **options)
    np.testing.assert_array_equal(back.scores, [8 * [0] + [1]])


@pytest.mark.parametrize("place", [0, 29, 30, 60, 119])
def test_the_step_at_which_a_known_pixel_goes(white, place):
    # Four steps of 30 pixels: the pixel of rank `place` is gone after step place // 30 + 1.
    ranks = np.delete(np.arange(PIXELS), place)
    order = np.insert(np.random.default_rng(1).permutation(ranks), 2 * 10 + 3, place)
    maps = -order.reshape(1, 12, 10).astype(np.float32)
    curve = deletion(one_pixel, white, [0], maps, baseline="black", steps=4, output="logit")
    np.testing.assert_array_equal(curve.scores[0], (np.arange(5) * 30 <= place).astype(float))


# This toy model's two logits are in [0, 1] and sum to 1 by construction.
@pytest.mark.filterwarnings("ignore:the model's answers look like probabilities")
def test_probability_is_the_softmax(white):
    # Logits (x, 0): the probability is sigmoid(x).
    curve = deletion(one_pixel, white, [0], pixel_maps(1e3), baseline="black", steps=2)
    np.testing.assert_allclose(curve.scores, [[sigmoid(1), 0.5, 0.5]], rtol=1e-6)


def witness(model, first, last, targets, maps, steps):
    """Return curves and areas by plain NumPy, one image and one step at a time."""
    count, height, width, _ = first.shape
    cutoffs = [k * height * width // steps for k in range(steps + 1)]
    scores = np.zeros((count, steps + 1))
    for i in range(count):
        order = np.argsort(-maps[i].ravel())
        for k, cutoff in enumerate(cutoffs):
            shown = first[i].reshape(-1, 3).copy()
            shown[order[:cutoff]] = last[i].reshape(-1, 3)[order[:cutoff]]
            logits = np.asarray(model(shown.reshape(1, height, width, 3)), np.float64)[0]
            scores[i, k] = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())[
                targets[i]
            ]
    fractions = np.array(cutoffs) / (height * width)
    return fractions, scores, np.trapezoid(scores, fractions, axis=1)


@pytest.mark.parametrize("steps", [1, 6, 7, 120])  # 7 does not divide the 120 pixels
def test_against_plain_numpy(small, batch, steps):
    images, targets = batch
    maps = np.random.default_rng(3).normal(size=(5, 12, 10)).astype(np.float32)
    for metric, baseline in ((deletion, "mean"), (insertion, "blur")):
        replaced = np.asarray(baseline_images(baseline, np.asarray(images)))
        ends = (images, replaced) if metric is deletion else (replaced, images)
        fractions, scores, areas = witness(small, *ends, targets, maps, steps)
        curve = metric(small, images, targets, maps, steps=steps)  # its own default baseline
        np.testing.assert_allclose(curve.fractions, fractions, atol=1e-6)
        np.testing.assert_allclose(curve.scores, scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(curve.auc, areas, rtol=1e-4)
        assert curve.scores.shape == (5, steps + 1)
        assert curve.auc.shape == (5,)


def test_the_ends_are_the_image_and_the_baseline(small, batch):
    images, targets = batch
    maps = images.mean(-1)
    rows = np.arange(5)
    whole = np.asarray(small(images))[rows, targets]
    for baseline in ("black", "mean", "blur", 0.7):
        nothing = np.asarray(small(baseline_images(baseline, np.asarray(images))))[rows, targets]
        options = {"baseline": baseline, "output": "logit", "steps": 5}
        gone = deletion(small, images, targets, maps, **options).scores
        np.testing.assert_allclose(gone[:, [0, -1]], np.stack([whole, nothing], 1), rtol=1e-4)
        back = insertion(small, images, targets, maps, **options).scores
        np.testing.assert_allclose(back[:, [0, -1]], np.stack([nothing, whole], 1), rtol=1e-4)


def test_inserting_the_least_relevant_is_deletion_run_backwards(small, batch):
    # With the least relevant n pixels inserted, the image is the one with the other P - n deleted.
    images, targets = batch
    maps = np.random.default_rng(4).normal(size=(5, 12, 10)).astype(np.float32)
    options = {"baseline": "grey", "steps": 8}
    gone = deletion(small, images, targets, maps, **options)
    back = insertion(small, images, targets, -maps, **options)
    np.testing.assert_allclose(back.scores[:, ::-1], gone.scores, rtol=1e-6)
    np.testing.assert_allclose(back.auc, gone.auc, rtol=1e-6)


def test_only_the_order_within_an_image_counts(small, batch):
    images, targets = batch
    maps = np.random.default_rng(4).random((5, 12, 10)).astype(np.float32)
    curve = deletion(small, images, targets, maps)
    scales = np.array([1, 2, 0.25, 8, 1], np.float32)[:, None, None]  # exact in float32
    for other in (maps * scales, np.sqrt(maps), maps - 7):
        if len(np.unique(other[0])) == PIXELS:  # rounding has made no ties
            scores = deletion(small, images, targets, other).scores
            np.testing.assert_array_equal(scores, curve.scores)
    assert not np.array_equal(deletion(small, images, targets, -maps).scores, curve.scores)


@pytest.fixture
def unchecked():
    """Turn the check of the annotations off, which promise floats."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, jnp.bfloat16, np.float16])
@pytest.mark.parametrize("where", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.usefixtures("unchecked")
def test_maps_of_any_dtype_are_taken_for_what_they_hold(small, batch, dtype, where):
    images, targets = batch
    levels = np.random.default_rng(4).integers(0, 200, (5, 12, 10))
    maps = levels > 100 if dtype is bool else levels.astype(dtype)
    single = maps.astype(np.float32)
    for order in ("most", "least"):
        options = {"order": order, "steps": 6}
        found = deletion(small, images, targets, where(maps), **options).scores
        expected = deletion(small, images, targets, single, **options).scores
        np.testing.assert_array_equal(found, expected)
    values = np.stack([maps] * 3, -1)
    options = {"protocol": "quantus", "steps": 6, "order": "least"}
    found = deletion(small, images, targets, where(values), **options).scores
    expected = deletion(small, images, targets, values.astype(np.float32), **options).scores
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        metrics.road(small, images[:1], targets[:1], where(maps[:1])),
        metrics.road(small, images[:1], targets[:1], single[:1]),
    )


def test_integers_are_not_cut_to_32_bits(small, batch, unchecked):
    maps = np.random.default_rng(4).permuted(np.arange(5 * PIXELS)).reshape(5, 12, 10)
    found = deletion(small, *batch, maps * 2**40).scores
    np.testing.assert_array_equal(found, deletion(small, *batch, maps.astype(np.float32)).scores)


@pytest.mark.parametrize("metric", [deletion, insertion])
def test_maps_of_any_magnitude_keep_their_order(small, batch, metric):
    images, targets = batch
    maps = np.random.default_rng(4).permuted(np.arange(5 * PIXELS) - 300.0).reshape(5, 12, 10)
    expected = metric(small, images, targets, maps.astype(np.float32)).auc
    tiny = (maps * 1e-40).astype(np.float32)  # what XLA takes for 0
    for other in (maps * 1e-50, maps * 1e-300, maps * 1e50, tiny, jnp.asarray(tiny)):
        np.testing.assert_array_equal(metric(small, images, targets, other).auc, expected)
    # Each image for itself: a usual one beside it, and one of zeros.
    maps[1] *= 1e-50
    maps[3] = 0
    found = metric(small, images, targets, maps).auc
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(expected, 3))
    flat = metric(small, images, targets, np.zeros((5, 12, 10))).auc
    np.testing.assert_array_equal(found[3], flat[3])
    # A protocol of single values, too.
    values = np.random.default_rng(4).permuted(np.arange(5.0 * 3 * PIXELS)).reshape(images.shape)
    options = {"protocol": "quantus", "steps": 6}
    np.testing.assert_array_equal(
        metric(small, images, targets, values * 1e-50, **options).auc,
        metric(small, images, targets, values.astype(np.float32), **options).auc,
    )


ROWS = Linear(  # class k: the share of row k that is still white
    np.repeat(np.eye(12, dtype=np.float32)[:, :, None, None], 10, 2).repeat(3, 3) / 30,
    np.zeros(12, np.float32),
)


def rows_left(maps, **options) -> np.ndarray:
    """Return the share of each of the 12 rows that is left when half of the pixels are gone."""
    white = np.ones((12, 12, 10, 3), np.float32)
    maps = np.broadcast_to(maps, (12, 12, 10)).astype(np.float32)
    curve = deletion(
        ROWS, white, np.arange(12), maps, baseline="black", steps=2, output="logit", **options
    )
    return np.asarray(curve.scores[:, 1])


def test_ties_are_spread_over_the_image():
    left = rows_left(np.zeros((12, 10)))
    np.testing.assert_allclose(left.sum(), 6, rtol=1e-5)  # half of 12 rows
    # In raster order six rows would be 0 and six 1.
    assert ((left > 0.05) & (left < 0.95)).all()
    np.testing.assert_array_equal(left, rows_left(np.zeros((12, 10))))
    np.testing.assert_array_equal(left, rows_left(np.full((12, 10), -3.5)))
    np.testing.assert_array_equal(left, rows_left(np.zeros((12, 10)), key=jax.random.key(0)))
    assert not np.array_equal(left, rows_left(np.zeros((12, 10)), key=jax.random.key(1)))


def test_minus_zero_is_zero():
    signs = np.where(np.random.default_rng(0).random((12, 10)) < 0.5, -0.0, 0.0)
    np.testing.assert_array_equal(rows_left(signs), rows_left(np.zeros((12, 10))))


def test_ties_are_broken_below_what_is_above_them():
    # Two rows are relevant, the rest tie: the two are gone first, whatever the key.
    maps = np.zeros((12, 10))
    maps[[4, 9]] = 1
    left = rows_left(maps)
    np.testing.assert_allclose(left[[4, 9]], 0, atol=1e-6)
    np.testing.assert_allclose(left.sum(), 6, rtol=1e-5)


def test_all_channels_of_a_pixel_go_together(batch):
    # A model of one channel each: the three curves are the same for a grey image.
    channels = Linear(
        np.eye(3, dtype=np.float32)[:, None, None] * np.ones((1, 12, 10, 1), np.float32),
        np.zeros(3, np.float32),
    )
    images = np.ones((3, 12, 10, 3), np.float32)
    maps = np.broadcast_to(batch[0][0].mean(-1), (3, 12, 10))
    scores = deletion(channels, images, [0, 1, 2], maps, baseline=0.0, output="logit").scores
    np.testing.assert_allclose(scores[1:], scores[:1].repeat(2, 0), rtol=1e-6)
    np.testing.assert_allclose(scores[0, ::28], [PIXELS, 0], atol=1e-4)


def test_auc_is_the_trapezoid_over_uneven_fractions():
    curve = metrics.Curve(np.array([0, 0.1, 1.0]), np.array([[1, 1, 0.0], [0, 1, 1]]))
    # 0.1 * 1 + 0.9 * (1 + 0) / 2, and 0.1 * (0 + 1) / 2 + 0.9 * 1
    np.testing.assert_allclose(curve.auc, [0.55, 0.95], rtol=1e-6)


def test_bad_arguments(small, batch):
    images, targets = batch
    maps = images.mean(-1)
    for metric in (deletion, insertion):
        with refuses(r"heatmaps must have one value.*\(5, 12, 10\), got \(5, 12, 10, 3\); attrib"):
            metric(small, images, targets, images)
        with refuses(r"heatmaps must have.*got \(4, 12, 10\)$"):
            metric(small, images, targets, maps[:4])
        broken = maps.copy()
        broken[3, 1, 1] = np.nan
        with refuses(r"heatmaps must be finite, got NaN or infinity for image 3$"):
            metric(small, images, targets, broken)
        with refuses(r"steps must be at most the 120 pixels of an image, got 121"):
            metric(small, images, targets, maps, steps=121)
        for steps in (0, -1, 2.5, True, "28"):
            with refuses(rf"steps must be an integer of at least 1, got {steps!r}"):
                metric(small, images, targets, maps, steps=steps)
        with refuses(r"output must be one of probability, logit, got 'softmax'"):
            metric(small, images, targets, maps, output="softmax")
