"""The network of a `Classifier`, layer by layer, with its batch norms folded away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from practical._inputs import ArrayLike
from practical.models.classifier import Classifier
from practical.models.convolution import convolve
from practical.models.norms import fold_batch_norms
from practical.models.pooling import max_pool


class Window(NamedTuple):
    """Where a layer looks: the places of its windows. Padding lies outside of the maps."""

    sides: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # before and after, rows and columns
    dilation: tuple[int, int] = (1, 1)  # steps from one place to the next

    def reduce(self, maps: Float[Array, "b h w c"], start: float, function) -> Array:
        """Return each window's values, folded by `function` from `start`, which padding has."""
        sides, strides, dilation = (
            (1, *pair, 1) for pair in (self.sides, self.strides, self.dilation)
        )
        padding = ((0, 0), *self.padding, (0, 0))
        return lax.reduce_window(
            maps, start, function, sides, strides, padding, window_dilation=dilation
        )

    def places(self, height: int, width: int) -> np.ndarray:
        """Return how many places of a map each window has, without padding."""
        rows, columns = (
            [
                sum(0 <= start + place * step < length for place in range(side))
                for start in range(-before, length + after - (side - 1) * step, stride)
            ]
            for length, side, step, stride, (before, after) in zip(
                (height, width),
                self.sides,
                self.dilation,
                self.strides,
                self.padding,
                strict=True,
            )
        )
        return np.outer(rows, columns).astype(np.float32)


POOL = Window((3, 3), (2, 2), ((1, 1), (1, 1)))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["kernel", "bias"],
    meta_fields=["strides", "padding", "groups", "dilation"],
)
@dataclass(frozen=True)
class Convolution:
    """A convolution with the batch norm after it; no ReLU."""

    kernel: Float[Array, "rows columns i o"]
    bias: Float[Array, " o"]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # zeros before and after, rows and columns
    groups: int
    dilation: tuple[int, int]

    @property
    def window(self) -> Window:
        """Where each output looks."""
        rows, columns = self.kernel.shape[:2]
        return Window((rows, columns), self.strides, self.padding, self.dilation)

    def __call__(self, maps: Float[Array, "b h w c"]) -> Float[Array, "b y x o"]:
        """Return the convolved maps."""
        return self.apply(maps, self.kernel) + self.bias[None, None, None]

    def apply(
        self, maps: Float[Array, "b h w c"], kernel: Float[Array, "rows columns i o"]
    ) -> Float[Array, "b y x o"]:
        """Return the maps convolved with another kernel of the same shape, without a bias."""
        return convolve(
            maps, kernel, self.strides, self.padding, self.groups, dilation=self.dilation
        )


@partial(
    jax.tree_util.register_dataclass, data_fields=["convolutions", "downsample"], meta_fields=[]
)
@dataclass(frozen=True)
class Block:
    """Convolutions with a ReLU between each two; then the sum with the skip, and a ReLU."""

    convolutions: tuple[Convolution, ...]
    downsample: Convolution | None  # on the skip; None where it is the input itself

    def __call__(self, maps: Float[Array, "b h w c"]) -> Float[Array, "b y x o"]:
        """Return the block's output, after the ReLU."""
        branch = maps
        for convolution in self.convolutions[:-1]:
            branch = jax.nn.relu(convolution(branch))
        branch = self.convolutions[-1](branch)
        skip = maps if self.downsample is None else self.downsample(maps)
        return jax.nn.relu(branch + skip)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "std", "stem", "blocks", "kernel", "bias"],
    meta_fields=["pool"],
)
@dataclass(frozen=True)
class Folded:
    """A ResNet in the order of its forward pass; `fold` makes it of a `Classifier`.

    Normalise, `stem`, ReLU, `max_pool` under `pool`, `blocks`, global average pool, dense layer.
    """

    mean: Float[Array, " c"]
    std: Float[Array, " c"]
    stem: Convolution
    pool: bool
    blocks: tuple[Block, ...]
    kernel: Float[Array, "k classes"]  # of the dense layer
    bias: Float[Array, " classes"]

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> Float[Array, "b classes"]:
        """Return the logits of each image."""
        maps = jax.nn.relu(self.stem(self.normalise(images)))
        maps = max_pool(maps) if self.pool else maps
        for block in self.blocks:
            maps = block(maps)
        return maps.mean((1, 2)) @ self.kernel + self.bias[None]

    def normalise(self, images: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return what the stem sees."""
        return (jnp.asarray(images) - self.mean[None, None, None]) / self.std[None, None, None]


def fold(model: Classifier) -> Folded:
    """Return the network of `model` with each batch norm folded into the convolution before it.

    Its logits are the model's, up to rounding. It may be called inside `jax.jit`.
    """
    architecture, params = model.architecture, fold_batch_norms(model.variables)
    places = {name: place for name, _, place in architecture.convolutions()}

    def convolution(
        name: str, *, stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> Convolution:
        folded = params
        for step in places[name]:
            folded = folded[step]
        kernel, bias = folded["Conv_0"]["kernel"], folded["Conv_0"]["bias"]
        pad = kernel.shape[0] // 2 * dilation
        return Convolution(
            kernel=kernel,
            bias=bias,
            strides=(stride, stride),
            padding=((pad, pad), (pad, pad)),
            groups=groups,
            dilation=(dilation, dilation),
        )

    blocks = []
    for plan in architecture.blocks():
        branch = [
            convolution(
                f"{plan.name}.conv{number}", stride=stride, groups=groups, dilation=dilation
            )
            for number, (stride, groups, dilation) in enumerate(
                zip(plan.strides, plan.groups, plan.dilations, strict=True), start=1
            )
        ]
        down = f"{plan.name}.downsample.0"
        skip = convolution(down, stride=plan.stride) if plan.downsample else None
        blocks.append(Block(tuple(branch), skip))
    dense = params[architecture.dense]
    return Folded(
        mean=model.mean,
        std=model.std,
        stem=convolution("conv1", stride=architecture.stem_stride),
        pool=architecture.pool,
        blocks=tuple(blocks),
        kernel=dense["kernel"],
        bias=dense["bias"],
    )
