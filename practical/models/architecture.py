"""What a ResNet is made of, as a value; and the jax-resnet module that it describes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax_resnet import Sequential
from jax_resnet.common import ConvBlock
from jax_resnet.resnet import ResNetSkipConnection

from practical.models.convolution import Conv
from practical.models.pooling import max_pool


class BlockPlan(NamedTuple):
    """One residual block: convolutions one after the other, and what their sum is with."""

    name: str  # torchvision's
    layer: int  # its number in the jax-resnet module
    inputs: int  # channels
    sides: tuple[int, ...]  # of each convolution's kernel
    widths: tuple[int, ...]  # output channels of each convolution; the last are the block's
    strides: tuple[int, ...]  # of each convolution
    dilations: tuple[int, ...]  # of each convolution's kernel
    groups: tuple[int, ...]  # of each convolution
    downsample: bool  # whether a 1x1 convolution is on the skip, or nothing

    @property
    def stride(self) -> int:
        """Of the block as a whole, and of its skip."""
        return max(self.strides)


@dataclass(frozen=True)
class Architecture:
    """A ResNet of torchvision's kind. Hashable: it decides what is compiled."""

    block: str  # "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1)
    stage_sizes: tuple[int, ...]  # blocks in each stage; each stage after the first halves H, W
    widths: tuple[int, ...]  # channels of each stage's 3x3 convolutions
    classes: int
    stem_width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    pool: bool = True  # 3x3 stride-2 max-pool after the stem
    groups: int = 1  # of the bottleneck's 3x3 convolutions (ResNeXt)
    expansion: int = 1  # a stage's output channels over its width
    # For each block in order, the channels between its convolutions where they are not the
    # stage's width, as in a pruned network: one number for "basic", two for "bottleneck".
    hidden: tuple[tuple[int, ...], ...] | None = None
    # Whether a convolution is on the skip of the first stage; None where it is if channels differ.
    projection: bool | None = None
    # For each stage after the first, whether dilated 3x3 convolutions replace its stride, as
    # torchvision's `replace_stride_with_dilation`; empty where no stage is dilated.
    dilated: tuple[bool, ...] = ()
    stride_in_1x1: bool = False  # of a bottleneck, as in Caffe; torchvision strides in the 3x3

    def __post_init__(self):
        """Raise a ValueError if no network can have these numbers."""
        counts = (
            *self.stage_sizes, *self.widths, self.classes, self.stem_width, self.stem_kernel,
            self.stem_stride, self.groups, self.expansion,
            *(width for widths in self.hidden or () for width in widths),
        )  # fmt: skip
        if not all(isinstance(count, int | np.integer) and count > 0 for count in counts):
            raise ValueError(
                f"a ResNet's numbers must be integers of at least 1, got {str(self)[:300]}"
            )
        for name in ("pool", "stride_in_1x1"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        stages, blocks = len(self.stage_sizes), sum(self.stage_sizes)
        if (
            self.block not in ("basic", "bottleneck")
            or stages != len(self.widths)
            or not stages
            or len(self.hidden or range(blocks)) != blocks
            or len(self.dilated or range(stages - 1)) != stages - 1
        ):
            raise ValueError(
                'a ResNet must have blocks that are "basic" or "bottleneck", one or more stages '
                f"with a width each, and as many other numbers as stages or blocks, got "
                f"{str(self)[:300]}"
            )

    def module(self) -> Sequential:
        """Return the jax-resnet module: stem, pool, blocks, global average pool, dense."""
        layer = partial(ConvBlock, conv_cls=Conv)
        return Sequential(
            [
                _Stem(self.stem_width, self.stem_kernel, self.stem_stride, layer),
                max_pool if self.pool else _keep,
                *(_Block(plan, layer) for plan in self.blocks()),
                partial(jnp.mean, axis=(1, 2)),
                nn.Dense(self.classes),
            ]
        )

    def blocks(self) -> Iterator[BlockPlan]:
        """Yield the residual blocks from the input on."""
        # A bottleneck has its groups in its 3x3 convolution, and torchvision's strides there.
        sides = (3, 3) if self.block == "basic" else (1, 3, 1)
        striding = 0 if self.block == "basic" or self.stride_in_1x1 else 1
        inputs, number, dilation = self.stem_width, 0, 1
        for stage, (size, width) in enumerate(
            zip(self.stage_sizes, self.widths, strict=True), start=1
        ):
            outputs = width * self.expansion
            dilated = stage > 1 and any(self.dilated) and self.dilated[stage - 2]
            before, dilation = dilation, dilation * (2 if dilated else 1)
            for block in range(size):
                inside = (width,) * (len(sides) - 1) if self.hidden is None else self.hidden[number]
                differs = inputs != outputs if self.projection is None else self.projection
                stride = 2 if stage > 1 and block == 0 and not dilated else 1
                # In torchvision a stage's first block has the dilation of the stage before.
                step = before if block == 0 else dilation
                yield BlockPlan(
                    name=f"layer{stage}.{block}",
                    layer=2 + number,
                    inputs=inputs,
                    sides=sides,
                    widths=(*inside, outputs),
                    strides=tuple(stride if i == striding else 1 for i in range(len(sides))),
                    dilations=tuple(step if side == 3 else 1 for side in sides),
                    groups=tuple(
                        self.groups if i == 1 and self.block == "bottleneck" else 1
                        for i in range(len(sides))
                    ),
                    downsample=block == 0 and (stage > 1 or differs),
                )
                inputs, number = outputs, number + 1

    def convolutions(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield (torchvision name, its batch norm's name, path of the jax-resnet ConvBlock)."""
        yield "conv1", "bn1", ("layers_0", "ConvBlock_0")
        for block in self.blocks():
            layer = f"layers_{block.layer}"
            for conv in range(len(block.widths)):
                names = f"{block.name}.conv{conv + 1}", f"{block.name}.bn{conv + 1}"
                yield *names, (layer, f"ConvBlock_{conv}")
            if block.downsample:
                names = f"{block.name}.downsample.0", f"{block.name}.downsample.1"
                yield *names, (layer, "ResNetSkipConnection_0", "ConvBlock_0")

    @property
    def dense(self) -> str:
        """The name of the last layer in the jax-resnet module."""
        return f"layers_{sum(self.stage_sizes) + 3}"


class _Stem(nn.Module):
    """jax-resnet's stem, whose 64 channels and 7x7 stride-2 kernel are not arguments there."""

    width: int
    kernel: int
    stride: int
    layer: Callable

    @nn.compact
    def __call__(self, x):
        pad = self.kernel // 2
        return self.layer(
            self.width,
            kernel_size=(self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            padding=[(pad, pad), (pad, pad)],
        )(x)


class _Block(nn.Module):
    """jax-resnet's blocks, whose convolutions' widths are not arguments there."""

    plan: BlockPlan
    layer: Callable

    @nn.compact
    def __call__(self, x):
        plan, branch, last = self.plan, x, len(self.plan.widths) - 1
        for i, (side, width) in enumerate(zip(plan.sides, plan.widths, strict=True)):
            pad, dilation = side // 2 * plan.dilations[i], plan.dilations[i]
            dilated = {"conv_cls": partial(Conv, kernel_dilation=dilation)} if dilation > 1 else {}
            branch = self.layer(
                width,
                kernel_size=(side, side),
                strides=(plan.strides[i], plan.strides[i]),
                padding=((pad, pad), (pad, pad)),
                groups=plan.groups[i],
                is_last=i == last,
                **dilated,
            )(branch)
        if plan.downsample:
            skip = ResNetSkipConnection((plan.stride, plan.stride), self.layer)
            # Of the sum's shape it uses the last axis, and leaves the convolution out where the
            # shape is its input's; torchvision's never does.
            x = skip(x, plan.widths[-1:])
        return nn.relu(branch + x)


def _keep(x):
    return x
