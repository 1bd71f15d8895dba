"""What a probability means: one logit has none, and probabilities are not logits."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution, bias, metrics, predict, training
from practical.attribution import heatmap, saliency
from practical.data import Dataset
from practical.widgets.picture import probabilities
from tests.oracles import Linear, refuses

RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 6, 6, 3), np.float32)
MAPS = RNG.normal(size=(8, 6, 6)).astype(np.float32)
SEGMENTS = np.broadcast_to(np.arange(6)[:, None] // 2, (8, 6, 6))
ZEROS = np.zeros(8, np.int32)
WEIGHTS = 0.3 * RNG.normal(size=(108, 20)).astype(np.float32)
DATASET = Dataset(IMAGES, ZEROS, ("a", "b"))


def logits(images):
    return images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS)


def single(images):
    return logits(images)[:, :1]


def head(images):
    return jax.nn.softmax(logits(images))


# Everything that takes a softmax of what a model returns.
SOFTMAXES = {
    "deletion": lambda model: metrics.deletion(model, IMAGES, ZEROS, MAPS, steps=4).scores,
    "insertion": lambda model: metrics.insertion(model, IMAGES, ZEROS, MAPS, steps=4).scores,
    "road": lambda model: metrics.road(model, IMAGES, ZEROS, MAPS),
    "infidelity": lambda model: metrics.infidelity(
        model, IMAGES, ZEROS, MAPS, samples=4, output="probability"
    ),
    "sensitivity_n": lambda model: metrics.sensitivity_n(
        model, IMAGES, ZEROS, MAPS, samples=4, output="probability"
    ),
    "rise": lambda model: attribution.rise(model, IMAGES, ZEROS, samples=8, cells=2),
    "lime": lambda model: attribution.lime(
        model, IMAGES, ZEROS, segments=SEGMENTS, samples=8, output="probability"
    ),
    "kernel_shap": lambda model: attribution.kernel_shap(
        model, IMAGES, ZEROS, segments=SEGMENTS, samples=8, output="probability"
    ),
    "effect": lambda model: bias.effect(model, IMAGES, IMAGES[::-1], ZEROS),
    "panel": lambda model: probabilities(model, IMAGES),
}
ARGMAXES = {
    "accuracy": lambda model: training.accuracy(model, DATASET),
}


@pytest.mark.parametrize("name", [*SOFTMAXES, *ARGMAXES])
def test_one_logit_is_refused_with_the_way_out(name):
    with refuses(r"model must return at least two logits.*got shape \(\d, 1\).*output=\"logit\""):
        (SOFTMAXES | ARGMAXES)[name](single)


def test_one_logit_can_be_followed_as_it_is():
    curve = metrics.deletion(single, IMAGES, ZEROS, MAPS, steps=4, output="logit")
    np.testing.assert_allclose(curve.scores[:, 0], single(IMAGES)[:, 0], rtol=1e-5)


@pytest.mark.parametrize("name", SOFTMAXES)
def test_probabilities_taken_for_logits_get_a_warning(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        SOFTMAXES[name](head)
    assert len({str(w.message) for w in caught if "look like probabilities" in str(w.message)}) == 1
    assert {w.filename for w in caught} == {__file__}  # so that each cell of a notebook shows it
    SOFTMAXES[name](logits)  # any warning is an error in tests


def test_logits_that_sum_to_one_by_chance_get_no_warning():
    def near(images):  # as two logits may, one image in ten thousand
        return jnp.tile(jnp.float32([[0.3, 0.70003]]), (len(images), 1))

    def narrow(images):
        return near(images).astype(jnp.bfloat16)

    for model in near, narrow:  # any warning is an error in tests
        metrics.deletion(model, IMAGES[:1], ZEROS[:1], MAPS[:1], steps=4)


def test_scores_may_be_taken_inside_of_somebody_elses_program():
    def scores(images, maps):
        curve = metrics.deletion(head, images, ZEROS, maps, steps=4)
        return curve.scores, attribution.rise(head, images, ZEROS, samples=8, cells=2)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*look like probabilities")
        expected = scores(IMAGES, MAPS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        jax.jit(scores)(IMAGES, MAPS), expected,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_logits_are_widened_before_anything_is_computed_of_them(dtype):
    def narrow(images):
        return logits(images).astype(dtype)

    def wide(images):
        return jax.lax.reduce_precision(logits(images), *bits)

    bits = (8, 7) if dtype == jnp.bfloat16 else (5, 10)
    assert predict(narrow, IMAGES).dtype == np.float32
    np.testing.assert_array_equal(predict(narrow, IMAGES), predict(wide, IMAGES))
    for name in ("deletion", "infidelity", "rise"):
        np.testing.assert_allclose(SOFTMAXES[name](narrow), SOFTMAXES[name](wide), rtol=1e-5)
    errors = (
        attribution.completeness_error(model, IMAGES, ZEROS, MAPS, relative=False)
        for model in (narrow, wide)
    )
    np.testing.assert_allclose(*errors, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [lambda images: (logits(images), images), lambda images: {"a": logits(images)}]
)
def test_other_answers_than_logits_get_a_short_error(wrong):
    for call in (
        lambda: predict(wrong, IMAGES),
        lambda: attribution.gradient(wrong, IMAGES, ZEROS),
        lambda: metrics.deletion(wrong, IMAGES, ZEROS, MAPS),
    ):
        with refuses(r"got a (tuple of 2|dict of 1); return only the logits"):
            call()


def test_an_image_without_batch_axis():
    for call in (lambda: predict(logits, IMAGES[0]), lambda: saliency(logits, IMAGES[0], [0])):
        with refuses(r"got \(6, 6, 3\); add a batch axis: images\[None\]"):
            call()


@pytest.mark.parametrize("level", [1.0, 100.0])
def test_a_constant_added_to_a_perfect_map_changes_no_metric(level):
    model = Linear(jnp.full((1, 8, 8, 3), 1e-4) * RNG.random((1, 8, 8, 1)), jnp.zeros(1))
    images = RNG.random((2, 8, 8, 3)).astype(np.float32)
    shares = np.einsum("bhwc,khwc->bhw", images, model.weights, dtype=np.float64)
    options = {"targets": [0, 0], "baseline": "black", "samples": 50}
    found = metrics.sensitivity_n(model, images, heatmaps=shares + level, **options)
    np.testing.assert_allclose(found, 1, atol=1e-3)
    exact = metrics.infidelity(model, images, heatmaps=shares, scale=False, **options)
    assert exact.max() < 1e-12


def test_norms_of_tiny_slopes_are_not_zero():
    model = Linear(jnp.full((1, 4, 4, 3), 1e-22), jnp.zeros(1))
    slopes = saliency(model, np.zeros((1, 4, 4, 3), np.float32), [0], reduce="l2")
    np.testing.assert_allclose(np.float64(slopes), np.sqrt(3) * 1e-22, rtol=1e-5)
    assert not np.any(heatmap(np.zeros((1, 2, 2, 3), np.float32), reduce="l2"))
