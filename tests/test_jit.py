"""Compilation: once per shape, never for new weights, and inside somebody's own jit."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution, metrics
from practical._chunks import fold_pairs, map_images
from practical.attribution import cam, gradients, noise, paths, perturbation, surrogates
from practical.metrics import faithfulness
from tests.oracles import Counting, Small, one_pixel, refuses

MAPS = np.random.default_rng(1).normal(size=(5, 12, 10)).astype(np.float32)


def with_maps(metric):
    def call(model, images, targets, **options):
        return metric(
            model, images, targets, MAPS[: len(images), : images.shape[1]], steps=6, **options
        ).scores

    return call


def on_segments(method):
    def call(model, images, targets, **options):
        height, width = images.shape[1:3]
        segments = np.tile(np.arange(height * width).reshape(height, width) // 30, (5, 1, 1))
        segments = segments[: len(images)]
        return method(model, images, targets, segments=segments, samples=14, **options)

    return call


CALLS = {
    **{n: m.function for n, m in attribution.METHODS.items() if m.needs != "Classifier"},
    "integrated_gradients": partial(attribution.integrated_gradients, steps=7),
    "expected_gradients": partial(attribution.expected_gradients, samples=7),
    "smooth_grad": partial(attribution.smooth_grad, samples=4),
    "squaregrad": partial(attribution.squaregrad, samples=4),
    "vargrad": partial(attribution.vargrad, samples=4),
    "occlusion": partial(attribution.occlusion, window=5, stride=4),
    "rise": partial(attribution.rise, samples=30),
    "lime": on_segments(attribution.lime),
    "kernel_shap": on_segments(attribution.kernel_shap),
    "deletion": with_maps(metrics.deletion),
    "insertion": with_maps(metrics.insertion),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
CORES = (  # the others run one of these programs
    "gradient", "integrated_gradients", "expected_gradients", "vargrad", "guided_backprop",
    "grad_cam", "grad_cam_plus_plus", "occlusion", "rise", "lime", "kernel_shap", "deletion",
)  # fmt: skip
every_core = pytest.mark.parametrize("name", CORES)
KEY_EACH = (
    "expected_gradients",
    "vargrad",
    "rise",
    "lime",
    "kernel_shap",
)  # an image can keep its own key
# Logits here are of size 30, of which float32 knows 2e-6, and sums in another order lose a few of
# those; a probability has that as its relative error.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}


@every_core
def test_the_chunk_size_does_not_change_the_answer(small, batch, name):
    images, targets = batch
    call = CALLS[name]
    whole = np.asarray(call(small, images, targets, chunk_size=1000))
    for size in (1, 3):  # one at a time, and one that divides neither images nor pairs
        chunked = call(small, images, targets, chunk_size=size)
        np.testing.assert_allclose(chunked, whole, **CLOSE)


@every_core
def test_an_image_is_explained_alone(small, batch, name, monkeypatch):
    images, targets = batch
    monkeypatch.setattr(f"{__name__}.MAPS", np.broadcast_to(MAPS[0], MAPS.shape))
    keys = jax.random.split(jax.random.key(4), len(images))
    order = np.array([3, 0, 4, 2, 1])
    given, taken = ({"key": keys}, {"key": keys[order]}) if name in KEY_EACH else ({}, {})
    whole = np.asarray(CALLS[name](small, images, targets, chunk_size=3, **given))
    shuffled = CALLS[name](small, images[order], targets[order], chunk_size=3, **taken)
    np.testing.assert_allclose(shuffled, whole[order], **CLOSE)


# Not occlusion, whose grid starts on the left.
@pytest.mark.parametrize(
    "name", ["gradient", "integrated_gradients", "guided_backprop", "grad_cam", "deletion"]
)
def test_mirrored_images_have_mirrored_explanations(batch, name, monkeypatch):
    model = Small.random(3, symmetric=True)
    images, targets = batch
    answer = np.asarray(CALLS[name](model, images, targets))
    monkeypatch.setattr(f"{__name__}.MAPS", MAPS[:, :, ::-1].copy())
    mirrored = np.asarray(CALLS[name](model, images[:, :, ::-1].copy(), targets))
    if name != "deletion":  # whose curves are the same
        mirrored = mirrored[:, :, ::-1]
    np.testing.assert_allclose(mirrored, answer, **CLOSE)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "insertion"])
def test_inside_another_jit(small, batch, name):
    call = CALLS[name]
    images, targets = batch
    expected = np.asarray(call(small, images, targets))
    traced = jax.jit(call)(small, jnp.asarray(images), jnp.asarray(targets))
    np.testing.assert_allclose(traced, expected, **CLOSE)
    # Images and model closed over: nothing is a tracer on the way in.
    closed = jax.jit(lambda scale: scale * call(small, images, targets))(2.0)
    np.testing.assert_allclose(closed, 2 * expected, **CLOSE)
    # Arrays of JAX's stay what they are in there, and are no tracers when the core is called.
    held = jnp.asarray(images), jnp.asarray(targets)
    closed = jax.jit(lambda scale: scale * call(small, *held))(2.0)
    np.testing.assert_allclose(closed, 2 * expected, **CLOSE)


@pytest.mark.parametrize("on_host", [True, False], ids=["host", "device"])
def test_values_are_checked_in_somebodys_own_jit(small, monkeypatch, on_host):
    monkeypatch.setattr("practical._inputs._in_main_memory", lambda _: on_host)
    maps = jnp.array([[[1.0, jnp.nan]]])

    def inside(scale):
        return scale * metrics.entropy(maps)

    with refuses("heatmaps must be finite, got NaN or infinity for image 0"):
        jax.jit(inside)(1.0)


def test_under_vmap_and_grad(small, batch):
    images, targets = batch
    both = jax.vmap(lambda image: attribution.gradient(small, image[None], [1])[0])(images)
    expected = attribution.gradient(small, images, np.ones(5, int))
    np.testing.assert_allclose(both, expected, rtol=1e-5, atol=1e-6)
    # d/dscale of the summed gradient x input of a homogeneous model.
    slope = jax.grad(
        lambda shift: attribution.gradient_x_input(
            Small(small.kernel, small.shift, shift * small.dense), images, targets
        ).sum()
    )(jnp.float32(1))
    total = attribution.gradient_x_input(small, images, targets).sum()
    np.testing.assert_allclose(slope, total, rtol=1e-4)


@pytest.fixture
def counting(request):
    """Make models that count their traces, of a structure that no other test has."""
    Counting.calls()
    return lambda seed: Counting(Small.random(seed), request.node.name)


@every_call
def test_new_weights_and_values_compile_nothing(batch, call, counting, compilations):
    images, targets = batch
    call(counting(0), images, targets)
    assert Counting.calls() > 0
    call(counting(0), images, targets)  # eager operations around the core compile once as well
    Counting.calls()
    compilations()
    other = call(counting(1), 1 - images, targets[::-1].copy())
    assert Counting.calls() == 0  # not traced again
    assert compilations() == 0
    expected = call(Small.random(1), 1 - images, targets[::-1].copy())
    np.testing.assert_allclose(other, expected, **CLOSE)  # and not stale


@every_core
def test_one_compilation_per_shape(batch, name, counting, compilations):
    images, targets = batch
    call, model = CALLS[name], counting(0)
    small_images = images[:3, :9]
    for pixels in (images, small_images):
        call(model, pixels, targets[: len(pixels)])
        assert Counting.calls() > 0  # a new shape
    compilations()
    for pixels in (images, small_images, images):
        call(model, pixels, targets[: len(pixels)])
    assert Counting.calls() == 0
    assert compilations() == 0


def test_deletion_is_one_program(batch, counting):
    # A new number of steps is a new curve; the target, key, maps and baseline's colour are not.
    images, targets = batch
    model = counting(0)
    metrics.deletion(model, images, targets, MAPS)
    Counting.calls()
    metrics.deletion(model, images, 2 - targets, -MAPS, key=jax.random.key(3), baseline="grey")
    assert Counting.calls() == 0


def test_any_callable_is_a_model(small, batch):
    images, targets = batch
    expected = attribution.integrated_gradients(small, images, targets, steps=5)

    def forward(weights, images):
        return Small(*weights)(images)

    weights = (small.kernel, small.shift, small.dense)
    for model in (
        lambda images: small(images),
        jax.jit(small.__call__),
        jax.tree_util.Partial(forward, weights),
        partial(forward, weights),
    ):
        maps = attribution.integrated_gradients(model, images, targets, steps=5)
        np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)
    # Weights in a Partial are leaves: new ones are used, and compile nothing.
    doubled = jax.tree_util.Partial(forward, (*weights[:2], 2 * weights[2]))
    maps = attribution.integrated_gradients(doubled, images, targets, steps=5)
    np.testing.assert_allclose(maps, 2 * expected, rtol=1e-5, atol=1e-6)


def test_two_functions_are_two_models(batch):
    images, targets = batch
    for factor in (1.0, 2.0):
        maps = attribution.gradient(lambda x, f=factor: f * x.mean((1, 2)), images, targets)
        np.testing.assert_allclose(np.asarray(maps).sum((1, 2, 3)), factor, rtol=1e-5)


def temporary_bytes(core, static: dict, *arguments) -> int:
    """Return the scratch memory of the compiled core, without its arguments and its answer."""
    compiled = jax.jit(core, static_argnames=tuple(static)).lower(*arguments, **static).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def pixels():
    return jnp.asarray(np.random.default_rng(0).random((4, 32, 32, 3), np.float32))


TARGETS = jnp.array([0, 1, 2, 0])


def assert_flat(few: int, many: int, *, answer: int = 0) -> None:
    # A few per cent for what XLA lays out differently; a core that kept one image for each step
    # would need some hundred times as much.
    assert few > 0
    assert many <= 1.05 * few + answer, (few, many)


def test_integrated_gradients_memory_does_not_grow_with_steps(small, pixels):
    def size(steps, chunk_size):
        path = jnp.zeros(steps), jnp.zeros(steps)
        return temporary_bytes(
            paths._integrated_gradients_core, {"chunk_size": chunk_size},
            small, pixels, TARGETS, pixels, *path,
        )  # fmt: skip

    assert_flat(size(8, 8), size(512, 8))
    assert size(512, 64) > 2 * size(512, 8)  # chunk_size is what it grows with


def test_occlusion_memory_does_not_grow_with_windows(small, pixels):
    def size(stride):
        return temporary_bytes(
            perturbation._occlusion_core, {"window": 8, "stride": stride, "chunk_size": 8},
            small, pixels, TARGETS, pixels,
        )  # fmt: skip

    assert_flat(size(8), size(1))  # 16 and 625 squares


KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.mark.parametrize("kind", ["smooth_grad", "vargrad"])
def test_noise_memory_does_not_grow_with_samples(small, pixels, kind):
    def size(samples):
        return temporary_bytes(
            noise._moments_core,
            {"kind": kind, "method": attribution.gradient, "samples": samples, "chunk_size": 8},
            small, pixels, TARGETS, KEYS, jnp.float32(0.1),
        )  # fmt: skip

    assert_flat(size(8), size(512))


def test_expected_gradients_memory_does_not_grow_with_samples(small, pixels):
    def size(samples):
        return temporary_bytes(
            paths._expected_gradients_core, {"samples": samples, "chunk_size": 8},
            small, pixels, TARGETS, pixels, KEYS,
        )  # fmt: skip

    assert_flat(size(8), size(512))


def test_rise_memory_does_not_grow_with_masks(small, pixels):
    def size(samples):
        options = {"samples": samples, "cells": 7, "output": "logit", "chunk_size": 8}
        return temporary_bytes(
            perturbation._rise_core, options, small, pixels, TARGETS, pixels, jnp.float32(0.5),
            KEYS,
        )  # fmt: skip

    assert_flat(size(8), size(4096))


@pytest.mark.parametrize("kind", ["lime", "kernel_shap"])
def test_surrogate_memory_does_not_grow_with_samples(small, pixels, kind):
    segments = jnp.zeros((4, 32, 32), jnp.int32)

    def size(samples):
        options = {
            "kind": kind, "most": 20, "samples": samples, "output": "logit", "chunk_size": 8,
        }  # fmt: skip
        return temporary_bytes(
            surrogates._sums_core, options, small, pixels, TARGETS, pixels, segments,
            jnp.full(4, 20), jnp.zeros(4, bool), KEYS, jnp.float32(0.25),
        )  # fmt: skip

    assert_flat(size(64), size(4096))


def test_deletion_memory_does_not_grow_with_steps(small, pixels):
    def size(steps):
        cutoffs = jnp.zeros(steps + 1, jnp.int32)
        return temporary_bytes(
            faithfulness._scores_core, {"output": "probability", "chunk_size": 8},
            small, pixels, pixels, TARGETS, pixels[..., :1], cutoffs, jax.random.key(0),
        )  # fmt: skip

    # The curve itself, (4, steps + 1) float32, is what may grow; twice for the loop's copy.
    assert_flat(size(8), size(512), answer=2 * 4 * 505 * 4)


def test_gradient_and_grad_cam_memory_is_bounded_by_the_chunk(small):
    def size(core, count, **static):
        images = jnp.zeros((count, 32, 32, 3))
        return temporary_bytes(
            core, {"chunk_size": 4, **static}, small, images, jnp.zeros(count, int)
        )

    # The batch is copied once to be cut into chunks; features (4 channels) are not kept for it.
    batch_bytes = (64 - 8) * 32 * 32 * 3 * 4
    for core, static in (
        (gradients._gradient_core, {}),
        (cam._cam_core, {"kind": "grad_cam", "relu": True, "upsample": True}),
    ):
        few, many = size(core, 8, **static), size(core, 64, **static)
        assert many <= 1.05 * few + 2.1 * batch_bytes, (few, many)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_fold_pairs_visits_each_pair_once(chunk):
    def visit(total, i, k, live):
        return total.at[i, k].add(live)

    counts = fold_pairs(visit, jnp.zeros((3, 5), int), 3, 5, chunk)
    np.testing.assert_array_equal(counts, 1)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_map_images_keeps_the_rows(chunk):
    rows = jnp.arange(14.0).reshape(7, 2)
    doubled, sums = map_images(lambda a, b: (2 * a, a.sum(1) + b), chunk, rows, jnp.arange(7.0))
    np.testing.assert_array_equal(doubled, 2 * rows)
    np.testing.assert_array_equal(sums, rows.sum(1) + np.arange(7))


@pytest.mark.parametrize(
    ("count", "most", "size"), [(40, 32, 20), (33, 32, 17), (7, 3, 3), (6, 3, 3)]
)
def test_chunks_are_even(count, most, size):
    """The last one is not filled up with rows that nobody asked for."""
    seen = set()

    def row(rows):
        seen.add(len(rows))
        return rows

    map_images(row, most, jnp.arange(float(count)))
    assert seen == {size}
    seen.clear()

    def visit(total, i, k, live):
        seen.add(len(live))
        return total + live.sum()

    assert fold_pairs(visit, jnp.zeros((), int), 1, count, most) == count
    assert seen == {size}


def test_leaves_that_are_no_arrays_are_structure(batch, compilations):
    from practical._arguments import as_argument, as_model

    @partial(jax.tree_util.register_dataclass, data_fields=["scale", "function"], meta_fields=[])
    @dataclasses.dataclass(frozen=True)
    class Odd:
        scale: jax.Array
        function: object  # a leaf, as in equinox's modules

        def __call__(self, images):
            return self.function(self.scale * images).mean((1, 2))

    images, targets = batch
    relu = Odd(jnp.float32(2), jax.nn.relu)
    argument = as_argument(relu, images)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(argument))
    assert as_model(argument) == relu
    first = np.asarray(attribution.gradient(relu, images, targets))
    compilations()
    second = attribution.gradient(Odd(jnp.float32(3), jax.nn.relu), images, targets)
    assert compilations() == 0, "other arrays"
    np.testing.assert_allclose(second, 1.5 * first, rtol=1e-5)
    other = attribution.gradient(Odd(jnp.float32(2), jnp.tanh), images, targets)
    assert not np.allclose(other, first, rtol=0.1), "another function is another model"


def test_plain_functions_without_weights(batch):
    images = np.ones((2, 12, 10, 3), np.float32)
    maps = attribution.gradient(one_pixel, images, [0, 1])
    assert np.argwhere(maps).tolist() == [[0, 2, 3, 0]]
