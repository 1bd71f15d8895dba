import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical.models import Classifier, load_model
from practical.models.architecture import Architecture
from practical.models.folded import Window, fold


@functools.cache
def shapes_of(architecture: Architecture):
    """Return the shapes of the network's variables."""
    return jax.eval_shape(
        architecture.module().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )  # fmt: skip


def random_classifier(seed: int = 0, *, biased: bool = True, **options) -> Classifier:
    """Return a ResNet of three classes, all of whose tensors are random, batch norms' included.

    Without `biased`, what is folded has no biases, and neither has the head.
    """
    architecture = Architecture(**{
        "block": "basic", "stage_sizes": (1,), "widths": (4,), "classes": 3, "stem_width": 4,
        "stem_kernel": 3, "stem_stride": 1, "pool": False, **options,
    })  # fmt: skip
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return jnp.asarray(rng.normal(0, (2 / fan_in) ** 0.5, leaf.shape), jnp.float32)
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        return jnp.asarray(biased * rng.normal(0, 0.3, leaf.shape), jnp.float32)

    return Classifier(
        architecture=architecture,
        class_names=("a", "b", "c"),
        variables=jax.tree_util.tree_map_with_path(draw, shapes_of(architecture)),
        mean=jnp.array([0.4, 0.5, 0.6]),
        std=jnp.array([0.2, 0.25, 0.3]),
    )


@jax.jit
def both(model, images):
    return fold(model)(images), model(images)


def assert_same_logits(model, images):
    folded, expected = map(np.asarray, both(model, images))
    rms = np.sqrt((expected**2).mean())
    assert rms > 0.01
    np.testing.assert_allclose(folded, expected, rtol=0, atol=1e-4 * rms)


BOTTLENECK = {"block": "bottleneck", "expansion": 4, "stage_sizes": (1, 2), "widths": (4, 6)}


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((17, 15), {"stage_sizes": (1, 2, 1), "widths": (4, 6, 8), "stem_stride": 2}),
        ((24, 24), {"stage_sizes": (2, 1), "widths": (4, 6), "pool": True, "stem_kernel": 7}),
        ((13, 20), {**BOTTLENECK, "pool": True, "stem_stride": 2}),
        ((11, 9), {**BOTTLENECK, "groups": 2, "stem_kernel": 4}),
        ((19, 14), {**BOTTLENECK, "dilated": (True,), "stem_stride": 2}),
        ((11, 12), {**BOTTLENECK, "stride_in_1x1": True}),
        ((2, 2), {"stage_sizes": (1, 1), "widths": (4, 4), "stem_stride": 2}),  # maps of one pixel
    ],
)
def test_the_logits_are_the_classifiers(size, options):
    images = np.random.default_rng(0).random((3, *size, 3), np.float32)
    assert_same_logits(random_classifier(**options), images)


def test_a_skips_convolution_stays_where_maps_are_one_pixel_and_channels_alike():
    """jax-resnet leaves it out where both shapes agree; torchvision and its weights do not."""
    options = {"stage_sizes": (1, 1), "widths": (4, 4), "stem_stride": 2}
    model, images = random_classifier(**options), np.ones((1, 2, 2, 3), np.float32)
    name = "layer2.0.downsample.0"
    doubled = model.replace_kernels({name: 2 * model.kernels()[name]})
    (_, one), (_, other) = both(model, images), both(doubled, images)
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 1e-2


def test_the_embedded_model():
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    assert_same_logits(load_model("shapes"), images)


def test_epsilon_is_the_batch_norms_own():
    # Variances as small as flax's 1e-5, so that another epsilon is another network.
    model = random_classifier()
    tiny = jax.tree.map(lambda var: var * 1e-5, model.variables["batch_stats"])
    means = jax.tree.map(jnp.zeros_like, tiny)
    variables = {**model.variables, "batch_stats": jax.tree_util.tree_map_with_path(
        lambda path, var, mean: var if path[-1].key == "var" else mean, tiny, means
    )}  # fmt: skip
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    assert_same_logits(dataclasses.replace(model, variables=variables), images)


def test_new_weights_do_not_compile_anew(compilations):
    images = np.zeros((1, 8, 8, 3), np.float32)
    first, second = random_classifier(0), random_classifier(1)
    jax.block_until_ready(both(first, images))
    compilations()
    jax.block_until_ready(both(second, images))
    assert compilations() == 0


@pytest.mark.parametrize(
    ("window", "size"),
    [
        (Window((3, 3), (2, 2), ((1, 1), (1, 1))), (7, 6)),
        (Window((7, 7), (2, 2), ((3, 3), (3, 3))), (5, 9)),
        (Window((4, 4), (1, 1), ((2, 2), (2, 2))), (3, 8)),
        (Window((1, 1), (2, 2), ((0, 0), (0, 0))), (5, 4)),
        (Window((3, 3), (1, 2), ((4, 4), (2, 2)), (4, 2)), (7, 6)),
    ],
)
def test_places_of_a_window_are_those_inside_the_maps(window, size):
    ones = jnp.ones((1, *size, 1))
    counted = window.reduce(ones, 0.0, jax.lax.add)[0, :, :, 0]
    np.testing.assert_array_equal(window.places(*size), counted)
    assert counted.min() >= 1
