"""Parameters and operations, against closed forms and what papers print."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical.models import Size, new_resnet, size
from practical.models.architecture import Architecture
from practical.models.classifier import Classifier
from tests.oracles import Linear, Small, refuses


def zeros(**options) -> Classifier:
    """Return a ResNet of ImageNet's classes and of zeros."""
    architecture = Architecture(classes=1000, **options)
    specs = jax.eval_shape(architecture.module().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables = jax.tree.map(lambda spec: np.zeros(spec.shape, np.float32), specs)
    names = tuple(f"class {i}" for i in range(1000))
    return Classifier(architecture, names, variables, jnp.zeros(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("options", "parameters", "giga"),
    [  # torchvision's documentation: parameters, and 10**9 multiply-adds at 224 pixels
        ({"block": "basic", "stage_sizes": (2, 2, 2, 2)}, 11_689_512, 1.814),
        ({"block": "bottleneck", "stage_sizes": (3, 4, 6, 3), "expansion": 4}, 25_557_032, 4.089),
        (
            {"block": "bottleneck", "stage_sizes": (3, 4, 6, 3), "expansion": 2, "groups": 32},
            25_028_904, 4.23,
        ),
    ],
)  # fmt: skip
def test_torchvisions_networks(options, parameters, giga):
    width = 128 if "groups" in options else 64
    model = zeros(widths=(width, 2 * width, 4 * width, 8 * width), **options)
    found = size(model, (224, 224, 3))
    assert found.parameters == parameters
    np.testing.assert_allclose(found.flops / 2e9, giga, rtol=2e-3)


def test_other_models_count_all_their_leaves():
    small = Small.random(0)
    assert size(small, (12, 10, 3)) == Size(
        3 * 3 * 3 * 4 + 4 + 4 * 3, 2 * (12 * 10 * 4 * 27 + 4 * 3)
    )
    linear = Linear.random(0)
    assert size(linear, (12, 10, 3)) == Size(3 * 360 + 3, 2 * 3 * 360)


def test_the_body_of_a_loop_counts_each_time():
    matrix = jnp.ones((3, 3))

    def model(images):
        start = images[:, 0, 0]
        return jax.lax.scan(lambda x, _: (x @ matrix, None), start, length=7)[0]

    assert size(jax.tree_util.Partial(model), (1, 1, 3)).flops == 7 * 2 * 9


def test_bad_input():
    model = new_resnet(("a",), key=jax.random.key(0), stage_sizes=(1,), widths=(4,), stem_width=4)
    with refuses(r"image_shape must be \(height, width, channels\), got \(24, 24\)"):
        size(model, (24, 24))

    with refuses("model must be a pytree of arrays, .*got one with <function .*Partial"):
        size(lambda images: images[:, 0, 0], (1, 1, 3))

    @jax.tree_util.Partial
    def wanders(images):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, images[:, 0, :, 0])

    with refuses("model must compute the same for every image, got one with a 'while' in it"):
        size(wanders, (3, 3, 1))
