"""Explanations of many noisy copies of an image, taken together."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._arguments import as_model
from practical._chunks import fold_pairs
from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_count,
    check_inputs,
)
from practical._jit import jit
from practical._keys import image_keys
from practical.attribution.gradients import gradient


def smooth_grad(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    method: Callable = gradient,
    noise: float = 0.15,
    samples: int = 32,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width ..."]:
    """Return the mean of an explanation over noisy copies of each image.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        method: What explains each copy: `gradient`, `saliency`, `integrated_gradients`,
            `guided_backprop` or any other explanation that JAX can trace; options through
            `functools.partial` (make it once: another one compiles anew). One that is random
            itself, with an argument `key` that is not set, gets a key of its own for each copy.
        noise: Standard deviation of the Gaussian noise, in pixel units; the paper's noise level,
            since images span [0, 1]. Copies may leave [0, 1].
        samples: Noisy copies of each image.
        key: Decides the noise and the copies' keys; one key, or one an image; by default
            `jax.random.key(0)`.
        chunk_size: Copies in flight ("auto": as many as fit); memory does not grow with `samples`.

    Returns:
        The mean, in `method`'s shape and unit.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, arXiv:1706.03825, 2017.
    """
    return _moment(
        "smooth_grad", model, images, targets, method=method, noise=noise, samples=samples,
        key=key, chunk_size=chunk_size,
    )  # fmt: skip


def squaregrad(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    method: Callable = gradient,
    noise: float = 0.15,
    samples: int = 32,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width ..."]:
    """Return the mean square of an explanation over noisy copies of each image.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        method: What explains each copy; see `smooth_grad`.
        noise: Standard deviation of the Gaussian noise, in pixel units.
        samples: Noisy copies of each image.
        key: Decides the noise; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Copies in flight ("auto": as many as fit); memory does not grow with `samples`.

    Returns:
        The mean square, at least 0, in `method`'s shape and its unit squared; squares below 1e-38,
        of slopes below 1e-19, are 0 in float32.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Hooker et al., A Benchmark for Interpretability Methods in Deep Neural Networks,
        NeurIPS 2019, equation 5.
    """
    return _moment(
        "squaregrad", model, images, targets, method=method, noise=noise, samples=samples,
        key=key, chunk_size=chunk_size,
    )  # fmt: skip


def vargrad(
    model: Model,
    images: Images,
    targets: Targets,
    *,
    method: Callable = gradient,
    noise: float = 0.15,
    samples: int = 32,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width ..."]:
    """Return the variance of an explanation over noisy copies of each image.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        method: What explains each copy; see `smooth_grad`.
        noise: Standard deviation of the Gaussian noise, in pixel units.
        samples: Noisy copies of each image; the variance divides by their number.
        key: Decides the noise; one key, or one an image; by default `jax.random.key(0)`.
        chunk_size: Copies in flight ("auto": as many as fit); memory does not grow with `samples`.

    Returns:
        The variance, at least 0, in `method`'s shape and its unit squared; variances below 1e-38
        are 0 in float32.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.

    References:
        Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
        Parameter Values, ICLR workshop 2018, equation 3.
    """
    return _moment(
        "vargrad", model, images, targets, method=method, noise=noise, samples=samples,
        key=key, chunk_size=chunk_size,
    )  # fmt: skip


def _moment(kind, model, images, targets, *, method, noise, samples, key, chunk_size):
    inputs = check_inputs(model, images, targets)
    if not callable(method):
        raise ValueError(
            f"method must be an explanation, such as attribution.gradient, got {method!r}"
        )
    if not 0 < noise < np.inf:
        raise ValueError(
            f"noise must be a standard deviation above 0, in pixel units, got {noise!r}"
        )
    answer = _moments(
        *inputs, image_keys(key, len(inputs.images)), jnp.float32(noise),
        kind=kind, method=method, samples=check_count("samples", samples),
        chunk_size=check_chunk_size(chunk_size),
    )  # fmt: skip
    return check_answer(answer, kind)


# Folded into an image's key where a method is random: no sample of noise has this number.
_METHOD = 2**31 - 1


def _wants_key(method: Callable) -> bool:
    """Whether a method is random, and nobody has set its key (a bound one is its new default)."""
    try:
        key = inspect.signature(method).parameters.get("key")
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return False
    return key is not None and (key.default is None or key.default is key.empty)


def _moments_core(model, images, targets, keys, noise, *, kind, method, samples, chunk_size):
    # Left to itself, a random method numbers its keys from the start of each chunk.
    own = jax.vmap(lambda key: jax.random.fold_in(key, _METHOD))(keys)
    random = _wants_key(method)

    def explain(images, targets, keys):
        options = {"key": keys} if random else {}
        return method(as_model(model), images, targets, chunk_size=chunk_size, **options)

    def draw(key, k):
        return jax.random.normal(jax.random.fold_in(key, k), images.shape[1:])

    # A variance far below the squared mean would drown in rounding: measure from nearby.
    origin = jnp.zeros((len(images), 1, 1, 1))
    origin = explain(images, targets, own) if kind == "vargrad" else origin
    shape = jax.eval_shape(explain, images, targets, own).shape
    origin = origin.reshape(origin.shape[: len(shape)])

    def visit(totals, i, k, live):
        noisy = images[i] + noise * jax.vmap(draw)(keys[i], k)
        answer = explain(noisy, targets[i], jax.vmap(jax.random.fold_in)(own[i], k)) - origin[i]
        answer = jnp.where(live.reshape(-1, *(1,) * (answer.ndim - 1)), answer, 0)
        first, second = totals
        first = first if kind == "squaregrad" else first.at[i].add(answer)
        second = second if kind == "smooth_grad" else second.at[i].add(answer**2)
        return first, second

    # What a kind does not add up has no memory either.
    sizes = [() if kind == "squaregrad" else shape, () if kind == "smooth_grad" else shape]
    totals = tuple(jnp.zeros(size) for size in sizes)
    first, second = fold_pairs(visit, totals, len(images), samples, chunk_size)
    if kind == "smooth_grad":
        return first / samples
    if kind == "squaregrad":
        return second / samples
    return jnp.maximum(second / samples - (first / samples) ** 2, 0)


_moments = jit(
    _moments_core, static_argnames=["kind", "method", "samples", "chunk_size"],
    per_image=["images", "targets", "keys"],
)  # fmt: skip
