"""Spectra of filters, against the authors' code, SciPy, and closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from practical import models
from practical.explainfix import (
    Spectra,
    compare_spectra,
    dct_basis,
    diagonal_order,
    energy_spectrum,
    filter_spectra,
    saliency_spectra,
    spectra_interval,
)
from tests.oracles import pytree, refuses
from tests.test_folded import random_classifier

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # what ../shared/golden/README.md asks for


@pytest.fixture(scope="module")
def reference(golden):
    """The network of the golden answers, its images and their classes."""
    # It takes images as they are; ours are in [0, 1] and normalised inside.
    low, high = float(golden["x"].min()), float(golden["x"].max())
    state = {name[6:]: array for name, array in golden.items() if name.startswith("state/")}
    span = high - low
    model = models.from_torchvision(state, mean=(-low / span,) * 3, std=(1 / span,) * 3)
    images = np.clip((golden["x"].transpose(0, 2, 3, 1) - low) / span, 0, 1)
    return model, images, golden["target"].astype(int)


@pytest.mark.parametrize("side", [3, 5])
def test_energy_spectra_of_the_authors(golden, side):
    filters = golden[f"explainfix/get_spectra_{side}_filters"].reshape(-1, side, side)
    weights = golden[f"explainfix/get_spectra_{side}_weights"].ravel()
    for name, found in energy_spectrum(filters, weights)._asdict().items():
        np.testing.assert_allclose(found, golden[f"explainfix/get_spectra_{side}_{name}"], **CLOSE)


def test_filter_spectra_of_the_authors(golden, reference):
    spectra = filter_spectra(reference[0])
    assert spectra.layers == (
        "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2"
    )  # fmt: skip
    for i, layer in enumerate(spectra.layers):
        for name, found in spectra[layer]._asdict().items():
            expected = golden[f"explainfix/without_saliency/layer{i}_{name}"]
            np.testing.assert_allclose(found, expected, **CLOSE, err_msg=f"{layer} {name}")


def test_saliency_spectra_of_the_authors(golden, reference):
    spectra = saliency_spectra(*reference, per="minibatch", batch_size=3)
    for i, layer in enumerate(spectra.layers):
        for name, found in spectra[layer]._asdict().items():
            expected = golden[f"explainfix/with_saliency_2x3/layer{i}_{name}"]
            np.testing.assert_allclose(found, expected, **CLOSE, err_msg=f"{layer} {name}")


def test_a_basis_filter_has_its_own_frequency_alone():
    basis, order = dct_basis((3, 3)), diagonal_order((3, 3))
    for place, number in enumerate(order):
        found = energy_spectrum(basis[number][None], np.array([4.0], np.float32))
        np.testing.assert_allclose(found.ed, 4 * np.eye(9)[place], atol=1e-5)
        row, column = divmod(number, 3)
        # The square root of 4, at its frequency along rows and along columns.
        np.testing.assert_allclose(
            found.e1, 2 * np.r_[np.eye(3)[row], np.eye(3)[column]], atol=3e-3
        )
        np.testing.assert_allclose(found.e0, 2 * (np.eye(3)[row] + np.eye(3)[column]), atol=6e-3)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (4, 1)])
def test_energies_by_scipy_and_plain_loops(shape):
    rng = np.random.default_rng(0)
    filters, weights = rng.normal(size=(7, *shape)), rng.random(7)
    energies = sum(
        w * np.abs(scipy.fft.dctn(f, norm="ortho")) for f, w in zip(filters, weights, strict=True)
    )
    found = energy_spectrum(filters.astype(np.float32), weights.astype(np.float32))
    np.testing.assert_allclose(found.ed, energies.ravel()[diagonal_order(shape)], rtol=1e-4)
    rows, columns = np.sqrt(energies).sum(1), np.sqrt(energies).sum(0)
    np.testing.assert_allclose(found.e1, np.r_[rows, columns], rtol=1e-4)
    both = np.zeros(max(shape))
    both[: len(rows)] += rows
    both[: len(columns)] += columns
    np.testing.assert_allclose(found.e0, both, rtol=1e-4)


def test_diagonal_order_goes_from_coarse_to_fine_with_the_edges_first():
    np.testing.assert_array_equal(diagonal_order((3, 3)), [0, 1, 3, 2, 6, 4, 5, 7, 8])
    np.testing.assert_array_equal(diagonal_order((2, 3)), [0, 1, 3, 2, 4, 5])


def test_a_spectrum_depends_neither_on_chunks_nor_on_order_nor_on_copies(reference):
    model, images, targets = reference
    expected = saliency_spectra(model, images, targets)
    order = np.array([3, 1, 5, 0, 2, 4])
    for some, others in (
        (saliency_spectra(model, images, targets, chunk_size=4), slice(None)),
        (saliency_spectra(model, images[order], targets[order]), order),
    ):
        for layer in expected.layers:
            np.testing.assert_allclose(
                some.energies[layer], expected.energies[layer][others], rtol=1e-4
            )
    twice = saliency_spectra(model, np.concatenate([images] * 2), np.concatenate([targets] * 2))
    for layer in expected.layers:
        for found, one in zip(twice[layer], expected[layer], strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-4)


def test_an_images_spectrum_weighs_filters_by_finite_differences(reference):
    model, images, targets = reference
    kernel = np.asarray(model.kernels()["conv1"])

    @jax.jit
    def logit(changed):
        answer = model.replace_kernels({"conv1": changed})(jnp.asarray(images[:1]))
        return answer[0, targets[0]]

    weights = np.zeros(kernel.shape[2:])
    for o in range(2):  # two of the filters are enough, and the others are cut from both
        for y, x in np.ndindex(kernel.shape[:2]):
            step = np.zeros_like(kernel)
            step[y, x, 0, o] = 1e-3
            weights[0, o] += abs(logit(kernel + step) - logit(kernel - step)) / 2e-3
    slopes = jax.jit(jax.grad(logit))(jnp.asarray(kernel))
    np.testing.assert_allclose(np.abs(slopes).sum((0, 1))[0, :2], weights[0, :2], rtol=5e-2)
    filters = kernel.transpose(2, 3, 0, 1).reshape(-1, 7, 7)
    expected = energy_spectrum(filters, np.abs(slopes).sum((0, 1)).ravel())
    found = saliency_spectra(model, images[:1], targets[:1])["conv1"]
    np.testing.assert_allclose(found.ed, expected.ed, rtol=1e-4)


@pytree
class Grouped:
    """A convolution of 3x5 in two groups, its square averaged over the image: a logit a channel."""

    kernel: Any  # (3, 5, 2, 6): four inputs, two a group

    def kernels(self):
        return {"conv": self.kernel}

    def replace_kernels(self, kernels):
        return Grouped(kernels["conv"])

    def __call__(self, images):
        maps = jax.lax.conv_general_dilated(
            images, self.kernel, (1, 1), "SAME", feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return (maps**2).mean((1, 2))


def test_grouped_convolutions_whose_filters_are_not_square():
    rng = np.random.default_rng(0)
    model = Grouped(jnp.asarray(rng.normal(size=(3, 5, 2, 6)), jnp.float32))
    images, targets = rng.random((3, 8, 9, 4), np.float32), np.array([4, 0, 5])

    def energies(weights):
        expected = np.zeros(15)
        for i, o in np.ndindex(2, 6):
            found = scipy.fft.dctn(np.asarray(model.kernel)[:, :, i, o], norm="ortho")
            expected += weights[i, o] * np.abs(found).ravel()[diagonal_order((3, 5))]
        return expected

    own = filter_spectra(model)
    assert own.shapes == {"conv": (3, 5)}
    np.testing.assert_allclose(own["conv"].ed, energies(np.full((2, 6), 1 / 12)), rtol=1e-4)
    found = saliency_spectra(model, images, targets).energies["conv"]
    for row, image, target in zip(found, images, targets, strict=True):
        slope = jax.grad(lambda k, x=image, t=target: Grouped(k)(x[None])[0, t])(model.kernel)
        # A logit is one channel's: the filters of all others weigh nothing.
        weights = np.abs(slope).sum((0, 1))
        assert (np.flatnonzero(weights.sum(0)) == [target]).all()
        np.testing.assert_allclose(row, energies(weights), rtol=1e-4)


def made(values, per="image"):
    return Spectra({"conv": jnp.asarray(values, jnp.float32)}, {"conv": (1, 2)}, per)


def test_an_interval_is_around_the_mean_and_a_constant_has_none():
    found = spectra_interval(made([[4.0, 1.0]] * 8))["conv"]
    for part in (found.mean, found.low, found.high):
        np.testing.assert_allclose(part.ed, [4, 1])
        np.testing.assert_allclose(part.e1, [3, 2, 1])  # sqrt(4) + sqrt(1) along the one row
    rng = np.random.default_rng(0)
    found = spectra_interval(made(1 + rng.random((50, 2))))["conv"]
    for mean, low, high in zip(found.mean, found.low, found.high, strict=True):
        assert (np.asarray(low) < mean).all()
        assert (np.asarray(mean) < high).all()


def test_shares_do_not_tell_a_network_from_its_double(reference):
    model, images, targets = reference
    one = saliency_spectra(model, images, targets).select([0, 1, 2, 3, 4, 5, 0, 1])
    double = Spectra({n: 2 * e for n, e in one.energies.items()}, one.shapes, one.per)
    for layer, interval in compare_spectra(one, double).items():
        for part in (interval.mean, interval.low, interval.high):
            np.testing.assert_allclose(part.ed, 0, atol=1e-6, err_msg=layer)
    plain = compare_spectra(one, double, share=False)
    for layer, interval in plain.items():
        np.testing.assert_allclose(interval.mean.ed, -one[layer].ed, rtol=1e-4)


def test_fewer_than_eight_images_have_no_interval():
    few = spectra_interval(made([[4.0, 1.0], [1.0, 1.0]] * 3))["conv"]
    np.testing.assert_allclose(few.mean.ed, [2.5, 1])
    for part in (*few.low, *few.high):
        assert np.isnan(part).all()


def test_a_class_is_selected_by_a_mask(reference):
    spectra = saliency_spectra(*reference)
    some = spectra.select(np.arange(6) < 2)
    np.testing.assert_array_equal(some.energies["conv1"], spectra.energies["conv1"][:2])
    last = spectra.select(-1)
    np.testing.assert_array_equal(last["conv1"].ed, spectra.energies["conv1"][-1])


@pytest.mark.parametrize("options", [{}, {"per": "minibatch", "batch_size": 1}])
def test_layers_come_in_the_networks_order(options):
    model = random_classifier(stage_sizes=(11,), widths=(2,), stem_width=2)
    expected = filter_spectra(model).layers  # layer1.10 is after layer1.9, not after layer1.1
    assert expected[-1] == "layer1.10.conv2"
    images = np.zeros((1, 8, 8, 3), np.float32)
    assert saliency_spectra(model, images, [0], **options).layers == expected


class Dense:
    def kernels(self):
        return {"one": jnp.ones((1, 1, 2, 2))}


class Broken:
    def kernels(self):
        return {"conv": jnp.full((3, 3, 2, 2), jnp.nan)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filter_spectra(Dense()),
         "model must have a convolution larger than 1x1, got none"),
        (lambda: filter_spectra(Broken()),
         "model must have finite kernels, got NaN or infinity in conv"),
        (lambda: filter_spectra(lambda images: images),
         "model must say what its convolutions are"),
        (lambda: energy_spectrum(np.ones((2, 3)), np.ones(2)),
         r"filters must have shape \(count, rows, columns\), got \(2, 3\)"),
        (lambda: energy_spectrum(np.ones((2, 3, 3)), np.ones(3)),
         "weights must have one for each of the 2 filters"),
        (lambda: energy_spectrum(np.full((2, 3, 3), np.nan), np.ones(2)),
         "filters must be finite"),
        (lambda: energy_spectrum(np.ones((2, 3, 3)), -np.ones(2)),
         "weights must be at least 0, got -1"),
        (lambda: spectra_interval(made([[1.0, 2.0]])), "the same two or more images"),
        (lambda: spectra_interval(made([[1.0, 2.0]] * 2), level=1.0), r"level must be in \(0, 1\)"),
        (lambda: spectra_interval(made([[1.0, 2.0]] * 2, per="minibatch")),
         "one an image for an interval over images, got one a minibatch"),
        (lambda: compare_spectra(made([[1.0, 2.0]] * 2),
                                 Spectra({"other": jnp.ones((2, 2))}, {"other": (1, 2)})),
         "second must have first's layers"),
        (lambda: made([[1.0, 2.0]]).select([]), "images must select at least one"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with refuses(message):
        call()


def test_bad_arguments_of_saliency_spectra(reference):
    with refuses("per must be 'image' or 'minibatch', got 'batch'"):
        saliency_spectra(*reference, per="batch")
    with refuses("batch_size must be given for per='minibatch' and only there, got None"):
        saliency_spectra(*reference, per="minibatch")
    with refuses("batch_size must be given for per='minibatch' and only there, got 3"):
        saliency_spectra(*reference, batch_size=3)
    with refuses("chunk_size must be an integer of at least 1, got 0"):
        saliency_spectra(*reference, chunk_size=0)


def test_the_grid_has_the_energies_by_frequency():
    spectra = filter_spectra(random_classifier(stem_kernel=5))
    grid = spectra.grid("conv1")
    for k, number in enumerate(diagonal_order((5, 5))):
        assert grid[divmod(number, 5)] == np.float32(spectra["conv1"].ed[k])
