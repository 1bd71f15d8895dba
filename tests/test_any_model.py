"""Every explanation that asks nothing of the inside, on models of all frameworks and any images."""

import re
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from practical import _arguments, attribution, metrics, predict
from practical.attribution import METHODS
from practical.models import Split, check_rows, with_precision
from tests.test_methods import FEW

PAGE = Path(__file__).resolve().parents[1] / "docs/any-model.md"


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        return linen.Dense(3)(x.mean((1, 2)))


class Nnx(nnx.Module):
    def __init__(self, channels, *, rngs):
        self.conv = nnx.Conv(channels, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norm(self.conv(x))))
        return self.dense(x.mean((1, 2)))


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    dense: eqx.nn.Linear
    activation: object  # a leaf that is no array

    def __init__(self, channels, key):
        one, two = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(channels, 4, 3, padding=1, key=one)
        self.dense = eqx.nn.Linear(4, 3, key=two)
        self.activation = jax.nn.relu

    def __call__(self, image):  # one image, channels first, as equinox has it
        maps = self.activation(self.conv(image.transpose(2, 0, 1)))
        return self.dense(maps.mean((1, 2)))


def plain(channels):
    kernel = jax.random.normal(jax.random.key(0), (3, 3, channels, 4))
    dense = jax.random.normal(jax.random.key(1), (4, 3))

    def model(images):
        maps = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(maps).mean((1, 2)) @ dense

    return model


def linen_model(channels):
    module = Linen()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
    return jax.tree_util.Partial(module.apply, variables)


def nnx_model(channels):
    model = Nnx(channels, rngs=nnx.Rngs(0))
    model.eval()
    return model


def equinox_model(channels):
    return eqx.filter_vmap(Equinox(channels, jax.random.key(0)))


MODELS = {
    "a plain function": plain,
    "flax.linen": linen_model,
    "flax.nnx": nnx_model,
    "equinox": equinox_model,
}
SIZES = {"greyscale": (20, 28, 1), "colour": (24, 24, 3), "multispectral": (17, 18, 7)}
# Each framework once, each kind of image once; and all methods on all of these.
CASES = [
    ("a plain function", "greyscale"), ("flax.linen", "multispectral"), ("flax.nnx", "colour"),
    ("equinox", "greyscale"),
]  # fmt: skip
ANYWHERE = [n for n, m in METHODS.items() if m.needs not in ("features and head", "Classifier")]


def images_of(size):
    height, width, channels = SIZES[size]
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    layers = [0.5 + 0.5 * np.sin(6 * (rows * (c + 1) - columns)) for c in range(channels)]
    image = np.stack(layers, -1).astype(np.float32)
    return np.stack([image, image[::-1]])


@pytest.mark.parametrize(("framework", "size"), CASES)
def test_the_whole_table(framework, size):
    images = images_of(size)
    model = MODELS[framework](images.shape[-1])
    expected = jax.jit(lambda x: model(x))(images)
    for name in ANYWHERE:
        options = FEW.get(name, {}) | ({"count": 4} if name in ("lime", "kernel_shap") else {})
        if name == "kernel_shap":
            options["samples"] = 300
        maps = np.asarray(METHODS[name](model, images, [0, 2], **options))
        assert maps.shape in (images.shape, images.shape[:3]), name
        assert np.isfinite(maps).all(), name
        assert METHODS[name].heatmap(model, images, [0, 2], **options).shape == images.shape[:3]
    # Completeness, and a curve, and a metric that asks for the explanation again.
    maps = attribution.integrated_gradients(model, images, [0, 2], steps=60)
    error = attribution.completeness_error(model, images, [0, 2], maps, relative=False)
    assert np.asarray(error).max() < 0.02 * float(jnp.ptp(expected))
    curve = metrics.deletion(model, images, [0, 2], attribution.heatmap(maps), output="logit")
    np.testing.assert_allclose(curve.scores[:, 0], expected[jnp.arange(2), jnp.array([0, 2])],
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    worst = metrics.max_sensitivity(model, images, [0, 2], METHODS["saliency"], samples=1)
    assert worst.shape == (2,)


@pytest.mark.parametrize("framework", ["flax.linen", "flax.nnx", "equinox"])
def test_new_weights_compile_nothing(framework, compilations):
    images = images_of("colour")
    model = MODELS[framework](3)
    first = np.asarray(attribution.gradient(model, images, [0, 2]))
    double = jax.tree.map(
        lambda leaf: 2 * leaf if eqx.is_inexact_array(leaf) else leaf, model
    )  # fmt: skip
    compilations()
    second = np.asarray(attribution.gradient(double, images, [0, 2]))
    assert compilations() == 0
    assert not np.allclose(second, first)


def test_features_and_head_of_any_model():
    images = images_of("colour")
    inner = Equinox(3, jax.random.key(0))
    features = eqx.filter_vmap(
        lambda model, image: model.activation(model.conv(image.transpose(2, 0, 1))).transpose(
            1, 2, 0
        ),
        in_axes=(None, 0),
    )
    head = eqx.filter_vmap(lambda model, maps: model.dense(maps.mean((0, 1))), in_axes=(None, 0))
    model = Split(lambda x: features(inner, x), lambda maps: head(inner, maps))
    np.testing.assert_allclose(model(images), jax.vmap(inner)(images), rtol=1e-5)
    for name in ("grad_cam", "grad_cam_plus_plus", "guided_grad_cam"):
        maps = np.asarray(METHODS[name].heatmap(model, images, [0, 2]))
        assert maps.shape == images.shape[:3]
        assert maps.any()
    # Grad-CAM of a mean and a dense layer: the maps weighed by the layer's row, over the pixels.
    raw = attribution.grad_cam(model, images, [0, 2], relu=False, upsample=False)
    maps = features(inner, images)
    expected = np.einsum("bhwc,bc->bhw", maps, np.asarray(inner.dense.weight)[[0, 2]]) / (24 * 24)
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-6)


class Parts(nnx.Module):
    """A network of two parts, one of which calls a layer through a transformation of nnx's."""

    def __init__(self, transform):
        rngs = nnx.Rngs(0)
        self.transform = transform
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)

    def features(self, images):
        return self.transform(lambda conv, x: nnx.relu(conv(x)))(self.conv, images)

    def head(self, maps):
        return self.transform(lambda dense, x: dense(x))(self.dense, maps.mean((1, 2)))

    def __call__(self, images):
        return self.head(self.features(images))


ANSWERS = {
    "predict": lambda model, images: predict(model, images),
    "gradient": lambda model, images: attribution.gradient(model, images, [0, 2]),
    "occlusion": lambda model, images: attribution.occlusion(
        model, images, [0, 2], window=12, stride=12, chunk_size=3
    ),
    "deletion": lambda model, images: (
        metrics.deletion(model, images, [0, 2], images[..., 0], steps=3, chunk_size=3).scores
    ),
    "grad_cam": lambda model, images: attribution.grad_cam(model, images, [0, 2], chunk_size=1),
}


@pytest.mark.parametrize("transform", [nnx.remat, nnx.jit])
def test_transformations_inside_of_an_nnx_module(transform):
    """They refuse a module that was built in another trace than the one that calls it."""
    images = images_of("colour")
    for name, answer in ANSWERS.items():
        expected = answer(Parts(lambda function: function), images)
        for model in (Parts(transform), Split(Parts(transform).features, Parts(transform).head)):
            np.testing.assert_allclose(
                answer(model, images), expected, rtol=1e-5, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("name", ANSWERS)
def test_methods_of_a_pytree_follow_its_weights(name, compilations):
    images = images_of("colour")
    net = Parts(lambda function: function)
    split = Split(net.features, net.head)
    models = [split] if name == "grad_cam" else [split, net.__call__]
    before = [np.asarray(ANSWERS[name](model, images)) for model in models]
    compilations()
    net.conv.kernel[...] = net.conv.kernel[...][::-1] + 0.1  # as a training step does
    net.dense.kernel[...] = -2 * net.dense.kernel[...]
    expected = np.asarray(ANSWERS[name](net, images))
    compilations()
    for model, old in zip(models, before, strict=True):
        new = np.asarray(ANSWERS[name](model, images))
        assert not np.allclose(new, old)
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
    assert compilations() == 0, "only values changed"


class Weights:
    """An object that JAX does not know, with an array that is replaced or written to."""

    def __init__(self, kind):
        self.kind, self.array = kind, kind(np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3))

    def logits(self, images):
        return images.mean((1, 2)) ** 2 @ self.array

    __call__ = logits

    def train(self):
        if self.kind is jnp.asarray:
            self.array = self.array.T + 0.1
        else:
            self.array[:] = self.array.T + 0.1


CAPTURING = {
    "closure": lambda weights: lambda images: weights.logits(images),
    "method": lambda weights: weights.logits,
    "object": lambda weights: weights,
    "functools.partial": lambda weights: partial(Weights.logits, weights),
    "Partial of a closure": lambda weights: jax.tree_util.Partial(lambda x: weights.logits(x)),
    "Split": lambda weights: Split(lambda x: x, weights.logits),
}


@pytest.mark.parametrize("kind", [jnp.asarray, np.array], ids=["jax", "numpy"])
@pytest.mark.parametrize("capture", CAPTURING.values(), ids=CAPTURING)
def test_captured_arrays_are_those_of_now(capture, kind, compilations):
    weights, images = Weights(kind), images_of("colour")
    model, names = capture(weights), ("gradient", "predict", "deletion")
    before = {name: np.asarray(ANSWERS[name](model, images)) for name in names}
    compilations()
    for name in names:
        np.testing.assert_array_equal(ANSWERS[name](model, images), before[name])
    assert compilations() == 0, "nothing has changed"
    weights.train()
    fresh = jax.tree_util.Partial(  # which hands over its array
        lambda array, images: images.mean((1, 2)) ** 2 @ array, jnp.asarray(weights.array)
    )
    for name in names:
        after = np.asarray(ANSWERS[name](model, images))
        assert not np.allclose(after, before[name])
        np.testing.assert_allclose(after, ANSWERS[name](fresh, images), rtol=1e-5, atol=1e-6)


def test_programs_of_many_weights_are_dropped(monkeypatch):
    monkeypatch.setattr(_arguments, "_MOST_CAPTURED", 100)  # bytes; the array has 36
    weights, images = Weights(jnp.asarray), images_of("colour")
    for _ in range(12):
        predict(weights, images)
        weights.train()
    assert len(_arguments._states) <= 4


def nnx_training(norm=False, rate=0.0):
    model = Nnx(3, rngs=nnx.Rngs(0))
    model.norm.use_running_average = not norm
    model.drop.rate = rate
    return model


def linen_training():
    norm = linen.BatchNorm(use_running_average=False)
    variables = norm.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
    return lambda x: jnp.tanh(norm.apply(variables, x, mutable=["batch_stats"])[0]).mean((1, 2))


def noisy(images):  # with other numbers in each trace
    return images.mean((1, 2)) + np.random.default_rng().normal(size=3).astype(np.float32)


def dropped(images):
    return eqx.nn.Dropout(0.1)(images, key=jax.random.key(0)).mean((1, 2))


TRAINING = {
    "batch normalization of flax.nnx": lambda: nnx_training(norm=True),
    "dropout of flax.nnx": lambda: nnx_training(rate=0.1),
    "batch normalization of flax.linen": linen_training,
    "dropout of equinox": lambda: dropped,
    "the batch's mean": lambda: lambda x: (x - 0.2 * x.mean(0)).mean((1, 2)),
    "the batch's mean, one logit": lambda: lambda x: (x - 0.2 * x.mean(0)).mean((1, 2))[:, :1],
    "the batch's mean in bfloat16": lambda: with_precision(
        lambda x: (x - 0.2 * x.mean(0)).mean((1, 2)), "bfloat16"
    ),
    "random numbers of NumPy": lambda: noisy,
}


@pytest.mark.parametrize("chunk_size", [1, 8])
@pytest.mark.parametrize("model", TRAINING.values(), ids=TRAINING)
def test_training_mode_is_found(model, chunk_size):
    images = images_of("colour")
    with pytest.raises(ValueError, match=r"depend only on the image.*model\.eval\(\).*inference_"):
        check_rows(model(), images, chunk_size=chunk_size)
    model = Nnx(3, rngs=nnx.Rngs(0))
    mean = np.asarray(model.norm.mean[...])
    with pytest.raises(ValueError, match="training mode"):
        check_rows(model, images, chunk_size=chunk_size)
    np.testing.assert_array_equal(model.norm.mean[...], mean)  # its statistics stay
    model.eval()
    check_rows(model, images, chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 7])
@pytest.mark.parametrize("framework", MODELS)
def test_models_whose_rows_are_independent(framework, chunk_size, compilations):
    model = MODELS[framework](3)
    images = np.random.default_rng(0).uniform(size=(9, 33, 47, 3)).astype(np.float32)
    variants = [model, lambda x: model(x) + 1e4]
    if framework != "a plain function":  # its weights stay in float32
        variants.append(with_precision(model, "bfloat16"))
    for variant in variants:
        check_rows(variant, images, chunk_size=chunk_size)
    if chunk_size > 1:
        compilations()
        predict(model, images, chunk_size=chunk_size)
        assert compilations() == 0, "the check uses the program of `predict`"
    for constant in (0.0, jnp.nan):  # `predict` reports NaN
        check_rows(lambda x, c=constant: x.mean((1, 2)) * c, images, chunk_size=chunk_size)


def test_the_page_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S))
    assert "attribution." in code
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
