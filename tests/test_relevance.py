import dataclasses
from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution
from practical.attribution.relevance import _Rules, layerwise_relevance
from practical.data import load_dataset
from practical.models import load_model
from practical.models.folded import fold
from tests.oracles import refuses
from tests.test_folded import BOTTLENECK, both, random_classifier

RNG = np.random.default_rng(0)
EPSILON = {"rule": "epsilon", "epsilon": 0}


# LRP once more, in NumPy and float64: every layer an explicit matrix, every neuron on its own,
# relevances and not slopes. `settled` is relevance in proportion to activations, `glow` is not.


def matrices(layer, shape):
    """Return a convolution's weights (inputs, outputs), and which inputs each window holds."""
    kernel = np.asarray(layer.kernel, np.float64)
    (height, width, channels), (rows, columns, depth, outputs) = shape, kernel.shape
    reads = np.arange(channels)[:, None] // depth == np.arange(outputs) // (outputs // layer.groups)
    kernel = np.where(reads, np.tile(kernel, (1, 1, layer.groups, 1)), 0)
    (top, bottom), (left, right) = layer.padding
    between = layer.dilation
    down = (height + top + bottom - (rows - 1) * between[0] - 1) // layer.strides[0] + 1
    across = (width + left + right - (columns - 1) * between[1] - 1) // layer.strides[1] + 1
    weights = np.zeros((height, width, channels, down, across, outputs))
    inside = np.zeros(weights.shape, bool)
    for y, x, r, c in np.ndindex(down, across, rows, columns):
        i = y * layer.strides[0] + r * between[0] - top
        j = x * layer.strides[1] + c * between[1] - left
        if 0 <= i < height and 0 <= j < width:
            weights[i, j, :, y, x], inside[i, j, :, y, x] = kernel[r, c], reads
    size = height * width * channels
    bias = np.tile(np.asarray(layer.bias, np.float64), down * across)
    flat = weights.reshape(size, -1), inside.reshape(size, -1), bias
    return flat, (down, across, outputs)


class Witness:
    """One image's relevance by one rule.

    `absorbed` is what biases and stabilisers kept; `idle` counts sums that glow, because of a
    window without any activation further up.
    """

    def __init__(self, rule, gamma, epsilon, bias):
        self.gamma = gamma if rule == "gamma" else 0
        self.box = rule == "gamma"
        self.epsilon = epsilon
        self.distribute = bias == "distribute"
        self.absorbed = 0.0
        self.idle = 0

    def favour(self, values, sign):
        return values + self.gamma * np.where(values * sign > 0, values, 0)

    def stabiliser(self, outputs):
        return self.epsilon * np.sqrt((outputs**2).mean())

    def keep(self, kept, inputs, inside, settled, glow):
        """Hand on what a bias and the stabiliser kept, in place; `inputs` None: no activation."""
        if not self.distribute:
            self.absorbed += kept
            return
        active = 0 if inputs is None else np.abs(inputs) * inside
        if np.sum(active) > 0:
            settled += kept * active / active.sum()
        else:
            glow += kept * inside / inside.sum()

    def linear(self, inputs, layer, outputs, relevance, *, pixels=False):
        weights, inside, bias = layer
        settled, glow = np.zeros_like(inputs), np.zeros_like(inputs)
        stabiliser = self.stabiliser(outputs)
        for j, output in enumerate(outputs):
            glow += relevance[1][j] * inside[:, j] / inside[:, j].sum()
            if relevance[0][j] == 0:
                continue
            sign = -1 if output < 0 else 1
            parts = inputs * self.favour(weights[:, j], sign)
            rest = self.favour(bias[j], sign) + sign * stabiliser
            share = relevance[0][j] / (parts.sum() + rest)
            settled += parts * share
            self.keep(rest * share, None if pixels else inputs, inside[:, j], settled, glow)
        return settled, glow

    def box_rule(self, image, network, layer, relevance):
        weights, inside, _ = layer
        std = np.tile(np.asarray(network.std, np.float64), image.size // 3)
        parts = np.where(weights > 0, (image / std)[:, None], ((image - 1) / std)[:, None])
        parts = parts * weights
        stabiliser = self.stabiliser(parts.sum(0))
        settled, glow = np.zeros_like(image), np.zeros_like(image)
        for j, total in enumerate(parts.sum(0)):
            share = relevance[0][j] / (total + stabiliser) if total > 0 else 0
            settled += parts[:, j] * share
            kept = relevance[0][j] - total * share
            self.keep(kept, None, inside[:, j], settled, glow)
            glow += relevance[1][j] * inside[:, j] / inside[:, j].sum()
        return settled, glow

    def sum_rule(self, branch, skip, relevance):
        stabiliser, results = self.stabiliser(branch + skip), np.zeros((2, 2, branch.size))
        for i, (b, s) in enumerate(zip(branch, skip, strict=True)):
            results[1, :, i] = relevance[1][i] / 2
            self.idle += relevance[1][i] != 0
            if b + s > 0:
                pair = np.array([b, s])
                parts = self.favour(pair, 1)
                share = relevance[0][i] / (parts.sum() + stabiliser)
                results[0, :, i] = parts * share
                self.keep(stabiliser * share, pair, np.ones(2), results[0, :, i], None)
        return results[:, 0], results[:, 1]

    def pool_rule(self, maps, shape, relevance):
        height, width, channels = shape
        maps = maps.reshape(shape)
        down, across = (height + 1) // 2, (width + 1) // 2
        arrived = [r.reshape(down, across, channels) for r in relevance]
        settled, glow = np.zeros(shape), np.zeros(shape)
        for y, x, c in np.ndindex(down, across, channels):
            window = np.s_[max(2 * y - 1, 0) : 2 * y + 2, max(2 * x - 1, 0) : 2 * x + 2, c]
            place = np.unravel_index(maps[window].argmax(), maps[window].shape)
            settled[window][place] += arrived[0][y, x, c]
            glow[window] += arrived[1][y, x, c] / maps[window].size
        return settled.ravel(), glow.ravel()

    def head_rule(self, maps, shape, network, target):
        places, channels = shape[0] * shape[1], shape[2]
        kernel = np.asarray(network.kernel, np.float64)
        bias = np.asarray(network.bias, np.float64)
        logits = maps.reshape(places, channels).mean(0) @ kernel + bias
        logit, rest = logits[target], bias[target]
        rest += (-1 if logit < 0 else 1) * self.stabiliser(logits)
        parts = maps * np.tile(kernel[:, target], places) / places
        share = logit / (parts.sum() + rest)
        settled, glow = parts * share, np.zeros_like(maps)
        self.keep(rest * share, maps, np.ones_like(maps), settled, glow)
        return logit, (settled, glow)

    def __call__(self, network, image, target):
        """Return the logit and the relevance of each pixel."""
        image = image.astype(np.float64)
        normalised = ((image - np.asarray(network.mean)) / np.asarray(network.std)).ravel()
        back = []  # how to undo each step, in the order of the forward pass

        def step(layer, maps, shape):
            matrix, shape = matrices(layer, shape)
            return matrix, maps @ matrix[0] + matrix[2], shape

        stem, first, shape = step(network.stem, normalised, image.shape)
        maps = np.maximum(first, 0)
        if network.pool:
            before, wide = maps, shape
            padded = np.pad(maps.reshape(shape), ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
            views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))[::2, ::2]
            maps, shape = views.max((-2, -1)).ravel(), views.shape[:3]
            back.append(lambda relevance: self.pool_rule(before, wide, relevance))
        for block in network.blocks:
            inputs, inner, steps = maps, shape, []
            for number, layer in enumerate(block.convolutions):
                matrix, outputs, inner = step(layer, maps, inner)
                steps.append((maps, matrix, outputs))
                maps = np.maximum(outputs, 0) if number < len(block.convolutions) - 1 else outputs
            down, skip = None, inputs
            if block.downsample is not None:
                down, skip, _ = step(block.downsample, inputs, shape)

            def undo(relevance, inputs=inputs, branch=maps, steps=steps, down=down, skip=skip):
                to_branch, to_skip = self.sum_rule(branch, skip, relevance)
                for below, matrix, above in reversed(steps):
                    to_branch = self.linear(below, matrix, above, to_branch)
                if down is not None:
                    to_skip = self.linear(inputs, down, skip, to_skip)
                return to_branch[0] + to_skip[0], to_branch[1] + to_skip[1]

            back.append(undo)
            maps, shape = np.maximum(maps + skip, 0), inner
        logit, relevance = self.head_rule(maps, shape, network, target)
        for undo in reversed(back):
            relevance = undo(relevance)
        if self.box:
            relevance = self.box_rule(image.ravel(), network, stem, relevance)
        else:
            relevance = self.linear(normalised, stem, first, relevance, pixels=True)
        return logit, sum(relevance).reshape(image.shape)


NETWORKS = {
    "basic, pool": {"pool": True},
    "bottleneck, groups": {
        **BOTTLENECK,
        "stage_sizes": (1, 1),
        "widths": (2, 4),
        "groups": 2,
        "stem_stride": 2,
    },
    "dilated, stride in 1x1": {
        **BOTTLENECK,
        "stage_sizes": (1, 2, 1),
        "widths": (2, 2, 2),
        "dilated": (True, False),
        "stride_in_1x1": True,
        "stem_stride": 2,
    },
}
SIX = RNG.random((3, 6, 6, 3), np.float32)


@pytest.mark.parametrize("rule", ["gamma", "epsilon"])
@pytest.mark.parametrize(
    ("network", "bias"),
    [
        ("basic, pool", "distribute"),
        ("basic, pool", "absorb"),
        ("bottleneck, groups", "distribute"),
        ("dilated, stride in 1x1", "distribute"),
    ],
)
def test_against_numpy(network, rule, bias):
    model = random_classifier(7, **NETWORKS[network])
    images = SIX.copy()
    if network != "basic, pool":  # even colours tie in a max-pool, and rounding says who wins
        images[1] = 0
        images[2, :, :3] = 1
    folded, targets, idle = fold(model), np.array([0, 1, 2]), 0
    for gamma, epsilon in [(0.25, 1e-6), (1, 0.1)] if bias == "distribute" else [(0.5, 0.1)]:
        options = {"rule": rule, "gamma": gamma, "epsilon": epsilon, "bias": bias}
        maps = np.asarray(layerwise_relevance(model, images, targets, **options))
        for image, target, found in zip(images, targets, maps, strict=True):
            witness = Witness(**options)
            logit, expected = witness(folded, image, target)
            idle += witness.idle
            assert (abs(witness.absorbed) > 0.01) == (bias == "absorb")
            total = np.abs(expected).sum()
            np.testing.assert_allclose(expected.sum() + witness.absorbed, logit, atol=1e-9 * total)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * total)
            np.testing.assert_allclose(found.sum() + witness.absorbed, logit, atol=1e-5 * total)
    if network == "bottleneck, groups":
        assert idle > 0  # or nothing would be said of the equal parts there


def conserved(model, images, targets, **options):
    """Check that relevance sums to the logit, and return its size relative to that."""
    maps = np.asarray(layerwise_relevance(model, images, targets, **options))
    logits = np.asarray(both(model, images)[0])[np.arange(len(images)), targets]
    size = np.abs(maps).sum((1, 2, 3))
    np.testing.assert_allclose(maps.sum((1, 2, 3)), logits, rtol=1e-3, atol=1e-5 * size.max())
    return size / np.abs(logits)


@pytest.fixture(scope="module")
def shapes():
    """The embedded model, with images of each class and plain ones, and all their classes."""
    data = load_dataset("shapes").per_class(1)
    plain = np.ones((3, 64, 64, 3), np.float32) * np.array([0, 1, 0.5], np.float32).reshape(
        3, 1, 1, 1
    )
    return load_model("shapes"), np.concatenate([data.images, plain]), [*data.labels, 0, 1, 2]


@pytest.mark.parametrize("rule", ["gamma", "epsilon"])
def test_conservation_of_the_embedded_model(shapes, rule):
    for gamma, epsilon in ((0.25, 1e-6), (1, 0), (0.1, 0.25)):
        size = conserved(*shapes, rule=rule, gamma=gamma, epsilon=epsilon)
        # What is not handed on by the rules' own proportions grows without bound.
        assert size[:10].max() < (5 if rule == "gamma" else 200)


@hypothesis.given(
    st.integers(0, 1000), st.sampled_from(["gamma", "epsilon"]), st.sampled_from([*NETWORKS]),
    st.floats(0, 100, width=32), st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip
def test_conservation_of_random_networks(seed, rule, network, gamma, epsilon, black):
    rng = np.random.default_rng(seed)
    images = SIX * (rng.random((3, 6, 6, 1)) >= black).astype(np.float32)
    model = random_classifier(seed, **NETWORKS[network])
    conserved(model, images, [0, 2, 0], rule=rule, gamma=gamma, epsilon=epsilon)


@pytest.fixture(scope="module")
def tiny():
    """A basic ResNet with biases, its images and their targets."""
    return random_classifier(5, pool=True), SIX, np.array([0, 1, 2])


def test_without_biases_the_epsilon_rule_is_gradient_times_normalised_input(tiny):
    _, images, targets = tiny
    model = random_classifier(5, pool=True, biased=False)
    # Folded, so that the ReLUs of both switch at the same outputs.
    expected = attribution.gradient_x_input(
        fold(model), images, targets, baseline=np.asarray(model.mean)
    )
    size = np.abs(expected).max()
    for epsilon, close in ((0, 1e-5), (1e-6, 1e-3)):
        maps = layerwise_relevance(model, images, targets, rule="epsilon", epsilon=epsilon)
        np.testing.assert_allclose(maps, expected, rtol=close, atol=close * size)
    calm = layerwise_relevance(model, images, targets, rule="epsilon", epsilon=0.25)
    assert np.abs(calm - expected).max() > 0.1 * size


def test_with_biases_absorbed_it_is_so_too_and_the_biases_have_the_rest(tiny):
    model, images, targets = tiny
    folded = fold(model)
    maps = layerwise_relevance(
        model, images, targets, rule="epsilon", epsilon=0, bias="absorb"
    )  # fmt: skip
    expected = attribution.gradient_x_input(
        folded, images, targets, baseline=np.asarray(model.mean)
    )
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())

    # A ReLU network is linear around each image, so logit = pixels * slopes + biases * slopes.
    def absorbed(image, target):
        slopes = jax.grad(lambda network: network(image[None])[0, target])(folded)
        layers = [(slopes.stem, folded.stem)]
        for slope, block in zip(slopes.blocks, folded.blocks, strict=True):
            layers += zip(slope.convolutions, block.convolutions, strict=True)
        parts = [(slope.bias * layer.bias).sum() for slope, layer in layers]
        return sum(parts) + (slopes.bias * folded.bias).sum(), folded(image[None])[0, target]

    biases, logits = jax.jit(jax.vmap(absorbed))(images, targets)
    assert np.abs(biases).min() > 0.01
    np.testing.assert_allclose(maps.sum((1, 2, 3)) + biases, logits, rtol=1e-4, atol=1e-4)


def one_neuron(kernel, bias):
    """Return a model of one pixel and one neuron, and the neuron's bias; the head adds nothing."""
    model = random_classifier(0, biased=False, widths=(1,), stem_width=1, stem_kernel=1)
    kernels = {name: kernel * 0 for name, kernel in model.kernels().items()}  # no branch
    kernels["conv1"] = jnp.array(kernel, jnp.float32).reshape(1, 1, 3, 1)
    params = jax.tree.map(lambda leaf: leaf, model.variables["params"])
    params["layers_0"]["ConvBlock_0"]["BatchNorm_0"]["bias"] = jnp.full(1, bias)
    params[model.architecture.dense] = {"kernel": jnp.ones((1, 3)), "bias": jnp.zeros(3)}
    return dataclasses.replace(
        model, mean=jnp.full(3, 0.5), std=jnp.full(3, 0.25),
        variables={**model.variables, "params": params},
    ).replace_kernels(kernels)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "kernel", "bias", "pixel", "shares"),
    [
        # In units of std, 0.75 is 1 from the mean, 3 from black and -1 from white. From the bound
        # at which the output is least, that is 1 * 3, -1 * -1, 2 * 3.
        ("gamma", (1, -1, 2), 0.0, 0.75, (0.3, 0.1, 0.6)),
        ("gamma", (1, -1, 2), 9.0, 0.75, (0.3, 0.1, 0.6)),  # no part is the bias's
        # Black is as low as the output goes: nothing but the bias makes it, in equal parts.
        ("gamma", (1, 1, 2), 99.0, 0.0, (1 / 3, 1 / 3, 1 / 3)),
        ("epsilon", (1, -1, 2), 0.0, 0.75, (0.5, -0.5, 1)),  # 1 * 1, -1 * 1, 2 * 1 of 2
        ("epsilon", (1, -1, 2), 99.0, 0.5, (1 / 3, 1 / 3, 1 / 3)),  # at the mean
    ],
)
def test_one_neuron_by_hand(rule, kernel, bias, pixel, shares):
    model = one_neuron(kernel, bias)
    image = np.full((1, 1, 1, 3), pixel, np.float32)
    logit = float(both(model, image)[1][0, 0])
    assert logit > 0.1
    maps = layerwise_relevance(model, image, [0], rule=rule)
    np.testing.assert_allclose(maps[0, 0, 0], logit * np.array(shares), rtol=1e-5)


def test_gamma_brings_out_what_speaks_for_the_neuron(shapes):
    model, images, targets = shapes
    negative = []
    for gamma in (0.0, 0.25, 10.0):
        maps = np.asarray(layerwise_relevance(model, images, targets, gamma=gamma))[:10]
        negative.append(np.minimum(maps, 0).sum() / maps.sum())
    assert negative[0] < negative[1] < negative[2] < 0


def test_relevance_lies_on_the_object(shapes):
    model, images, targets = shapes
    masks = load_dataset("shapes").per_class(1).masks
    for rule in ("gamma", "epsilon"):
        maps = layerwise_relevance(model, images, targets, rule=rule)[:10]
        positive = np.maximum(np.asarray(maps).sum(-1), 0)
        share = (positive * masks).sum() / positive.sum()
        assert share > 2.5 * masks.mean()


def test_chunks_targets_and_dtype(tiny):
    model, images, targets = tiny
    options = {"rule": "epsilon", "epsilon": 0.1, "bias": "absorb"}
    maps = layerwise_relevance(model, images, targets, **options)
    assert maps.shape == images.shape
    assert maps.dtype == np.float32
    chunked = layerwise_relevance(model, images, list(targets), chunk_size=2, **options)
    np.testing.assert_allclose(chunked, maps, rtol=1e-4, atol=1e-6)
    joined = jax.jit(partial(layerwise_relevance, **options))(model, images, targets)
    np.testing.assert_allclose(joined, maps, rtol=1e-4, atol=1e-6)


def test_new_weights_and_strengths_do_not_compile_anew(tiny, compilations):
    model, images, targets = tiny
    layerwise_relevance(model, images, targets)
    other = random_classifier(6, pool=True)
    jax.block_until_ready(other.variables)
    compilations()
    layerwise_relevance(other, images, targets, gamma=1, epsilon=0.1)
    assert compilations() == 0


def test_what_is_refused(tiny):
    model, images, targets = tiny
    wanted = r"needs the layers in order; give a models.Classifier \(models.from_torchvision builds"
    for other, name in ((fold(model), "Folded"), (lambda images: images, "function"), (3, "int")):
        with refuses(f"{wanted}.*got {name}$"):
            layerwise_relevance(other, images, targets)
    with refuses("rule must be one of gamma, epsilon, got 'z'"):
        layerwise_relevance(model, images, targets, rule="z")
    with refuses("bias must be one of distribute, absorb, got 'keep'"):
        layerwise_relevance(model, images, targets, bias="keep")
    for value in (-0.1, np.nan, np.inf, "1", None, True):
        with refuses("gamma must be a finite number of at least 0, got "):
            layerwise_relevance(model, images, targets, gamma=value)
        with refuses("epsilon must be a finite number of at least 0, got "):
            layerwise_relevance(model, images, targets, epsilon=value)
    with refuses("chunk_size must be an integer of at least 1, got 0"):
        layerwise_relevance(model, images, targets, chunk_size=0)
    with refuses("targets must be classes from 0 to 2, got 3 for image 2"):
        layerwise_relevance(model, images, [0, 0, 3])
    with refuses("model must accept images of shape"):
        layerwise_relevance(model, images[..., :2], targets)


@pytest.mark.parametrize("rule", ["gamma", "epsilon"])
def test_weights_that_are_not_finite(tiny, rule):
    model, images, targets = tiny
    for name in ("conv1", "layer1.0.conv2"):
        # One channel of NaN: the units that it makes are off to every comparison.
        kernel = model.kernels()[name].at[..., 0].set(jnp.nan)
        broken = model.replace_kernels({name: kernel})
        with refuses("layerwise_relevance's answer .* must be finite, got NaN .* for image 0, 1"):
            layerwise_relevance(broken, images, targets, rule=rule)


def test_a_logit_that_is_not_finite_is_seen_though_every_neuron_is_off():
    model = one_neuron((1, -1, 2), -99.0)
    params = dict(model.variables["params"])
    params[model.architecture.dense] = {"kernel": jnp.ones((1, 3)), "bias": jnp.full(3, jnp.nan)}
    model = dataclasses.replace(model, variables={**model.variables, "params": params})
    image = np.full((1, 1, 1, 3), 0.5, np.float32)
    with refuses("layerwise_relevance's answer .* must be finite, got NaN .* for image 0"):
        layerwise_relevance(model, image, [0], bias="absorb")


def test_the_stabilizer_of_small_outputs_is_not_zero():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 4)), jnp.float32)
    rules = _Rules(None, jnp.float32(0.1), True)
    tiny = np.float64(rules.stabiliser(np.float32(1e-22) * outputs))
    np.testing.assert_allclose(tiny, 1e-22 * np.float64(rules.stabiliser(outputs)), rtol=1e-5)
