import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from practical import attribution
from practical.attribution.guided import with_relu
from tests.oracles import Linear, Small, refuses


def witness(small: Small, images, targets):
    """Guided backpropagation of `Small`, its backward pass written out by hand."""
    features = np.asarray(small.features(images), np.float64)
    dense = np.asarray(small.dense, np.float64)[:, targets].T
    slopes = np.broadcast_to(dense[:, None, None] / features[0, ..., 0].size, features.shape)
    slopes = np.where((features > 0) & (slopes > 0), slopes, 0)
    kernel = np.asarray(small.kernel, np.float64)
    answer = np.zeros(np.shape(images))
    padded = np.pad(slopes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = answer.shape[1:3]
    for y in range(3):
        for x in range(3):
            # Output (i, j) saw input (i + y - 1, j + x - 1) through kernel[y, x].
            shifted = padded[:, 2 - y : 2 - y + height, 2 - x : 2 - x + width]
            answer += shifted @ kernel[y, x].T
    return answer


def test_against_a_backward_pass_by_hand(small, batch):
    images, targets = batch
    maps = attribution.guided_backprop(small, images, targets)
    np.testing.assert_allclose(maps, witness(small, images, targets), rtol=1e-4, atol=1e-6)
    plain = attribution.gradient(small, images, targets)
    assert not np.allclose(maps, plain, rtol=0.1)


def scale(x):
    return x.mean((1, 2))


RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum, the other way round": lambda x: jnp.maximum(0.0, x),
    "inside jit": jax.jit(lambda x: jax.nn.relu(x)),
    "inside checkpoint": jax.checkpoint(lambda x: jax.nn.relu(x)),
    "inside vmap": jax.vmap(jax.nn.relu),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_every_way_to_write_a_relu(relu):
    # -2 relu(x - 1/2) + 3 relu(x): the first one's slope is negative, so it is cut.
    images = np.full((1, 4, 4, 1), 0.75, np.float32)

    def model(x):
        return scale(-2 * relu(x - 0.5) + 3 * relu(x))

    maps = attribution.guided_backprop(model, images, [0])
    np.testing.assert_allclose(maps, np.full((1, 4, 4, 1), 3 / 16), rtol=1e-6)
    np.testing.assert_allclose(attribution.gradient(model, images, [0]), 1 / 16, rtol=1e-6)


@jax.custom_vjp
def guided(x):
    return jax.nn.relu(x)


guided.defvjp(lambda x: (jax.nn.relu(x), x > 0), lambda on, g: (jnp.where(on & (g > 0), g, 0.0),))


def linen_network(norm):
    def build(activation):
        layers = [
            linen.Conv(8, (3, 3)), norm, activation, lambda x: x.mean((1, 2)), linen.Dense(3),
        ]  # fmt: skip
        module = linen.Sequential(layers)
        variables = module.init(jax.random.key(1), jnp.zeros((1, 6, 5, 2)))
        return lambda x: module.apply(variables, x)

    return build


def nnx_network(norm):
    def build(activation):
        rngs = nnx.Rngs(0)
        conv = nnx.Conv(2, 8, (3, 3), rngs=rngs)
        own, dense = norm(rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        return lambda x: dense(activation(own(conv(x))).mean((1, 2)))

    return build


def hand_network(standardise):
    def build(activation):
        conv, dense = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
        return lambda x: activation(standardise(x @ conv[:2])).mean((1, 2)) @ dense

    return build


def by_pow(x):
    mean, square = x.mean(-1, keepdims=True), (x**2).mean(-1, keepdims=True)
    variance = jnp.maximum(square - mean**2, 0) * (8 / 7)
    return (x - mean) * jnp.power(jnp.maximum(variance, 1e-6), -0.5)


def in_two_programs(x):
    # The same jitted maximum bounds the variance and is the activation after it.
    mean, square = x.mean(-1, keepdims=True), (x**2).mean(-1, keepdims=True)
    deviation = jax.checkpoint(lambda v: jnp.sqrt(bounded(v) + 1e-6))(square - mean**2)
    return bounded((x - mean) / deviation)


bounded = jax.jit(lambda x: jnp.maximum(x, 0))

NORMS = {
    "linen.GroupNorm": linen_network(linen.GroupNorm(4)),
    "linen.LayerNorm": linen_network(linen.LayerNorm()),
    "linen.remat(LayerNorm)": linen_network(linen.remat(linen.LayerNorm)()),
    "nnx.LayerNorm": nnx_network(functools.partial(nnx.LayerNorm, 8)),
    "nnx.GroupNorm": nnx_network(functools.partial(nnx.GroupNorm, 8, 4)),
    "pow": hand_network(by_pow),
}


@pytest.mark.parametrize("network", NORMS.values(), ids=NORMS)
def test_the_variance_of_a_norm_is_no_relu(network):
    images = np.random.default_rng(3).random((2, 6, 5, 2), np.float32)
    targets = np.array([0, 2])
    expected = attribution.gradient(network(guided), images, targets)
    for relu in jax.nn.relu, lambda x: jnp.maximum(x, 0):
        maps = attribution.guided_backprop(network(relu), images, targets)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    with refuses("model must have ReLUs .*got one without; gradient works on any model"):
        attribution.guided_backprop(network(jax.nn.gelu), images, targets)


def test_one_program_may_bound_a_variance_and_be_a_relu():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 6, 8)), jnp.float32)
    seen = []

    def watched(x):
        seen.append(x.shape)
        return jax.nn.relu(x)

    np.testing.assert_allclose(with_relu(in_two_programs, watched)(x), in_two_programs(x), 1e-6)
    assert seen == [(2, 6, 8)]


def test_a_running_average_that_is_thrown_away_is_no_use_of_a_variance():
    norm = linen.BatchNorm(use_running_average=False)
    images = np.random.default_rng(3).random((2, 6, 5, 2), np.float32)
    variables = norm.init(jax.random.key(0), images)

    def model(x):
        return norm.apply(variables, x, mutable=["batch_stats"])[0].mean((1, 2))

    with refuses("model must have ReLUs"):
        attribution.guided_backprop(model, images, [0, 1])


def test_one_relu_used_twice_is_exchanged_twice():
    # relu(2 relu(x) - 1) - relu(-x + 1): the second term's relu gets a negative slope.
    images = np.full((1, 2, 2, 1), 0.75, np.float32)
    relu = jax.nn.relu

    def model(x):
        return scale(relu(2 * relu(x) - 1) - relu(1 - x))

    np.testing.assert_allclose(attribution.guided_backprop(model, images, [0]), 2 / 4)
    np.testing.assert_allclose(attribution.gradient(model, images, [0]), 3 / 4)


def test_other_functions_keep_their_own_derivative_rules():
    @jax.custom_vjp
    def odd(x):
        return x

    odd.defvjp(lambda x: (x, None), lambda _, g: (7 * g,))
    images = np.full((1, 2, 2, 1), 0.5, np.float32)
    maps = attribution.guided_backprop(lambda x: scale(jax.nn.relu(odd(x))), images, [0])
    np.testing.assert_allclose(maps, 7 / 4)
    maps = attribution.guided_backprop(
        lambda x: scale(jax.nn.softplus(jax.nn.relu(x))), images, [0]
    )
    np.testing.assert_allclose(maps, jax.nn.sigmoid(0.5) / 4, rtol=1e-6)


def test_the_exchanged_function_computes_the_same(resnet):
    images = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
    seen = []

    def watched(x):
        seen.append(x.shape)
        return jax.nn.relu(x)

    np.testing.assert_allclose(
        with_relu(resnet, watched)(jnp.asarray(images)), resnet(images), rtol=1e-6
    )
    assert len(seen) == 3  # stem; the block's first convolution; the sum
    before = np.asarray(resnet(images))
    attribution.guided_backprop(resnet, images, [0, 1])
    np.testing.assert_array_equal(resnet(images), before)


def test_golden(golden):
    from practical.models import from_torchvision
    from tests.test_golden import CLOSE, nhwc, to_unit

    state = {name[6:]: array for name, array in golden.items() if name.startswith("state/")}
    model = from_torchvision(state, mean=(0.5,) * 3, std=(1 / 16,) * 3)
    maps = attribution.guided_backprop(model, to_unit(golden["x"]), golden["target"]) / 16
    np.testing.assert_allclose(maps, nhwc(golden["captum/guided_backprop"]), **CLOSE)


def test_models_without_relu_and_with_one_out_of_reach(batch):
    images, targets = batch
    with refuses("model must have ReLUs .*got one without; gradient works on any model"):
        attribution.guided_backprop(Linear.random(0), images, targets)

    def looping(x):
        return scale(jax.lax.fori_loop(0, 2, lambda _, y: jax.nn.relu(y), x))

    def branching(x):
        return scale(jax.lax.cond(x.mean() > 0.1, jax.nn.relu, lambda y: 2 * y, x))

    def both(x):
        return jax.lax.map(lambda y: jax.jit(branching)(y[None])[0], x)

    for model, place in (looping, "scan"), (branching, "cond"), (both, "cond of scan"):
        with refuses(f"must not hold its ReLUs inside of a loop or branch.*inside of {place};"):
            attribution.guided_backprop(model, images, targets)


W = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
PARTS = {
    "relu6": jax.nn.relu6,
    "hard sigmoid": jax.nn.hard_sigmoid,
    "hard swish": jax.nn.hard_swish,
    "bounded by hand": lambda x: jnp.minimum(jax.nn.relu(x + 0.3), 1),
    "bounded in the other order": lambda x: jnp.maximum(0, jnp.minimum(x + 0.3, 1)),
    "PReLU": lambda x: jnp.maximum(x, 0) + 0.2 * jnp.minimum(x, 0),
    "linen.PReLU": lambda x: linen.PReLU().apply({"params": {"negative_slope": 0.2}}, x),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_maximum_inside_of_another_function_keeps_its_gradient(part, batch):
    images, targets = batch

    def network(relu):
        return lambda x: scale(relu(part(x @ W - 0.5) @ W.T) @ W)

    maps = attribution.guided_backprop(network(jax.nn.relu), images, targets)
    expected = attribution.gradient(network(guided), images, targets)
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)
    with refuses("model must have ReLUs .*got one without"):
        attribution.guided_backprop(lambda x: scale(part(x @ W)), images, targets)


def test_guided_grad_cam_is_the_product(small, batch):
    images, targets = batch
    maps = attribution.guided_grad_cam(small, images, targets)
    where = attribution.grad_cam(small, images, targets)
    fine = attribution.guided_backprop(small, images, targets)
    np.testing.assert_allclose(maps, where[..., None] * fine, rtol=1e-6)
    with refuses("for grad_cam, got partial without features and head; models.Split"):
        attribution.guided_grad_cam(functools.partial(small), images, targets)
