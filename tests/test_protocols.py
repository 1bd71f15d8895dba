import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from practical import metrics
from practical.metrics import PROTOCOLS, Protocol, deletion, imputation, insertion
from practical.metrics.protocols import find_protocol
from tests.oracles import Small, one_pixel, refuses


def test_cutoffs():
    equal = Protocol(steps=4)
    np.testing.assert_array_equal(equal.cutoffs(12, 10, 3), [0, 30, 60, 90, 120])
    np.testing.assert_array_equal(Protocol(steps=7).cutoffs(2, 5, 1), [0, 1, 2, 4, 5, 7, 8, 10])
    row = Protocol(step="row")
    np.testing.assert_array_equal(row.cutoffs(3, 10, 3), [0, 10, 20, 30])
    np.testing.assert_array_equal(Protocol(step=25).cutoffs(6, 10, 3), [0, 25, 50, 60])
    values = Protocol(step=25, unit="value", ends="last")
    np.testing.assert_array_equal(values.cutoffs(6, 10, 1), [25, 50, 60])
    inner = Protocol(steps=10, ends="neither")
    np.testing.assert_array_equal(inner.cutoffs(10, 10, 3), range(10, 100, 10))


def test_every_number_of_steps_floors_as_numpy_does():
    # Xplique: np.linspace(0, n, steps + 1, dtype=int).
    for pixels in (120, 4096, 50_176):
        for steps in (1, 3, 7, 10, 28, 120):
            mine = Protocol(steps=steps).cutoffs(pixels, 1, 3)
            exact = [pixels * k // steps for k in range(steps + 1)]
            np.testing.assert_array_equal(mine, exact)


def test_areas():
    fractions = np.array([0, 0.25, 0.75, 1])
    scores = np.array([4.0, 2, 1, 3])
    for area, expected in (
        ("fraction", 0.25 * 3 + 0.5 * 1.5 + 0.25 * 2),
        ("equal", (2 + 2 + 1 + 1.5) / 3),
        ("steps", 2 + 2 + 1 + 1.5),
        ("mean", 2.5),
    ):
        weights = Protocol(area=area).weights(fractions)
        np.testing.assert_allclose(scores @ weights, expected)
    assert Protocol().weights(np.array([0.5])).tolist() == [1.0]


def test_the_area_that_a_constant_score_has(small, batch):
    # A map that changes nothing: the probability of a constant model is 1 throughout.
    images, targets = batch

    def one(images):
        return 0 * images.mean((1, 2, 3))[:, None] + jnp.array([[0.0, -200.0]])

    maps = np.zeros((5, 12, 10), np.float32)
    for name, area in (
        ("practical", 1), ("rise", 1), ("xplique", 0), ("road", 1), ("quantus", 11)
    ):  # fmt: skip
        steps = {"steps": 12} if name == "quantus" else {}
        curve = deletion(one, images, 0 * targets, maps, protocol=name, **steps)
        np.testing.assert_allclose(curve.auc, area, rtol=1e-5)
    assert metrics.road(one, images, 0 * targets, maps).tolist() == [0] * 5


def rise(model, image, target, heat, first, last):
    """RISE's CausalMetric: a row of pixels at a time, areas over equal steps."""
    height, width, channels = image.shape
    order = np.argsort(-heat.ravel())
    shown, scores = first.copy().reshape(-1, channels), []
    for step in range(height + 1):
        logits = np.asarray(model(shown.reshape(1, height, width, channels)), np.float64)[0]
        scores.append(np.exp(logits[target]) / np.exp(logits).sum())
        some = order[step * width : (step + 1) * width]
        shown[some] = last.reshape(-1, channels)[some]
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_rise_preset(batch, channels):
    from practical.baselines import baseline_images

    images, targets = batch
    maps = np.random.default_rng(0).normal(size=(5, 12, 10)).astype(np.float32)
    images = np.concatenate([images, images], 3)[..., :channels]
    small = Small.random(0, channels=channels)
    mean = [0.485, 0.456, 0.406] if channels == 3 else [0.5] * channels
    color = np.broadcast_to(np.float32(mean), images.shape)
    blurred = np.asarray(baseline_images("rise_blur", np.asarray(images)))
    gone = deletion(small, images, targets, maps, protocol="rise").auc
    back = insertion(small, images, targets, maps, protocol="rise").auc
    for i in range(5):
        given = (small, images[i], targets[i], maps[i])
        np.testing.assert_allclose(gone[i], rise(*given, images[i], color[i]), rtol=1e-4)
        np.testing.assert_allclose(back[i], rise(*given, blurred[i], images[i]), rtol=1e-4)


def test_the_quantus_preset(small, batch):
    # Single values of any channel, the image's own minimum, no point for nothing removed.
    images, targets = batch
    maps = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    curve = deletion(small, images, targets, maps, protocol="quantus", steps=9)
    assert curve.scores.shape == (5, 9)
    for i in range(5):
        flat, order = images[i].copy().ravel(), np.argsort(-maps[i].ravel())
        scores = []
        for k in range(9):
            flat[order[k * 40 : (k + 1) * 40]] = images[i].min()
            logits = np.asarray(small(flat.reshape(1, 12, 10, 3)), np.float64)[0]
            scores.append(np.exp(logits[targets[i]]) / np.exp(logits).sum())
        np.testing.assert_allclose(curve.scores[i], scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(curve.auc[i], np.trapezoid(scores), rtol=1e-4)
    # One value a pixel is taken for all of its channels.
    assert deletion(small, images, targets, maps[..., 0], protocol="quantus", steps=3).scores.any()


def test_order_and_overrides():
    white = np.ones((1, 12, 10, 3), np.float32)
    maps = np.random.default_rng(0).permutation(120).reshape(1, 12, 10).astype(np.float32)
    maps[0, 2, 3] = 1e3  # the pixel that counts
    options = {"baseline": "black", "steps": 4, "output": "logit"}
    most = deletion(one_pixel, white, [0], maps, **options)
    np.testing.assert_array_equal(most.scores[0], [1, 0, 0, 0, 0])
    least = deletion(one_pixel, white, [0], maps, order="least", **options)
    np.testing.assert_array_equal(least.scores[0], [1, 1, 1, 1, 0])
    mine = Protocol(steps=4, deletion="black", output="logit", order="least")
    same = deletion(one_pixel, white, [0], maps, protocol=mine)
    np.testing.assert_array_equal(same.scores, least.scores)
    assert find_protocol("rise", steps=5).step is None
    assert find_protocol("rise") is PROTOCOLS["rise"] or find_protocol("rise") == PROTOCOLS["rise"]
    assert dataclasses.replace(PROTOCOLS["road"], order="least").ends == "neither"


# --- imputation ----------------------------------------------------------------------------------


def witness(image, gone):
    """ROAD's system, one equation a removed pixel, by a direct solver."""
    height, width, channels = image.shape
    ys, xs = np.nonzero(gone)
    number = -np.ones((height, width), int)
    number[ys, xs] = np.arange(len(ys))
    system = scipy.sparse.lil_matrix((len(ys), len(ys)))
    right = np.zeros((len(ys), channels))
    for row, (y, x) in enumerate(zip(ys, xs, strict=True)):
        for dy, dx in np.ndindex(3, 3):
            v, u = y + dy - 1, x + dx - 1
            if (dy, dx) == (1, 1) or not (0 <= v < height and 0 <= u < width):
                continue
            weight = 1 / 6 if 1 in (dy, dx) else 1 / 12
            system[row, row] += weight
            if gone[v, u]:
                system[row, number[v, u]] -= weight
            else:
                right[row] += weight * image[v, u]
    filled = image.astype(np.float64)
    filled[ys, xs] = scipy.sparse.linalg.spsolve(system.tocsc(), right).reshape(len(ys), channels)
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, "block", "all but one"])
def test_imputation_against_a_direct_solver(share, monkeypatch):
    monkeypatch.setattr(imputation, "_NOISE", 0.0)
    rng = np.random.default_rng(1)
    image = rng.random((16, 14, 3), np.float32)
    gone = rng.random((16, 14)) < (share if isinstance(share, float) else 2)
    if share == "block":
        gone = np.zeros((16, 14), bool)
        gone[:11, 3:] = True  # reaches three edges
    if share == "all but one":
        gone[7, 5] = False
    filled = np.asarray(imputation.impute(image, gone, jax.random.key(0)))
    np.testing.assert_allclose(filled, witness(image, gone), atol=2e-3)  # the noise is 0.01
    np.testing.assert_array_equal(filled[~gone], image[~gone])


def test_imputation_of_a_ramp_is_the_ramp(monkeypatch):
    monkeypatch.setattr(imputation, "_NOISE", 0.0)
    ramp = np.broadcast_to(np.linspace(0, 1, 20)[None, :, None], (20, 20, 1)).astype(np.float32)
    gone = np.zeros((20, 20), bool)
    gone[5:15, 5:15] = True  # away from the edges, where a mean of neighbours is exact
    filled = imputation.impute(ramp, gone, jax.random.key(0))
    np.testing.assert_allclose(filled, ramp, atol=2e-3)


def test_the_noise_of_imputation():
    image = np.full((40, 40, 3), 0.5, np.float32)
    gone = np.zeros((40, 40), bool)
    gone[5:35, 5:35] = True
    filled = np.asarray(imputation.impute(image, gone, jax.random.key(0)))
    np.testing.assert_allclose(filled[gone].std(), 0.01, rtol=0.1)
    np.testing.assert_array_equal(filled[~gone], 0.5)


def test_road_against_its_definition(small, batch, monkeypatch):
    monkeypatch.setattr(imputation, "_NOISE", 0.0)
    images, targets = batch
    maps = np.random.default_rng(2).normal(size=(5, 12, 10)).astype(np.float32)
    jax.clear_caches()  # what was compiled with the noise
    found = metrics.road(small, images, targets, maps)
    for i in range(5):
        areas = []
        for sign in (-1, 1):  # most, least relevant first
            order, scores = np.argsort(sign * maps[i].ravel()), []
            for k in range(1, 10):
                gone = np.zeros(120, bool)
                gone[order[: 12 * k]] = True
                shown = witness(images[i], gone.reshape(12, 10))[None].astype(np.float32)
                logits = np.asarray(small(shown), np.float64)[0]
                scores.append(np.exp(logits[targets[i]]) / np.exp(logits).sum())
            areas.append(np.mean(scores))
        np.testing.assert_allclose(found[i], (areas[1] - areas[0]) / 2, atol=2e-3)
    jax.clear_caches()


def test_bad_protocols(small, batch):
    maps = np.zeros((5, 12, 10), np.float32)
    with refuses("protocol must be one of practical, rise, .*got 'rize'; did you mean 'rise'"):
        deletion(small, *batch, maps, protocol="rize")
    for field, value in (("order", "first"), ("unit", "patch"), ("ends", "first"), ("area", "")):
        with refuses(f"{field} must be one of .*, got {value!r}"):
            Protocol(**{field: value})
    for ends in ({"step": 120}, {"step": 1000}):
        with refuses(
            f"^step must be less than the 120 pixels of an image for a protocol without ends, got "
            f"{ends['step']}$"
        ):
            Protocol(ends="neither", **ends).cutoffs(12, 10, 3)
    with refuses("^step must be less than the 10 pixels .*, got 'row'$"):
        Protocol(step="row", ends="neither").cutoffs(1, 10, 3)
    with refuses("^steps must be at least 2 for a protocol without ends, got 1"):
        Protocol(steps=1, ends="neither").cutoffs(12, 10, 3)
    assert Protocol(step=119, ends="neither").cutoffs(12, 10, 3).tolist() == [119]
    with refuses("step must be an integer of at least 1, got 0"):
        Protocol(step=0)
    with refuses('baseline "impute" is for deletion of whole pixels, got insertion'):
        insertion(small, *batch, maps, baseline="impute", protocol="road")
    with refuses('"impute" needs some pixels that are left, so the protocol must be without ends'):
        deletion(small, *batch, maps, baseline="impute")
    with refuses("steps must be at most the 120 pixels of an image, got 121"):
        deletion(small, *batch, maps, steps=121)
    with refuses("heatmaps must have one value for each pixel"):
        deletion(small, *batch, np.zeros((5, 12, 10, 3), np.float32))
