"""Filters that are set and never learned: their distributions, and that nothing learns them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from practical.explainfix import INITIALISATIONS, dct_basis, freeze_spatial, initialise_spatial
from practical.explainfix.fixed import STEERING
from tests.oracles import refuses
from tests.test_folded import random_classifier

WIDE = {"stage_sizes": (1,), "widths": (24,), "stem_width": 24, "stem_kernel": 5}
DRAWN = [name for name in INITIALISATIONS if name not in ("unchanged", "guided_steer")]


@pytest.fixture(scope="module")
def model():
    return random_classifier(**WIDE)


def filters(model, layer: str) -> np.ndarray:
    """Return a layer's filters, (I * O, H, W)."""
    kernel = np.asarray(model.kernels()[layer])
    return kernel.transpose(2, 3, 0, 1).reshape(-1, *kernel.shape[:2])


def with_trained(model, layer: str, covariance: np.ndarray, mean: np.ndarray):
    """Return the model with a layer's filters drawn from a normal distribution."""
    shape = model.kernels()[layer].shape
    drawn = np.random.default_rng(1).multivariate_normal(mean, covariance, shape[2] * shape[3])
    kernel = drawn.T.reshape(shape).astype(np.float32)
    return model.replace_kernels({layer: kernel})


def test_the_mask_is_true_at_spatial_kernels_alone(model):
    strided = random_classifier(stage_sizes=(1, 1), widths=(4, 8), block="bottleneck", expansion=2)
    for one in (model, strided):
        params = one.variables["params"]
        mask = freeze_spatial(params)
        assert jax.tree.structure(mask) == jax.tree.structure(params)
        fixed = sum(np.size(p) for p, m in zip(*map(jax.tree.leaves, (params, mask)), strict=True)
                    if m)  # fmt: skip
        kernels = one.kernels().values()
        assert fixed == sum(kernel.size for kernel in kernels if kernel.shape[0] > 1)
    assert jax.tree.leaves(freeze_spatial({"dense": {"kernel": np.ones((3, 3))}})) == [False]
    assert jax.tree.leaves(freeze_spatial([np.ones((3, 3, 3, 3))])) == [False]  # no name says so


def test_with_the_mask_everything_else_learns(model):
    params = model.variables["params"]
    optimiser = optax.chain(
        optax.adamw(1e-2, weight_decay=0.1),
        optax.masked(optax.set_to_zero(), freeze_spatial(params)),
    )
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimiser.update(gradients, optimiser.init(params), params)
    learned = replace(
        model, variables={**model.variables, "params": optax.apply_updates(params, updates)}
    )
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(params),
        jax.tree.leaves(learned.variables["params"]),
        strict=True,
    ):
        same = (np.asarray(old) == np.asarray(new)).all()
        assert same == (old.ndim == 4 and old.shape[0] > 1), path


@pytest.mark.parametrize("method", DRAWN)
def test_only_spatial_filters_are_drawn_and_the_key_decides_them(method):
    model = random_classifier(block="bottleneck", widths=(4,), stage_sizes=(1,), expansion=2)
    first, again, other = (
        initialise_spatial(model, method, key=jax.random.key(k)) for k in (0, 0, 1)
    )
    for name, kernel in model.kernels().items():
        drawn = np.asarray(first.kernels()[name])
        np.testing.assert_array_equal(drawn, again.kernels()[name])
        assert np.isfinite(drawn).all()
        if kernel.shape[0] == 1:
            np.testing.assert_array_equal(drawn, kernel)
        else:
            assert not np.array_equal(drawn, kernel)
            assert not np.array_equal(drawn, other.kernels()[name])
    assert first.variables["batch_stats"] is model.variables["batch_stats"]


def test_unchanged(model):
    assert initialise_spatial(model, "unchanged", key=jax.random.key(0)) is model


def test_layers_of_one_shape_differ(model):
    drawn = initialise_spatial(model, "kaiming", key=jax.random.key(0)).kernels()
    assert not np.array_equal(drawn["layer1.0.conv1"], drawn["layer1.0.conv2"])


def test_kaiming_is_uniform(model):
    drawn = initialise_spatial(model, "kaiming", key=jax.random.key(0))
    values = filters(drawn, "layer1.0.conv1").ravel() * np.sqrt(3 * 3 * 24)
    assert scipy.stats.kstest(values, scipy.stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_dct2_filters_are_basis_filters_and_an_output_has_as_many_of_each(model):
    drawn = np.asarray(
        initialise_spatial(model, "dct2", key=jax.random.key(0)).kernels()["layer1.0.conv1"]
    )
    weights = np.einsum("hwio,khw->kio", drawn, np.asarray(dct_basis((3, 3))))
    which = weights.argmax(0)
    np.testing.assert_allclose(weights.max(0), 1, atol=1e-5)
    np.testing.assert_allclose(np.abs(weights).sum(0), 1, atol=1e-5)
    counts = np.bincount(np.arange(24) % 9)
    for output in range(24):
        np.testing.assert_array_equal(np.bincount(which[:, output], minlength=9), counts)
    assert len({tuple(order) for order in which.T}) == 24


def test_ghaar_filters_have_no_mean_of_sign_and_no_equals(model):
    drawn = filters(initialise_spatial(model, "ghaar", key=jax.random.key(0)), "layer1.0.conv1")
    assert len(np.unique(drawn.round(5), axis=0)) > 550
    assert abs(np.sign(drawn).mean()) < 0.1


def test_psine_filters_have_unit_length(model):
    drawn = filters(initialise_spatial(model, "psine", key=jax.random.key(0)), "conv1")
    np.testing.assert_allclose((drawn**2).sum((1, 2)), 1, rtol=1e-4)
    # Rescaled from -1 to 1 before their length was made 1.
    np.testing.assert_allclose(drawn.max((1, 2)), -drawn.min((1, 2)), rtol=1e-4)
    assert len(np.unique(drawn.round(5), axis=0)) == len(drawn)


@pytest.mark.parametrize("steering", STEERING)
def test_guided_steer_draws_from_the_trained_filters_distribution(model, steering):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 9)) * np.geomspace(1, 0.05, 9)
    mean = rng.normal(size=9)
    trained = with_trained(model, "layer1.0.conv2", root @ root.T, mean)
    wider = random_classifier(**{**WIDE, "widths": (48,), "stem_width": 48})
    drawn = filters(
        initialise_spatial(
            wider, "guided_steer", key=jax.random.key(0), source=trained, steering=steering
        ),
        "layer1.0.conv2",
    ).reshape(-1, 9)
    source = filters(trained, "layer1.0.conv2").reshape(-1, 9)
    _, _, vectors = np.linalg.svd(source, full_matrices=False)
    new, old = drawn @ vectors.T, source @ vectors.T
    spread = old.std(0)
    np.testing.assert_allclose(new.mean(0), old.mean(0), atol=0.1 * spread.max())
    expected = np.cov(old.T)
    if steering == "kde":  # scipy's, whose samples have the data's covariance and its bandwidth's
        expected = np.cov(scipy.stats.gaussian_kde(old.T).resample(200_000, seed=0))
    else:
        expected = np.diag(np.diag(expected))  # the directions are drawn apart from each other
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(np.cov(new.T) / scale, expected / scale, atol=0.12)
    variances = np.diag(np.cov(new.T)) / np.diag(expected)
    assert abs(variances.mean() - 1) < 0.04  # nine of them, of 2,304 draws each


def test_guided_steer_of_filters_of_one_direction_stays_in_it(model):
    direction = np.arange(9.0)
    trained = with_trained(model, "layer1.0.conv2", np.outer(direction, direction), 0 * direction)
    drawn = initialise_spatial(model, "guided_steer", key=jax.random.key(0), source=trained)
    values = filters(drawn, "layer1.0.conv2").reshape(-1, 9)
    along = values @ direction / (direction @ direction)
    np.testing.assert_allclose(values, np.outer(along, direction), atol=1e-3)
    assert along.std() > 0.5


def test_bad_input(model):
    key = jax.random.key(0)
    with refuses("method must be one of unchanged, ghaar, .*, kaiming, got 'haar'"):
        initialise_spatial(model, "haar", key=key)
    with refuses("steering must be one of kde, normal, got 'svd'"):
        initialise_spatial(model, "guided_steer", key=key, source=model, steering="svd")
    with refuses("source must be given for 'guided_steer' and only there, got none"):
        initialise_spatial(model, "guided_steer", key=key)
    with refuses("source must be given for 'guided_steer' and only there, got one for 'ghaar'"):
        initialise_spatial(model, "ghaar", key=key, source=model)
    other = random_classifier(**{**WIDE, "stem_kernel": 3})
    narrow = random_classifier(block="bottleneck", stage_sizes=(1,), widths=(1,), expansion=4)
    with refuses("source must have two or more filters in each layer .* got one in layer1.0.conv2"):
        initialise_spatial(narrow, "guided_steer", key=jax.random.key(0), source=narrow)
    with refuses("source must have the model's spatial layers: conv1 5x5, .*got conv1 3x3, layer1"):
        initialise_spatial(model, "guided_steer", key=key, source=other)
    broken = model.replace_kernels({"conv1": model.kernels()["conv1"].at[0, 0, 0, 0].set(np.nan)})
    with refuses("model must have finite kernels, got NaN or infinity in conv1"):
        initialise_spatial(broken, "ghaar", key=key)
    with refuses("model must have finite kernels, got NaN or infinity in conv1"):
        initialise_spatial(model, "guided_steer", key=key, source=broken)
