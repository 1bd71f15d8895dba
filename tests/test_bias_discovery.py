"""Groups of heatmaps: planted groups are found, with their number, and chance is chance."""

import numpy as np
import pytest
import sklearn.cluster
import sklearn.metrics
import sklearn.neighbors
from hypothesis import given, settings
from hypothesis import strategies as st

from practical.bias import cluster_heatmaps, separation
from practical.bias.discovery import coarse
from tests.oracles import refuses


def maps(groups: list[int], seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright spot in a corner of each group's own, in a random order."""
    rng = np.random.default_rng(seed)
    made = noise * rng.random((sum(groups), 20, 24), np.float32)
    corners = [(slice(0, 8), slice(0, 8)), (slice(12, 20), slice(16, 24)),
               (slice(0, 8), slice(16, 24)), (slice(12, 20), slice(0, 8))]  # fmt: skip
    truth = rng.permutation(np.repeat(np.arange(len(groups)), groups))
    for one, group in zip(made, truth, strict=True):
        one[corners[group]] += 1
    return made, truth


@pytest.mark.parametrize("groups", [[30, 20], [24, 18, 12], [25, 20, 16, 12]], ids=len)
def test_planted_groups_and_their_number_are_found(groups):
    made, truth = maps(groups)
    found = cluster_heatmaps(made, neighbours=6)
    assert np.bincount(found.labels).tolist() == groups  # the largest first
    assert separation(found.labels, truth == 1).purity == 1
    assert found.eigenvalues[len(groups) - 1] < 0.05 < found.eigenvalues[len(groups)]
    assert found.embedding.shape == (sum(groups), len(groups))


def test_scale_and_sign_of_the_maps_do_not_matter_and_a_seed_repeats():
    made, _ = maps([22, 18])
    one = cluster_heatmaps(made)
    scaled = made * np.random.default_rng(1).uniform(0.1, 9, (40, 1, 1)).astype(np.float32)
    np.testing.assert_array_equal(one.labels, cluster_heatmaps(scaled).labels)
    np.testing.assert_array_equal(one.labels, cluster_heatmaps(made * np.float32(1e-13)).labels)
    below = np.where(made < 0.1, -made, made)
    assert (cluster_heatmaps(below, seed=3).labels == one.labels).all()
    np.testing.assert_array_equal(one.features, cluster_heatmaps(made).features)


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
def test_sklearns_own_spectral_clustering_agrees():
    made, _ = maps([18, 15, 11], noise=0.8)
    found = cluster_heatmaps(made, clusters=3)
    graph = sklearn.neighbors.kneighbors_graph(found.features, 10).toarray()
    other = sklearn.cluster.SpectralClustering(
        3, affinity="precomputed", random_state=0
    ).fit_predict(np.maximum(graph, graph.T))
    assert sklearn.metrics.adjusted_rand_score(found.labels, other) == 1


def test_the_grid_is_of_means():
    made = np.random.default_rng(0).random((2, 6, 9)).astype(np.float32)
    np.testing.assert_allclose(coarse(made, 3), made.reshape(2, 3, 2, 3, 3).mean((2, 4)), rtol=1e-6)
    uneven = coarse(made, 4)
    np.testing.assert_allclose(uneven[:, 1, 1], made[:, 2:3, 2:4].mean((1, 2)), rtol=1e-6)


def test_purity_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    carries = np.array([True, True, False, False, False, True])
    assert separation(labels, carries).purity == pytest.approx(5 / 6)


@given(seed=st.integers(0, 99), groups=st.integers(1, 6))
@settings(deadline=None, max_examples=10)
def test_groups_that_know_nothing_are_at_chance(seed, groups):
    rng = np.random.default_rng(seed)
    labels, carries = rng.integers(0, groups, 400), np.arange(400) < 160
    found = separation(labels, carries, samples=200, seed=seed)
    assert found.purity == pytest.approx(found.chance, abs=0.06)
    assert found.chance >= 0.6 - 1e-9
    if groups == 1:
        assert found.purity == pytest.approx(0.6)


def test_bad_input():
    made, truth = maps([6, 6])
    with refuses("neighbours must be fewer than the 12 heatmaps, got 12"):
        cluster_heatmaps(made, neighbours=12)
    with refuses("heatmaps must be at least 4, or there are no groups, got 3"):
        cluster_heatmaps(made[:3], neighbours=1)
    with refuses("side must be at most the maps' 20x24 pixels, got 21"):
        cluster_heatmaps(made, side=21)
    for clusters in (1, 12):
        with refuses(f"clusters must be from 2 to 11, got {clusters}"):
            cluster_heatmaps(made, clusters=clusters)
    with refuses("heatmaps must be finite"):
        cluster_heatmaps(made * np.nan)
    with refuses("carries must be bool, one for each of the .12,. labels, got int64"):
        separation(truth, truth)
    with refuses("carries must hold images with the artefact and images without"):
        separation(truth, truth < 9)
