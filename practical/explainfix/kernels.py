"""Convolution kernels out of few numbers: the DCT basis, steered, generalised Haar and psine.

Pure functions that `jax.jit` and `jax.grad` take. Weights may have leading axes, for a kernel each.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._arguments import is_traced
from practical._inputs import ArrayLike, check_count

KINDS = ("II", "IV")
_LARGEST = float(np.finfo(np.float32).max)
Weight = Float[ArrayLike, "..."] | float | np.floating


def dct_basis(shape: Sequence[int], *, kind: str = "II") -> Float[Array, "n ..."]:
    """Return the orthonormal basis of the discrete cosine transform of kernels of that shape.

    Element n of the k-th of N vectors is, up to its scale, cos(pi / N * (k + b) * (n + 1/2)), with
    b = 0 for the DCT-II and 1/2 for the DCT-IV; in several dimensions their outer products.

    Args:
        shape: Of a kernel, in any number of dimensions.
        kind: "II", whose first element is constant and whose others sum to 0, or "IV".

    Returns:
        (prod(shape), *shape), the frequency along the last dimension changing fastest.

    Raises:
        ValueError: If `shape` is not of integers of at least 1, or `kind` is unknown.

    References:
        Martucci, Symmetric convolution and the discrete sine and cosine transforms, IEEE
        Transactions on Signal Processing 42(5), 1994.
    """
    sides = _check_shape(shape)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return jnp.asarray(_basis(sides, kind), jnp.float32)


def ghaar(
    size: int,
    h: Weight,
    v: Weight,
    d: Weight,
    a: Weight = 0.0,
    *,
    frequency: Weight = 1.0,
) -> Float[Array, "... size size"]:
    """Return generalised Haar kernels: smooth steps, steered to any orientation.

    With c(x) = cos(frequency * x) at `size` points from 0 to pi, the kernel is
    h c(x) + v c(y) + d c(x) c(y) + a, x along the rows' axis, divided by its length.

    Args:
        size: Rows, and columns.
        h: Weight of the horizontal edge; the four weights broadcast against each other.
        v: Of the vertical edge.
        d: Of the diagonal.
        a: Of the approximation, a constant. Without it, and with an odd frequency, kernels sum
            to 0.
        frequency: Half waves along a side; one number, for all kernels.

    Raises:
        ValueError: If `size` is below 1, weights are not finite, all of a kernel's are 0 or its
            parts cancel out, or `frequency` is not one finite number. Under somebody's own
            `jax.jit` values are not looked at, and a kernel without a length is NaN.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.1.
    """
    check_count("size", size)
    weights = _weights("h, v, d, a", *jnp.broadcast_arrays(*map(jnp.asarray, (h, v, d, a))))
    if not is_traced(weights) and not np.asarray(weights).any(-1).all():
        raise ValueError("h, v, d, a must not all be 0: a kernel without a direction has no length")
    wave = jnp.cos(_one_number("frequency", frequency) * jnp.linspace(0, math.pi, size))
    one = jnp.ones(size)
    parts = jnp.stack(
        [jnp.outer(x, y) for x, y in ((wave, one), (one, wave), (wave, wave), (one, one))]
    )
    kernels = jnp.einsum("...p,pxy->...xy", weights, parts)
    lengths = jnp.sqrt((kernels**2).sum((-2, -1), keepdims=True))
    if not is_traced(lengths):
        # Relative to what the parts' length may be: what is left of parts that cancel is rounding.
        most = size * np.abs(np.asarray(weights)).sum(-1)
        found = np.asarray(lengths)[..., 0, 0]
        wrong = ~(found > 1e-6 * most) | ~np.isfinite(found)
        if wrong.any():
            h, v, d, a = np.asarray(weights)[wrong][0]
            raise ValueError(
                "h, v, d, a must give a kernel whose length is above 0 and finite in float32, got "
                f"h={h:g}, v={v:g}, d={d:g}, a={a:g} with size={size}, "
                f"frequency={float(frequency):g}; where they cancel out, change a or the frequency"
            )
    return kernels / lengths


def ghaar4(
    shape: Sequence[int],
    h: Weight,
    v: Weight,
    d: Weight,
    a: Weight = 0.0,
) -> Float[Array, "... rows columns"]:
    """Return generalised Haar kernels from the first two DCT-II vectors of each side.

    The four parts are orthonormal, so that a kernel's length is that of its weights. The kernel
    need not be square.

    Args:
        shape: Rows and columns, of at least 2 each.
        h: Weight of the horizontal edge; the four weights broadcast against each other.
        v: Of the vertical edge.
        d: Of the diagonal.
        a: Of the approximation, a constant.

    Raises:
        ValueError: If `shape` is not of two integers of at least 2, or weights are not finite.
    """
    sides = _check_shape(shape, least=2)
    if len(sides) != 2:
        raise ValueError(f"shape must be (rows, columns), got {tuple(shape)}")
    weights = _weights("h, v, d, a", *jnp.broadcast_arrays(*map(jnp.asarray, (h, v, d, a))))
    rows, columns = sides
    basis = dct_basis(sides).reshape(rows, columns, rows, columns)
    parts = jnp.stack([basis[1, 0], basis[0, 1], basis[1, 1], basis[0, 0]])
    return jnp.einsum("...p,pxy->...xy", weights, parts)


def steered_dct(
    shape: Sequence[int],
    weights: Float[ArrayLike, "... l"],
    indices: Sequence[int],
    powers: Float[ArrayLike, " l"] | None = None,
    *,
    kind: str = "II",
) -> Float[Array, "..."]:
    """Return kernels that are weighted sums of some elements of the DCT basis.

    Args:
        shape: Of a kernel.
        weights: (..., L), one for each of the chosen elements.
        indices: Which L elements of `dct_basis(shape)`.
        powers: (L,) to which each weight is raised first; by default 1.
        kind: Of the basis.

    Raises:
        ValueError: If `indices` are not elements of the basis, weights or powers are not one for
            each or not finite, or a weight below 0 is to be raised to a fraction.
    """
    basis = dct_basis(shape, kind=kind)
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"indices must be a list of integers, got {indices!r}")
    if chosen.size and not (0 <= chosen.min() and chosen.max() < len(basis)):
        raise ValueError(
            f"indices must be from 0 to {len(basis) - 1}, the elements of the basis of "
            f"{tuple(shape)}, got {chosen[(chosen < 0) | (chosen >= len(basis))][0]}"
        )
    given = jnp.asarray(weights, jnp.float32)
    if given.ndim < 1 or given.shape[-1] != chosen.size:
        raise ValueError(
            f"weights must have one for each of the {chosen.size} indices on their last axis, got "
            f"shape {given.shape}"
        )
    _finite("weights", given)
    if powers is not None:
        exponents = jnp.asarray(powers, jnp.float32)
        if exponents.shape != chosen.shape:
            raise ValueError(
                f"powers must be one for each of the {chosen.size} indices, got shape "
                f"{exponents.shape}"
            )
        given = given ** exponents.reshape(*(1,) * (given.ndim - 1), -1)
        if not is_traced(given) and not np.isfinite(np.asarray(given)).all():
            raise ValueError(
                "powers must leave the weights finite numbers: whole ones for weights below 0, and "
                "none below 0 for weights of 0"
            )
    return jnp.tensordot(given, basis[chosen], 1)


class PolynomialSine(NamedTuple):
    """The parameters of `polynomial_sine`: L terms in D dimensions."""

    frequencies: Float[Array, "l d"]
    phases: Float[Array, "l d"]  # in radians
    powers: Float[Array, " l"]  # rounded to whole numbers
    weights: Float[Array, " l"]


def polynomial_sine(
    size: int,
    frequencies: Float[ArrayLike, "l d"],
    phases: Float[ArrayLike, "l d"],
    powers: Float[ArrayLike, " l"],
    weights: Float[ArrayLike, " l"],
) -> Float[Array, "..."]:
    """Return a kernel that is a polynomial of products of sine waves (psine).

    The sum over terms l of weights[l] * (product over dimensions d of
    sin(frequencies[l, d] x_d + phases[l, d])) ** round(powers[l]), with `size` points x_d from 0 to
    pi along each dimension.

    Args:
        size: Points along each dimension.
        frequencies: (L, D), half waves along a side.
        phases: (L, D) in radians.
        powers: (L,), at least 0. Their rounding has no slope, so `jax.grad` gives 0 for them.
        weights: (L,).

    Returns:
        (size,) * D.

    Raises:
        ValueError: If shapes do not fit, or a value is not finite, or a power rounds below 0.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.1.
    """
    check_count("size", size)
    frequencies, phases, powers, weights = (
        jnp.asarray(values, jnp.float32) for values in (frequencies, phases, powers, weights)
    )
    if frequencies.ndim != 2 or phases.shape != frequencies.shape:
        raise ValueError(
            "frequencies and phases must have one shape, (terms, dimensions), got "
            f"{frequencies.shape} and {phases.shape}"
        )
    for name, values in (("powers", powers), ("weights", weights)):
        if values.shape != frequencies.shape[:1]:
            raise ValueError(
                f"{name} must be one for each of the {len(frequencies)} terms, got shape "
                f"{values.shape}"
            )
    given = PolynomialSine(frequencies, phases, powers, weights)
    for name, values in given._asdict().items():
        _finite(name, values)
    whole = jax.lax.stop_gradient(jnp.round(powers))
    if not is_traced(whole) and whole.size and float(whole.min()) < 0:
        raise ValueError(f"powers must round to at least 0, got {float(powers.min()):.4g}")
    places = jnp.linspace(0, math.pi, size)
    waves = jnp.sin(frequencies[..., None] * places[None, None] + phases[..., None])  # (L, D, size)
    dimensions = frequencies.shape[1]
    products = reduce(
        jnp.multiply,
        [
            waves[:, d].reshape(-1, *(size if i == d else 1 for i in range(dimensions)))
            for d in range(dimensions)
        ],
    )
    one_each = (-1, *(1,) * dimensions)
    whole = whole.reshape(one_each)
    # To the power of 0 a wave is 1 and has no slope; JAX's own is NaN where the wave is 0.
    raised = jnp.where(whole == 0, 1, jnp.where(whole == 0, 1, products) ** whole)
    return (weights.reshape(one_each) * raised).sum(0)


def new_polynomial_sine(key: jax.Array, *, terms: int = 6, dimensions: int = 2) -> PolynomialSine:
    """Draw parameters for `polynomial_sine`: frequencies and weights around 1, all in a factor.

    Each is uniform from half to one and a half times its middle: 1 for frequencies and weights,
    pi/2 for phases, (terms - 1) / 2 for powers.
    """
    check_count("terms", terms)
    check_count("dimensions", dimensions)
    keys = jax.random.split(key, 4)
    shapes = (terms, dimensions), (terms, dimensions), (terms,), (terms,)
    middles = 1.0, math.pi / 2, (terms - 1) / 2, 1.0
    return PolynomialSine(
        *(
            middle * jax.random.uniform(k, shape, minval=0.5, maxval=1.5)
            for k, shape, middle in zip(keys, shapes, middles, strict=True)
        )
    )


def _basis(sides: tuple[int, ...], kind: str) -> np.ndarray:
    basis = np.ones((1, *(1,) * len(sides)))
    for axis, side in enumerate(sides):
        k, n = np.mgrid[:side, :side].astype(np.float64)
        vectors = np.sqrt(2 / side) * np.cos(
            np.pi / side * (k + (0.5 if kind == "IV" else 0)) * (n + 0.5)
        )
        if kind == "II":
            vectors[0] /= np.sqrt(2)
        along = vectors.reshape(side, *(side if i == axis else 1 for i in range(len(sides))))
        basis = (basis[:, None] * along[None]).reshape(
            -1, *np.broadcast_shapes(basis.shape[1:], along.shape[1:])
        )
    return basis


def _check_shape(shape: Sequence[int], *, least: int = 1) -> tuple[int, ...]:
    try:
        sides = tuple(shape)
    except TypeError:
        sides = ()
    if not sides:
        raise ValueError(f"shape must be a sequence of sides, such as (3, 3), got {shape!r}")
    return tuple(check_count("shape", side, least=least) for side in sides)


def _weights(name: str, *weights: jax.Array) -> Float[Array, "... p"]:
    stacked = jnp.stack([w.astype(jnp.float32) for w in weights], -1)
    _finite(name, stacked)
    return stacked


def _one_number(name: str, value: Weight) -> Float[Array, ""]:
    traced = is_traced(value)
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.ndim or not real or not (traced or abs(float(array)) <= _LARGEST):
        raise ValueError(
            f"{name} must be one finite number, got {value!r}; jax.vmap takes one for each kernel"
        )
    return jnp.asarray(array, jnp.float32)


def _finite(name: str, values: jax.Array) -> None:
    if not is_traced(values) and not np.isfinite(np.asarray(values)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
