"""Figures of the audit: what is drawn is what was found."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from practical.bias import cluster_heatmaps, plot_clusters, plot_detection
from tests.oracles import refuses
from tests.test_bias_discovery import maps


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_groups_of_heatmaps(ax):
    made, _ = maps([16, 12])
    found = cluster_heatmaps(made)
    plot_clusters(ax, found, made, thumbnails=7)
    assert len(ax.collections) == 2
    assert sum(len(points.get_offsets()) for points in ax.collections) == 28
    assert len(ax.artists) == 7
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["group 0: 16", "group 1: 12"]
    # Alike maps are near each other: the groups do not overlap.
    centres = [points.get_offsets().mean(0) for points in ax.collections]
    spread = max(points.get_offsets().std() for points in ax.collections)
    assert np.linalg.norm(centres[0] - centres[1]) > spread
    with refuses("pictures must be one for each of 28 maps, got 3"):
        plot_clusters(ax, found, made[:3])


TABLE = pd.DataFrame(
    {
        "fault": ["tint", "tint", "border"],
        "measure": ["accuracy", "saliency density", "accuracy"],
        "auroc": [0.9, 0.55, 0.1],
        "low": [0.7, 0.3, 0.02],
        "high": [0.97, 0.8, 0.3],
    }
)


def test_measures_by_faults(ax):
    plot_detection(ax, TABLE)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["tint", "border"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["accuracy", "saliency density"]
    (shades,) = ax.images
    drawn = np.ma.filled(shades.get_array(), np.nan)
    np.testing.assert_array_equal(drawn, [[0.9, 0.1], [0.55, np.nan]])
    texts = {text.get_position(): (text.get_text(), text.get_weight()) for text in ax.texts}
    assert texts[0, 0] == ("0.90", "bold")
    assert texts[1, 0] == ("0.10", "bold")
    assert texts[0, 1] == ("0.55", "normal")
    assert texts[0, 1.08][0] == "0.30–0.80"
    assert len(texts) == 6


@pytest.mark.parametrize("table", [TABLE[:0], TABLE.drop(columns="low")], ids=["empty", "no low"])
def test_a_table_of_something_else_is_refused(ax, table):
    with refuses("table must have rows, with the columns .*'low'"):
        plot_detection(ax, table)
