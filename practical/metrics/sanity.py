"""Does an explanation depend on what the network has learned? Take that away, and look again."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import rankdata

from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_chunk_size,
    check_finite,
    check_inputs,
)
from practical._keys import generator, one_key
from practical.models.classifier import Classifier

MODES = ("cascading", "independent")
_WINDOW = 7  # pixels a side in which SSIM compares; smaller images have a smaller one


class Similarity(NamedTuple):
    """How alike an image's two maps are: 1 for the same map."""

    rank_correlation: Float[Array, " batch"]  # Spearman's, from -1 to 1
    ssim: Float[Array, " batch"]  # structural similarity, from -1 to 1


class Randomization(NamedTuple):
    """How alike an image's map is before and after layers were randomised: 1 for the same map."""

    layers: tuple[str, ...]  # in the order of the rows, from the model's top
    rank_correlation: Float[Array, "layers batch"]  # Spearman's, from -1 to 1
    ssim: Float[Array, "layers batch"]  # structural similarity, from -1 to 1

    @property
    def final(self) -> Float[Array, " batch"]:
        """Rank correlation in the last row: in cascading mode, with all layers randomised."""
        return self.rank_correlation[-1]


Layers = Mapping[str, Callable[[Any, Array], Any]]


def parameter_randomization(
    model: Model,
    images: Images,
    targets: Targets,
    method: Callable,
    *,
    layers: Layers | None = None,
    mode: str = "cascading",
    absolute: bool = True,
    key: Array | None = None,
    chunk_size: ChunkSize = 32,
) -> Randomization:
    """Return how alike maps are before and after layers of the model are randomised; low is good.

    The rows are the randomised models alone; that the trained one agrees with itself is not among
    them. Nothing is compiled for them: they have the trained model's structure.

    Args:
        model: Images in [0, 1] to logits; it stays as it is.
        images: (B, H, W, C) in [0, 1], at least 3 pixels a side.
        targets: (B,) the class to explain in each image, before and after.
        method: Any explanation, `method(model, images, targets)`, such as
            `attribution.guided_backprop`; options through `functools.partial`.
        layers: A name, and a function `(model, key) -> model` that randomises that layer, for
            each layer from the top (what is nearest to the logits) down; `permute_entries` does
            the work. By default `classifier_layers(model)`, which a `models.Classifier` has.
        mode: "cascading" randomises one layer more in each row; "independent" that layer alone.
        absolute: Compare magnitudes, summed over the channels, as the paper's pictures show them:
            a map that has only changed its sign points at the same pixels, and methods with and
            without signs are asked the same. False, which the paper reports as well, compares the
            sums over the channels with their signs; trust the rank correlation then, as SSIM, a
            product, may find a map and its negative alike.
        key: Decides the random weights; by default `jax.random.key(0)`. A layer's are the same in
            both modes.
        chunk_size: Passed on to `method`, if it takes one.

    Returns:
        Similarity to the trained model's maps, a row a layer and a column an image. A map that is
        constant has no order: its rank correlation is 0, even with itself. For SSIM each map is
        divided by its own largest magnitude; windows are 7x7 pixels, less in smaller images.

    Raises:
        ValueError: If an argument breaks its rule, `model` is no `Classifier` and `layers` is
            None, or an explanation is not finite.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3.
    """
    _check_sides(check_inputs(model, images, targets).images)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    layers = _check_layers(classifier_layers(model) if layers is None else layers)
    key = one_key(key)
    explain = partial(_explain, method, images, targets, absolute, chunk_size)
    trained = explain(model, "the model")
    rows, changed = [], model
    for i, (name, randomize) in enumerate(layers.items()):
        before = model if mode == "independent" else changed
        changed = randomize(before, jax.random.fold_in(key, i))
        _check_changed(name, before, changed)
        maps = explain(changed, f"the model with {name} randomised")
        rows.append(_similarity(trained, maps, absolute))
    correlations, ssims = (np.stack(values) for values in zip(*rows, strict=True))
    return Randomization(tuple(layers), _float(correlations), _float(ssims))


def label_randomization(
    model: Model,
    images: Images,
    targets: Targets,
    method: Callable,
    shuffled: Model,
    *,
    absolute: bool = True,
    chunk_size: ChunkSize = 32,
) -> Similarity:
    """Return how alike a model's maps and those of one trained on shuffled labels are; low is good.

    What that one has learned says nothing of the classes, so an explanation that stays the same
    says nothing of them, either. `models.load_model("shapes-shuffled")` is one for the shapes;
    `python -m practical.training --shuffle-labels` trains others.

    Args:
        model: Images in [0, 1] to logits, trained on the labels.
        images: (B, H, W, C) in [0, 1], at least 3 pixels a side.
        targets: (B,) the class to explain in each image, for both models.
        method: Any explanation, `method(model, images, targets)`; options through
            `functools.partial`.
        shuffled: Images to as many logits, trained on permuted labels.
        absolute: Compare magnitudes, summed over the channels; False compares the sums with
            their signs. See `parameter_randomization`.
        chunk_size: Passed on to `method`, if it takes one.

    Returns:
        Similarity, one of each kind an image; see `parameter_randomization`.

    Raises:
        ValueError: If an argument breaks its rule, the models differ in their number of classes,
            or an explanation is not finite.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 4.
    """
    inputs = check_inputs(model, images, targets)
    _check_sides(inputs.images)
    try:
        other = check_inputs(shuffled, images, targets)
    except (TypeError, ValueError) as error:
        raise type(error)(f"shuffled must take what model takes: {error}") from error
    classes = [jax.eval_shape(one, inputs.images).shape[1] for one in (inputs.model, other.model)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"shuffled must answer for as many classes as model, {classes[0]}, got {classes[1]}"
        )
    explain = partial(_explain, method, images, targets, absolute, chunk_size)
    correlation, ssim = _similarity(
        explain(model, "the model"), explain(shuffled, "the shuffled model"), absolute
    )
    return Similarity(_float(correlation), _float(ssim))


def classifier_layers(model: Model) -> dict[str, Callable[[Classifier, Array], Classifier]]:
    """Return what randomises each layer of a `models.Classifier`, from the dense one to the stem.

    Names are torchvision's, a convolution's standing for its batch norm as well. Each of a layer's
    arrays is permuted (`permute_entries`). Adebayo et al. initialise it anew, but weights do not
    tell by what, and the usual way for a ResNet ends each block in a batch norm of scale 0: the
    block is off, and what is done to its other layers does nothing. Permuting takes away what was
    learned, the arrangement, and leaves each array its distribution, so that activations neither
    vanish nor explode.

    Args:
        model: A `models.Classifier`.

    Raises:
        ValueError: If it is anything else.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3.
    """
    if not isinstance(model, Classifier):
        raise ValueError(
            "layers must be given for a model that is no models.Classifier, from the top down: "
            "layers={'dense': lambda model, key: <model with that layer randomised>, ...}, where "
            f"metrics.permute_entries randomises a layer's arrays; got {type(model).__name__}"
        )
    places: dict[str, tuple[str, ...]] = {"fc": (model.architecture.dense,)}
    for name, _, place in reversed(list(model.architecture.convolutions())):
        places[name] = place
    return {name: partial(_permute_at, place) for name, place in places.items()}


def permute_entries(tree: Any, *, key: Array | None = None) -> Any:
    """Return `tree` with the entries of each of its arrays in a random order.

    Args:
        tree: A model or a part of one. Arrays of floating-point numbers are permuted, each by a
            permutation of its own; everything else stays.
        key: Decides the orders; by default `jax.random.key(0)`.

    Raises:
        ValueError: If `key` is not one typed key of JAX's.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, which initialises anew.
    """
    # On the host: jax.random.permutation would compile a program for every shape of a network.
    rng = generator(key)

    def permute(leaf):
        if not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        permuted = rng.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape)
        return permuted if isinstance(leaf, np.ndarray) else jnp.asarray(permuted)

    return jax.tree.map(permute, tree)


def _permute_at(place: tuple[str, ...], model: Classifier, key: Array) -> Classifier:
    """Permute what all of the model's collections have at `place`."""
    parts = {collection: _get(tree, place) for collection, tree in model.variables.items()}
    variables = dict(model.variables)
    for collection, part in permute_entries(parts, key=key).items():
        if part is not None:
            variables[collection] = _put(variables[collection], place, part)
    return dataclasses.replace(model, variables=variables)


def _get(tree: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        if name not in tree:  # the dense layer has no batch statistics
            return None
        tree = tree[name]
    return tree


def _put(tree: Mapping[str, Any], place: tuple[str, ...], part: Any) -> Any:
    if not place:
        return part
    return {**tree, place[0]: _put(tree[place[0]], place[1:], part)}


def _explain(method, images, targets, absolute, chunk_size, model, whose) -> np.ndarray:
    """Return a map an image, in double precision."""
    options = {"chunk_size": check_chunk_size(chunk_size)} if takes_chunk_size(method) else {}
    maps = np.asarray(method(model, images, targets, **options))
    shape = np.shape(images)
    if maps.ndim not in (3, 4) or maps.shape[:3] != shape[:3]:
        raise ValueError(
            f"method must return one map for each image, shape {shape[:3]} or {(*shape[:3], 'C')}, "
            f"got {maps.shape}"
        )
    check_finite(maps, f"the explanation of {whose}")
    maps = maps.astype(np.float64)
    maps = np.abs(maps) if absolute else maps
    return maps if maps.ndim == 3 else maps.sum(-1)


def takes_chunk_size(method: Callable) -> bool:
    """Return whether `method` has a chunk_size that nobody has set yet."""
    given = getattr(method, "keywords", {})  # of a functools.partial
    return "chunk_size" in inspect.signature(method).parameters and "chunk_size" not in given


def _similarity(one: np.ndarray, two: np.ndarray, absolute: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank correlation and the SSIM of each pair of maps."""
    from skimage.metrics import structural_similarity

    # Equal values share their mean rank; the mean of all ranks of n pixels is (n + 1) / 2.
    first, second = (
        rankdata(maps.reshape(len(maps), -1), axis=1) - (maps[0].size + 1) / 2
        for maps in (one, two)
    )
    size = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    correlation = (first * second).sum(1) / np.where(size > 0, size, 1)

    largest = (np.abs(maps).max((1, 2), keepdims=True) for maps in (one, two))
    scaled = [
        maps / np.where(large > 0, large, 1)
        for maps, large in zip((one, two), largest, strict=True)
    ]
    side = min(one.shape[1:])
    window = min(_WINDOW, side - (side + 1) % 2)  # SSIM's is odd
    ssim = [
        structural_similarity(*pair, win_size=window, data_range=1 if absolute else 2)
        for pair in zip(*scaled, strict=True)
    ]
    return correlation, np.array(ssim)


def _check_layers(layers: Layers) -> Layers:
    if not isinstance(layers, Mapping) or not layers or not all(map(callable, layers.values())):
        raise ValueError(
            f"layers must map at least one name to a function (model, key) -> model, got {layers!r}"
        )
    return layers


def _check_changed(name: str, before: Any, after: Any) -> None:
    if not callable(after):
        raise ValueError(
            f"layers[{name!r}] must return the model with that layer randomised, got "
            f"{type(after).__name__}"
        )
    pairs = [jax.tree.leaves(model) for model in (before, after)]
    same = len(pairs[0]) == len(pairs[1]) and all(map(_equal, *pairs))
    if same:
        raise ValueError(
            f"layers[{name!r}] must change the model; it returned the same weights, and an "
            "explanation that stays would prove nothing. Entries that are all equal are the same "
            "in any order: draw them anew instead"
        )


def _equal(one: Any, two: Any) -> bool:
    if one is two:
        return True
    return isinstance(one, jax.Array | np.ndarray) and np.array_equal(one, two)


def _check_sides(images: Array) -> None:
    if min(images.shape[1:3]) < 3:
        raise ValueError(
            f"images must have at least 3 pixels a side for SSIM, got {images.shape[1:3]}"
        )


def _float(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
