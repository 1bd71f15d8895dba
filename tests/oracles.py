"""Models whose explanations are known in closed form, and helpers.

All are pytrees, as a `Classifier` is; images may have any height and width that fits the weights.
"""

import contextlib
import dataclasses
import resource
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in typing


@contextlib.contextmanager
def refuses(message: str, error: type[Exception] = ValueError):
    """Expect our own error with `message` (a regex).

    The run-time check of the annotations would refuse first, so it is off inside.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(error, match=message):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def full_disk(size: int):
    """Let no file grow beyond `size` bytes: writing more is an error, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pytree(cls):
    """Make a dataclass whose fields are all leaves."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    return jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])


@pytree
class Linear:
    """logit k = sum of weights[k] * image + bias[k]."""

    weights: jax.Array  # (classes, height, width, 3)
    bias: jax.Array  # (classes,)

    @classmethod
    def random(cls, seed: int, *, classes: int = 3, height: int = 12, width: int = 10):
        rng = np.random.default_rng(seed)
        return cls(
            jnp.asarray(rng.normal(size=(classes, height, width, 3)), jnp.float32),
            jnp.asarray(rng.normal(size=classes), jnp.float32),
        )

    def __call__(self, images):
        return jnp.einsum("bhwc,khwc->bk", images, self.weights, precision="highest") + self.bias


@pytree
class Small:
    """A 3x3 convolution, ReLU, global mean, a dense layer."""

    kernel: jax.Array  # (3, 3, 3, channels)
    shift: jax.Array  # (channels,)
    dense: jax.Array  # (channels, classes)

    @classmethod
    def random(cls, seed: int, *, symmetric: bool = False, channels: int = 3):
        rng = np.random.default_rng(seed)
        shapes = (3, 3, channels, 4), (4,), (4, 3)
        kernel, shift, dense = (rng.normal(size=shape) for shape in shapes)
        if symmetric:
            kernel = kernel + kernel[:, ::-1]
        return cls(*(jnp.asarray(a, jnp.float32) for a in (kernel, shift, 10 * dense)))

    def __call__(self, images):
        return self.head(self.features(images))

    def features(self, images):
        dimensions = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(
            images, self.kernel, (1, 1), "SAME", dimension_numbers=dimensions, precision="highest"
        )
        return jax.nn.relu(maps + self.shift)

    def head(self, features):
        return jnp.matmul(features.mean((1, 2)), self.dense, precision="highest")


@pytree
class Weighted:
    """a * first + b * second: for linearity in the model."""

    a: jax.Array
    first: Small
    b: jax.Array
    second: Small

    def __call__(self, images):
        return self.a * self.first(images) + self.b * self.second(images)


@partial(jax.tree_util.register_dataclass, data_fields=["inner"], meta_fields=["name"])
@dataclasses.dataclass(frozen=True)
class Counting:
    """Another model, and how often Python ran it: once a trace, never when compiled.

    Another name is another structure: what was compiled for one does not serve the other.
    """

    inner: Small
    name: str

    def __call__(self, images):
        _calls.append(images.shape)
        return self.inner(images)

    def features(self, images):
        _calls.append(images.shape)
        return self.inner.features(images)

    def head(self, features):
        return self.inner.head(features)

    @staticmethod
    def calls() -> int:
        """Return the number of calls since this was last asked."""
        number = len(_calls)
        _calls.clear()
        return number


_calls: list[tuple[int, ...]] = []


def product(images):
    """One class: the product of the red values of the first two pixels."""
    return images[:, 0, 0, :1] * images[:, 0, 1, :1]


def power(degree: int):
    """Return a model of one class: the first red value to the power of `degree`."""

    @jax.tree_util.Partial
    def model(images):
        return images[:, 0, 0, :1] ** degree

    return model


def saturating(images):
    """One class: 1 - relu(1 - 2x) of the first red value; flat, with gradient 0, above x = 1/2."""
    return 1 - jax.nn.relu(1 - 2 * images[:, 0, 0, :1])


def one_pixel(images):
    """Two classes: the red value of the pixel in row 2 and column 3; and 0."""
    return jnp.stack([images[:, 2, 3, 0], jnp.zeros(len(images))], axis=1)


def only_at_most(most):
    """Return a model that needs more memory than there is for more than `most` images."""

    def look(images):
        if len(images) > most:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return np.stack([images.mean((1, 2, 3)), images.max((1, 2, 3))], 1).astype(np.float32)

    def model(images):
        spec = jax.ShapeDtypeStruct((len(images), 2), jnp.float32)
        return jax.pure_callback(look, spec, images)

    return model
