"""Every explanation and every metric refuses the same bad input with the same clear words."""

from functools import partial

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from practical import attribution, metrics
from practical._inputs import check_finite, check_images
from practical.attribution import METHODS
from practical.models import predict
from tests.oracles import Small, refuses


def with_maps(metric):
    def call(model, images, targets, **options):
        shape = np.shape(images)[:3] if np.ndim(images) > 2 else (1, 1, 1)
        return metric(model, images, targets, np.zeros(shape, np.float32), **options)

    return call


def on_segments(method):
    def call(model, images, targets, **options):
        count = len(images) if np.ndim(images) == 4 else 1
        segments = np.tile(np.arange(120).reshape(12, 10) // 30, (count, 1, 1))
        return method(model, images, targets, **{"segments": segments, "samples": 20, **options})

    return call


SMALLER = {  # options that keep the tests fast
    "occlusion": {"window": 4, "stride": 4},
    "rise": {"samples": 12},
    "integrated_gradients": {"steps": 5},
    "expected_gradients": {"samples": 5},
    "smooth_grad": {"samples": 3},
    "squaregrad": {"samples": 3},
    "vargrad": {"samples": 3},
}


def smaller(name, method):
    return lambda *args, **options: method(*args, **{**SMALLER.get(name, {}), **options})


CALLS = {
    # Relevance needs a Classifier, whose tests are in test_relevance.py.
    **{name: smaller(name, m) for name, m in METHODS.items() if m.needs != "Classifier"},
    "lime": on_segments(attribution.lime),
    "kernel_shap": on_segments(attribution.kernel_shap),
    "adaptive_integrated_gradients": lambda *args, **options: (
        attribution.adaptive_integrated_gradients(*args, tolerance=9, **options).attribution
    ),
    "completeness_error": with_maps(attribution.completeness_error),
    "deletion": with_maps(metrics.deletion),
    "insertion": with_maps(metrics.insertion),
    "road": with_maps(metrics.road),
    "infidelity": with_maps(partial(metrics.infidelity, samples=5)),
    "sensitivity_n": with_maps(partial(metrics.sensitivity_n, samples=5)),
    "max_sensitivity": lambda *args, **options: metrics.max_sensitivity(
        *args, attribution.gradient, samples=2, **options
    ),
}
CONTROLS = ("random", "center", "edges")  # they never ask the model
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

GOOD = np.random.default_rng(0).random((3, 12, 10, 3), np.float32) * 0.5 + 0.25
BAD_IMAGES = {
    "no batch axis": (
        GOOD[0], r"\(batch, height, width, channels\), got \(12, 10, 3\); add a batch axis"
    ),
    "rank 2": (GOOD[0, 0], r"have shape \(batch, height, width, channels\), got \(10, 3\)$"),
    "rank 5": (GOOD[None], r"\(batch, height, width, channels\), got \(1, 3, 12, 10, 3\)"),
    "channels first": (np.zeros((3, 3, 20, 16)), r"channels last.*transpose\(0, 2, 3, 1\)"),
    "empty batch": (GOOD[:0], r"at least one image and pixel, got shape \(0, 12, 10, 3\)"),
    "no pixels": (GOOD[:, :0], r"at least one image and pixel"),
    "uint8": ((GOOD * 255).astype(np.uint8), r"floating-point.*got uint8; .*divide by 255"),
    "int": (np.ones((3, 12, 10, 3), int), r"floating-point numbers in \[0, 1\], got int64"),
    "bool": (GOOD > 0.5, r"floating-point numbers in \[0, 1\], got bool"),
    "0 to 255": (GOOD * 255, r"in \[0, 1\] \(normalisation belongs to the model\).*image 0"),
    "negative": (GOOD - [[[[0]]], [[[0.5]]], [[[0.5]]]], r"in \[0, 1\].*from -0.2\d+.*in image 1$"),
}  # fmt: skip


@every_call
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_images(small, call, case):
    images, message = BAD_IMAGES[case]
    with refuses("images must .*" + message):
        call(small, images, [0, 1, 2])


@every_call
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(small, call, value):
    images = GOOD.copy()
    images[1, 2, 3, 0] = value
    with refuses(r"images must be finite, got NaN or infinity for image 1$"):
        call(small, images, [0, 1, 2])


@every_call
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1], r"one class for each of the 3 images, shape \(3,\), got shape \(2,\)"),
        (1, r"one class for each of the 3 images.*got shape \(\)"),
        (np.zeros((3, 1), int), r"one class for each.*got shape \(3, 1\)"),
        ([], r"one class for each.*got shape \(0,\)"),
        ([0, 1, 3], r"classes from 0 to 2, got 3 for image 2"),
        ([0, -1, 2], r"classes from 0 to 2, got -1 for image 1"),
        ([0.0, 1.0, 2.0], r"integers \(class indices\), got float64"),
        (np.array([True, False, True]), r"integers \(class indices\), got bool"),
    ],
)
def test_targets(small, call, targets, message):
    with refuses("targets must .*" + message):
        call(small, GOOD, targets)


@pytest.mark.parametrize(
    "name", [name for name in CALLS if name not in ("completeness_error", *CONTROLS)]
)
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "8", None])
def test_chunk_size(small, name, value):
    with refuses(f"chunk_size must be an integer of at least 1, got {value!r}"):
        CALLS[name](small, GOOD, [0, 1, 2], chunk_size=value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("integrated_gradients", "steps"), ("deletion", "steps"), ("insertion", "steps"),
        ("occlusion", "window"), ("occlusion", "stride"), ("rise", "samples"),
        ("smooth_grad", "samples"), ("vargrad", "samples"), ("expected_gradients", "samples"),
        ("lime", "samples"), ("kernel_shap", "samples"), ("adaptive_integrated_gradients", "steps"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [0, -1, 1.0, True])
def test_counts(small, name, option, value):
    with refuses(f"{option} must be an integer of at least 1, got {value!r}"):
        CALLS[name](small, GOOD, [0, 1, 2], **{option: value})


@pytest.mark.parametrize(
    "name",
    ["integrated_gradients", "adaptive_integrated_gradients", "gradient_x_input", "occlusion",
     "rise", "lime", "kernel_shap", "completeness_error", "deletion", "insertion"],
)  # fmt: skip
def test_unknown_baseline(small, name):
    with refuses(r"baseline must be one of .*got 'blakc'; did you mean 'black'\?"):
        CALLS[name](small, GOOD, [0, 1, 2], baseline="blakc")
    with refuses(r"baseline must be in \[0, 1\]"):
        CALLS[name](small, GOOD, [0, 1, 2], baseline=-2.1)


@pytest.mark.parametrize("reduce", ["max", "mean", ""])
def test_unknown_reduction(small, reduce):
    with refuses(f"reduce must be one of sum, l2, max_abs, got {reduce!r}"):
        attribution.saliency(small, GOOD, [0, 1, 2], reduce=reduce)
    with refuses(f"reduce must be one of sum, l2, max_abs, got {reduce!r}"):
        attribution.heatmap(GOOD, reduce=reduce)


def test_unknown_method():
    with refuses(r"method must be one of occlusion, rise, .*got 'gradcam'; did you mean "
                 r"'grad_cam'\?"):  # fmt: skip
        METHODS["gradcam"]
    with refuses(r"got 'integrated gradients'; did you mean 'integrated_gradients'\?"):
        METHODS["integrated gradients"]
    with refuses(r"got 'zzz'$"):
        METHODS["zzz"]


def test_heatmap_and_completeness_arguments(small):
    with refuses(
        r"attribution must have shape \(batch, height, width, channels\) or .*got \(12, 10\)"
    ):
        attribution.heatmap(GOOD[0, ..., 0])
    np.testing.assert_array_equal(attribution.heatmap(GOOD[..., 0]), GOOD[..., 0])  # as it is
    with refuses(r"attribution must have shape .*got \(0, 12, 10, 3\)"):
        attribution.heatmap(GOOD[:0])
    broken = GOOD.copy()
    broken[[0, 2], 0, 0, 0] = np.nan
    with refuses("attribution must be finite, got NaN or infinity for image 0, 2$"):
        attribution.heatmap(broken)
    with refuses("attribution must be finite, got NaN or infinity for image 0, 2$"):
        attribution.completeness_error(small, GOOD, [0, 1, 2], broken)
    for wrong in (GOOD[:2], GOOD[:, :5], GOOD[None]):
        with refuses(r"attribution must have the images' shape \(3, 12, 10, 3\)"):
            attribution.completeness_error(small, GOOD, [0, 1, 2], wrong)
    with refuses("relative completeness_error.*image 0, 1, 2"):  # the baseline is the image
        attribution.completeness_error(small, GOOD, [0, 1, 2], GOOD, baseline=GOOD)


class Answering(Small):
    """A model with features and head whose logits are `answer(logits)`."""

    def head(self, features):
        return type(self).answer(super().head(features), features)


def answering(answer):
    cls = type("Broken", (Answering,), {"answer": staticmethod(answer)})
    small = Small.random(0)
    return cls(small.kernel, small.shift, small.dense)


@every_call
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda logits, _: logits[:, 0], r"logits of shape \(3, classes\) for 3 images, got .*3\b"),
        (lambda logits, _: logits[:1], r"logits of shape \(3, classes\).*\(1, 3\)"),
        (lambda logits, _: logits[..., None], r"logits of shape \(3, classes\).*\(3, 3, 1\)"),
        (lambda logits, _: (logits, logits), r"logits of shape \(3, classes\)"),
        (lambda logits, _: {"logits": logits}, r"logits of shape \(3, classes\)"),
        (lambda logits, _: logits.argmax(1, keepdims=True), r"floating-point logits.*int32"),
        (lambda logits, _: None, r"logits of shape \(3, classes\).*got None"),
    ],
)
def test_models_that_answer_with_the_wrong_shape(call, answer, message):
    with refuses("model must return .*" + message):
        call(answering(answer), GOOD, [0, 0, 0])


@every_call
def test_models_that_raise(call):
    def fails(logits, features):
        raise KeyError("layer9")

    with refuses(r"model must accept images of shape \(3, 12, 10, 3\).*KeyError: 'layer9'"):
        call(answering(fails), GOOD, [0, 0, 0])
    with refuses(r"model must accept images of shape.*float32; it raised"):
        call(answering(lambda logits, features: logits @ jnp.ones((99, 2))), GOOD, [0, 0, 0])


# Expected gradients starts from random colours, which may be bright for any image.
@pytest.mark.parametrize("name", [n for n in CALLS if n not in (*CONTROLS, "expected_gradients")])
@pytest.mark.parametrize("poison", ["adds infinity", "answers a constant NaN"])
def test_models_that_answer_nan_name_the_image(name, poison):
    bright = GOOD.copy()
    bright[2] = 1  # image 2 alone is bright enough
    features = np.asarray(Small.random(0).features(bright)).mean((1, 2, 3))
    limit = (features[2] + max(features[0], features[1])) / 2
    assert features[2] > limit > features[:2].max()

    def answer(logits, features):
        wrong = features.mean((1, 2, 3), keepdims=True)[:, 0, 0] > limit
        if poison == "adds infinity":
            return logits + jnp.where(wrong, jnp.inf, 0)
        return jnp.where(wrong, jnp.nan, logits)  # with a gradient of 0

    with refuses(r"must be finite, got NaN or infinity for image 2$"):
        CALLS[name](answering(answer), bright, [0, 1, 2])


def test_channels_that_the_model_does_not_take(small):
    for images in (GOOD[..., :1], GOOD[..., [0, 1, 2, 2]]):
        with refuses(rf"model must accept images of shape \(3, 12, 10, {images.shape[3]}\)"):
            attribution.gradient(small, images, [0, 1, 2])
    with refuses(r"\(3, 3, 12, 10\) in float32 \(channels must be last: images.transpose"):
        attribution.gradient(small, GOOD.transpose(0, 3, 1, 2), [0, 1, 2])


def test_things_that_are_no_model():
    for wrong in (None, "resnet18", np.zeros(3)):
        with refuses("model must be callable", TypeError):
            attribution.gradient(wrong, GOOD, [0, 1, 2])
    with refuses(r"model must have the methods features\(images\) and head\(features\)"):
        attribution.grad_cam(None, GOOD, [0, 1, 2])


@every_call
def test_what_is_accepted(small, call):
    """Any float type and container gives the answer of the float32 array."""
    expected = np.asarray(jnp.asarray(call(small, GOOD, np.array([0, 1, 2]))[-1]))
    for images, targets in (
        (jnp.asarray(GOOD), jnp.array([0, 1, 2])),
        (GOOD.astype(np.float64), [0, 1, 2]),
        (GOOD, (0, 1, 2)),
        (GOOD, np.array([0, 1, 2], np.uint8)),
        (np.asfortranarray(GOOD), [np.int64(0), 1, 2]),
    ):
        np.testing.assert_array_equal(call(small, images, targets)[-1], expected)


def test_check_images_keeps_the_ends_of_the_range():
    ends = np.zeros((2, 4, 4, 3), np.float16)
    ends[1] = 1
    assert check_images(ends).dtype == jnp.float32
    with refuses("from 0 to 1.001, first in image 1"):
        check_images(ends.astype(np.float32) * np.float32(1.001))


def test_a_long_list_of_bad_images_is_cut():
    with refuses(r"x must be finite, got NaN or infinity for image 0, 1, 2, 3, 4, \.\.\.$"):
        check_finite(np.full((9, 2), np.nan), "x")


def test_predict_refuses_the_same(small):
    for name, (images, message) in BAD_IMAGES.items():
        if name == "empty batch":
            message = "at least one image, got none"
        with refuses("images must .*" + message):
            predict(small, images)
    with refuses(r"chunk_size must be an integer of at least 1, got 0"):
        predict(small, GOOD, chunk_size=0)
    far = np.concatenate([GOOD, GOOD])
    far[4, 0, 0, 0] = np.nan
    with refuses("images must be finite, got NaN or infinity for image 4$"):
        predict(small, far, chunk_size=2)
    far[4, 0, 0, 0] = 7
    with refuses("from .* to 7, first in image 4$"):
        predict(small, far, chunk_size=3)
    with refuses(r"logits of shape \(3, classes\) for 3 images, got .* of shape \(3,\)"):
        predict(answering(lambda logits, _: logits[:, 0]), GOOD)
    bright = np.concatenate([np.zeros_like(GOOD), np.ones_like(GOOD)])
    features = np.asarray(Small.random(0).features(bright)).mean((1, 2, 3))
    limit = (features[0] + features[5]) / 2
    assert features[5] > limit

    def answer(logits, features):
        return jnp.where(features.mean((1, 2, 3))[:, None] > limit, jnp.nan, logits)

    # The first two chunks of two hold one bright image, number 3.
    with refuses("the model's logits must be finite, got NaN or infinity for image 3$"):
        predict(answering(answer), bright, chunk_size=2)


def test_annotations_are_checked_here_and_can_be_turned_off():
    wrong = np.zeros((2, 3), np.float32)
    with pytest.raises(jaxtyping.TypeCheckError):
        attribution.heatmap(wrong)
    with refuses("attribution must have shape"):
        attribution.heatmap(wrong)
    with pytest.raises(jaxtyping.TypeCheckError):
        attribution.heatmap(wrong)


def test_values_on_an_accelerator_are_looked_at_there(monkeypatch):
    """The same rules, by a program of JAX; there is no accelerator here to fetch from."""
    from practical import _inputs

    monkeypatch.setattr(_inputs, "_in_main_memory", lambda array: False)
    good = jnp.asarray(np.random.default_rng(0).random((3, 5, 4, 3), np.float32))
    np.testing.assert_array_equal(_inputs.check_images(good), good)
    with refuses(r"images must be finite, got NaN or infinity for image 1, 2"):
        _inputs.check_images(good.at[1, 0, 0, 0].set(jnp.nan).at[2, 4, 3, 2].set(jnp.inf))
    with refuses(r"must be in \[0, 1\] .* got values from .* to 1.5, first in image 2"):
        _inputs.check_images(good.at[2, 1, 1, 1].set(1.5))
    with refuses(r"got values from -0.25 to .*, first in image 7"):
        _inputs.check_images(good.at[0, 0, 0, 0].set(-0.25), first=7)
    with refuses("answer .* must be finite, got NaN or infinity for image 0"):
        _inputs.check_answer(good.at[0, 4, 3, 2].set(-jnp.inf), "gradient")
