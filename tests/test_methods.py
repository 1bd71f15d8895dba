"""The table of methods says the truth: of cost, of needs, of randomness, of units."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from practical.attribution import METHODS, NEEDS, methods_table
from tests import oracles
from tests.oracles import Small

README = Path(__file__).resolve().parents[1] / "README.md"
FEW = {
    "rise": {"samples": 10}, "lime": {"samples": 12}, "kernel_shap": {"samples": 40},
    "integrated_gradients": {"steps": 6}, "expected_gradients": {"samples": 5},
    "smooth_grad": {"samples": 3}, "squaregrad": {"samples": 3}, "vargrad": {"samples": 3},
    "occlusion": {"window": 8, "stride": 5},
}  # fmt: skip
IMAGES = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
SEGMENTS = np.tile(np.arange(24 * 24).reshape(24, 24) // 100, (2, 1, 1))


def options(name):
    return FEW.get(name, {}) | (
        {"segments": SEGMENTS} if name in ("lime", "kernel_shap") else {}
    )  # fmt: skip


def test_every_public_method_is_in_the_table():
    others = {
        "heatmap", "completeness_error", "superpixels", "methods_table",
        "adaptive_integrated_gradients",  # returns more than a map
    }  # fmt: skip
    functions = {n for n in attribution.__all__ if inspect.isfunction(getattr(attribution, n))}
    assert functions - others == set(METHODS)
    for name, method in METHODS.items():
        assert method.function is getattr(attribution, name)
        assert method.__name__ == name
        assert method.needs in NEEDS
        assert re.search(r"(19|20)\d\d", method.paper)
        parameters = inspect.signature(method).parameters
        assert list(parameters)[:3] == ["model", "images", "targets"]
        assert method.random == ("key" in parameters)
        # One key an image, so that an evaluation gives an image the same numbers in any batch.
        if method.random:
            assert "one an image" in inspect.getdoc(method.function)


seen: list[tuple[int, bool]] = []


@jax.custom_vjp
def watch(images):
    jax.debug.callback(lambda x: seen.append((len(x), False)), images)
    return images


def _watch_forward(images):
    return images, None


def _watch_backward(_, slopes):
    jax.debug.callback(lambda x: seen.append((len(x), True)), slopes)
    return (slopes,)


watch.defvjp(_watch_forward, _watch_backward)


@oracles.pytree
class Watched(Small):
    """`Small`, noting how many images it answers for, and is differentiated for."""

    def features(self, images):
        return super().features(watch(images))


@pytest.mark.parametrize(
    "name",
    [
        # Methods that differentiate in the features, exchange ReLUs, or need a Classifier are
        # not seen by the watch; their calls are 1 or 2 in the table.
        n for n, m in METHODS.items() if m.needs in ("nothing", "answers", "gradient")
    ],
)  # fmt: skip
def test_calls_are_what_is_run(name):
    small = Small.random(0)
    model = Watched(small.kernel, small.shift, small.dense)
    method = METHODS[name]
    chunk = {} if method.needs == "nothing" else {"chunk_size": 1}  # nothing fills up a chunk
    method(model, IMAGES, [0, 1], **options(name), **chunk)  # traces, and compiles
    jax.effects_barrier()
    seen.clear()
    jax.block_until_ready(method(model, IMAGES, [0, 1], **options(name), **chunk))
    jax.effects_barrier()
    forwards = sum(count for count, backward in seen if not backward)
    gradients = sum(count for count, backward in seen if backward)
    expected = METHODS[name].calls(24, **FEW.get(name, {}))
    assert (forwards / 2, gradients / 2) == expected


def test_calls_with_the_defaults():
    assert METHODS["integrated_gradients"].calls(64) == (0, 50)
    assert METHODS["vargrad"].calls(64) == (0, 33)
    assert METHODS["rise"].calls(64) == (4000, 0)
    assert METHODS["lime"].calls(64) == (1002, 0)
    assert METHODS["occlusion"].calls(64) == (1 + 49, 0)  # (64 - 16) / 8 + 1 = 7 a side
    assert METHODS["random"].calls(64) == (0, 0)


def test_heatmap_sums_contributions_and_takes_the_largest_of_slopes(small):
    def of(name):
        method = METHODS[name]
        return method(small, IMAGES, [0, 1]), method.heatmap(small, IMAGES, [0, 1])

    for name in ("gradient", "gradient_x_input", "integrated_gradients"):
        maps, heat = of(name)
        np.testing.assert_allclose(heat, jnp.sum(maps, -1), rtol=1e-6)
    maps, heat = of("saliency")
    np.testing.assert_array_equal(heat, maps)
    maps, heat = of("smooth_grad")
    np.testing.assert_array_equal(heat, jnp.abs(maps).max(-1))
    assert {name for name, method in METHODS.items() if method.reduce != "sum"} == {
        "smooth_grad", "guided_backprop", "guided_grad_cam"
    }  # fmt: skip


def test_what_suits_a_model(small, resnet):
    def plain(images):
        return small(images)

    suited = {n for n, m in METHODS.items() if m.suits(plain)}
    cams = {"grad_cam", "grad_cam_plus_plus", "guided_grad_cam"}
    assert set(METHODS) - suited == {*cams, "layerwise_relevance"}
    assert {n for n, m in METHODS.items() if m.suits(small)} == suited | cams
    assert all(m.suits(resnet) for m in METHODS.values())


def test_the_readme_has_the_table():
    table = methods_table()
    assert table in README.read_text(), "python -c 'from practical.attribution import *; ...'"
    assert len(table.splitlines()) == 2 + len(METHODS)
    assert "`steps` (50) gradients" in table
