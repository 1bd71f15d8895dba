"""What a ResNet is made of, as a value; and the jax-resnet module that it describes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from flax import linen as nn
from jax_resnet import ResNet, ResNetBlock, ResNetBottleneckBlock, Sequential
from jax_resnet.common import ConvBlock

from practical.models.convolution import Conv


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

    def module(self) -> Sequential:
        """Return the jax-resnet module: stem, pool, blocks, global average pool, dense."""
        if self.block == "basic":
            block = ResNetBlock
        else:
            # jax-resnet computes the width as n_hidden * base_width / 64 * groups.
            block = partial(
                ResNetBottleneckBlock,
                expansion=self.expansion,
                groups=self.groups,
                base_width=cast(int, 64 / self.groups),
            )
        extra = {} if self.pool else {"pool_fn": _keep}
        return ResNet(
            block,
            stage_sizes=self.stage_sizes,
            hidden_sizes=self.widths,
            n_classes=self.classes,
            conv_cls=Conv,
            stem_cls=partial(
                _Stem, width=self.stem_width, kernel=self.stem_kernel, stride=self.stem_stride
            ),
            **extra,
        )

    def convolutions(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield (torchvision name, its batch norm's name, path of the jax-resnet ConvBlock)."""
        yield "conv1", "bn1", ("layers_0", "ConvBlock_0")
        layer = 2
        channels = self.stem_width
        for stage, (blocks, width) in enumerate(
            zip(self.stage_sizes, self.widths, strict=True), start=1
        ):
            for block in range(blocks):
                name = f"layer{stage}.{block}"
                for conv in range(2 if self.block == "basic" else 3):
                    place = (f"layers_{layer}", f"ConvBlock_{conv}")
                    yield f"{name}.conv{conv + 1}", f"{name}.bn{conv + 1}", place
                strided = stage > 1 and block == 0
                if strided or channels != width * self.expansion:
                    place = (f"layers_{layer}", "ResNetSkipConnection_0", "ConvBlock_0")
                    yield f"{name}.downsample.0", f"{name}.downsample.1", place
                channels = width * self.expansion
                layer += 1

    @property
    def dense(self) -> str:
        """The name of the last layer in the jax-resnet module."""
        return f"layers_{sum(self.stage_sizes) + 3}"


class _Stem(nn.Module):
    """jax-resnet's stem, whose 64 channels and 7x7 stride-2 kernel are not arguments there."""

    width: int
    kernel: int
    stride: int
    conv_block_cls: Callable[..., nn.Module] = ConvBlock

    @nn.compact
    def __call__(self, x):
        pad = self.kernel // 2
        return self.conv_block_cls(
            self.width,
            kernel_size=(self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            padding=[(pad, pad), (pad, pad)],
        )(x)


def _keep(x):
    return x
