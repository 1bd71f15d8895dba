"""Pictures of spectra: what they draw is what was measured."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from practical.explainfix import (
    Interval,
    Spectra,
    Spectrum,
    compare_spectra,
    dct_basis,
    diagonal_order,
    filter_spectra,
    plot_basis,
    plot_comparison,
    plot_spectra,
)
from tests.oracles import refuses
from tests.test_folded import random_classifier


@pytest.fixture(scope="module")
def spectra():
    return filter_spectra(random_classifier(stem_kernel=5))


def heatmaps(figure) -> list[np.ndarray]:
    """Return the figure's heatmaps, without the pictures of basis filters beside them."""
    found = [image for ax in figure.axes for image in ax.images]
    return [image for image in found if image.get_cmap().name != "gray"]


def bars(ax) -> list[float]:
    return [bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle)]


def test_the_basis_is_drawn_with_its_numbers():
    figure = plot_basis((2, 3))
    drawn = [ax.images[0].get_array() for ax in figure.axes]
    np.testing.assert_allclose(drawn, dct_basis((2, 3)), rtol=1e-6)
    numbers = [int(ax.get_title().strip("$b_{}")) for ax in figure.axes]
    np.testing.assert_array_equal(np.argsort(numbers), diagonal_order((2, 3)))


@pytest.mark.parametrize("share", [False, True])
def test_a_column_is_a_layer_and_a_row_a_basis_filter(spectra, share):
    stem, rest = heatmaps(plot_spectra(spectra, share=share))
    assert stem.get_array().shape == (25, 1)
    assert rest.get_array().shape == (9, 2)
    for image, layers in ((stem, ["conv1"]), (rest, ["layer1.0.conv1", "layer1.0.conv2"])):
        labels = [text.get_text() for text in image.axes.get_xticklabels()]
        assert labels == layers
        for column, layer in enumerate(layers):
            expected = np.asarray(spectra[layer].ed)
            expected = expected / expected.sum() if share else expected
            np.testing.assert_allclose(image.get_array()[:, column], expected, rtol=1e-5)


def test_margins_are_sums(spectra):
    figure = plot_spectra(spectra)
    rest = heatmaps(figure)[1]
    table = rest.get_array()
    widths = next(
        [p.get_width() for p in ax.patches] for ax in figure.axes
        if len(ax.patches) == 9 and not ax.images
    )  # fmt: skip
    np.testing.assert_allclose(widths, table.sum(1), rtol=1e-5)
    heights = next(bars(ax) for ax in figure.axes if len(ax.patches) == 2 and not ax.images)
    np.testing.assert_allclose(heights, table.sum(0), rtol=1e-5)


def test_all_layers_share_a_scale_that_is_logarithmic_where_sizes_differ(spectra):
    one, other = heatmaps(plot_spectra(spectra))
    assert isinstance(one.norm, LogNorm)
    assert (one.norm.vmin, one.norm.vmax) == (other.norm.vmin, other.norm.vmax)
    assert not isinstance(heatmaps(plot_spectra(spectra, log=False))[0].norm, LogNorm)
    alike = filter_spectra(random_classifier(stem_kernel=3))
    (single,) = heatmaps(plot_spectra(alike))
    assert type(single.norm) is Normalize
    assert single.norm.vmin == 0


def test_stacked_bars_are_shares_of_e1_and_e0(spectra):
    figure = plot_spectra(spectra)
    pairs = next(ax for ax in figure.axes if ax.get_title().startswith("e¹"))
    single = next(ax for ax in figure.axes if ax.get_title().startswith("e⁰"))
    expected, either = [], []
    for layer in spectra.layers:
        e1, e0 = np.asarray(spectra[layer].e1), np.asarray(spectra[layer].e0)
        rows = spectra.shapes[layer][0]
        expected += [*(e1[:rows] / e1[:rows].sum()), *(e1[rows:] / e1[rows:].sum())]
        either += [*(e0 / e0.sum())]
    np.testing.assert_allclose(bars(pairs), expected, rtol=1e-5)
    np.testing.assert_allclose(bars(single), either, rtol=1e-5)


def test_bars_can_be_left_out(spectra):
    figure = plot_spectra(spectra, bars=False)
    assert not [ax for ax in figure.axes if ax.get_title().startswith("e")]
    assert len(heatmaps(figure)) == 2


def comparison(mean: np.ndarray, half: float) -> dict[str, Interval]:
    def spectrum(ed):
        return Spectrum(jnp.asarray(ed), jnp.zeros(4), jnp.zeros(2))

    return {
        name: Interval(spectrum(ed), spectrum(ed - half), spectrum(ed + half), (2, 2))
        for name, ed in zip(("a", "b"), mean, strict=True)
    }


def test_a_comparison_hatches_what_may_be_nothing():
    mean = np.array([[0.1, -0.2, 0.01, 0.0], [0.3, 0.02, -0.04, -0.1]], np.float32)
    figure = plot_comparison(comparison(mean, 0.05), shape=(2, 2))
    (image,) = heatmaps(figure)[:1]
    np.testing.assert_allclose(image.get_array(), mean.T, rtol=1e-6)
    assert image.norm.vmax == -image.norm.vmin == np.float32(0.3)
    hatched = {
        (round(p.get_y() + 0.5), round(p.get_x() + 0.5))
        for p in image.axes.patches
        if p.get_hatch()
    }
    assert hatched == {(2, 0), (3, 0), (1, 1), (2, 1)}


def test_filters_that_are_not_square():
    energies = {"wide": jnp.arange(1.0, 7)[None], "tall": jnp.arange(1.0, 7)[None]}
    spectra = Spectra(energies, {"wide": (2, 3), "tall": (3, 2)}, "filter")
    tables = heatmaps(plot_spectra(spectra))
    assert [table.get_array().shape for table in tables] == [(6, 1), (6, 1)]


def test_a_comparison_does_not_mix_filters_with_their_transposes():
    energies = {"wide": jnp.ones((2, 7)), "tall": jnp.ones((2, 7))}
    spectra = Spectra(energies, {"wide": (1, 7), "tall": (7, 1)})
    for shape, layer in (((1, 7), "wide"), ((7, 1), "tall")):
        figure = plot_comparison(compare_spectra(spectra, spectra), shape=shape)
        (image,) = heatmaps(figure)[:1]
        assert [label.get_text() for label in image.axes.get_xticklabels()] == [layer]


def test_a_layer_without_energy_is_refused():
    spectra = Spectra({"conv": jnp.zeros((1, 9))}, {"conv": (3, 3)}, "filter")
    with refuses("spectra must have energy in every layer, got none in conv"):
        plot_spectra(spectra)
    with refuses(r"shape must be that of some layer's filters, got \(3, 3\)"):
        plot_comparison(comparison(np.ones((2, 4), np.float32), 0.1))
    plt.close("all")
