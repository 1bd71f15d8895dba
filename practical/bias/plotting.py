"""Figures: groups of heatmaps, and how well measures tell faulty classifiers from clean ones."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from practical._inputs import ArrayLike
from practical.bias.discovery import Clusters
from practical.plotting import plain_text

_THUMBNAIL = 30  # points a side


def plot_clusters(
    ax: Axes,
    clusters: Clusters,
    pictures: Float[ArrayLike, "n h w ..."],
    *,
    thumbnails: int = 40,
    seed: int = 0,
) -> None:
    """Draw heatmaps as points, alike ones near each other (t-SNE), with thumbnails on some.

    Args:
        ax: Where to draw.
        clusters: Of `cluster_heatmaps`; a colour each.
        pictures: (N, H, W, 3) images or (N, H, W) heatmaps: what the thumbnails show.
        thumbnails: How many, evenly spread over the images.
        seed: Of the t-SNE.

    References:
        van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 9, 2008.
    """
    from sklearn.manifold import TSNE

    count = len(clusters.labels)
    if len(pictures) != count:
        raise ValueError(f"pictures must be one for each of {count} maps, got {len(pictures)}")
    perplexity = min(30.0, (count - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        clusters.features
    )
    for label in np.unique(clusters.labels):
        some = clusters.labels == label
        ax.scatter(
            *points[some].T,
            color=f"C{label}",
            s=260,
            alpha=0.35,
            label=f"group {label}: {some.sum()}",
        )
    for i in np.linspace(0, count - 1, min(thumbnails, count)).astype(int):
        picture = OffsetImage(
            np.asarray(pictures[i]), zoom=_THUMBNAIL / len(pictures[i]), cmap="magma"
        )
        # Thumbnails hide the points below them, so their frames show the group.
        frame = {"edgecolor": f"C{clusters.labels[i]}", "linewidth": 2}
        ax.add_artist(AnnotationBbox(picture, tuple(points[i]), pad=0.1, bboxprops=frame))
    ax.set(xticks=[], yticks=[])
    ax.legend(fontsize=8)


def plot_detection(ax: Axes, table: pd.DataFrame) -> None:
    """Draw how well each measure tells faulty networks from clean ones, for each fault.

    Blue is better than a coin, red worse, which is to say that the clean ones look more suspicious.
    Each cell has the AUROC, and below it the interval; it is bold where that leaves out 0.5. Cells
    are empty where a fault has no place that a measure could be of, or no network learned it.

    Args:
        ax: Where to draw.
        table: Of `detection_table`; its measures and faults are drawn in its order.

    Raises:
        ValueError: If the table is empty or lacks a column.
    """
    needed = {"fault", "measure", "auroc", "low", "high"}
    if not needed <= set(table) or not len(table):
        raise ValueError(
            f"table must have rows, with the columns {sorted(needed)}, got {len(table)} with "
            f"{list(table)}"
        )
    faults, measures = table["fault"].unique(), table["measure"].unique()
    columns = ("auroc", "low", "high")
    wide = table.pivot(index="measure", columns="fault", values=list(columns))
    values, lows, highs = (np.asarray(wide[name].reindex(measures)[faults]) for name in columns)
    ax.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        value, low, high = values[row, column], lows[row, column], highs[row, column]
        colour = "white" if abs(value - 0.5) > 0.33 else "black"
        weight = "normal" if low <= 0.5 <= high else "bold"
        ax.text(
            column, row, f"{value:.2f}", ha="center", va="bottom", fontsize=9, color=colour,
            weight=weight,
        )  # fmt: skip
        ax.text(
            column, row + 0.08, f"{low:.2f}–{high:.2f}", ha="center", va="top", fontsize=6,
            color=colour,
        )  # fmt: skip
    ax.set_xticks(range(len(faults)), [plain_text(name.replace("_", "\n")) for name in faults])
    ax.set_yticks(range(len(measures)), [plain_text(name.replace("_", " ")) for name in measures])
    ax.tick_params(length=0)
