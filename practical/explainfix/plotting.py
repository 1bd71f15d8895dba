"""Pictures of spectra, and of the basis that they are spectra of."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from practical.explainfix.kernels import dct_basis
from practical.explainfix.spectra import Interval, Spectra, diagonal_order
from practical.plotting import plain_text

_DECADES = 3  # what a logarithmic scale of colours spans, at most


def plot_basis(shape: tuple[int, int]) -> Figure:
    """Show the DCT-II basis filters of a shape, with their numbers in `diagonal_order`.

    White is above 0, black below; each filter has the scale of its own largest value.
    """
    rows, columns = shape
    basis = np.asarray(dct_basis(shape))
    figure, axes = plt.subplots(
        rows, columns, figsize=(0.85 * columns + 0.9, 0.9 * rows + 0.9), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    numbers = np.argsort(diagonal_order(shape))
    for number, ax, one in zip(numbers, axes.flat, basis, strict=True):
        limit = np.abs(one).max()
        ax.imshow(one, cmap="gray", vmin=-limit, vmax=limit)
        ax.set_title(f"$b_{{{number}}}$", fontsize=8, pad=2)
        ax.set(xticks=[], yticks=[])
    for column, ax in enumerate(axes[-1]):
        ax.set_xlabel(column, fontsize=8)
    for row, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(row, fontsize=8, rotation=0, va="center", labelpad=8)
    figure.supxlabel("half waves from left to right", fontsize=9)
    figure.supylabel("half waves from top to bottom", fontsize=9)
    return figure


def plot_spectra(
    spectra: Spectra,
    *,
    share: bool = False,
    log: bool | None = None,
    bars: bool = True,
    title: str = "",
) -> Figure:
    """Show the spectra of a network's layers: e^d as a heatmap, e^1 and e^0 as stacked bars.

    Above, for each size of filter: a column per layer and a row per basis filter, which is drawn
    beside it, from the coarsest to the finest; the sum over basis filters is on top, and the sum
    over layers on the right. Below, each layer's e^1 and e^0 as shares of their sum, from the
    coarsest frequency to the finest; of each pair of e^1 bars, the left one has the waves from top
    to bottom of the filter, and the right one those from left to right.

    Args:
        spectra: Of one network.
        share: Divide each layer's e^d by its sum, so that layers of small weights are seen too.
        log: Colours and sums on a logarithmic scale; by default where filters of several sizes are
            shown, for each of the stem's many basis filters has little of its energy.
        bars: Show e^1 and e^0.
        title: Above the figure.

    Raises:
        ValueError: If all energies of a layer are 0.
    """
    energies = {layer: np.asarray(spectra[layer].ed) for layer in spectra.layers}
    for layer, values in energies.items():
        if not values.sum() > 0:
            raise ValueError(f"spectra must have energy in every layer, got none in {layer}")
        if share:
            energies[layer] = values / values.sum()
    groups: dict[tuple[int, int], list[str]] = {}
    for layer in spectra.layers:
        groups.setdefault(spectra.shapes[layer], []).append(layer)
    log = len(groups) > 1 if log is None else log
    values = np.concatenate(list(energies.values()))
    high = float(values.max())
    floor = max(float(values[values > 0].min()), high / 10**_DECADES)
    norm = LogNorm(floor, high, clip=True) if log else Normalize(0, high)

    widths = [width for g in groups.values() for width in (0.45, 0.4 * len(g) + 0.3, 0.7)]
    widths.append(0.15)
    figure = plt.figure(figsize=(sum(widths) + 1.4, 7.5), layout="constrained")
    grid = figure.add_gridspec(
        3, len(widths), width_ratios=widths, height_ratios=(0.02 if share else 0.6, 4, 2.2)
    )
    for place, (shape, layers) in enumerate(groups.items()):
        table = np.stack([energies[layer] for layer in layers], 1)  # (basis filters, layers)
        top, left, main, right = (
            figure.add_subplot(grid[row, 3 * place + column])
            for row, column in ((0, 1), (1, 0), (1, 1), (1, 2))
        )
        main.imshow(table, aspect="auto", cmap="viridis", norm=norm)
        main.set_xticks(range(len(layers)), [*map(plain_text, layers)], rotation=90, fontsize=7)
        main.set_yticks([])
        left.set_title(f"{shape[0]}x{shape[1]}", fontsize=9)
        _draw_filters(left, shape)
        top.bar(range(len(layers)), table.sum(0), color="0.5", width=0.8)
        right.barh(range(len(table)), table.sum(1), color="0.5", height=0.8)
        right.set_ylim(main.get_ylim())
        top.set_xlim(main.get_xlim())
        for ax in (top, right):
            ax.spines[["top", "right", "bottom", "left"]].set_visible(False)
            ax.tick_params(labelsize=6, length=2)
        right.set_xlabel("sum", fontsize=7)
        top.set_xticks([])
        right.set_yticks([])
        if share:
            top.set_visible(False)  # every sum is 1
    scale = ScalarMappable(norm, "viridis")
    bar = figure.colorbar(scale, cax=figure.add_subplot(grid[1, -1]))
    bar.set_label("share of the layer's energy" if share else "energy", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if bars:
        lower = grid[2, :].subgridspec(1, 2, width_ratios=(2, 1.2))
        _draw_bars(figure.add_subplot(lower[0]), figure.add_subplot(lower[1]), spectra)
    if title:
        figure.suptitle(plain_text(title), fontsize=11)
    return figure


def plot_comparison(
    comparison: Mapping[str, Interval], *, shape: tuple[int, int] = (3, 3), title: str = ""
) -> Figure:
    """Show how two networks' e^d differ: layers by basis filters, red where the first has more.

    Differences whose interval contains 0, or that have no interval (fewer than 8 images), are
    hatched: they may be due to chance.

    Args:
        comparison: What `compare_spectra` returns.
        shape: Of the filters of the layers that are shown.
        title: Above the figure.

    Raises:
        ValueError: If no layer has filters of `shape`.
    """
    chosen = {
        name: interval for name, interval in comparison.items() if interval.shape == tuple(shape)
    }
    if not chosen:
        raise ValueError(f"shape must be that of some layer's filters, got {shape}")
    mean, low, high = (
        np.stack([np.asarray(getattr(interval, end).ed) for interval in chosen.values()], 1)
        for end in ("mean", "low", "high")
    )
    limit = float(np.abs(mean).max()) or 1.0
    figure, (left, ax) = plt.subplots(
        1, 2, figsize=(2.4 + 0.45 * len(chosen), 4.2), layout="constrained",
        width_ratios=(0.4, 0.45 * len(chosen) + 0.3),
    )  # fmt: skip
    _draw_filters(left, shape)
    image = ax.imshow(mean, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_xticks(range(len(chosen)), [*map(plain_text, chosen)], rotation=90, fontsize=7)
    ax.set_yticks([])
    for row, column in np.argwhere(~((low > 0) | (high < 0))):  # also without an interval (NaN)
        ax.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", lw=0, ec="0.5")
        )
    bar = figure.colorbar(image, ax=ax, fraction=0.06, pad=0.02)
    bar.set_label("difference", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(plain_text(title), fontsize=10)
    return figure


def _draw_filters(ax: Axes, shape: Sequence[int]) -> None:
    """Draw the basis filters below each other, each as high as a row of a heatmap beside them."""
    rows, columns = shape
    basis = np.asarray(dct_basis((rows, columns)))[diagonal_order((rows, columns))]
    for place, one in enumerate(basis):
        limit = np.abs(one).max()
        extent = (0, 1, place + 0.42, place - 0.42)
        ax.imshow(one, cmap="gray", vmin=-limit, vmax=limit, extent=extent, aspect="auto")
        frame = Rectangle((0, place - 0.42), 1, 0.84, fill=False, ec="0.5", lw=0.5, clip_on=False)
        ax.add_patch(frame)
    ax.set(xlim=(0, 1), ylim=(len(basis) - 0.5, -0.5))
    ax.axis("off")


def _draw_bars(pairs: Axes, single: Axes, spectra: Spectra) -> None:
    """Draw e^1 as two stacked bars a layer, and e^0 as one."""
    colours = plt.get_cmap("viridis")
    for place, layer in enumerate(spectra.layers):
        height = spectra.shapes[layer][0]
        e1, e0 = np.asarray(spectra[layer].e1), np.asarray(spectra[layer].e0)
        for ax, x, energies in (
            (pairs, place - 0.2, e1[:height]),
            (pairs, place + 0.2, e1[height:]),
            (single, place, e0),
        ):
            # Both of a layer's e^1 bars have the same sum: that of the roots of all of e^d.
            shares = energies / energies.sum()
            starts = np.cumsum(shares) - shares
            fine = np.arange(len(shares)) / max(len(shares) - 1, 1)
            width = 0.36 if ax is pairs else 0.7
            ax.bar(x, shares, width, bottom=starts, color=colours(fine), ec="white", lw=0.3)
    for ax, name in ((pairs, "e¹: top to bottom | left to right"), (single, "e⁰: either")):
        ax.set_title(name, fontsize=9)
        ax.set_xticks(
            range(len(spectra.layers)), [*map(plain_text, spectra.layers)], rotation=90, fontsize=7
        )
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.tick_params(axis="y", labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    ends = [Patch(color=colours(fine), label=n) for fine, n in ((1.0, "finest"), (0.0, "constant"))]
    single.legend(
        handles=ends, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False,
    )  # fmt: skip
