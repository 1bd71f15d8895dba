"""What a network's filters look for: the energy of each spatial convolution on the DCT basis.

A filter of rows x columns is a weighted sum of as many basis filters, from constant to finest. How
much a layer uses each of them, e^d, is the weighted sum over its filters of the magnitude of that
weight; e^1 back-projects it on the rows' and the columns' frequencies, and e^0 adds the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._arguments import is_traced
from practical._bootstrap import interval_ends, resampled_means
from practical._chunks import map_images
from practical._inputs import ArrayLike, check_count, check_finite, check_inputs
from practical._jit import jit
from practical._keys import generator
from practical.explainfix.kernels import dct_basis
from practical.explainfix.slopes import (
    check_per,
    kernel_slopes,
    over_minibatches,
    spatial_kernels,
)


class Spectrum(NamedTuple):
    """The energies of one layer's filters of H x W values. Non-negative, in the filters' units."""

    ed: Float[Array, "... n"]  # of the H * W basis filters, in `diagonal_order`
    e1: Float[Array, "... m"]  # of the H frequencies along rows' axis, then the W along columns'
    e0: Float[Array, "... k"]  # of the frequencies along either, max(H, W) of them


class Interval(NamedTuple):
    """A layer's spectrum and how far it can be trusted."""

    mean: Spectrum
    low: Spectrum  # lower end of the confidence interval; NaN below 8 images
    high: Spectrum  # upper end
    shape: tuple[int, int]  # rows and columns of the layer's filters


@dataclass(frozen=True)
class Spectra:
    """The spectra of a network's spatial convolutions, with the images that they come from."""

    energies: Mapping[str, Float[Array, "rows n"]]  # layer: e^d in `diagonal_order`
    shapes: Mapping[str, tuple[int, int]]  # layer: its filters' rows and columns
    per: str = "image"  # what a row is of; "filter" where there are no images, or "minibatch"

    def __getitem__(self, layer: str) -> Spectrum:
        """Return a layer's spectrum: of the mean e^d over images, or the sum over minibatches."""
        rows, shape = self.energies[layer], self.shapes[layer]
        if self.per == "minibatch":
            return Spectrum(*(values.sum(0) for values in _spectrum(rows, shape)))
        return _spectrum(rows.mean(0), shape)

    def grid(self, layer: str) -> Float[np.ndarray, "h w"]:
        """Return a layer's e^d by half waves from top to bottom, and from left to right."""
        grid = np.empty(self.shapes[layer], np.float32)
        grid.ravel()[diagonal_order(self.shapes[layer])] = self[layer].ed
        return grid

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, from the input on."""
        return tuple(self.energies)

    def select(self, images: Any) -> "Spectra":
        """Return the spectra of some images: a slice, an index or several, or a mask."""
        count = len(next(iter(self.energies.values())))
        if not isinstance(images, slice) and not np.size(images):
            images = slice(0)
        rows = np.arange(count)[images if isinstance(images, slice) else np.asarray(images)]
        rows = np.atleast_1d(rows)  # a single index keeps the axis of images
        if not rows.size:
            raise ValueError("images must select at least one, got none")
        chosen = {name: values[rows] for name, values in self.energies.items()}
        return Spectra(chosen, self.shapes, self.per)


def diagonal_order(shape: tuple[int, int]) -> np.ndarray:
    """Return the order of the DCT basis filters of a shape, from the coarsest to the finest.

    By the sum of the two frequencies; within one sum, those along one axis before the diagonal
    ones, and rows' lower frequencies first.

    Returns:
        (H * W,) indices into `dct_basis(shape)`.
    """
    rows, columns = (check_count("shape", side) for side in shape)
    i, j = np.divmod(np.arange(rows * columns), columns)
    return np.lexsort((i, -np.abs(i - j), i + j))


def energy_spectrum(
    filters: Float[ArrayLike, "n h w"], weights: Float[ArrayLike, "... n"]
) -> Spectrum:
    """Return the energy spectra of weighted filters.

    e^d_k = sum over filters f of weight_f * |<f, k-th basis filter>|. e^1 sums, for each frequency
    along rows and each along columns, the square root of e^d over the basis filters that have it.
    e^0 adds to the frequencies along rows those along columns.

    Args:
        filters: (N, H, W).
        weights: (..., N), at least 0; leading axes give a spectrum each.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or a weight is below 0.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.3.
    """
    filters, weights = jnp.asarray(filters, jnp.float32), jnp.asarray(weights, jnp.float32)
    if filters.ndim != 3 or 0 in filters.shape:
        raise ValueError(f"filters must have shape (count, rows, columns), got {filters.shape}")
    if weights.ndim < 1 or weights.shape[-1] != len(filters):
        raise ValueError(
            f"weights must have one for each of the {len(filters)} filters on their last axis, got "
            f"shape {weights.shape}"
        )
    for name, values in (("filters", filters), ("weights", weights)):
        if not is_traced(values) and not np.isfinite(np.asarray(values)).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if not is_traced(weights) and weights.size and float(weights.min()) < 0:
        raise ValueError(f"weights must be at least 0, got {float(weights.min()):.4g}")
    shape = filters.shape[1:]
    products = jnp.matmul(weights, _magnitudes(filters), precision="highest")
    return _spectrum(products, shape)


def filter_spectra(model: Any) -> Spectra:
    """Return the spectra of every spatial convolution's filters, all of one weight.

    The e^d is the mean over a layer's filters, so layers of any width compare.

    Args:
        model: A `models.Classifier`, or whatever has its `kernels()`.

    Raises:
        ValueError: If the model has no convolution larger than 1x1, or a kernel is not finite.
    """
    kernels = spatial_kernels(model)
    energies = {name: _magnitudes(_filters(k)).mean(0)[None] for name, k in kernels.items()}
    return Spectra(energies, {name: _sides(k) for name, k in kernels.items()}, "filter")


def saliency_spectra(
    model: Any,
    images: Float[ArrayLike, "b h w c"],
    targets: Any,
    *,
    per: str = "image",
    batch_size: int | None = None,
    chunk_size: int = 8,
) -> Spectra:
    """Return the spectra with each filter weighted by how much the target logit depends on it.

    A filter's weight is the sum over its values of the magnitude of the logit's derivative with
    respect to them.

    Args:
        model: A `models.Classifier`, or a pytree with its `kernels()` and `replace_kernels()`.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) class indices.
        per: "image", a spectrum for each image, and their mean does not depend on how many there
            are or how they are ordered. "minibatch", as the authors' code has it: the derivatives
            of `batch_size` images are added up before the magnitude is taken, so that they cancel
            in part, and the minibatches' spectra are added up.
        batch_size: Images a minibatch; needed for "minibatch", and only there.
        chunk_size: Images in flight, each with a gradient as large as the network.

    Returns:
        A row of energies for each image or minibatch.

    Raises:
        ValueError: If an argument breaks its rule, the model has no convolution larger than 1x1, or
            a kernel is not finite.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.3.
    """
    check_per(per, batch_size)
    check_count("chunk_size", chunk_size)
    kernels = spatial_kernels(model)
    inputs = check_inputs(model, images, targets)
    shapes = {name: _sides(kernel) for name, kernel in kernels.items()}
    if batch_size is None:
        answers = _image_energies(*inputs, chunk_size=chunk_size)
    else:
        totals = over_minibatches(_minibatch_energies, inputs, batch_size)
        answers = jax.tree.map(lambda *rows: jnp.stack(rows), *totals)
    energies = {name: answers[name] for name in kernels}  # a compiled function sorts its keys
    for name, values in energies.items():
        check_finite(values, f"saliency_spectra's answer for {name} (so the model's gradients)")
    return Spectra(energies, shapes, per)


def spectra_interval(
    spectra: Spectra, *, level: float = 0.95, samples: int = 2000, key: Array | None = None
) -> dict[str, Interval]:
    """Return each layer's spectrum with a bootstrap interval over images."""
    return _bootstrap([spectra], lambda one: one, level, samples, key)


def compare_spectra(
    first: Spectra,
    second: Spectra,
    *,
    share: bool = True,
    level: float = 0.95,
    samples: int = 2000,
    key: Array | None = None,
) -> dict[str, Interval]:
    """Return how two models' spectra differ, first minus second, over the same images.

    Args:
        first: Of one model.
        second: Of a model with the same layers, on the same images in the same order.
        share: Compare each frequency's share of the layer's energy, so that a network of larger
            weights does not differ by them alone.
        level: Confidence of the interval, in (0, 1).
        samples: Bootstrap samples of images, drawn for both models together.
        key: Decides the samples; by default `jax.random.key(0)`.

    Raises:
        ValueError: If layers, filters or images differ, or there is one image alone, or an image
            has no energy in a layer, whose shares are asked for.
    """
    if dict(first.shapes) != dict(second.shapes):
        raise ValueError("second must have first's layers with filters of the same shapes")
    for name, one in (("first", first), ("second", second)) if share else ():
        for layer, values in one.energies.items():
            if not bool((np.asarray(values).sum(1) > 0).all()):
                raise ValueError(
                    f"{name} must have energy in every layer for shares of it, got an image with "
                    f"none in {layer}; share=False compares energies"
                )

    def difference(one, other):
        if share:
            one, other = (
                Spectrum(*(e / e.sum(-1, keepdims=True) for e in spectrum))
                for spectrum in (one, other)
            )
        return Spectrum(*(a - b for a, b in zip(one, other, strict=True)))

    return _bootstrap([first, second], difference, level, samples, key)


def _bootstrap(spectra, function, level, samples, key) -> dict[str, Interval]:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level!r}")
    check_count("samples", samples)
    if any(one.per != "image" for one in spectra):
        raise ValueError(
            "spectra must be one an image for an interval over images, got one a "
            f"{', '.join(one.per for one in spectra)}"
        )
    counts = {len(values) for one in spectra for values in one.energies.values()}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(
            "spectra must be of the same two or more images for an interval, got "
            f"{', '.join(map(str, sorted(counts)))}"
        )
    (count,) = counts
    intervals = {}
    for layer, shape in spectra[0].shapes.items():
        # The same key for all, so that the same images are drawn.
        means = [
            resampled_means(np.asarray(one.energies[layer]), samples, generator(key))
            for one in spectra
        ]
        drawn = function(*(_spectrum(jnp.asarray(values, jnp.float32), shape) for values in means))
        ends = [interval_ends(np.asarray(values), level, count) for values in drawn]
        low, high = (Spectrum(*map(jnp.asarray, part)) for part in zip(*ends, strict=True))
        mean = function(*(one[layer] for one in spectra))
        intervals[layer] = Interval(mean, low, high, shape)
    return intervals


def _spectrum(ed: Float[Array, "... n"], shape: Sequence[int]) -> Spectrum:
    """Back-project e^d, in `diagonal_order`, on the frequencies of rows and columns."""
    rows, columns = shape
    place = np.argsort(diagonal_order((rows, columns)))
    roots = jnp.sqrt(ed[..., place]).reshape(*ed.shape[:-1], rows, columns)
    along_rows, along_columns = roots.sum(-1), roots.sum(-2)
    longest = max(rows, columns)
    padded = [
        jnp.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, longest - part.shape[-1])])
        for part in (along_rows, along_columns)
    ]
    e1 = jnp.concatenate([along_rows, along_columns], -1)
    return Spectrum(ed, e1, padded[0] + padded[1])


def _magnitudes(filters: Float[Array, "n h w"]) -> Float[Array, "n k"]:
    """Return |<filter, basis filter>|, the basis in `diagonal_order`."""
    _, height, width = filters.shape
    basis = dct_basis((height, width))[diagonal_order((height, width))]
    return jnp.abs(jnp.einsum("nhw,khw->nk", filters, basis, precision="highest"))


def _sides(kernel: Float[Array, "h w i o"]) -> tuple[int, int]:
    height, width = kernel.shape[:2]
    return height, width


def _filters(kernel: Float[Array, "h w i o"]) -> Float[Array, "n h w"]:
    return jnp.moveaxis(kernel, (0, 1), (2, 3)).reshape(-1, *kernel.shape[:2])


def _weigh(kernels, slopes):
    """Return each layer's e^d, its filters weighted by |slope| summed over their values."""
    return {
        name: jnp.abs(slopes[name]).sum((0, 1)).reshape(-1) @ _magnitudes(_filters(kernel))
        for name, kernel in kernels.items()
    }


def _image_energies_core(model, images, targets, *, chunk_size):
    def one(image, target):
        return _weigh(*kernel_slopes(model, image[None], target[None]))

    return map_images(jax.vmap(one), chunk_size, images, targets)


def _minibatch_energies_core(model, images, targets):
    return _weigh(*kernel_slopes(model, images, targets))


_image_energies = jit(_image_energies_core, static_argnames=["chunk_size"])
_minibatch_energies = jit(_minibatch_energies_core)
