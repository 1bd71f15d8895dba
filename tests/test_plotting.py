import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from practical import plotting, widgets
from practical.metrics import Curve
from tests.oracles import refuses

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 9, 3), np.float32)
SIGNED = RNG.normal(size=(3, 8, 9)).astype(np.float32)


def draw(ax) -> None:
    ax.figure.canvas.draw()  # a warning while drawing is an error here


def test_plot_images():
    axes = plotting.plot_images(IMAGES, ["a", "b", "c"], columns=2)
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    for ax, image in zip(axes, IMAGES, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    assert sum(ax.get_visible() for ax in axes[0].figure.axes) == 3  # 2x2 places
    draw(axes[0])


def test_axes_in_axes_out():
    figure, grid = plt.subplots(1, 3)
    assert plotting.plot_images(IMAGES, axes=list(grid)) == list(grid)
    assert plotting.plot_heatmap(SIGNED[0], ax=grid[1]) is grid[1]
    curve = Curve(np.linspace(0, 1, 5), np.ones((2, 5)))
    assert plotting.plot_curves({"a": curve}, ax=grid[2]) is grid[2]
    assert plt.get_fignums() == [figure.number]  # no figure but the one that came in


def colours(ax) -> np.ndarray:
    """Return the colours (H, W, RGBA) in which a map is drawn alone."""
    (image,) = ax.images
    return image.cmap(image.norm(image.get_array()))


def test_zero_is_white_and_signs_are_red_and_blue():
    signed = np.array([[0.0, 2.0, -2.0]], np.float32)
    zero, positive, negative = colours(plotting.plot_heatmap(signed))[0, :, :3]
    assert zero.min() > 0.96
    assert positive[0] > 2 * positive[2]  # red
    assert negative[2] > 2 * negative[0]  # blue
    # The same where nearly all of a signed map is of one sign.
    lopsided = np.array([[0.0, 5.0, 5.0, -0.1]], np.float32)
    assert colours(plotting.plot_heatmap(lopsided))[0, 0].min() > 0.96


def test_a_map_without_a_sign_starts_at_zero():
    ax = plotting.plot_heatmap(np.array([[1.0, 3.0]], np.float32))
    assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (0, pytest.approx(3, rel=0.01))
    assert plotting.plot_heatmap(np.ones((2, 2)), signed=True).images[0].norm.vmin == -1


def test_over_an_image_zero_is_transparent():
    signed = np.array([[0.0, 2.0, -2.0, 1.0]], np.float32)
    ax = plotting.plot_heatmap(signed, np.full((1, 4, 3), 0.5), limit=2)
    grey, overlay = ax.images
    np.testing.assert_allclose(grey.get_array(), 0.5)
    np.testing.assert_allclose(overlay.get_alpha(), [[0, 1, 1, 0.5**0.5]])
    draw(ax)


def test_one_scale_for_all_images_of_a_method():
    # Method "a" is ten times weaker on image 1; "b" is in other units and all positive.
    weak = SIGNED * np.array([1, 0.1, 1], np.float32)[:, None, None]
    maps = {"a": weak, "b": 1e3 * np.abs(SIGNED)}
    figure = plotting.plot_methods(IMAGES, maps, ["x", "y", "z"], units={"a": "logits"})
    figure.canvas.draw()
    grid, bars = figure.axes[:9], figure.axes[9:]
    assert [ax.get_ylabel() for ax in (grid[0], grid[3], grid[6])] == ["image", "a", "b"]
    opacity = [ax.images[1].get_alpha() for ax in grid[3:6]]
    limit = plotting.shared_limit(weak)
    np.testing.assert_allclose(opacity, np.clip(np.abs(weak) / limit, 0, 1) ** 0.5, rtol=1e-5)
    # The scales beside the rows say the same limits, with the unit.
    assert len(bars) == 2
    np.testing.assert_allclose(bars[0].get_ylim(), [-limit, limit], rtol=1e-6)
    limit = plotting.shared_limit(1e3 * np.abs(SIGNED))
    np.testing.assert_allclose(bars[1].get_ylim(), [0, limit], rtol=1e-6)
    assert bars[0].get_ylabel() == "logits"


def test_a_scale_shows_at_which_ends_it_is_cut():
    # By the pointed ends of the bar: signed maps are cut at both.
    for signed, expected in ((True, "both"), (False, "max")):
        ax = plt.subplots()[1]
        plotting.add_scale(ax, 2.0, signed=signed)
        assert ax.figure.axes[1]._colorbar.extend == expected


def test_shared_limit_by_hand():
    maps = np.zeros((2, 30, 30), np.float32)
    maps[0, 0, 0] = -7
    assert plotting.shared_limit(maps) == 7  # the percentile is 0: then the largest
    assert plotting.shared_limit(np.zeros((1, 2, 2))) == 1
    spread = np.arange(1001.0).reshape(1, 7, 143)
    assert plotting.shared_limit(spread) == pytest.approx(995)  # 99.5 %


@pytest.mark.parametrize("value", [0.0, -3.0, 4.0, 1e-30])
def test_constant_maps_are_drawn(value):
    maps = np.full((3, 8, 9), value, np.float32)
    plotting.plot_methods(IMAGES, {"constant": maps}).canvas.draw()
    draw(plotting.plot_heatmap(maps[0]))


def test_curves_have_bands_from_eight_images_on():
    fractions = np.linspace(0, 1, 5)
    scores = np.array(4 * [[1, 0.8, 0.6, 0.4, 0.2], [1, 0.4, 0.2, 0.2, 0.2]])
    ax = plotting.plot_curves(
        {"all": Curve(fractions, scores), "one": Curve(fractions, scores[:1])}, ylabel="score"
    )
    draw(ax)
    every, one = ax.lines
    np.testing.assert_allclose(every.get_ydata(), scores.mean(0))
    np.testing.assert_allclose(one.get_ydata(), scores[0])
    np.testing.assert_allclose(one.get_xdata(), 100 * fractions)  # per cent
    band, nothing = ax.collections
    assert not any(len(path.vertices) for path in nothing.get_paths())
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.2, abs=1e-6)
    assert heights.max() == pytest.approx(1)
    # mean areas: (0.6 + 0.35) / 2 and 0.6
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["all (0.475)", "one (0.600)"]
    assert ax.get_ylabel() == "score"


def test_bad_input():
    nan = SIGNED.copy()
    nan[2, 0, 0] = np.nan
    with refuses("heatmap must be finite"):
        plotting.plot_heatmap(nan[2])
    with refuses(r"maps\['a'\] must be finite, got NaN or infinity for image 2$"):
        plotting.plot_methods(IMAGES, {"a": nan})
    curve = Curve(np.linspace(0, 1, 3), np.array([[1, np.nan, 0]]))
    with refuses(r"curves\['c'\] must be finite, got NaN or infinity for image 0$"):
        plotting.plot_curves({"c": curve})
    with refuses(r"maps\['a'\] must have shape \(3, 8, 9\), got \(2, 8, 9\)"):
        plotting.plot_methods(IMAGES, {"a": SIGNED[:2]})
    with refuses(r"maps must hold at least one method"):
        plotting.plot_methods(IMAGES, {})
    with refuses("curves must hold at least one curve"):
        plotting.plot_curves({})
    with refuses(r"titles must be one for each of the 3 images, got 2"):
        plotting.plot_images(IMAGES, ["a", "b"])
    with refuses(r"axes must be one for each of the 3 images, got 1"):
        plotting.plot_images(IMAGES, axes=[plt.subplots()[1]])
    with refuses(r"images must be in \[0, 1\]"):
        plotting.plot_images(IMAGES * 255)
    with refuses(r"images must be floating-point"):
        plotting.plot_images((IMAGES * 255).astype(np.uint8))
    with refuses(r"columns must be an integer of at least 1, got 0"):
        plotting.plot_images(IMAGES, columns=0)
    with refuses(r"heatmap must have shape \(height, width\), got \(1, 8, 9\)"):
        plotting.plot_heatmap(SIGNED[:1])
    with refuses(r"image must have \(8, 9\) pixels, got \(8, 8\)"):
        plotting.plot_heatmap(SIGNED[0], IMAGES[0, :, :8])
    for limit in (0, -1.0, float("nan")):
        with refuses(f"limit must be above 0, got {limit!r}"):
            plotting.plot_heatmap(SIGNED[0], limit=limit)
    assert len(plt.get_fignums()) <= 1  # no empty figure is left behind; one was made here


def test_intervals_are_bars_with_whiskers():
    table = pd.DataFrame(
        {
            "x": ["A", "A", "B"],
            "series": ["with", "without", "without"],
            "mean": [2.0, 1.0, 3.0],
            "low": [1.5, 0.5, 1.0],
            "high": [4.0, 1.25, 3.5],
        }
    )
    _, ax = plt.subplots()
    assert plotting.plot_intervals(table, ax=ax) is ax
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["A", "B"]
    bars = {(bar.get_center()[0].round(2), bar.get_height()) for bar in ax.patches}
    assert bars == {(-0.2, 2.0), (0.2, 1.0), (1.2, 3.0)}
    ends = [{tuple(segment[:, 1]) for segment in lines.get_segments()} for lines in ax.collections]
    assert ends == [{(1.5, 4.0)}, {(0.5, 1.25), (1.0, 3.5)}]
    _, names = ax.get_legend_handles_labels()
    assert names == ["with", "without"]
    plt.close()


@pytest.mark.parametrize("change", ["no low", "empty", "twice"])
def test_intervals_need_a_row_for_each_bar(change):
    table = pd.DataFrame({"x": ["A"], "series": ["s"], "mean": [1.0], "low": [0.0], "high": [2.0]})
    changed = {
        "no low": table.drop(columns="low"), "empty": table[:0], "twice": pd.concat([table, table])
    }  # fmt: skip
    with refuses("table must have a row for each x and series, with the columns mean, low and"):
        plotting.plot_intervals(changed[change])


NAMES = ["US$1 to US$5", "win$$", "$x_", "cash\\$", "_plain_{"]


def texts(figure):
    """Return all texts of a figure as they are drawn."""
    figure.canvas.draw()
    drawn = [text for text in figure.findobj(plt.Text) if text.get_text()]
    read = [text._preprocess_math(text.get_text()) for text in drawn]
    assert not any(is_math for _, is_math in read)
    return [text for text, _ in read]


def draw_explanation(names):
    return widgets.explanation_figure(
        lambda x: 3 * x.mean((1, 2))[:, :2], np.full((12, 12, 3), 0.5, np.float32), 1, "gradient",
        class_names=names[:2],
    )  # fmt: skip


def draw_bars(names):
    table = pd.DataFrame({"x": names, "series": names, "mean": 1.0, "low": 0.5, "high": 1.5})
    ax = plotting.plot_intervals(table, ax=plt.subplots()[1])
    ax.legend()  # as its callers do
    return ax.figure


def draw_methods(names):
    images, maps = np.zeros((5, 8, 8, 3), np.float32), np.ones((5, 8, 8), np.float32)
    return plotting.plot_methods(images, dict.fromkeys(names, maps), names, units={names[0]: "$$"})


def draw_curves(names):
    curve = Curve(jnp.array([0.0, 1.0]), jnp.ones((1, 2)), jnp.ones(2) / 2)
    return plotting.plot_curves(dict.fromkeys(names, curve), ylabel=names[0]).figure


@pytest.mark.parametrize(
    ("draw", "shown"),
    [(draw_explanation, 2), (draw_bars, 5), (draw_methods, 5), (draw_curves, 5)],
)  # fmt: skip
def test_names_are_drawn_as_they_are(draw, shown):
    """Matplotlib draws text between two dollars as a formula, or ends in a ParseException.

    It also leaves labels that begin with an underscore out of legends.
    """
    drawn = "\n".join(texts(draw(NAMES)))
    for name in NAMES[:shown]:
        assert name in drawn
