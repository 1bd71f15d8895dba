"""Layer-wise relevance propagation: the target logit, handed back from layer to layer."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from practical._arguments import as_model
from practical._chunks import map_images
from practical._inputs import (
    ChunkSize,
    Images,
    Targets,
    check_answer,
    check_chunk_size,
    check_inputs,
)
from practical._jit import jit
from practical.attribution.gradients import norm
from practical.models.classifier import Classifier
from practical.models.folded import POOL, Block, Convolution, Folded, Window, fold
from practical.models.pooling import max_pool

_RULES = ("gamma", "epsilon")
_BIASES = ("distribute", "absorb")


def layerwise_relevance(
    model: Classifier,
    images: Images,
    targets: Targets,
    *,
    rule: str = "gamma",
    gamma: float = 0.25,
    epsilon: float = 1e-6,
    bias: str = "distribute",
    chunk_size: ChunkSize = 32,
) -> Float[Array, "batch height width channels"]:
    """Hand each image's target logit back through the layers, to each input by its contribution.

    An image's relevance sums to its logit (conservation), so what biases contribute, batch norms'
    included, is handed on as well: it goes to the inputs in a neuron's window in proportion to
    their activation, so that, as by the rules, a neuron that is off gets nothing; and equally,
    padding left out, to the pixels and where all inputs are off. The stabiliser's part goes the
    same way. The box rule takes no bias in: a pixel's distance from its bound is at least 0, and
    the distances share out all of a neuron's relevance.

    Args:
        model: A `models.Classifier`; no other model says which layers it has, in order.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        rule: "gamma" favours, in convolutions and sums, what has the sign of the neuron's output;
            the pixels get the box rule (bounds 0 and 1), the head the epsilon rule. "epsilon" is
            that rule in all layers: biases aside, the gradient times the normalised image.
        gamma: How much more the favoured counts; 0 favours nothing. Rule "epsilon" ignores it.
        epsilon: Added to the size of an output before dividing by it, relative to the root mean
            square of its layer's outputs in that image. 1e-6 is there for the rounding alone;
            rule "epsilon" gets calmer with 0.1 or 0.25.
        bias: "distribute", as above; or "absorb" to leave out what biases and stabiliser
            contribute, as is common, and fall short of the logit by as much.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W, C), signed, in logits.

    Raises:
        ValueError: If the model is no `Classifier`, an argument breaks its rule, or the model
            answers NaN.

    References:
        Bach et al., On Pixel-Wise Explanations by Layer-Wise Relevance Propagation, PLOS ONE 2015;
        Montavon et al., Layer-Wise Relevance Propagation: An Overview, 2019; for biases, Arras et
        al., Explaining Recurrent Neural Network Predictions in Sentiment Analysis, WASSA 2017,
        who give equal parts to all inputs.
    """
    if not isinstance(model, Classifier):
        raise ValueError(
            "layerwise_relevance needs the layers in order; give a models.Classifier "
            "(models.from_torchvision builds one from a ResNet's state dict), "
            f"got {type(model).__name__}"
        )
    if rule not in _RULES:
        raise ValueError(f"rule must be one of {', '.join(_RULES)}, got {rule!r}")
    if bias not in _BIASES:
        raise ValueError(f"bias must be one of {', '.join(_BIASES)}, got {bias!r}")
    strengths = _not_negative("gamma", gamma), _not_negative("epsilon", epsilon)
    inputs = check_inputs(model, images, targets)
    chunk_size = check_chunk_size(chunk_size)
    answer = _layerwise_relevance(
        *inputs, *strengths, rule=rule, distribute=bias == "distribute", chunk_size=chunk_size
    )
    return check_answer(answer, "layerwise_relevance")


def _not_negative(name: str, value: float) -> float:
    number = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not number or not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    return float(value)


class _Relevance(NamedTuple):
    """What has reached the maps of one layer.

    Nearly all of it is in proportion to the maps, `slopes * maps`, and the factor alone is kept:
    so nothing is ever divided by an activation near 0. (Equal parts of the biases for all inputs
    are not in proportion: in the embedded model, the epsilon rule then made them 1e5 times the
    logit.) What is left is `glow`: what came to windows whose inputs are all off. It lies equally
    on all channels of a place, goes on in equal parts, and is given here as the channels' sum.
    """

    slopes: Float[Array, "b h w c"]
    glow: Float[Array, "b h w"] | float  # 0 where biases absorb


class _Rules(NamedTuple):
    """How the relevance of a neuron is shared out."""

    gamma: Float[Array, ""] | None  # None: neither gamma nor box rule
    epsilon: Float[Array, ""]
    distribute: bool  # what biases and stabiliser contribute, or leave it out

    def stabiliser(self, outputs: Array) -> Array:
        """Return what is added to `outputs` before dividing: of their sign, so they only grow."""
        axes = tuple(range(1, outputs.ndim))
        scale = norm(outputs, axes) / math.sqrt(outputs[0].size)
        return self.epsilon * scale * jnp.where(outputs < 0, -1.0, 1.0)


def _layerwise_relevance_core(
    model, images, targets, gamma, epsilon, *, rule, distribute, chunk_size
):  # fmt: skip
    network = fold(as_model(model))
    rules = _Rules(gamma if rule == "gamma" else None, epsilon, distribute)

    def one(images, targets):
        logits, relevance = _propagate(network, images, targets, rules)
        # Neurons that are off take no slopes, not even those of a NaN logit.
        return jnp.where(jnp.isfinite(logits)[:, None, None, None], relevance, jnp.nan)

    return map_images(one, chunk_size, images, targets)


def _propagate(
    network: Folded, images: Array, targets: Array, rules: _Rules
) -> tuple[Array, Array]:
    """Return the target logits and the relevance of the pixels."""
    first = network.stem(network.normalise(images))
    stem = jax.nn.relu(first)
    maps = [max_pool(stem) if network.pool else stem]
    for block in network.blocks:
        maps.append(block(maps[-1]))
    logits, relevance = _through_head(network, maps.pop(), targets, rules)
    for block in reversed(network.blocks):
        relevance = _through_block(block, maps.pop(), relevance, rules)
    if network.pool:  # the winner takes all
        glow = _spread(relevance.glow, POOL, stem) if rules.distribute else 0.0
        relevance = _Relevance(_transposed(max_pool, stem, relevance.slopes), glow)
    through = _through_stem if rules.gamma is None else _through_box
    return logits, through(network, images, first, relevance, rules)


def _through_head(
    network: Folded, maps: Array, targets: Array, rules: _Rules
) -> tuple[Array, _Relevance]:
    """Return the target logits and the relevance of the last maps.

    Average pool and dense layer are one linear layer, and the epsilon rule is for that.
    """
    outputs = maps.mean((1, 2)) @ network.kernel + network.bias
    rows = jnp.arange(len(targets))
    logits, stabiliser = outputs[rows, targets], rules.stabiliser(outputs)[rows, targets]
    share = _divide(logits, logits + stabiliser)
    places = maps.shape[1] * maps.shape[2]
    slopes, glow = share[:, None] * network.kernel.T[targets] / places, 0.0
    if rules.distribute:
        kept = share * (network.bias[targets] + stabiliser)
        activity = maps.sum((1, 2, 3))
        slopes += _divide(kept, activity)[:, None]
        glow = jnp.where(activity == 0, kept, 0) / places
        glow = jnp.broadcast_to(glow[:, None, None], maps.shape[:3])
    return logits, _Relevance(jnp.broadcast_to(slopes[:, None, None], maps.shape), glow)


def _through_block(block: Block, maps: Array, relevance: _Relevance, rules: _Rules) -> _Relevance:
    inputs, outputs = [maps], []  # XLA computes none of it a second time
    for convolution in block.convolutions:
        outputs.append(convolution(inputs[-1]))
        inputs.append(jax.nn.relu(outputs[-1]))
    branch = outputs[-1]
    skip = maps if block.downsample is None else block.downsample(maps)
    to_branch, to_skip = _through_sum(branch, skip, relevance, rules)
    for convolution, below, above in zip(
        block.convolutions[::-1], inputs[-2::-1], outputs[::-1], strict=True
    ):
        # After the last convolution there is no ReLU, so its outputs below 0 count, too.
        signed = above is branch
        to_branch = _through_convolution(convolution, below, above, to_branch, rules, signed)
    if block.downsample is not None:
        to_skip = _through_convolution(block.downsample, maps, skip, to_skip, rules, True)
    return _Relevance(to_branch.slopes + to_skip.slopes, to_branch.glow + to_skip.glow)


def _through_sum(
    branch: Array, skip: Array, relevance: _Relevance, rules: _Rules
) -> tuple[_Relevance, _Relevance]:
    """Return the relevance of both summands of `relu(branch + skip)`."""
    total = branch + skip
    stabiliser = rules.stabiliser(total)
    gamma = 0 if rules.gamma is None else rules.gamma
    # Only sums above 0 pass the ReLU, so the summands above 0 are favoured.
    favoured = gamma * (jax.nn.relu(branch) + jax.nn.relu(skip))
    scale = _divide(total, total + favoured + stabiliser)
    slopes = jnp.where(total > 0, relevance.slopes * scale, 0)

    def of(summand):
        own = slopes * (1 + gamma * (summand > 0))
        if rules.distribute:
            even = _divide(slopes * stabiliser, jnp.abs(branch) + jnp.abs(skip))
            own += even * jnp.sign(summand)
        return _Relevance(own, relevance.glow / 2)

    return of(branch), of(skip)


def _through_convolution(
    layer: Convolution,
    maps: Array,
    outputs: Array,
    relevance: _Relevance,
    rules: _Rules,
    signed: bool,
) -> _Relevance:
    """Return the relevance of a convolution's inputs, all of which are at least 0."""
    back, kept = _share_out(layer, maps, outputs, relevance.slopes, rules, signed)
    if not rules.distribute:
        return _Relevance(back, 0.0)
    sums, groups = _sums(layer.window), layer.groups

    def by_group(values):
        return values.reshape(*values.shape[:3], groups, -1).sum(-1)

    activity, kept = sums(by_group(maps)), by_group(kept)
    glow = relevance.glow + jnp.where(activity == 0, kept, 0).sum(-1)
    even = _divide(kept, activity), (glow / layer.window.places(*maps.shape[1:3]))[..., None]
    like = jnp.broadcast_to(maps[..., :1], (*maps.shape[:3], groups + 1))
    even = _transposed(sums, like, jnp.concatenate(even, -1))
    in_proportion = jnp.repeat(even[..., :-1], maps.shape[-1] // groups, axis=-1)
    return _Relevance(back + in_proportion, even[..., -1])


def _share_out(
    layer: Convolution, maps: Array, outputs: Array, slopes: Array, rules: _Rules, signed: bool
) -> tuple[Array, Array]:
    """Return the slopes of a convolution's inputs, and what its biases and stabiliser kept."""
    slopes = slopes if signed else jnp.where(outputs > 0, slopes, 0)
    stabiliser = rules.stabiliser(outputs)
    if rules.gamma is None:
        slopes *= _divide(outputs, outputs + stabiliser)
        back = _transposed(layer, maps, slopes)
        return back, slopes * (layer.bias + stabiliser)
    above, below = _parts(layer.kernel)
    bias_above, bias_below = _parts(layer.bias)
    upper = layer.apply(maps, above) + bias_above  # what is above 0 in each output
    # Favoured is what has the output's own sign, so that the denominators only grow.
    favoured = jnp.where(outputs > 0, upper, jnp.minimum(outputs - upper, 0))
    slopes *= _divide(outputs, outputs + rules.gamma * favoured + stabiliser)

    def through(kernel, slopes):
        kernel = layer.kernel + rules.gamma * kernel
        return _transposed(lambda maps: layer.apply(maps, kernel), maps, slopes)

    back = through(above, jnp.where(outputs > 0, slopes, 0))
    if signed:
        back += through(below, jnp.where(outputs > 0, 0, slopes))
    bias = layer.bias + rules.gamma * jnp.where(outputs > 0, bias_above, bias_below)
    return back, slopes * (bias + stabiliser)


def _through_stem(
    network: Folded, images: Array, outputs: Array, relevance: _Relevance, rules: _Rules
) -> Array:
    """Return the pixels' relevance by the epsilon rule; the biases' part lies equally on them."""
    layer, maps = network.stem, network.normalise(images)
    slopes, kept = _share_out(layer, maps, outputs, relevance.slopes, rules, signed=False)
    if not rules.distribute:
        return maps * slopes
    glow = _spread(relevance.glow + kept.sum(-1), layer.window, maps)
    return maps * slopes + glow[..., None] / maps.shape[-1]


def _through_box(
    network: Folded, images: Array, outputs: Array, relevance: _Relevance, rules: _Rules
) -> Array:
    """Return the pixels' relevance by the box rule.

    A pixel contributes by how far it is from the bound at which the output would be least, so
    never below 0, and the contributions share out all of a neuron's relevance.
    """
    layer = network.stem
    low, high = images / network.std, (images - 1) / network.std
    above, below = _parts(layer.kernel)
    distances = layer.apply(low, above) + layer.apply(high, below)
    arrived = jax.nn.relu(outputs) * relevance.slopes
    stabiliser = rules.stabiliser(distances)
    slopes = _divide(arrived, distances + stabiliser)
    pixels = low * _transposed(lambda maps: layer.apply(maps, above), low, slopes)
    pixels += high * _transposed(lambda maps: layer.apply(maps, below), high, slopes)
    if not rules.distribute:
        return pixels
    kept = jnp.where(distances > 0, slopes * stabiliser, arrived)
    glow = _spread(relevance.glow + kept.sum(-1), layer.window, images)
    return pixels + glow[..., None] / images.shape[-1]


def _parts(weights: Array) -> tuple[Array, Array]:
    """Return the weights above 0, and those below."""
    return jnp.maximum(weights, 0), jnp.minimum(weights, 0)


def _spread(glow: Array | float, window: Window, maps: Array) -> Array:
    """Return the glow of windows over `maps`, in equal parts at the places that each has."""
    even = jnp.asarray(glow) / window.places(*maps.shape[1:3])
    return _transposed(_sums(window), maps[..., :1], even[..., None])[..., 0]


def _sums(window: Window) -> Callable[[Array], Array]:
    """Return the function that sums maps over each window."""
    return lambda maps: window.reduce(maps, 0.0, lax.add)


def _transposed(function: Callable[[Array], Array], maps: Array, slopes: Array) -> Array:
    """Return, for each of `maps`, the sum of `slopes` weighted by what `function` makes of it."""
    return jax.vjp(function, maps)[1](slopes)[0]


def _divide(numerators: Array, denominators: Array) -> Array:
    """Return the quotients, and 0 where there is nothing to divide by."""
    empty = denominators == 0
    return jnp.where(empty, 0, numerators / jnp.where(empty, 1, denominators))


_layerwise_relevance = jit(
    _layerwise_relevance_core, static_argnames=["rule", "distribute", "chunk_size"],
    per_image=["images", "targets"],
)  # fmt: skip
