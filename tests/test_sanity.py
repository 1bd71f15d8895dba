"""Sanity checks: maps whose agreement is known, and what randomising does to a model."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from practical import attribution
from practical.data import load_dataset
from practical.metrics import (
    classifier_layers,
    label_randomization,
    parameter_randomization,
    permute_entries,
)
from practical.models import Classifier, load_model
from practical.models.architecture import Architecture
from practical.models.torchvision import to_state_dict
from tests.oracles import Linear, refuses


def field_layers(*names: str):
    """Return what permutes each of a dataclass's fields, as a user would write it."""

    def one(name):
        def randomize(model, key):
            return dataclasses.replace(
                model, **{name: permute_entries(getattr(model, name), key=key)}
            )

        return randomize

    return {name: one(name) for name in names}


SMALL = field_layers("dense", "shift", "kernel")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 24, 24, 3), np.float32)
TARGETS = np.array([0, 1, 2])


@pytest.fixture(scope="module")
def noisy():
    """A small ResNet whose batch norms, too, differ between channels, as training makes them.

    Only its shapes are traced: initialising it for real takes longer than all else here.
    """

    architecture = Architecture(
        block="basic", stage_sizes=(1,), widths=(8,), classes=3, stem_width=8, stem_kernel=3,
        pool=False,
    )  # fmt: skip
    specs = jax.eval_shape(architecture.module().init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(3)

    def fill(spec):
        values = rng.uniform(0.5, 1, spec.shape)
        if len(spec.shape) == 4:  # kernels have both signs
            values = rng.normal(size=spec.shape) / np.sqrt(np.prod(spec.shape[:3]))
        return jnp.asarray(values, spec.dtype)

    return Classifier(
        architecture,
        ("a", "b", "c"),
        jax.tree.map(fill, specs),
        jnp.full(3, 0.5),
        jnp.full(3, 0.25),
    )


@pytest.fixture(scope="module")
def embedded():
    return load_model("shapes")


@pytest.fixture(scope="module")
def shapes():
    found = load_dataset("shapes", count=8)
    return found.images[:8], found.labels[:8]


def compare(first, second, **options):
    """Return the similarity of given maps."""
    count, height, width = first.shape[:3]
    models = [Linear.random(seed, height=height, width=width) for seed in range(2)]

    def method(model, images, targets):
        return first if model is models[0] else second

    images = np.full((count, height, width, 3), 0.5, np.float32)
    return label_randomization(
        models[0], images, np.zeros(count, int), method, models[1], **options
    )


# --- how alike two maps are ----------------------------------------------------------------------


def test_the_rank_correlation_is_scipys():
    rng = np.random.default_rng(1)
    first = rng.normal(size=(4, 9, 8))
    second = first + rng.normal(size=first.shape)
    first[1], second[1] = np.round(first[1]), np.round(second[1])  # many ties
    second[2] = np.maximum(second[2], 0)
    for absolute in (False, True):
        found = compare(first, second, absolute=absolute).rank_correlation
        maps = (np.abs(first), np.abs(second)) if absolute else (first, second)
        expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*maps, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def ssim_by_hand(first, second, *, window, span):
    """Wang et al. 2004 with a uniform window, unbiased variances, no window over the border."""
    first, second = (m / max(np.abs(m).max(), 1e-300) for m in (first, second))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    a, b = (
        np.lib.stride_tricks.sliding_window_view(m, (window, window)).reshape(-1, window**2)
        for m in (first, second)
    )
    covariance = ((a - a.mean(1)[:, None]) * (b - b.mean(1)[:, None])).sum(1) / (window**2 - 1)
    means = a.mean(1), b.mean(1)
    variances = a.var(1, ddof=1) + b.var(1, ddof=1)
    return np.mean(
        (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
        / ((means[0] ** 2 + means[1] ** 2 + c1) * (variances + c2))
    )  # fmt: skip


@pytest.mark.parametrize(("side", "window"), [(16, 7), (7, 7), (6, 5), (4, 3), (3, 3)])
def test_ssim_by_hand(side, window):
    rng = np.random.default_rng(side)
    first = rng.normal(size=(2, side, side + 3))
    second = 0.2 * first + rng.normal(size=first.shape)
    for absolute, span in ((False, 2), (True, 1)):
        found = compare(first, second, absolute=absolute).ssim
        maps = (np.abs(first), np.abs(second)) if absolute else (first, second)
        expected = [
            ssim_by_hand(a, b, window=window, span=span) for a, b in zip(*maps, strict=True)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_maps_of_known_agreement():
    first = RNG.normal(size=(2, 8, 8))
    same = compare(first, first)
    np.testing.assert_array_equal(np.array(same), np.ones((2, 2)))
    # Another unit is no other map, and neither, for ranks, is any growing function of it.
    np.testing.assert_array_equal(np.array(compare(first, 1024 * first, absolute=False)), 1)
    monotone = compare(first, first**3, absolute=False)
    np.testing.assert_array_equal(monotone.rank_correlation, 1)
    assert (np.asarray(monotone.ssim) < 1).all()
    opposite = compare(first, -first, absolute=False)
    np.testing.assert_array_equal(opposite.rank_correlation, -1)
    assert (np.asarray(opposite.ssim) < 1).all()
    np.testing.assert_array_equal(np.array(compare(first, -first, absolute=True)), 1)


def test_channels_are_summed_with_or_without_signs():
    first, second = RNG.normal(size=(2, 2, 8, 8, 3))
    signed = compare(first.sum(-1), second.sum(-1), absolute=False)
    for one, two in zip(compare(first, second, absolute=False), signed, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    # Magnitudes are taken before: red evidence against blue evidence is no absence of evidence.
    absolute = compare(np.abs(first).sum(-1), np.abs(second).sum(-1), absolute=False)
    found = compare(first, second, absolute=True)
    np.testing.assert_allclose(found.rank_correlation, absolute.rank_correlation, atol=1e-6)


def test_a_constant_map_has_no_order():
    first = RNG.normal(size=(3, 8, 8))
    second = first.copy()
    first[1], second[1], second[2] = 0, 0, 5
    found = compare(first, second)
    np.testing.assert_array_equal(found.rank_correlation, [1, 0, 0])
    np.testing.assert_array_equal(found.ssim[:2], [1, 1])
    assert -1 <= found.ssim[2] < 1


@given(st.integers(0, 10**6))
def test_similarity_is_symmetric_and_bounded(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(-3, 4, (2, 2, 5, 6)).astype(float)
    for absolute in (False, True):
        one = np.array(compare(first, second, absolute=absolute))
        np.testing.assert_allclose(one, compare(second, first, absolute=absolute), atol=1e-6)
        assert np.abs(one).max() <= 1


# --- what is randomised --------------------------------------------------------------------------


def state(model) -> dict[str, np.ndarray]:
    return to_state_dict(model.architecture, model.variables)


def recorded(model, images, targets, **options):
    """Return the models that a method is asked to explain, the trained one first."""
    seen = []

    def method(model, images, targets):
        seen.append(model)
        return np.zeros(images.shape[:3])

    result = parameter_randomization(model, images, targets, method, **options)
    return result, seen


def layer_of(tensor: str) -> str:
    """Return which layer a torchvision tensor belongs to: conv2 for bn2, and so on."""
    name = tensor.rsplit(".", 1)[0].replace("bn", "conv")
    return name.replace("downsample.1", "downsample.0")


def test_each_row_randomises_its_layers_and_nothing_else(embedded, shapes):
    images, targets = shapes[0][:1], shapes[1][:1]
    before = {name: array.copy() for name, array in state(embedded).items()}
    for mode in ("cascading", "independent"):
        result, (first, *models) = recorded(embedded, images, targets, mode=mode)
        assert first is embedded
        assert result.layers == ("fc", *reversed(embedded.kernels()))
        assert len(models) == len(result.layers) == 14
        for k, model in enumerate(models):
            chosen = result.layers[: k + 1] if mode == "cascading" else result.layers[k : k + 1]
            for name, array in state(model).items():
                changed = not np.array_equal(array, before[name])
                assert changed == (layer_of(name) in chosen), (mode, result.layers[k], name)
                np.testing.assert_array_equal(np.sort(array, None), np.sort(before[name], None))
            # The same program serves them all.
            assert jax.tree.structure(model) == jax.tree.structure(embedded)
    for name, array in state(embedded).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_layer_has_the_same_random_weights_in_both_modes(noisy):
    _, cascading = recorded(noisy, IMAGES, TARGETS)
    _, independent = recorded(noisy, IMAGES, TARGETS, mode="independent")
    last = state(cascading[-1])
    for model in independent[1:]:
        for name, array in state(model).items():
            if not np.array_equal(array, state(noisy)[name]):
                np.testing.assert_array_equal(array, last[name])
    _, again = recorded(noisy, IMAGES, TARGETS, key=jax.random.key(0))
    _, other = recorded(noisy, IMAGES, TARGETS, key=jax.random.key(1))
    for name, array in last.items():
        np.testing.assert_array_equal(array, state(again[-1])[name])
    assert not np.array_equal(last["fc.weight"], state(other[-1])["fc.weight"])


def test_permute_entries():
    tree = {
        "a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.arange(24.0).reshape(2, 3, 4),
        "c": np.arange(24, dtype=np.float16), "count": jnp.arange(24), "f": jax.nn.relu, "n": None,
    }  # fmt: skip
    found = permute_entries(tree, key=jax.random.key(4))
    for name in "abc":
        assert isinstance(found[name], type(tree[name]))
        assert found[name].shape == tree[name].shape
        assert found[name].dtype == tree[name].dtype
        assert not np.array_equal(found[name], tree[name])
        np.testing.assert_array_equal(np.sort(found[name], None), np.sort(tree[name], None))
    assert not np.array_equal(found["a"], found["b"])  # a permutation of its own
    # Over all entries, not within or of the rows.
    rows = np.asarray(found["a"]).reshape(-1, 4)
    assert not np.array_equal(np.sort(rows // 4, axis=1)[:, 0], np.sort(rows // 4, axis=1)[:, -1])
    assert found["count"] is tree["count"]
    assert found["f"] is jax.nn.relu
    assert found["n"] is None
    again = permute_entries(tree, key=jax.random.key(4))
    np.testing.assert_array_equal(found["a"], again["a"])
    with refuses("key must be one key made by jax.random.key"):
        permute_entries(tree, key=4)


# --- explanations of randomised models -----------------------------------------------------------


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_what_never_asks_the_model_stays(noisy, mode):
    for method in (
        attribution.edges, attribution.METHODS["edges"],
        partial(attribution.random, key=jax.random.key(7)),
    ):  # fmt: skip
        found = parameter_randomization(noisy, IMAGES, TARGETS, method, mode=mode)
        assert found.layers == ("fc", "layer1.0.conv2", "layer1.0.conv1", "conv1")
        np.testing.assert_array_equal(found.rank_correlation, np.ones((4, 3)))
        np.testing.assert_array_equal(found.ssim, np.ones((4, 3)))
        np.testing.assert_array_equal(found.final, np.ones(3))


@pytest.mark.parametrize("absolute", [False, True])
def test_nothing_of_a_linear_models_gradient_is_left(absolute):
    model = Linear.random(0, height=32, width=32)
    images = RNG.random((3, 32, 32, 3), np.float32)
    found = parameter_randomization(
        model, images, TARGETS, attribution.gradient, layers=field_layers("weights"),
        absolute=absolute,
    )  # fmt: skip
    assert found.layers == ("weights",)
    # Of independent maps of n pixels it is 0 with a standard deviation of 1 / sqrt(n - 1) = 1/32.
    assert np.abs(found.rank_correlation).max() < 4 / 32


def test_rows_are_what_the_method_says_of_the_models_by_hand(noisy):
    method = partial(attribution.gradient, chunk_size=2)
    key = jax.random.key(2)
    found = parameter_randomization(noisy, IMAGES, TARGETS, method, absolute=False, key=key)
    maps = [np.asarray(method(noisy, IMAGES, TARGETS)).sum(-1)]
    model = noisy
    for i, randomize in enumerate(classifier_layers(noisy).values()):
        model = randomize(model, jax.random.fold_in(key, i))
        maps.append(np.asarray(method(model, IMAGES, TARGETS)).sum(-1))
    expected = [
        [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps[0], row, strict=True)]
        for row in maps[1:]
    ]
    np.testing.assert_allclose(found.rank_correlation, expected, atol=1e-6)
    np.testing.assert_array_equal(found.final, found.rank_correlation[-1])


def test_nothing_is_compiled_for_the_randomised_models(noisy, compilations):
    def run(method):
        parameter_randomization(noisy, IMAGES, TARGETS, method)
        return compilations()

    attribution.gradient(noisy, IMAGES, TARGETS)
    run(attribution.edges)  # keys and the check of the images
    assert run(attribution.gradient) == 0


def test_chunk_size_is_passed_on_unless_the_method_has_its_own(small, batch):
    seen = []

    def method(model, images, targets, *, chunk_size=5):
        seen.append(chunk_size)
        return np.asarray(images)

    def run(method, **options):
        seen.clear()
        parameter_randomization(small, *batch, method, layers=SMALL, **options)
        label_randomization(small, *batch, method, small, **options)
        return set(seen)

    assert run(method) == {32}
    assert run(method, chunk_size=3) == {3}
    assert run(partial(method, chunk_size=2), chunk_size=3) == {2}
    whole, split = (
        parameter_randomization(
            small, *batch, attribution.gradient, layers=SMALL, chunk_size=chunk_size
        )
        for chunk_size in (32, 2)
    )
    np.testing.assert_allclose(whole.rank_correlation, split.rank_correlation, atol=1e-3)
    np.testing.assert_allclose(whole.ssim, split.ssim, atol=1e-5)


def test_the_finding_of_adebayo_et_al(embedded, shapes):
    """The gradient follows the model; guided backpropagation hardly looks at the top of it."""
    found = {
        name: parameter_randomization(
            embedded, *shapes, attribution.METHODS[name], absolute=False,
            layers=dict(list(classifier_layers(embedded).items())[:3]),
        )
        for name in ("gradient", "guided_backprop", "edges")
    }  # fmt: skip
    means = {name: np.asarray(one.rank_correlation).mean(1) for name, one in found.items()}
    assert (means["gradient"] < 0.3).all()
    assert (means["guided_backprop"] > 0.85).all()
    assert (means["edges"] == 1).all()
    ssim = {name: np.asarray(one.ssim).mean(1) for name, one in found.items()}
    assert (ssim["gradient"] < 0.5).all()
    assert (ssim["guided_backprop"] > 0.8).all()


# --- shuffled labels -----------------------------------------------------------------------------


def test_shuffled_labels(embedded, shapes):
    shuffled = load_model("shapes-shuffled")
    edges = label_randomization(embedded, *shapes, attribution.edges, shuffled)
    np.testing.assert_array_equal(np.array(edges), np.ones((2, 8)))
    same = label_randomization(embedded, *shapes, attribution.gradient, embedded)
    np.testing.assert_array_equal(np.array(same), np.ones((2, 8)))
    other = label_randomization(embedded, *shapes, attribution.gradient, shuffled, absolute=False)
    assert np.abs(np.asarray(other.rank_correlation).mean()) < 0.1
    assert np.asarray(other.ssim).mean() < 0.3


# --- bad input -----------------------------------------------------------------------------------


def test_a_model_without_known_layers(small, batch):
    with refuses("layers must be given for a model that is no models.Classifier.* got Small"):
        parameter_randomization(small, *batch, attribution.gradient)
    with refuses("layers must be given .*permute_entries.*got function"):
        classifier_layers(lambda images: images)
    for layers in ({}, [], {"dense": None}, lambda model, key: model):
        with refuses("layers must map at least one name to a function"):
            parameter_randomization(small, *batch, attribution.gradient, layers=layers)


def test_layers_that_do_not_randomise(small, batch):
    def run(randomize):
        parameter_randomization(small, *batch, attribution.edges, layers={"dense": randomize})

    for idle in (
        lambda model, key: model,
        lambda model, key: dataclasses.replace(model, dense=jnp.array(model.dense)),
    ):
        with refuses(r"layers\['dense'\] must change the model; it returned the same weights"):
            run(idle)
    with refuses(r"layers\['dense'\] must return the model .*got NoneType"):
        run(lambda model, key: None)


def test_bad_arguments(small, batch):
    images, targets = batch

    def run(method=attribution.edges, model=small, images=images, targets=targets, **options):
        return parameter_randomization(model, images, targets, method, layers=SMALL, **options)

    with refuses("mode must be one of cascading, independent, got 'both'"):
        run(mode="both")
    with refuses("key must be one key made by jax.random.key"):
        run(key=3)
    with refuses("chunk_size must be an integer of at least 1, got 0"):
        run(attribution.gradient, chunk_size=0)
    with refuses(r"targets must give one class for each of the 5 images"):
        run(targets=targets[:4])
    with refuses(r"images must have at least 3 pixels a side for SSIM, got \(2, 10\)"):
        run(images=images[:, :2])
    with refuses(r"method must return one map for each image, shape \(5, 12, 10\).*got \(5,\)"):
        run(lambda model, images, targets: np.zeros(5))
    with refuses(r"method must return .*got \(4, 12, 10\)"):
        run(lambda model, images, targets: np.zeros((4, 12, 10)))

    def broken(model, images, targets):
        maps = np.zeros(images.shape)
        maps[3] = np.nan if model is not small else 0
        return maps

    with refuses(
        "the explanation of the model with dense randomised must be finite, got NaN .*image 3"
    ):
        run(broken)


def test_bad_shuffled_models(small, batch):
    def run(shuffled):
        label_randomization(small, *batch, attribution.edges, shuffled)

    with refuses("shuffled must answer for as many classes as model, 3, got 4"):
        run(dataclasses.replace(small, dense=jnp.ones((4, 4))))
    with refuses("shuffled must take what model takes: model must accept images of shape"):
        run(Linear.random(0, height=5, width=5))
    with refuses("shuffled must take what model takes: model must be callable", TypeError):
        run(None)
    with refuses("shuffled must take what model takes: targets must be classes from 0 to 1"):
        run(dataclasses.replace(small, dense=jnp.ones((4, 2))))
