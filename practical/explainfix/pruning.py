"""Taking filters that do not matter out of a network, and the channels that are left without any.

`filter_saliency` says how much each spatial filter matters, `zero_filters` sets some of them to 0,
and `channels.remove_channels` makes the network smaller by the channels that no filter writes or
none reads. `channel_prune` is the three in a row. None changes the network that it is given.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from practical._arguments import is_traced
from practical._chunks import fold_pairs
from practical._inputs import ArrayLike, check_count, check_images, check_inputs
from practical._jit import jit
from practical._keys import generator, one_key
from practical.explainfix.channels import (
    Pruned,
    empty_filters,
    idle_filters,
    keep,
    remove_channels,
)
from practical.explainfix.fixed import draw_kaiming
from practical.explainfix.kernels import dct_basis
from practical.explainfix.slopes import (
    check_per,
    kernel_slopes,
    over_minibatches,
    spatial_kernels,
)
from practical.explainfix.spectra import diagonal_order
from practical.models import Classifier

FIRST = ("least_salient", "most_salient", "random")
FILLS = ("none", "reset", "fill_zero")
Saliency = Mapping[str, Real[ArrayLike, "i o"]]  # layer: a value for each filter


def filter_saliency(
    model: Any,
    images: Float[ArrayLike, "b h w c"],
    targets: Any,
    *,
    per: str = "image",
    batch_size: int | None = None,
    chunk_size: int = 8,
) -> dict[str, Float[Array, "i o"]]:
    """Return how much each spatial filter matters to the target's logit.

    The saliency of a filter is the sum over its values of |value * derivative of the logit|.

    Args:
        model: A `models.Classifier`, or a pytree with its `kernels()` and `replace_kernels()`.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) class indices.
        per: "image", the mean of the images' saliencies, whatever their order and number; or
            "minibatch", as the authors' code has it: the derivatives of `batch_size` images are
            added up before the magnitude is taken, and the minibatches' saliencies are added up.
        batch_size: Images a minibatch; needed for "minibatch", and only there.
        chunk_size: Images in flight, each with a gradient as large as the network.

    Returns:
        For each spatial convolution (I, O): at least 0, in the logit's units.

    Raises:
        ValueError: If an argument breaks its rule, the model has no convolution larger than 1x1, or
            a kernel or a gradient is not finite.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.4.
    """
    check_per(per, batch_size)
    check_count("chunk_size", chunk_size)
    kernels = spatial_kernels(model)
    inputs = check_inputs(model, images, targets)
    if batch_size is None:
        scores = _image_saliency(*inputs, chunk_size=chunk_size)
    else:
        parts = over_minibatches(_minibatch_saliency, inputs, batch_size)
        scores = jax.tree.map(lambda *part: jnp.stack(part).sum(0), *parts)
    _check_saliency(kernels, scores)
    return {name: scores[name] for name in kernels}  # a compiled function sorts them


def filter_norms(model: Any) -> dict[str, Float[Array, "i o"]]:
    """Return the length of each spatial filter: a control for saliency that asks no image.

    Raises:
        ValueError: If the model has no convolution larger than 1x1, or a kernel is not finite.
    """
    kernels = spatial_kernels(model)
    # In float64, where squares of 1e-22 are not 0.
    squares = {name: np.asarray(kernel, np.float64) ** 2 for name, kernel in kernels.items()}
    return {n: jnp.asarray(np.sqrt(s.sum((0, 1))), jnp.float32) for n, s in squares.items()}


def zero_filters(
    model: Classifier,
    saliency: Saliency,
    percent: float,
    *,
    first: str = "least_salient",
    key: Array | None = None,
) -> Classifier:
    """Return a classifier with some of its spatial filters set to 0.

    Args:
        model: Is left as it is.
        saliency: `filter_saliency` of this model, or any finite values of its shapes.
        percent: Of all spatial filters of the network, in [0, 100]; rounded down to whole filters.
        first: "least_salient", "most_salient", or "random". Of equals, those nearer to the input
            go first.
        key: Decides what is random; by default `jax.random.key(0)`.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    kernels = spatial_kernels(model)
    ranks = _ranks(_check_saliency(kernels, saliency), first, key)
    dead = _dead(ranks, _count(ranks, percent))
    return model.replace_kernels(
        {name: np.where(dead[name], 0, np.asarray(kernel)) for name, kernel in kernels.items()}
    )


def zero_frequencies(
    model: Classifier, frequencies: Sequence[int], *, shape: tuple[int, int] = (3, 3)
) -> Classifier:
    """Return a classifier whose filters of one shape have no energy at some DCT basis filters.

    What the network then gets wrong, it needs these frequencies for.

    Args:
        model: Is left as it is.
        frequencies: Numbers of basis filters in `diagonal_order`; 0 is the constant one.
        shape: Rows and columns of the filters that are changed, in every layer that has such.

    Raises:
        ValueError: If a number is no basis filter's, or no layer has filters of `shape`.
    """
    rows, columns = shape
    chosen = [check_count("frequencies", number, least=0) for number in frequencies]
    if max(chosen, default=0) >= rows * columns:
        raise ValueError(
            f"frequencies must be from 0 to {rows * columns - 1}, the basis filters of "
            f"{rows}x{columns}, got {max(chosen)}"
        )
    kernels = {n: k for n, k in spatial_kernels(model).items() if k.shape[:2] == (rows, columns)}
    if not kernels:
        raise ValueError(f"shape must be that of some layer's filters, got {rows}x{columns}")
    # A number that is given twice would be taken out twice: its sign would change.
    order = diagonal_order((rows, columns))[sorted(set(chosen))]
    basis = np.asarray(dct_basis((rows, columns)), np.float64)[order]
    smaller = {}
    for name, kernel in kernels.items():
        weights = np.einsum("hwio,khw->kio", np.asarray(kernel, np.float64), basis)
        smaller[name] = kernel - np.einsum("kio,khw->hwio", weights, basis).astype(np.float32)
    return model.replace_kernels(smaller)


def channel_prune(
    model: Classifier,
    images: Float[ArrayLike, "b h w c"],
    targets: Any,
    percent: float,
    *,
    fill: str = "none",
    key: Array | None = None,
    saliency: Saliency | None = None,
    per: str = "image",
    batch_size: int | None = None,
    chunk_size: int = 8,
) -> Pruned:
    """Return a smaller classifier: the least salient filters go, and the channels that they leave.

    See `filter_saliency` for the saliency and its arguments, and `remove_channels` for what goes.

    Args:
        model: Is left as it is.
        images: (B, H, W, C) in [0, 1]: what saliency is measured on.
        targets: (B,) class indices.
        percent: Of all spatial filters, in [0, 100].
        fill: What becomes of the zeroed filters in the channels that stay. "none" leaves them at
            0. "reset" gives them the values that they had in `model`, except where all filters of
            an output channel, or of an input channel, of their layer were zeroed. "fill_zero"
            draws them as a new network's (`draw_kaiming`), and draws the zeros of a filter that is
            not all 0 from a normal distribution with that filter's mean and standard deviation.
        key: Decides the draws of "fill_zero"; by default `jax.random.key(0)`.
        saliency: `filter_saliency`, if it is known already; the images then tell their size alone.
        per: As for `filter_saliency`.
        batch_size: As for `filter_saliency`.
        chunk_size: As for `filter_saliency`.

    Raises:
        ValueError: If an argument breaks its rule, or `percent` leaves a layer without channels;
            the message says the largest that does not.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.4.
    """
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")
    key = one_key(key)
    images = check_images(images)
    if saliency is None:
        saliency = filter_saliency(
            model, images, targets, per=per, batch_size=batch_size, chunk_size=chunk_size
        )
    _count(saliency, percent)
    most = largest_percent(model, saliency)
    if percent > most:
        raise ValueError(
            f"percent must leave every layer a channel, got {percent!r}; the largest that does for "
            f"this model and these images is {most!r}"
        )
    zeroed = zero_filters(model, saliency, percent)
    height, width, channels = images.shape[1:]
    filled = _restore(model, zeroed) if fill == "reset" else zeroed
    pruned = remove_channels(filled, image_shape=(height, width, channels))
    smaller = _fill_zero(pruned.model, key) if fill == "fill_zero" else pruned.model
    return pruned._replace(model=smaller, zeroed=zeroed)


def largest_percent(
    model: Classifier,
    saliency: Saliency,
    *,
    first: str = "least_salient",
    key: Array | None = None,
) -> float:
    """Return the largest percent of filters, to 0.01, whose loss leaves every layer a channel.

    Filters that are 0 already count among the lost, wherever `saliency` ranks them.
    """
    kernels = spatial_kernels(model)
    ranks = _ranks(_check_saliency(kernels, saliency), first, key)
    empty = empty_filters(model)

    def works(percent: int) -> bool:
        dead = _dead(ranks, _count(ranks, percent / 100))
        dead = {name: lost | empty[name] for name, lost in dead.items()}
        return all(channels.size for channels in keep(model.architecture, dead).values())

    low, high = 0, 100_00  # hundredths of a percent: the one works, the other does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low / 100


def _image_saliency_core(model, images, targets, *, chunk_size):
    def one(image, target):
        return _scores(*kernel_slopes(model, image[None], target[None]))

    def visit(total, i, _, live):
        some = jax.vmap(one)(images[i], targets[i])
        return jax.tree.map(lambda t, s: t + jnp.tensordot(live.astype(s.dtype), s, 1), total, some)

    kernels = spatial_kernels(model)
    zeros = {name: jnp.zeros(kernel.shape[2:]) for name, kernel in kernels.items()}
    total = fold_pairs(visit, zeros, len(images), 1, chunk_size)
    return jax.tree.map(lambda score: score / len(images), total)


def _minibatch_saliency_core(model, images, targets):
    return _scores(*kernel_slopes(model, images, targets))


def _scores(kernels, slopes):
    return {name: jnp.abs(kernel * slopes[name]).sum((0, 1)) for name, kernel in kernels.items()}


_image_saliency = jit(_image_saliency_core, static_argnames=["chunk_size"])
_minibatch_saliency = jit(_minibatch_saliency_core)


def _check_saliency(kernels: Mapping[str, Array], saliency: Saliency) -> Saliency:
    """Return the saliency, its layers in the network's order, or say what is wrong with it."""
    if set(saliency) != set(kernels):
        raise ValueError(
            f"saliency must be of the model's spatial layers, {', '.join(kernels)}; got "
            f"{', '.join(saliency) or 'none'}"
        )
    for name, kernel in kernels.items():
        if np.shape(saliency[name]) != kernel.shape[2:]:
            raise ValueError(
                f"saliency[{name!r}] must have a value for each filter, shape {kernel.shape[2:]} "
                f"(in, out), got {np.shape(saliency[name])}"
            )
        if not is_traced(saliency[name]) and not np.isfinite(np.asarray(saliency[name])).all():
            raise ValueError(f"saliency[{name!r}] must be finite, got NaN or infinity")
    return {name: saliency[name] for name in kernels}


def _ranks(saliency: Saliency, first: str, key: Array | None) -> dict[str, np.ndarray]:
    """Return for each filter its place in the order in which they go."""
    if first not in FIRST:
        raise ValueError(f"first must be one of {', '.join(FIRST)}, got {first!r}")
    # Outputs before inputs, as the authors' layout has it: it decides between equals.
    flat = np.concatenate([np.asarray(scores).T.ravel() for scores in saliency.values()])
    flat = flat.astype(np.float64)  # unsigned integers cannot be negated
    if first == "random":
        order = generator(key).permutation(flat.size)
    else:
        order = np.argsort(flat if first == "least_salient" else -flat, kind="stable")
    places = np.argsort(order)  # the inverse of a permutation
    ends = np.cumsum([np.size(scores) for scores in saliency.values()])[:-1]
    return {
        name: part.reshape(np.shape(scores)[::-1]).T
        for part, (name, scores) in zip(np.split(places, ends), saliency.items(), strict=True)
    }


def _count(filters: Mapping[str, Any], percent: float) -> int:
    """Return how many filters a percentage of them is."""
    number = isinstance(percent, numbers.Real) and not isinstance(percent, bool | np.bool_)
    if not number or not 0 <= percent <= 100:
        raise ValueError(f"percent must be a number in [0, 100], got {percent!r}")
    total = sum(np.size(values) for values in filters.values())
    # 29 percent of 100 are 29, and not the 28 that 0.29 * 100 would be rounded down to.
    return math.floor(float(percent) * total / 100 + 1e-9)


def _dead(ranks: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: places < count for name, places in ranks.items()}


def _restore(model: Classifier, zeroed: Classifier) -> Classifier:
    """Return `zeroed` with `model`'s filters back, except those of idle channels."""
    kernels = spatial_kernels(model)
    return model.replace_kernels(
        {
            name: np.where(idle, 0, np.asarray(kernels[name]))
            for name, idle in idle_filters(zeroed).items()
        }
    )


def _fill_zero(model: Classifier, key: Array) -> Classifier:
    drawn = {}
    for number, (name, kernel) in enumerate(spatial_kernels(model).items()):
        rng, old = generator(jax.random.fold_in(key, number)), np.asarray(kernel)
        new = draw_kaiming(rng, old.shape)
        similar = rng.normal(old.mean((0, 1)), old.std((0, 1), ddof=1), old.shape)
        empty = (old == 0).all((0, 1))
        drawn[name] = np.where(old != 0, old, np.where(empty, new, similar))
    return model.replace_kernels(drawn)
