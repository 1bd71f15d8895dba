"""Pictures: images, heatmaps over images, methods side by side, and curves. Axes in, Axes out.

A colour means one value: maps that are compared share a scale, and each scale is drawn beside
them. Signed maps are red for evidence for the class, blue for evidence against it, and white at
zero; maps without a sign start at zero.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from practical._inputs import ArrayLike, check_count, check_finite, check_images
from practical.metrics import Curve, bootstrap_interval

_SIGNED, _UNSIGNED = "RdBu_r", "inferno"
_CLIP = (
    99.5  # percentile of |value| at which a scale ends, so that one pixel cannot darken the rest
)


def plot_images(
    images: Float[ArrayLike, "n h w 3"],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 10,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Show images (N, H, W, 3) in [0, 1] in rows of `columns`, one title each.

    Titles are plain text: a dollar sign does not begin a formula.

    Raises:
        ValueError: If images are not in [0, 1], or titles or axes are not one an image.
    """
    images = np.asarray(check_images(images))
    _one_each("titles", titles, len(images))
    _one_each("axes", axes, len(images))
    check_count("columns", columns)
    axes = _grid(len(images), columns) if axes is None else list(axes)
    for place, (image, ax) in enumerate(zip(images, axes, strict=True)):
        ax.imshow(image, vmin=0, vmax=1)
        _bare(ax)
        if titles is not None:
            ax.set_title(plain_text(titles[place]), fontsize=9)
    return axes


def plot_heatmap(
    heatmap: Float[ArrayLike, "h w"],
    image: Float[ArrayLike, "h w 3"] | None = None,
    *,
    limit: float | None = None,
    signed: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Show one heatmap (H, W), over its image in grey when there is one.

    Args:
        heatmap: Any units; finite.
        image: (H, W, 3) in [0, 1]. Where the map is zero, the image shows through.
        limit: The value where the colours end, above 0; pass the same one to maps that are
            compared. By default the map's own 99.5th percentile of magnitude.
        signed: Colours for both signs; by default where the map has a negative value.
        ax: Where to draw.

    Raises:
        ValueError: If shapes differ, a value is not finite, or `limit` is not above 0.
    """
    heatmap = np.asarray(heatmap, np.float32)
    if heatmap.ndim != 2:
        raise ValueError(f"heatmap must have shape (height, width), got {heatmap.shape}")
    check_finite(heatmap[None], "heatmap")
    signed = bool(heatmap.min() < 0) if signed is None else signed
    limit = shared_limit(heatmap[None]) if limit is None else limit
    if not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit!r}")
    grey = None
    if image is not None:
        grey = np.asarray(check_images(np.asarray(image)[None]))[0].mean(-1)
        if grey.shape != heatmap.shape:
            raise ValueError(f"image must have {heatmap.shape} pixels, got {grey.shape}")
    ax = plt.subplots(figsize=(3, 3))[1] if ax is None else ax
    colours, norm = _scale(limit, signed)
    if grey is None:
        ax.imshow(heatmap, cmap=colours, norm=norm)
    else:
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1)
        # The opacity is the magnitude: no evidence, no colour.
        ax.imshow(colours(norm(heatmap)), alpha=np.clip(np.abs(heatmap) / limit, 0, 1) ** 0.5)
    _bare(ax)
    return ax


def plot_methods(
    images: Float[ArrayLike, "n h w 3"],
    maps: Mapping[str, Float[ArrayLike, "n h w"]],
    titles: Sequence[str] | None = None,
    *,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Show methods (rows) on images (columns), each method on one scale for all its images.

    Methods measure different things, so each row has its own scale, drawn beside it; within a row
    a strong colour is more than a weak one, from image to image as well.

    Args:
        images: (N, H, W, 3) in [0, 1].
        maps: For each method, heatmaps (N, H, W).
        titles: One an image.
        units: For each method, the unit beside its scale.

    Raises:
        ValueError: If there is no method, or its maps do not fit the images.
    """
    images = np.asarray(check_images(images))
    _one_each("titles", titles, len(images))
    if not maps:
        raise ValueError("maps must hold at least one method, got none")
    for name, heatmaps in maps.items():
        if np.shape(heatmaps) != images.shape[:3]:
            raise ValueError(
                f"maps[{name!r}] must have shape {images.shape[:3]}, got {np.shape(heatmaps)}"
            )
        check_finite(heatmaps, f"maps[{name!r}]")
    rows = 1 + len(maps)
    figure, grid = plt.subplots(
        rows, len(images), figsize=(1.25 * len(images) + 1.7, 1.28 * rows), squeeze=False,
        layout="compressed",
    )  # fmt: skip
    plot_images(images, titles, axes=list(grid[0]))
    grid[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    for axes, (name, heatmaps) in zip(grid[1:], maps.items(), strict=True):
        heatmaps = np.asarray(heatmaps)
        limit, signed = shared_limit(heatmaps), bool(heatmaps.min() < 0)
        for heatmap, image, ax in zip(heatmaps, images, axes, strict=True):
            plot_heatmap(heatmap, image, limit=limit, signed=signed, ax=ax)
        axes[0].set_ylabel(plain_text(name), rotation=0, ha="right", va="center")
        add_scale(axes, limit, signed=signed, label=(units or {}).get(name, ""))
    return figure


def plot_intervals(
    table: pd.DataFrame,
    *,
    x: str = "x",
    series: str = "series",
    value: str = "mean",
    ax: Axes | None = None,
) -> Axes:
    """Draw means as bars, with their intervals as whiskers.

    Args:
        table: A row per bar, with the columns named below, and `low` and `high`, the interval's
            ends; no whisker where they are NaN.
        x: The column that says which group of bars it is in.
        series: The column that says which colour it has.
        value: The column of means.
        ax: Where to draw; by default the current axes.

    Raises:
        ValueError: If the table lacks a column, is empty, or has two rows for a bar.
    """
    missing = [name for name in (x, series, value, "low", "high") if name not in table]
    if missing or not len(table) or table.duplicated([x, series]).any():
        raise ValueError(
            f"table must have a row for each {x} and {series}, with the columns {value}, low and "
            f"high, got {len(table)} rows with {list(table)}"
        )
    ax = ax or plt.gca()
    groups, kinds = list(table[x].unique()), list(table[series].unique())
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        rows = table[table[series] == kind]
        places = np.array([groups.index(group) for group in rows[x]])
        means, lows, highs = (np.asarray(rows[name], float) for name in (value, "low", "high"))
        ax.bar(
            places + (number - (len(kinds) - 1) / 2) * width, means, width, label=plain_text(kind),
            yerr=(means - lows, highs - means), capsize=3,
        )  # fmt: skip
    ax.set_xticks(range(len(groups)), [plain_text(group) for group in groups])
    return ax


def shared_limit(heatmaps: Float[ArrayLike, "n h w"]) -> float:
    """Return the 99.5th percentile of magnitude over all the maps, for `limit`; 1 if all are 0."""
    magnitude = np.abs(np.asarray(heatmaps))
    return float(np.percentile(magnitude, _CLIP)) or float(magnitude.max()) or 1.0


def add_scale(
    axes: Axes | Sequence[Axes] | np.ndarray, limit: float, *, signed: bool, label: str = ""
) -> None:
    """Draw the colour scale of maps shown with `limit` beside `axes`."""
    first = axes if isinstance(axes, Axes) else axes[0]
    colours, norm = _scale(limit, signed)
    bar = first.figure.colorbar(
        ScalarMappable(norm, colours),
        ax=axes,
        fraction=0.03,
        pad=0.01,
        extend="both" if signed else "max",
    )
    bar.set_label(plain_text(label), fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.locator = MaxNLocator(3)
    bar.update_ticks()


def plot_curves(
    curves: Mapping[str, Curve],
    *,
    level: float = 0.95,
    ylabel: str = "probability of the class",
    ax: Axes | None = None,
) -> Axes:
    """Show each curve's mean over images, with a bootstrap band if there are eight or more.

    Args:
        curves: Deletion or insertion curves by name; the legend adds the mean area under each.
        level: Confidence of the band, in (0, 1).
        ylabel: What the scores are.
        ax: Where to draw.

    Raises:
        ValueError: If there is no curve, or one has a NaN.
    """
    if not curves:
        raise ValueError("curves must hold at least one curve, got none")
    for name, curve in curves.items():
        check_finite(curve.scores, f"curves[{name!r}]")
    ax = plt.subplots(figsize=(5, 3.5), layout="constrained")[1] if ax is None else ax
    for name, curve in curves.items():
        fractions, scores = np.asarray(curve.fractions), np.asarray(curve.scores)
        label = plain_text(f"{name} ({float(np.mean(curve.auc)):.3f})")
        (line,) = ax.plot(100 * fractions, scores.mean(0), label=label)
        band = bootstrap_interval(scores, level=level)
        ax.fill_between(  # draws nothing where the ends are NaN
            100 * fractions, band.low, band.high, color=line.get_color(), alpha=0.15, lw=0
        )
    ax.set(xlabel="pixels replaced, most relevant first (%)", xlim=(0, 100))
    ax.set_ylabel(plain_text(ylabel))
    ax.set_ylim(bottom=0 if ax.get_ylim()[0] > -0.05 else None)
    ax.legend(title="mean area under the curve", fontsize=8, title_fontsize=8)
    return ax


def plain_text(text: object) -> str:
    """Return a text for Matplotlib that is drawn as it is, with no formula between two dollars.

    Class names are names of folders, and may be called "$5 bill". They may begin with "_", too,
    which would leave them out of a legend, so that an invisible space comes first.
    """
    plain = str(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{plain}" if plain.startswith("_") else plain


def _scale(limit: float, signed: bool) -> tuple[Colormap, Normalize]:
    colours = plt.get_cmap(_SIGNED if signed else _UNSIGNED)
    return colours, Normalize(-limit if signed else 0, limit)


def _grid(count: int, columns: int) -> list[Axes]:
    columns = min(columns, count)
    rows = -(-count // columns)
    _, axes = plt.subplots(
        rows, columns, figsize=(1.35 * columns, 1.5 * rows), squeeze=False, layout="compressed"
    )
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return list(axes.flat[:count])


def _one_each(name: str, values: Sequence | None, count: int) -> None:
    if values is not None and len(values) != count:
        raise ValueError(f"{name} must be one for each of the {count} images, got {len(values)}")


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
