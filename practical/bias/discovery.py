"""Discovery without a mask: heatmaps of one class that fall into groups betray an artefact.

A network that judges some images of a class by their object and others by an artefact has two ways
of looking at the class. Its heatmaps then form clusters, which nobody has to know beforehand.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse.csgraph
from jaxtyping import Float, Int

from practical._inputs import ArrayLike, check_count
from practical.metrics.complexity import check_heatmaps

_MOST_CLUSTERS = 8


class Clusters(NamedTuple):
    """Groups of heatmaps that are alike."""

    labels: Int[np.ndarray, " n"]  # which group, the largest first
    eigenvalues: Float[np.ndarray, " k"]  # of the Laplacian, ascending; each 0 is a part
    embedding: Float[np.ndarray, "n k"]  # what the groups were found in
    features: Float[np.ndarray, "n f"]  # the small heatmaps


def cluster_heatmaps(
    heatmaps: Float[ArrayLike, "n h w"],
    *,
    clusters: int | None = None,
    side: int = 8,
    neighbours: int = 10,
    seed: int = 0,
) -> Clusters:
    """Return groups of heatmaps that are alike: spectral relevance analysis (SpRAy).

    Each map is averaged over a coarse grid and scaled to length 1. The maps nearest to each other
    make a graph; the eigenvectors of its Laplacian with the smallest eigenvalues say which maps
    hang together, and k-means in them names the groups.

    Args:
        heatmaps: (N, H, W), any scale, best of one class; positive values are what counts.
        clusters: How many groups; by default as many as eigenvalues come before their largest gap,
            2 to 8.
        side: Rows and columns of the grid, at most those of the maps.
        neighbours: Of each map in the graph, fewer than N.
        seed: Decides where k-means begins.

    Raises:
        ValueError: If an argument breaks its rule.

    References:
        Lapuschkin et al., Unmasking Clever Hans Predictors and Assessing What Machines Really
        Learn, Nature Communications 10, 2019.
    """
    # scikit-learn takes a second to import, which no other part of the package should cost.
    from sklearn.cluster import KMeans
    from sklearn.neighbors import kneighbors_graph

    maps = np.maximum(check_heatmaps(heatmaps), 0)
    count, height, width = maps.shape
    check_count("neighbours", neighbours)
    check_count("side", side)
    if neighbours >= count:
        raise ValueError(f"neighbours must be fewer than the {count} heatmaps, got {neighbours}")
    if side > min(height, width):
        raise ValueError(f"side must be at most the maps' {height}x{width} pixels, got {side}")
    if clusters is not None and not 1 < check_count("clusters", clusters) < count:
        raise ValueError(f"clusters must be from 2 to {count - 1}, got {clusters}")
    if count < 4:
        raise ValueError(f"heatmaps must be at least 4, or there are no groups, got {count}")
    # First by the largest value, so that no scale is too small for the length.
    maps = maps / np.maximum(maps.max((1, 2), keepdims=True), np.finfo(np.float32).tiny)
    features = coarse(maps, side).reshape(count, -1)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    graph = kneighbors_graph(features, neighbours).toarray()
    laplacian = scipy.sparse.csgraph.laplacian(np.maximum(graph, graph.T), normed=True)
    values, vectors = np.linalg.eigh(laplacian)
    values = values.clip(min=0)
    if clusters is None:
        gaps = np.diff(values[: min(_MOST_CLUSTERS + 1, count)])
        clusters = int(gaps[1:].argmax()) + 2
    embedding = vectors[:, :clusters]
    rows = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    means = KMeans(clusters, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
    found = means.fit_predict(rows)
    order = np.argsort(-np.bincount(found, minlength=clusters), kind="stable")
    labels = np.argsort(order)[found]
    return Clusters(labels, values[: _MOST_CLUSTERS + 2], rows, features)


class Separation(NamedTuple):
    """How well groups tell who carries an artefact."""

    purity: float  # the share of images that are as most of their group
    chance: float  # its mean when who carries it is permuted: more groups, more


def separation(
    labels: Int[ArrayLike, " n"], carries: ArrayLike, *, samples: int = 1000, seed: int = 0
) -> Separation:
    """Return the purity of groups, and what it would be of groups that know nothing.

    Args:
        labels: (N,) which group each image is in.
        carries: (N,) bool: whether it carries the artefact.
        samples: Permutations for the chance level.
        seed: Decides them.

    Raises:
        ValueError: If the lengths differ, or all images carry the artefact, or none does.
    """
    labels, carries = np.asarray(labels), np.asarray(carries)
    if labels.ndim != 1 or labels.shape != carries.shape or carries.dtype != bool:
        raise ValueError(
            f"carries must be bool, one for each of the {labels.shape} labels, got "
            f"{carries.dtype} of shape {carries.shape}"
        )
    if carries.all() or not carries.any():
        raise ValueError("carries must hold images with the artefact and images without")
    check_count("samples", samples)
    rng = np.random.default_rng(seed)
    permuted = [_purity(labels, rng.permutation(carries)) for _ in range(samples)]
    return Separation(_purity(labels, carries), float(np.mean(permuted)))


def coarse(maps: Float[np.ndarray, "n h w"], side: int) -> Float[np.ndarray, "n s s"]:
    """Return the means of the maps over a grid of cells that are as equal as pixels allow."""
    for axis in (1, 2):
        edges = np.linspace(0, maps.shape[axis], side + 1).round().astype(int)
        parts = np.split(maps, edges[1:-1], axis)
        maps = np.stack([part.mean(axis) for part in parts], axis)
    return maps


def _purity(labels: np.ndarray, carries: np.ndarray) -> float:
    groups = [carries[labels == label] for label in np.unique(labels)]
    return float(sum(max(group.sum(), (~group).sum()) for group in groups) / len(labels))
