"""The network that every classifier runs, against jax-resnet's plain one and XLA's own pool."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from practical.models import convolution
from practical.models.convolution import convolve
from practical.models.pooling import max_pool
from tests.conftest import ROOT
from tests.test_folded import BOTTLENECK, random_classifier

sys.path.append(str(ROOT / "benchmarks"))  # its scripts import each other by bare names
plain = pytest.importorskip("plain")


@jax.jit
def both(model, images, weights):
    """Return logits, and gradients by images and weights, of the plain network and of ours."""

    def of(logits):
        slopes = jax.grad(lambda *a: (logits(*a) * weights).sum(), argnums=(0, 1))
        return logits(model, images), slopes(model, images)

    return of(plain.plain_logits), of(lambda model, images: model(images))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((34, 29), {"stage_sizes": (1, 1), "widths": (4, 6), "stem_stride": 2, "pool": True,
                    "stem_kernel": 7}),
        ((21, 24), {**BOTTLENECK, "groups": 2, "stem_stride": 2, "pool": True, "stem_kernel": 7}),
        ((12, 10), {"stage_sizes": (1,), "widths": (4,), "hidden": ((3,),)}),
    ],
    ids=["basic", "bottleneck with groups", "pruned"],
)  # fmt: skip
def test_logits_and_gradients_are_the_plain_networks(size, options):
    model, rng = random_classifier(**options), np.random.default_rng(0)
    images = rng.random((3, *size, 3), np.float32)
    plain, ours = both(model, images, rng.normal(size=(3, 3)))
    for expected, found in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
        rms = float(jnp.sqrt((expected**2).mean()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=max(1e-4 * rms, 1e-5))


def test_second_derivatives_go_in_reverse():
    model = random_classifier(stage_sizes=(1,), widths=(2,), stem_stride=2, pool=True)
    image, direction = np.random.default_rng(0).random((2, 1, 6, 5, 3), np.float32)

    def slope(of):
        def penalty(image):  # ReLUs are linear; the squared gradient is not
            return (jax.grad(lambda image: of(image)[0, 0] ** 2)(image) * direction).sum()

        return penalty

    found = jax.grad(slope(model))(image)
    expected = jax.grad(slope(lambda image: plain.plain_logits(model, image)))(image)
    assert jnp.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * jnp.abs(expected).max())
    with pytest.raises(TypeError, match="forward-mode autodiff"):
        jax.hessian(lambda image: model(image)[0, 0])(image)


def pool_by_xla(maps):
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)


@settings(max_examples=6)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 1000]), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_the_pool_and_its_gradient_are_xlas(height, width, values, seed):
    """With two values, most windows have ties: the first place has the gradient in both."""
    rng = np.random.default_rng(seed)
    maps = jnp.asarray(rng.integers(0, values, (2, height, width, 2)), jnp.float32)
    expected, pull = jax.vjp(pool_by_xla, maps)
    found, ours = jax.vjp(max_pool, maps)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(max_pool(maps), expected)
    slopes = jnp.asarray(rng.integers(-9, 9, expected.shape), jnp.float32)
    np.testing.assert_array_equal(ours(slopes)[0], pull(slopes)[0])


def test_a_gradient_through_the_pools_gradient():
    """As training against wrong reasons needs: the gradient is linear in what it is given."""
    rng = np.random.default_rng(0)
    maps, slopes, weights = (
        jnp.asarray(rng.normal(size=(1, side, side, 2)), jnp.float32) for side in (7, 4, 7)
    )

    def of(pool):
        return jax.grad(lambda slopes: (weights * jax.vjp(pool, maps)[1](slopes)[0]).sum())(slopes)

    np.testing.assert_array_equal(of(max_pool), of(pool_by_xla))


def test_a_nan_is_not_lost_in_the_pool():
    assert jnp.isnan(max_pool(jnp.full((1, 2, 2, 1), jnp.nan))).all()


@settings(max_examples=6)
@given(
    side=st.integers(3, 8),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_stem_by_blocks_is_the_convolution(side, size, before, after, channels, seed):
    if min(size) + before + after < side:  # no window fits
        return
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.normal(size=(2, *size, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, channels, 3)), jnp.float32)
    padding = ((before, after), (before, after))

    def by_xla(images, kernel):
        return lax.conv_general_dilated(
            images, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(images, kernel):
        return convolve(images, kernel, (2, 2), padding, 1)

    assert convolution._is_stem(kernel, convolution._Options((2, 2), padding))
    expected, pull = jax.vjp(by_xla, images, kernel)
    found, back = jax.vjp(ours, images, kernel)
    slopes = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    for one, other in zip(back(slopes), pull(slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (2, 2)])
def test_maps_smaller_than_the_kernel(size, stride, groups):
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(2, *size, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 6 // groups, 4)), jnp.float32)
    edges = ((1, 1), (1, 1))

    def by_xla(maps, kernel):
        return lax.conv_general_dilated(
            maps, kernel, (stride, stride), edges, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def ours(maps, kernel):
        return convolve(maps, kernel, (stride, stride), edges, groups)

    expected, pull = jax.vjp(by_xla, maps, kernel)
    found, back = jax.vjp(ours, maps, kernel)
    slopes = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for one, other in zip((found, *back(slopes)), (expected, *pull(slopes)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_xla_does_not_pad_what_is_padded_for_it():
    """XLA folds a pad into the convolution after it, and then takes a hundred times as long."""
    maps, kernel = jnp.ones((1, 2, 2, 8)), jnp.ones((3, 3, 8, 8))
    program = jax.jit(lambda *given: convolve(*given, (1, 1), ((1, 1), (1, 1)), 1))
    options = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}  # users'
    text = program.lower(maps, kernel).compile(compiler_options=options).as_text()
    assert "convolution(" in text
    assert "pad=" not in text
