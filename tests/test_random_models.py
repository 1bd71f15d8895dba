"""Random small models with constants of every kind, against NumPy in float64.

An experimental compiler option once computed products with constant matrices wrongly. The fault was
in the order of operations that XLA fuses, so it also showed at the tests' optimization level of 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution, metrics, predict

TOGETHER, PROGRAMS = 26, 12  # 312 models
SIDES = (2, 3)
BATCHES = (1, 2, 8, 10, 31, 64)

CONSTANTS = {
    "ones": lambda rng, shape: lambda xp: xp.ones(shape),
    "full": lambda rng, shape: lambda xp: xp.full(shape, -0.75),
    "row": lambda rng, shape: _broadcast(rng.normal(size=shape[-1:]), shape),
    "column": lambda rng, shape: _broadcast(rng.normal(size=(*shape[:-1], 1)), shape),
    "eye": lambda rng, shape: lambda xp: xp.broadcast_to(xp.eye(*shape[-2:]), shape),
    "range": lambda rng, shape: lambda xp: xp.arange(np.prod(shape)).reshape(shape) / 8,
    "random": lambda rng, shape: _array(rng.normal(size=shape)),
    "sparse": lambda rng, shape: _array(rng.normal(size=shape) * (rng.random(shape) < 0.4)),
}


def _array(values):
    return lambda xp: xp.asarray(values)


def _broadcast(values, shape):
    return lambda xp: xp.broadcast_to(xp.asarray(values), shape)


def constant(rng, shape):
    return CONSTANTS[rng.choice(list(CONSTANTS))](rng, shape)


# --- layers: functions of a module (jax.numpy or numpy) and an array -----------------------------


def cast(xp, make, x):
    return make(xp).astype(x.dtype)


def shift(rng, shape, narrow):
    bias = constant(rng, (1, shape[-1]))
    return (lambda xp, x: x + cast(xp, bias, x)[0]), shape


def relu(rng, shape, narrow):
    if narrow:  # the slope of a ReLU near 0 depends on the rounding
        return (lambda xp, x: xp.tanh(x)), shape
    return (lambda xp, x: xp.where(x.real > 0, x, 0)), shape


def norm(rng, shape, narrow):
    axes = (-1,) if len(shape) == 1 or rng.random() < 0.5 else (1, 2, 3)

    def layer(xp, x):
        centered = x - x.mean(axes, keepdims=True)
        return centered / xp.sqrt((centered * centered).mean(axes, keepdims=True) + 0.1)

    return layer, shape


def dense(rng, shape, narrow):
    weights, width = constant(rng, (shape[-1], (out := int(rng.integers(1, 9))))), out
    return (lambda xp, x: x @ cast(xp, weights, x)), (*shape[:-1], width)


def einsum(rng, shape, narrow):
    if len(shape) == 1:
        weights = constant(rng, (4, shape[0]))
        return (lambda xp, x: xp.einsum("bi,oi->bo", x, cast(xp, weights, x))), (4,)
    weights = constant(rng, (*shape[:2], 4))
    return (lambda xp, x: xp.einsum("bhwc,hwk->bkc", x, cast(xp, weights, x)).reshape(
        len(x), -1)), (4 * shape[2],)  # fmt: skip


def convolution(rng, shape, narrow):
    side, outputs = int(rng.integers(1, 1 + min(shape[:2]))), int(rng.choice([1, 4, 8]))
    kernel = constant(rng, (side, side, shape[2], outputs))
    height, width = shape[0] - side + 1, shape[1] - side + 1

    def layer(xp, x):
        weights = cast(xp, kernel, x)
        if xp is jnp:
            return jax.lax.conv_general_dilated(
                x, weights, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return sum(
            x[:, i : i + height, j : j + width] @ weights[i, j]
            for i in range(side)
            for j in range(side)
        )

    return layer, (height, width, outputs)


def pool(rng, shape, narrow):
    largest = not narrow and rng.random() < 0.5

    def layer(xp, x):
        if xp is jnp and largest:
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 1, 1), (1,) * 4, "VALID")
        if xp is jnp:
            sums = jax.lax.reduce_window(x, np.zeros((), x.dtype)[()], jax.lax.add,
                                         (1, 2, 1, 1), (1,) * 4, "VALID")  # fmt: skip
            return sums / 2
        first, second = x[:, :-1], x[:, 1:]
        return np.where(first.real >= second.real, first, second) if largest else (
            first + second) / 2  # fmt: skip

    return (layer, (shape[0] - 1, *shape[1:])) if shape[0] > 1 else (lambda xp, x: x, shape)


def flatten(rng, shape, narrow):
    if rng.random() < 0.5:
        return (lambda xp, x: x.mean((1, 2))), shape[2:]
    return (lambda xp, x: x.reshape(len(x), -1)), (int(np.prod(shape)),)


def random_model(rng, narrow):
    """Return a function of a module and images: (B, 2, 3, 2) to (B, classes)."""
    shape, layers = (*SIDES, 2), []

    def add(makers):
        nonlocal shape
        layer, shape = makers[rng.integers(len(makers))](rng, shape, narrow)
        layers.append(layer)

    for _ in range(rng.integers(0, 3)):
        if len(shape) == 3:
            add([shift, relu, norm, dense, convolution, pool, einsum])
    if len(shape) == 3:
        add([flatten])
    for _ in range(rng.integers(0, 3)):
        add([shift, relu, norm, dense, einsum])
    add([dense])

    def apply(xp, x):
        for layer in layers:
            x = layer(xp, x)
        return x

    return apply


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_models_are_numpys(seed):
    """They are compiled side by side, as one model with the classes of all of them."""
    rng = np.random.default_rng(seed)
    narrow = seed % 4 == 3
    models = [random_model(rng, narrow) for _ in range(TOGETHER)]

    def apply(xp, images):
        return xp.concatenate([model(xp, images) for model in models], 1)

    def model(images):
        return apply(jnp, images.astype(jnp.bfloat16 if narrow else jnp.float32))

    images = rng.random((BATCHES[seed % len(BATCHES)], *SIDES, 2), np.float32)
    order = np.arange(len(images))
    exact = apply(np, images.astype(np.float64))
    targets = rng.permutation(np.arange(max(exact.shape[1], len(images))) % exact.shape[1])
    targets = targets[: len(images)]

    def compare(name, value, expected, scale):
        error = (np.abs(np.asarray(value, np.float64) - expected) / scale).max()
        assert error <= (0.3 if narrow else 1e-4), f"{name} is off by {error:.2g}"

    scale = 1 + np.abs(exact).max(0)
    compare("predict", predict(model, images), exact, scale)
    # A derivative along a direction, by a complex step, which subtracts nothing.
    direction = rng.normal(size=images.shape)
    slopes = apply(np, images + 1e-30j * direction).imag[order, targets] / 1e-30
    gradient = np.asarray(attribution.gradient(model, images, targets))
    compare("gradient", (gradient * direction).sum((1, 2, 3)), slopes,
            scale[targets] + np.abs(slopes))  # fmt: skip
    heatmaps = rng.random(images.shape[:3])
    ranks = (-heatmaps).reshape(len(images), -1).argsort(1).argsort(1).reshape(heatmaps.shape)
    curve = [
        apply(np, np.where(ranks[..., None] < cutoff, 0.0, images))[order, targets]
        for cutoff in (0, 3, 6)
    ]
    scores = metrics.deletion(
        model, images, targets, heatmaps, steps=2, baseline="black", output="logit"
    ).scores
    compare("deletion", scores, np.transpose(curve), 1 + np.abs(curve).max(0)[:, None])
