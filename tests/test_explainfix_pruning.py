"""Filters set to 0 and channels taken out: the authors' numbers, closed forms, and properties."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from practical import attribution
from practical.explainfix import (
    channel_prune,
    dct_basis,
    diagonal_order,
    filter_norms,
    filter_saliency,
    largest_percent,
    remove_channels,
    zero_filters,
    zero_frequencies,
)
from practical.explainfix.slopes import spatial_kernels
from practical.models import Classifier, from_torchvision, predict, size
from practical.models.folded import fold
from practical.models.torchvision import to_state_dict
from tests.oracles import Linear, refuses
from tests.test_folded import random_classifier

RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, 16, 12, 3), np.float32)
TARGETS = np.array([0, 2, 1, 1, 0])
BASIC = {"stage_sizes": (2, 1), "widths": (8, 12), "stem_width": 8}
BOTTLENECK = {
    "block": "bottleneck", "stage_sizes": (1, 2), "widths": (6, 8), "stem_width": 8, "expansion": 2,
}  # fmt: skip
GROUPED = {**BOTTLENECK, "widths": (8, 8), "groups": 2}
NETWORKS = pytest.mark.parametrize(
    "options", [BASIC, BOTTLENECK, GROUPED], ids=["basic", "bottleneck", "grouped"]
)


@pytest.fixture(scope="module")
def reference(golden):
    state = {name[6:]: array for name, array in golden.items() if name.startswith("state/")}
    return from_torchvision(state, mean=(0.5,) * 3, std=(1 / 16,) * 3)


@pytest.fixture(scope="module")
def inputs(golden):
    return (golden["x"].transpose(0, 2, 3, 1) + 8) / 16, golden["target"]


@pytest.fixture(scope="module")
def basic():
    return random_classifier(**BASIC)


def dead_filters(model) -> dict[str, np.ndarray]:
    kernels = {name: np.asarray(k) for name, k in model.kernels().items() if k.shape[0] > 1}
    return {name: (kernel == 0).all((0, 1)) for name, kernel in kernels.items()}


def scores(model, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.random(kernel.shape[2:]).astype(np.float32)
        for name, kernel in model.kernels().items()
        if kernel.shape[0] > 1
    }


def without(model, **filters):
    """Return the model with filters at 0: layer (__ for .) to an index of (inputs, outputs)."""
    changed = {}
    for name, index in filters.items():
        layer = name.replace("__", ".")
        kernel = np.array(model.kernels()[layer])
        kernel[(slice(None), slice(None), *index)] = 0
        changed[layer] = kernel
    return model.replace_kernels(changed)


# The authors' numbers


def test_saliency_is_the_authors(golden, reference, inputs):
    found = filter_saliency(reference, *inputs, per="minibatch", batch_size=3)
    for name, values in found.items():
        expected = golden[f"explainfix/filter_saliency/{name}"].T
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("percent", [30, 60])
def test_what_is_zeroed_and_pruned_is_the_authors(golden, reference, inputs, percent):
    saliency = filter_saliency(reference, *inputs, per="minibatch", batch_size=3)
    zeroed = zero_filters(reference, saliency, percent)
    for name, dead in dead_filters(zeroed).items():
        np.testing.assert_array_equal(dead.T, golden[f"explainfix/zeroed_{percent}/{name}"])
    expected = golden[f"explainfix/zeroed_{percent}/logits"]
    np.testing.assert_allclose(predict(zeroed, inputs[0]), expected, rtol=1e-4, atol=1e-5)

    pruned, reset = (
        channel_prune(reference, *inputs, percent, fill=fill, per="minibatch", batch_size=3)
        for fill in ("none", "reset")
    )
    assert pruned.after.parameters == golden[f"explainfix/pruned_{percent}/n_params"]
    for name, kernel in [*pruned.model.kernels().items(), *reset.model.kernels().items()]:
        shape = golden[f"explainfix/pruned_{percent}/shape/{name}.weight"]
        assert kernel.transpose(3, 2, 0, 1).shape == tuple(shape)
    expected = golden[f"explainfix/pruned_{percent}/logits"]
    np.testing.assert_allclose(predict(pruned.model, inputs[0]), expected, rtol=1e-4, atol=1e-5)


# Saliency


def test_saliency_of_an_image_is_its_own(basic):
    together = filter_saliency(basic, IMAGES, TARGETS, chunk_size=2)
    alone = [filter_saliency(basic, IMAGES[i : i + 1], TARGETS[i : i + 1]) for i in range(5)]
    for name, values in together.items():
        mean = np.mean([one[name] for one in alone], axis=0)
        np.testing.assert_allclose(values, mean, rtol=1e-4, atol=1e-6 * mean.max())
    turned = filter_saliency(basic, IMAGES[::-1], TARGETS[::-1], chunk_size=5)
    for name, values in together.items():
        np.testing.assert_allclose(values, turned[name], rtol=1e-3, atol=1e-5 * values.max())


def test_saliency_is_value_times_slope(basic):
    def logit(step):
        kernel = basic.kernels()["conv1"].at[1, 2, 0, 3].add(step)
        return basic.replace_kernels({"conv1": kernel})(IMAGES[:1])[0, 1]

    # One value of a filter whose others are 0: its saliency is that of the value.
    kernel = jnp.zeros((3, 3, 3, 8)).at[1, 2, 0, 3].set(0.7)
    basic = basic.replace_kernels({"conv1": kernel})
    slope = (logit(2e-3) - logit(-2e-3)) / 4e-3
    found = filter_saliency(basic, IMAGES[:1], [1])["conv1"]
    np.testing.assert_allclose(found[0, 3], 0.7 * abs(slope), rtol=1e-2)
    assert np.count_nonzero(found) == 1


def test_saliency_under_jit(basic):
    found = jax.jit(lambda images: filter_saliency(basic, images, TARGETS))(IMAGES)
    for name, values in filter_saliency(basic, IMAGES, TARGETS).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5 * values.max())


# Zeroing


@given(st.floats(0, 100), st.sampled_from(["least_salient", "most_salient", "random"]))
def test_as_many_filters_go_as_percent_says_and_the_right_ones(percent, first):
    model = random_classifier(**BASIC)
    saliency = scores(model, 1)
    dead = dead_filters(zero_filters(model, saliency, percent, first=first))
    gone = np.concatenate([saliency[name][dead[name]] for name in dead])
    stay = np.concatenate([saliency[name][~dead[name]] for name in dead])
    assert len(gone) == int(percent * (len(gone) + len(stay)) / 100 + 1e-9)
    if first != "random" and gone.size and stay.size:
        assert gone.max() < stay.min() if first == "least_salient" else gone.min() > stay.max()


def test_a_percentage_is_not_rounded_below_a_whole_number():
    model = random_classifier(stem_width=10, widths=(10,))  # 30 + 100 + 100 filters
    kernels = model.kernels()
    model = model.replace_kernels({n: jnp.ones_like(k) for n, k in kernels.items()})
    for count in range(231):
        dead = dead_filters(zero_filters(model, scores(model, 0), 100 * count / 230))
        assert sum(map(np.sum, dead.values())) == count


def test_norms_are_filters_lengths(basic):
    for name, values in filter_norms(basic).items():
        kernel = np.asarray(basic.kernels()[name])
        assert kernel.shape[0] > 1
        np.testing.assert_allclose(values[1, 2], np.linalg.norm(kernel[:, :, 1, 2]), rtol=1e-6)
    tiny = basic.replace_kernels({n: k * 1e-22 for n, k in basic.kernels().items()})
    for name, values in filter_norms(tiny).items():
        expected = 1e-22 * np.float64(filter_norms(basic)[name])
        np.testing.assert_allclose(np.float64(values), expected, rtol=1e-5)


def test_random_order_is_the_keys(basic):
    saliency = scores(basic, 0)

    def draw(key):
        return dead_filters(zero_filters(basic, saliency, 40, first="random", key=key))

    first, again, other = (draw(jax.random.key(k)) for k in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_unsigned_scores_are_ranked_like_floats(basic):
    numbers = {name: (255 * values).astype(np.uint8) for name, values in scores(basic, 0).items()}
    floats = {name: values.astype(np.float32) for name, values in numbers.items()}
    found, expected = (
        dead_filters(zero_filters(basic, values, 40, first="most_salient"))
        for values in (numbers, floats)
    )
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_of_equals_the_first_go_first(basic):
    equal = {name: np.zeros_like(values) for name, values in scores(basic, 0).items()}
    dead = dead_filters(zero_filters(basic, equal, 100 * 24 / 520))
    assert dead["conv1"].all()  # 3 * 8 filters
    assert not any(dead[name].any() for name in dead if name != "conv1")


# Channels


@pytest.mark.parametrize(
    "options", [BASIC, BOTTLENECK, GROUPED], ids=["basic", "bottle", "grouped"]
)
@pytest.mark.parametrize("percent", [30, 75])
def test_without_biases_the_pruned_network_answers_what_the_zeroed_one_does(options, percent):
    model = random_classifier(biased=False, **options)
    zeroed = zero_filters(model, _by_channel(model), percent)
    pruned = remove_channels(zeroed, image_shape=(16, 12, 3))
    assert pruned.after.parameters < pruned.before.parameters
    assert pruned.after.flops < pruned.before.flops
    assert pruned.zeroed is zeroed
    silenced = [
        name for name, kept in pruned.kept.items()
        if "downsample" in name and len(kept) < zeroed.kernels()[name].shape[3]
    ]  # fmt: skip
    expected, found = predict(zeroed, IMAGES), predict(pruned.model, IMAGES)
    if silenced:
        assert np.abs(found - expected).max() > 1e-3
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def _by_channel(model) -> dict[str, np.ndarray]:
    """Return a saliency by which whole channels go, of all groups alike."""
    rng = np.random.default_rng(3)
    groups = model.architecture.groups
    saliency = {}
    for name, kernel in model.kernels().items():
        if kernel.shape[0] > 1:
            inputs, outputs = kernel.shape[2:]
            of_output = np.tile(rng.random(outputs // groups), groups)
            saliency[name] = of_output + 1e-3 * rng.random((inputs, 1))
    return saliency


def test_channels_go_from_stem_blocks_skip_and_head():
    """Channel 3 is written by nobody, so that even the skip of stage 1 has nothing in it."""
    model = random_classifier(biased=False, stage_sizes=(2,), widths=(8,), stem_width=8)
    outputs = (slice(None), 3)
    model = without(
        model, conv1=outputs, layer1__0__conv2=outputs, layer1__1__conv2=outputs,
        layer1__0__conv1=(slice(None), np.array([0, 5])),
    )  # fmt: skip
    pruned = remove_channels(model)
    shapes = {name: kernel.shape[2:] for name, kernel in pruned.model.kernels().items()}
    assert shapes == {
        "conv1": (3, 7), "layer1.0.conv1": (7, 6), "layer1.0.conv2": (6, 7),
        "layer1.1.conv1": (7, 8), "layer1.1.conv2": (8, 7),
    }  # fmt: skip
    np.testing.assert_array_equal(pruned.kept["layer1.0.conv1"], [1, 2, 3, 4, 6, 7])
    dense = pruned.model.variables["params"][pruned.model.architecture.dense]
    assert dense["kernel"].shape == (7, 3)
    expected = predict(model, IMAGES)
    np.testing.assert_allclose(predict(pruned.model, IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_one_block_writes_stays():
    model = random_classifier(stage_sizes=(2,), widths=(8,), stem_width=8)
    model = without(model, conv1=(slice(None), 3), layer1__1__conv2=(slice(None), 3))
    assert remove_channels(model).after == size(model, (224, 224, 3))


def test_a_channel_that_nobody_reads_goes_exactly_even_with_biases():
    model = random_classifier(**BASIC)
    model = without(model, layer1__0__conv2=([1, 4],), layer2__0__conv2=([0],))
    pruned = remove_channels(model)
    assert pruned.model.architecture.hidden == ((6,), (8,), (11,))
    expected = predict(model, IMAGES)
    np.testing.assert_allclose(predict(pruned.model, IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_what_a_batch_norm_says_through_a_removed_channel():
    """The exception: a constant, which the next batch norm's mean could have taken over."""
    model = random_classifier(**{**BOTTLENECK, "stage_sizes": (1,), "widths": (6,)})
    silent = np.array([0, 2])
    model = without(model, layer1__0__conv2=(slice(None), silent))
    pruned = remove_channels(model)
    lost = np.abs(predict(pruned.model, IMAGES) - predict(model, IMAGES)).max()
    assert lost > 1e-3

    block = fold(model).blocks[0]
    constants = jax.nn.relu(block.convolutions[1].bias[silent])
    assert constants.max() > 0
    kernel = model.kernels()["layer1.0.conv3"][0, 0, silent]
    variables = jax.tree.map(lambda leaf: leaf, pruned.model.variables)
    statistics = variables["batch_stats"]["layers_2"]["ConvBlock_2"]["BatchNorm_0"]
    statistics["mean"] = statistics["mean"] - constants @ kernel
    mended = replace(pruned.model, variables=variables)
    np.testing.assert_allclose(
        predict(mended, IMAGES), predict(model, IMAGES), rtol=1e-4, atol=1e-4
    )


def test_groups_stay_of_one_size():
    model = random_classifier(biased=False, **GROUPED)
    # Of layer1.0.conv2's 8 outputs in two groups, three of the first go and one of the second.
    model = without(model, layer1__0__conv2=(slice(None), np.array([0, 1, 3, 6])))
    pruned = remove_channels(model)
    np.testing.assert_array_equal(pruned.kept["layer1.0.conv2"], [1, 2, 3, 4, 5, 7])
    expected = predict(model, IMAGES)
    np.testing.assert_allclose(predict(pruned.model, IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_a_skip_keeps_its_convolution_when_pruning_makes_both_sides_alike():
    model = random_classifier(biased=False, stage_sizes=(1,), widths=(6,), stem_width=8)
    model = without(model, conv1=(slice(None), np.array([1, 7])))
    pruned = remove_channels(model)
    assert pruned.model.architecture.stem_width == pruned.model.architecture.widths[0] == 6
    assert "layer1.0.downsample.0" in pruned.model.kernels()
    expected = predict(model, IMAGES)
    np.testing.assert_allclose(predict(pruned.model, IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [BASIC, BOTTLENECK, GROUPED], ids=["basic", "bottle", "grouped"]
)
def test_a_pruned_network_is_a_network(options, tmp_path):
    model = random_classifier(**options)
    pruned = remove_channels(zero_filters(model, _by_channel(model), 50)).model
    logits = predict(pruned, IMAGES)
    pruned.save(tmp_path / "pruned.safetensors")
    loaded = Classifier.load(tmp_path / "pruned.safetensors")
    assert loaded.architecture == pruned.architecture
    np.testing.assert_array_equal(predict(loaded, IMAGES), logits)
    read = from_torchvision(
        to_state_dict(pruned.architecture, pruned.variables),
        mean=np.asarray(model.mean).tolist(), std=np.asarray(model.std).tolist(),
        stem_stride=1, pool=False,
    )  # fmt: skip
    np.testing.assert_array_equal(predict(read, IMAGES), logits)
    folded = jax.jit(lambda model: fold(model)(IMAGES))(pruned)
    np.testing.assert_allclose(folded, logits, rtol=1e-3, atol=1e-4 * np.abs(logits).max())
    assert attribution.grad_cam(pruned, IMAGES, TARGETS).shape == IMAGES.shape[:3]
    saliency = _by_channel(pruned)
    again = remove_channels(zero_filters(pruned, saliency, largest_percent(pruned, saliency)))
    assert again.after.parameters < size(pruned, (16, 12, 3)).parameters


def test_nothing_is_changed_in_place(basic):
    before = [np.array(leaf) for leaf in jax.tree.leaves(basic)]
    pruned = channel_prune(basic, IMAGES, TARGETS, 60, fill="fill_zero")
    zero_filters(basic, scores(basic, 0), 50)
    for old, new in zip(before, jax.tree.leaves(basic), strict=True):
        np.testing.assert_array_equal(old, new)
    assert pruned.model.architecture != basic.architecture
    assert pruned.zeroed.architecture == basic.architecture


def test_a_saliency_that_is_known_is_taken(basic):
    known = scores(basic, 5)
    pruned = channel_prune(basic, IMAGES, TARGETS, 50, saliency=known)
    expected = dead_filters(zero_filters(basic, known, 50))
    for name, dead in dead_filters(pruned.zeroed).items():
        np.testing.assert_array_equal(dead, expected[name])


def test_frequencies_are_taken_out_and_nothing_else(basic):
    gone = [1, 5]
    without_them = zero_frequencies(basic, gone)
    basis = np.asarray(dct_basis((3, 3)))[diagonal_order((3, 3))]
    for name, kernel in basic.kernels().items():
        changed = np.asarray(without_them.kernels()[name])
        if kernel.shape[0] == 1:
            np.testing.assert_array_equal(changed, kernel)
            continue
        before, after = (np.einsum("hwio,khw->kio", k, basis) for k in (kernel, changed))
        before[gone] = 0
        np.testing.assert_allclose(after, before, atol=1e-6)
    twice = zero_frequencies(basic, [5, 1, 1]).kernels()["conv1"]
    np.testing.assert_array_equal(twice, without_them.kernels()["conv1"])
    same = zero_frequencies(basic, [])
    for name, kernel in basic.kernels().items():
        np.testing.assert_array_equal(same.kernels()[name], kernel)
    with refuses("frequencies must be from 0 to 8, the basis filters of 3x3, got 9"):
        zero_frequencies(basic, [0, 9])
    with refuses("frequencies must be an integer of at least 0, got -1"):
        zero_frequencies(basic, [-1])
    with refuses("shape must be that of some layer's filters, got 7x7"):
        zero_frequencies(basic, [0], shape=(7, 7))


def test_nothing_pruned_is_the_same_network(basic):
    pruned = channel_prune(basic, IMAGES, TARGETS, 0)
    assert pruned.model.architecture == basic.architecture
    assert pruned.before == pruned.after == size(basic, (16, 12, 3))


# What fills the gaps


def test_fill_none_leaves_and_fill_zero_draws_what_is_zero_alone(basic):
    options = {"key": jax.random.key(4)}
    none = channel_prune(basic, IMAGES, TARGETS, 60, **options)
    filled = channel_prune(basic, IMAGES, TARGETS, 60, fill="fill_zero", **options)
    empty = 0
    for name, dead in dead_filters(none.model).items():
        left, drawn = none.model.kernels()[name], filled.model.kernels()[name]
        assert not (np.asarray(drawn) == 0).any()
        np.testing.assert_array_equal(drawn[:, :, ~dead], left[:, :, ~dead])
        assert np.abs(drawn[:, :, dead]).max(initial=0) <= np.prod(drawn.shape[:3]) ** -0.5
        empty += dead.sum()
    assert empty > 20


def test_fill_zero_draws_a_filters_gaps_from_its_own_distribution():
    model = random_classifier(stem_kernel=5, stem_width=64, widths=(64,))
    kernel = np.random.default_rng(0).normal(3, 0.5, (5, 5, 3, 64)).astype(np.float32)
    kernel[:2] = 0
    model = model.replace_kernels({"conv1": kernel})
    filled = channel_prune(model, IMAGES[:1], [0], 0, fill="fill_zero")
    drawn = np.asarray(filled.model.kernels()["conv1"])
    np.testing.assert_array_equal(drawn[2:], kernel[2:])
    mean, std = kernel.mean((0, 1)), kernel.std((0, 1), ddof=1)
    standard = (drawn[:2] - mean) / std
    assert abs(standard.mean()) < 0.1
    assert abs(standard.std() - 1) < 0.1


@NETWORKS
def test_reset_restores_what_was_zeroed_outside_of_empty_rows_and_columns(options):
    """The authors' rule, filter by filter; columns of a grouped convolution are its group's."""
    model = random_classifier(**options)
    noise = scores(model, 1)
    saliency = {name: values + 0.3 * noise[name] for name, values in _by_channel(model).items()}
    none, reset, other = (
        channel_prune(
            model, IMAGES, TARGETS, 60, fill=fill, saliency=saliency, key=jax.random.key(seed)
        )
        for fill, seed in (("none", 0), ("reset", 0), ("reset", 1))
    )
    restored, restored_count, idle_count = {}, 0, 0
    for name, dead in dead_filters(none.zeroed).items():
        kernel, original = (np.array(m.kernels()[name]) for m in (none.zeroed, model))
        groups = model.architecture.groups if name.startswith("layer") else 1
        members = np.arange(dead.shape[1]).reshape(groups, -1)
        for i, o in zip(*np.nonzero(dead), strict=True):
            of_group = members[o // members.shape[1]]
            if dead[:, o].all() or dead[i, of_group].all():
                idle_count += 1
            else:
                kernel[:, :, i, o] = original[:, :, i, o]
                restored_count += 1
        restored[name] = kernel
    assert min(restored_count, idle_count) > 10
    expected = remove_channels(model.replace_kernels(restored)).model
    for pruned in (reset, other):
        assert pruned.model.architecture == none.model.architecture == expected.architecture
        for name, kernel in expected.kernels().items():
            np.testing.assert_array_equal(pruned.model.kernels()[name], kernel, err_msg=name)
            np.testing.assert_array_equal(
                pruned.zeroed.kernels()[name], none.zeroed.kernels()[name]
            )


# Bad input


def test_the_largest_percent_counts_filters_that_are_0_already(basic):
    kernels = {name: np.array(kernel) for name, kernel in basic.kernels().items()}
    name = "layer1.0.conv1"
    kernels[name][..., 1:] = 0  # one channel is left, and is to go last
    gone = basic.replace_kernels(kernels)
    scores = {name: np.ones(kernel.shape[2:]) for name, kernel in spatial_kernels(basic).items()}
    scores[name][:, 0] = 0.5  # so they are the first to go
    filters = sum(score.size for score in scores.values())
    most = largest_percent(gone, scores)
    alive = kernels[name].shape[2]
    assert int(most * filters / 100 + 1e-9) == alive - 1
    with refuses(f"percent must leave every layer a channel, got 50; .* is {most}"):
        channel_prune(gone, IMAGES, TARGETS, 50, saliency=scores)
    with refuses("images must be in .0, 1.*got values from"):
        channel_prune(basic, 255 * IMAGES, TARGETS, 10, saliency=filter_norms(basic))


def test_the_largest_percent_works_and_a_larger_one_says_so(basic):
    most = largest_percent(basic, filter_saliency(basic, IMAGES, TARGETS))
    assert 50 < most < 100
    assert channel_prune(basic, IMAGES, TARGETS, most).model.architecture.hidden is not None
    more = round(most + 0.5, 2)
    message = f"percent must leave every layer a channel, got {more}; the largest that does.*{most}"
    with refuses(message):
        channel_prune(basic, IMAGES, TARGETS, more)


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan"), True, None, "60"])
def test_percent_is_in_its_range(basic, percent):
    message = re.escape(f"percent must be a number in [0, 100], got {percent!r}")
    with refuses(message):
        zero_filters(basic, scores(basic, 0), percent)
    with refuses(message):
        channel_prune(basic, IMAGES, TARGETS, percent)


def test_bad_arguments(basic):
    saliency = scores(basic, 0)
    with refuses("first must be one of least_salient, most_salient, random, got 'last'"):
        zero_filters(basic, saliency, 10, first="last")
    with refuses("fill must be one of none, reset, fill_zero, got 'noise'"):
        channel_prune(basic, IMAGES, TARGETS, 10, fill="noise")
    with refuses(
        "saliency must be of the model's spatial layers, conv1, layer1.0.conv1.*got conv1"
    ):
        zero_filters(basic, {"conv1": saliency["conv1"]}, 10)
    with refuses(r"saliency\['conv1'\] must have a value for each filter, shape \(3, 8\)"):
        zero_filters(basic, {**saliency, "conv1": saliency["conv1"].T}, 10)
    with refuses(r"saliency\['conv1'\] must be finite, got NaN"):
        zero_filters(basic, {**saliency, "conv1": saliency["conv1"] * np.nan}, 10)
    with refuses("batch_size must be given for per='minibatch' and only there, got 3"):
        filter_saliency(basic, IMAGES, TARGETS, batch_size=3)
    with refuses("model must say what its convolutions are"):
        filter_saliency(Linear.random(0), IMAGES[:, :12, :10], TARGETS)
    with refuses(
        "model must keep a channel in every layer, got filters of 0 alone in layer1.0.conv1"
    ):
        remove_channels(without(basic, layer1__0__conv1=(slice(None),)))
    broken = basic.replace_kernels({"conv1": basic.kernels()["conv1"].at[0, 0, 0, 0].set(np.nan)})
    with refuses("model must have finite kernels, got NaN or infinity in conv1"):
        zero_filters(broken, saliency, 10)
