"""Kernels out of few numbers, against SciPy, the authors' code, and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from practical.explainfix import (
    dct_basis,
    ghaar,
    ghaar4,
    new_polynomial_sine,
    polynomial_sine,
    steered_dct,
)
from tests.oracles import refuses

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # what ../shared/golden/README.md asks for
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


@given(shapes, st.sampled_from(["II", "IV"]))
def test_a_basis_is_orthonormal(shape, kind):
    vectors = np.asarray(dct_basis(shape, kind=kind)).reshape(math.prod(shape), -1)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-5)


@given(shapes, st.sampled_from([("II", 2), ("IV", 4)]))
def test_a_basis_gives_the_coefficients_of_scipy(shape, kind):
    kernel = np.random.default_rng(0).normal(size=shape)
    expected = scipy.fft.dctn(kernel, type=kind[1], norm="ortho")
    found = np.tensordot(dct_basis(shape, kind=kind[0]), kernel, len(shape)).reshape(shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", ["3x3", "5x5", "7x7", "2x3", "3x3x3"])
def test_the_bases_of_the_authors(golden, shape):
    expected = golden[f"explainfix/dct_basis_{shape}"]
    found = np.asarray(dct_basis(tuple(map(int, shape.split("x")))))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, **CLOSE)


def test_the_fourth_basis_of_the_authors(golden):
    expected = golden["explainfix/dct4_basis_5x5"]
    found = np.asarray(dct_basis((5, 5), kind="IV"))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, **CLOSE)


def test_the_haar_kernels_of_the_authors(golden):
    h, v, d, a = golden["explainfix/ghaar2d_in"].T
    np.testing.assert_allclose(ghaar(5, h, v, d, a), golden["explainfix/ghaar2d_5"], **CLOSE)
    found = ghaar(4, h, v, d, a, frequency=3.0)
    np.testing.assert_allclose(found, golden["explainfix/ghaar2d_4_f3"], **CLOSE)
    a, h, v, d = golden["explainfix/ghaar2d_in"].T
    np.testing.assert_allclose(
        ghaar4((5, 3), h, v, d, a), golden["explainfix/ghaar4_2d_5x3"], **CLOSE
    )


def test_the_smallest_haar_kernels_are_haars():
    # cos at 0 and pi is 1 and -1.
    half = 0.5 * np.array([[1, 1], [-1, -1]])
    np.testing.assert_allclose(ghaar(2, 1.0, 0.0, 0.0), half, atol=1e-6)
    np.testing.assert_allclose(ghaar(2, 0.0, 3.0, 0.0), half.T, atol=1e-6)
    np.testing.assert_allclose(ghaar(2, 0.0, 0.0, 1.0), [[0.5, -0.5], [-0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(ghaar(2, 0.0, 0.0, 0.0, -1.0), -np.full((2, 2), 0.5), atol=1e-6)


@given(st.integers(2, 9), st.sampled_from([1.0, 3.0, 5.0]))
def test_haar_kernels_have_length_one_and_without_a_constant_sum_to_zero(size, frequency):
    h, v, d = np.random.default_rng(size).normal(size=(3, 4)).astype(np.float32)
    kernels = np.asarray(ghaar(size, h, v, d, frequency=frequency))
    np.testing.assert_allclose((kernels**2).sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(kernels.sum((1, 2)), 0, atol=1e-5)


def test_the_four_dct_parts_are_orthonormal():
    h, v, d, a = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    lengths = (np.asarray(ghaar4((5, 3), h, v, d, a)) ** 2).sum((1, 2))
    np.testing.assert_allclose(lengths, h**2 + v**2 + d**2 + a**2, rtol=1e-5)


def test_the_steered_kernel_of_the_authors(golden):
    weights = golden["explainfix/dct_steered_in"]
    expected = golden["explainfix/dct_steered_5x5_0_4_7_11"]
    np.testing.assert_allclose(steered_dct((5, 5), weights, [0, 4, 7, 11]), expected, **CLOSE)


def test_steering_is_a_sum_over_the_basis_of_powers_of_weights():
    weights = np.array([[2.0, -3.0], [0.5, 1.0]], np.float32)
    basis = np.asarray(dct_basis((2, 3)))
    expected = [w[0] * basis[5] + w[1] ** 2 * basis[1] for w in weights]
    found = steered_dct((2, 3), weights, [5, 1], np.array([1.0, 2.0], np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_psine_kernel_of_the_authors(golden):
    parameters = (golden[f"explainfix/psine_{name}"] for name in "ftpw")
    np.testing.assert_allclose(
        polynomial_sine(7, *parameters), golden["explainfix/psine_7x7"], **CLOSE
    )


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_psine_by_plain_loops(dimensions):
    rng = np.random.default_rng(0)
    f, t = rng.normal(size=(2, 4, dimensions))
    p, w = np.array([0.0, 1.0, 2.4, 3.0]), rng.normal(size=4)
    places, expected = np.linspace(0, np.pi, 5), np.zeros((5,) * dimensions)
    for at in itertools.product(range(5), repeat=dimensions):
        for k in range(4):
            waves = [math.sin(f[k, i] * places[at[i]] + t[k, i]) for i in range(dimensions)]
            expected[at] += w[k] * math.prod(waves) ** round(p[k])
    found = polynomial_sine(5, *(x.astype(np.float32) for x in (f, t, p, w)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_new_psine_parameters_stay_in_their_ranges():
    drawn = new_polynomial_sine(jax.random.key(0), terms=50, dimensions=3)
    for values, middle in zip(drawn, (1, math.pi / 2, 24.5, 1), strict=True):
        assert float(values.min()) >= middle / 2 - 1e-5
        assert float(values.max()) <= 1.5 * middle + 1e-5
    assert [v.shape for v in drawn] == [(50, 3), (50, 3), (50,), (50,)]
    assert np.isfinite(np.asarray(polynomial_sine(5, *drawn))).all()


def flatten(parameters):
    return jnp.concatenate([p.ravel() for p in parameters])


@pytest.mark.parametrize(
    ("kernel", "count"),
    [
        (lambda w: ghaar(5, *w, frequency=2.5), 4),
        (lambda w: ghaar4((4, 3), *w), 4),
        (lambda w: steered_dct((3, 3), w, [1, 4, 7], np.array([1.0, 2.0, 3.0], np.float32)), 3),
        (lambda w: polynomial_sine(
            4, w[:6].reshape(3, 2), w[6:12].reshape(3, 2), jnp.array([0.0, 1.0, 3.0]), w[12:15]
        ), 15),
    ],
    ids=["ghaar", "ghaar4", "steered_dct", "polynomial_sine"],
)  # fmt: skip
def test_weights_have_derivatives_and_compile(kernel, count):
    weights = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.5, count), jnp.float32)
    np.testing.assert_allclose(jax.jit(kernel)(weights), kernel(weights), rtol=1e-5, atol=1e-6)
    check_grads(kernel, (weights,), order=1, modes=["rev"], rtol=2e-2, eps=1e-2)


def test_the_slope_of_psine_is_finite_where_a_wave_is_zero():
    # sin(0) = 0 to the powers 0 and 1.
    def total(frequencies):
        zeros = jnp.zeros((2, 1))
        return polynomial_sine(3, frequencies, zeros, jnp.array([0.0, 1.0]), jnp.ones(2)).sum()

    assert np.isfinite(np.asarray(jax.grad(total)(jnp.ones((2, 1))))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dct_basis(()), r"shape must be a sequence of sides, such as \(3, 3\), got \(\)"),
        (lambda: dct_basis(3), "shape must be a sequence of sides"),
        (lambda: dct_basis((3, 0)), "shape must be an integer of at least 1, got 0"),
        (lambda: dct_basis((3, 3), kind="I"), "kind must be one of II, IV, got 'I'"),
        (lambda: ghaar(0, 1.0, 0.0, 0.0), "size must be an integer of at least 1, got 0"),
        (lambda: ghaar(3, 0.0, 0.0, 0.0), "h, v, d, a must not all be 0"),
        (lambda: ghaar(3, np.nan, 0.0, 0.0), "h, v, d, a must be finite"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, frequency=np.nan),
         "frequency must be one finite number, got nan; jax.vmap takes one for each kernel"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, frequency=1e300), "frequency must be one finite number"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, frequency=np.ones(3)), "frequency must be one finite"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, frequency=jnp.ones(3)), "frequency must be one finite"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, frequency="1"), "frequency must be one finite number"),
        (lambda: jax.jit(lambda f: ghaar(3, 1.0, 0.0, 0.0, frequency=f))(np.ones(3)),
         "frequency must be one finite number"),
        (lambda: ghaar(3, 1.0, 0.0, 0.0, -1.0, frequency=0.0),
         "h, v, d, a must give a kernel whose length is above 0 and finite in float32, got h=1, "
         "v=0, d=0, a=-1 with size=3, frequency=0; where they cancel out, change a or the freq"),
        (lambda: ghaar(1, 1.0, 0.0, 0.0, -1.0), "got h=1, v=0, d=0, a=-1 with size=1, frequency=1"),
        (lambda: ghaar(4, 0.1, 0.2, 0.0, -0.3, frequency=0.0), "must give a kernel whose length"),
        (lambda: ghaar(3, np.array([1.0, 2.0]), 0.0, 0.0, np.array([0.0, -2.0]), frequency=0.0),
         "got h=2, v=0, d=0, a=-2 with size=3"),
        (lambda: ghaar(3, 1e-30, 0.0, 0.0), "must give a kernel whose length"),
        (lambda: ghaar(3, 1e30, 0.0, 0.0), "must give a kernel whose length"),
        (lambda: ghaar4((3, 3, 3), 1.0, 0.0, 0.0), r"shape must be \(rows, columns\)"),
        (lambda: ghaar4((1, 3), 1.0, 0.0, 0.0), "shape must be an integer of at least 2, got 1"),
        (lambda: steered_dct((3, 3), np.ones(2), [0, 9]),
         r"indices must be from 0 to 8, the elements of the basis of \(3, 3\), got 9"),
        (lambda: steered_dct((3, 3), np.ones(2), [0.5]), "indices must be a list of integers"),
        (lambda: steered_dct((3, 3), np.ones(3), [0, 1]),
         r"weights must have one for each of the 2 indices on their last axis, got shape \(3,\)"),
        (lambda: steered_dct((3, 3), np.array([1, np.inf]), [0, 1]), "weights must be finite"),
        (lambda: steered_dct((3, 3), np.ones(2), [0, 1], np.ones(3)),
         r"powers must be one for each of the 2 indices, got shape \(3,\)"),
        (lambda: steered_dct((3, 3), -np.ones(1), [0], np.array([0.5])),
         "powers must leave the weights finite numbers: whole ones for weights below 0"),
        (lambda: polynomial_sine(3, np.ones((2, 2)), np.ones((2, 1)), np.ones(2), np.ones(2)),
         r"frequencies and phases must have one shape, \(terms, dimensions\)"),
        (lambda: polynomial_sine(3, np.ones((2, 2)), np.ones((2, 2)), np.ones(3), np.ones(2)),
         "powers must be one for each of the 2 terms"),
        (lambda: polynomial_sine(3, np.ones((2, 2)), np.ones((2, 2)), -np.ones(2), np.ones(2)),
         "powers must round to at least 0, got -1"),
        (lambda: new_polynomial_sine(jax.random.key(0), terms=0),
         "terms must be an integer of at least 1, got 0"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with refuses(message):
        call()
