"""Pictures of what the experiments measured."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_ORDERS = {
    "least_salient": "least salient first", "most_salient": "most salient first",
    "smallest": "smallest first", "random": "at random",
}  # fmt: skip
_STARTS = {"pretrained": "the rest begins pretrained", "scratch": "the rest begins random"}


def plot_zeroed(rows: pd.DataFrame) -> Figure:
    """Show what `zero_filters_study` measured: accuracy against the percent of filters at 0.

    Shaded are 95 % intervals over images, and of several orders, as of the random ones, the range.
    """
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    seaborn.lineplot(
        rows.replace({"order": _ORDERS}), x="percent", y="accuracy", hue="order", marker="o",
        markersize=4, errorbar=("pi", 100), ax=ax,
    )  # fmt: skip
    by_order = rows.groupby("order", sort=False)
    for colour, (_, some) in zip(seaborn.color_palette(), by_order, strict=False):
        if not some["seed"].to_numpy().any():
            ax.fill_between(
                some["percent"], some["low"], some["high"], color=colour, alpha=0.2, lw=0
            )
    ax.set(xlabel="spatial filters set to 0 (%)", xlim=(0, 100))
    _percent(ax)
    ax.legend(title="filters go")
    return figure


def plot_pruned(rows: pd.DataFrame) -> Figure:
    """Show what `prune_study` measured: accuracy before and after fine-tuning, size, and time.

    The range of the seeds is shaded.
    """
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 3.8), layout="constrained", width_ratios=(1.5, 1, 1)
    )
    ends = rows[rows["epoch"].isin([0, rows["epoch"].max()])]
    after = np.where(ends["epoch"] > 0, "fine-tuned", "only pruned")
    options: dict[str, Any] = {"x": "percent", "marker": "o", "markersize": 4}
    seaborn.lineplot(
        ends.assign(network=after), y="accuracy", hue="fill", style="network", ax=axes[0],
        style_order=["fine-tuned", "only pruned"], errorbar=("pi", 100), **options,
    )  # fmt: skip
    _percent(axes[0])
    sizes = ends.melt("percent", ["parameters", "flops"], "of", "left")
    sizes["left"] /= sizes.groupby("of")["left"].transform("max")
    seaborn.lineplot(sizes, y="left", hue="of", ax=axes[1], errorbar=None, **options)
    _percent(axes[1])
    milliseconds = ends.assign(milliseconds=1000 * ends["step_seconds"])
    seaborn.lineplot(
        milliseconds, y="milliseconds", color="0.3", estimator="median", ax=axes[2],
        errorbar=("pi", 50), **options,
    )  # fmt: skip
    axes[2].set_ylim(bottom=0)
    axes[1].set_ylabel("left, of the largest network")
    axes[2].set_ylabel("ms for a step of training (median, quartiles)")
    for ax in axes:
        ax.set_xlabel("spatial filters pruned (%)")
    for ax in axes[:2]:
        ax.legend(fontsize=8)
    return figure


def plot_fixed(rows: pd.DataFrame) -> Figure:
    """Show what `fixed_study` measured: accuracy after the last epoch, a point for each seed.

    Bars are the means of the seeds. The rows of two runs, one for each start, may be put together.
    """
    last = rows[rows["epoch"] == rows.groupby("start")["epoch"].transform("max")]
    starts = list(dict.fromkeys(last["start"]))
    figure, axes = plt.subplots(
        1, len(starts), figsize=(5.4 * len(starts), 4), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, start in zip(axes[0], starts, strict=True):
        some = last.query("start == @start")
        # In one order and one colour in all panels, whatever the order of the rows.
        options: dict[str, Any] = {
            "x": "initialisation", "y": "accuracy", "hue": "filters",
            "order": list(dict.fromkeys(last["initialisation"])), "hue_order": ["fixed", "learned"],
        }  # fmt: skip
        seaborn.barplot(some, **options, errorbar=None, alpha=0.45, ax=ax)
        seaborn.stripplot(some, **options, dodge=True, size=4, ax=ax, legend=False)
        ax.tick_params(axis="x", rotation=30)
        ax.set(title=_STARTS[start], xlabel="filters begin as")
        _percent(ax)
        ax.legend(title="filters are", fontsize=8)
    return figure


def _percent(ax: Axes) -> None:
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
