"""Making a network smaller by the channels that no filter writes to, or none reads."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from practical.explainfix.slopes import spatial_kernels
from practical.models import Classifier, Size, size
from practical.models.architecture import Architecture

Dead = Mapping[str, Bool[np.ndarray, "i o"]]  # spatial convolution: whether a filter is all 0


class Pruned(NamedTuple):
    """A smaller network, and what became of the one that it was made of."""

    model: Classifier
    zeroed: Classifier  # the network as large as before, with filters that are 0
    kept: dict[str, np.ndarray]  # convolution: which of its output channels are left
    before: Size  # parameters and operations for an image
    after: Size


def remove_channels(
    model: Classifier, *, image_shape: tuple[int, int, int] = (224, 224, 3)
) -> Pruned:
    """Return a smaller classifier, without the channels that its filters of 0 leave idle.

    A channel between two convolutions of a block goes if the one does not write to it or the other
    does not read it. A channel that a skip passes on goes if neither the stem nor any block's last
    convolution writes to it; it goes from all of them, and from the head where that reads it. A
    grouped convolution loses as many channels in each group.

    The answers are those of `model` but where something else speaks through a channel that goes: a
    batch norm makes a constant of a filter's 0 (its bias less its scaled mean), and where a
    strided block's 1x1 convolution is on the skip, what that writes is lost too.

    Args:
        model: Is left as it is; the pruned one is not changed otherwise, so it should be trained
            further.
        image_shape: (H, W, C) of the images that operations are counted for.

    Raises:
        ValueError: If no channel would be left somewhere, or there is no spatial convolution.
    """
    kept = keep(model.architecture, empty_filters(model))
    empty = [name for name, channels in kept.items() if not channels.size]
    if empty:
        raise ValueError(
            f"model must keep a channel in every layer, got filters of 0 alone in {empty[0]}; "
            "zero fewer of them"
        )
    return Pruned(
        model=(smaller := _slice(model, kept)),
        zeroed=model,
        kept=kept,
        before=size(model, image_shape),
        after=size(smaller, image_shape),
    )


def empty_filters(model: Classifier) -> dict[str, Bool[np.ndarray, "i o"]]:
    """Return for each spatial convolution which of its filters are all 0."""
    return {name: (np.asarray(k) == 0).all((0, 1)) for name, k in spatial_kernels(model).items()}


def idle_filters(model: Classifier) -> dict[str, Bool[np.ndarray, "i o"]]:
    """Return which filters are in an output or an input channel of their layer that is all 0.

    In a grouped convolution, an input channel is read by the outputs of its own group.
    """
    groups = {
        f"{plan.name}.conv{i}": groups
        for plan in model.architecture.blocks()
        for i, groups in enumerate(plan.groups, start=1)
    }
    idle = {}
    for name, dead in empty_filters(model).items():
        number = groups.get(name, 1)  # the stem has one group
        unread = np.repeat(_unread(dead, number), dead.shape[1] // number, axis=1)
        idle[name] = dead.all(0) | unread
    return idle


def keep(architecture: Architecture, dead: Dead) -> dict[str, np.ndarray]:
    """Return for each convolution the output channels that stay, `dead` filters being 0."""

    def unwritten(name: str, width: int) -> np.ndarray:
        return np.asarray(dead[name].all(0)) if name in dead else np.zeros(width, bool)

    def unread(name: str, width: int, groups: int) -> np.ndarray:
        return _unread(dead[name], groups).T.ravel() if name in dead else np.zeros(width, bool)

    kept = {}
    stream, writers = unwritten("conv1", architecture.stem_width), ["conv1"]

    def close() -> None:
        kept.update(dict.fromkeys(writers, np.flatnonzero(~stream)))

    for plan in architecture.blocks():
        names = [f"{plan.name}.conv{i}" for i in range(1, len(plan.widths) + 1)]
        for i, (name, below) in enumerate(zip(names[1:], names, strict=False), start=1):
            width = plan.widths[i - 1]
            gone = unwritten(below, width) | unread(name, width, plan.groups[i])
            groups = max(plan.groups[i - 1 : i + 1])
            kept[below] = np.flatnonzero(~_evenly(gone, groups))
        silent = unwritten(names[-1], plan.widths[-1])
        if plan.downsample:
            close()
            stream, writers = silent, [names[-1], f"{plan.name}.downsample.0"]
        else:
            stream = stream & silent
            writers.append(names[-1])
    close()
    return kept


def _unread(dead: Bool[np.ndarray, "i o"], groups: int) -> Bool[np.ndarray, "i g"]:
    """Return of which groups' inputs all filters are 0."""
    return np.asarray(dead.reshape(len(dead), groups, -1).all(2))


def _evenly(gone: Bool[np.ndarray, " c"], groups: int) -> Bool[np.ndarray, " c"]:
    """Return as many of the channels that may go in each group: the first ones."""
    by_group = gone.reshape(groups, -1)
    number = np.cumsum(by_group, 1)
    return (by_group & (number <= by_group.sum(1).min())).ravel()


def _slice(model: Classifier, kept: Mapping[str, np.ndarray]) -> Classifier:
    """Return the classifier of the channels that are kept."""
    architecture = model.architecture
    if all(len(kept[name]) == kernel.shape[3] for name, kernel in model.kernels().items()):
        return model
    inputs: dict[str, tuple[np.ndarray, int]] = {"conv1": (np.arange(3), 1)}
    stream, hidden, widths = kept["conv1"], [], []
    for plan in architecture.blocks():
        names = [f"{plan.name}.conv{i}" for i in range(1, len(plan.widths) + 1)]
        read = [stream, *(kept[name] for name in names[:-1])]
        inputs.update(zip(names, zip(read, plan.groups, strict=True), strict=True))
        inputs[f"{plan.name}.downsample.0"] = stream, 1
        hidden.append(tuple(len(kept[name]) for name in names[:-1]))
        stream = kept[names[-1]]
        widths.append(len(stream))
    ends = np.cumsum(architecture.stage_sizes) - 1
    smaller = replace(
        architecture,
        stem_width=len(kept["conv1"]),
        widths=tuple(widths[end] for end in ends),
        expansion=1,
        hidden=tuple(hidden),
        projection=next(architecture.blocks()).downsample,
    )
    variables = jax.tree.map(lambda leaf: leaf, dict(model.variables))  # new dicts, same leaves
    for name, _, place in architecture.convolutions():
        params, statistics = variables["params"], variables["batch_stats"]
        for step in place:
            params, statistics = params[step], statistics[step]
        outputs, (channels, groups) = kept[name], inputs[name]
        kernel = np.asarray(params["Conv_0"]["kernel"])
        params["Conv_0"]["kernel"] = jnp.asarray(_slice_kernel(kernel, channels, outputs, groups))
        for leaves in (params["BatchNorm_0"], statistics["BatchNorm_0"]):
            # In NumPy: JAX would compile each indexing for each shape.
            cut = {leaf: jnp.asarray(np.asarray(v)[outputs]) for leaf, v in leaves.items()}
            leaves.update(cut)
    dense = variables["params"][architecture.dense]
    dense["kernel"] = jnp.asarray(np.asarray(dense["kernel"])[stream])
    return replace(model, architecture=smaller, variables=variables)


def _slice_kernel(
    kernel: Float[np.ndarray, "h w i o"], inputs: np.ndarray, outputs: np.ndarray, groups: int
) -> Float[np.ndarray, "h w k p"]:
    size, width = kernel.shape[2], kernel.shape[3] // groups
    parts = []
    for group in range(groups):
        into = outputs[outputs // width == group]
        parts.append(kernel[:, :, inputs[inputs // size == group] - group * size][..., into])
    return np.concatenate(parts, axis=3)
