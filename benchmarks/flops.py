"""How many floating-point operations the works of `speed.py` need, from a network's layers.

A multiplication and an addition count each; convolutions and the dense layer alone, as in papers.
What a program computes beyond that (zeros of a rewritten kernel, say) does not count.
"""

from collections.abc import Iterator
from typing import NamedTuple

from work import Case, flipped, squares

from practical.models.architecture import Architecture


class Layer(NamedTuple):
    """A convolution of one image; the dense layer is one of one pixel."""

    pixels: int  # of its output
    side: int  # of its kernel
    inputs: int  # channels
    outputs: int
    groups: int = 1

    @property
    def flops(self) -> int:
        """Operations; its gradient in the image takes as many, that in the kernel too."""
        return 2 * self.pixels * self.side**2 * self.inputs * self.outputs // self.groups


def layers(architecture: Architecture, side: int) -> Iterator[Layer]:
    """Yield the layers that an image of `side` pixels goes through, the stem first."""

    def shrunk(side: int, kernel: int, stride: int) -> int:
        return (side + 2 * (kernel // 2) - kernel) // stride + 1

    side = shrunk(side, architecture.stem_kernel, architecture.stem_stride)
    yield Layer(side**2, architecture.stem_kernel, 3, architecture.stem_width)
    side = shrunk(side, 3, 2) if architecture.pool else side
    inputs = architecture.stem_width
    for block in architecture.blocks():
        before, inputs = side, block.inputs
        for kernel, outputs, stride, groups in zip(
            block.sides, block.widths, block.strides, block.groups, strict=True
        ):
            side = shrunk(side, kernel, stride)
            yield Layer(side**2, kernel, inputs, outputs, groups)
            inputs = outputs
        if block.downsample:
            yield Layer(shrunk(before, 1, block.stride) ** 2, 1, block.inputs, inputs)
    yield Layer(1, 1, inputs, architecture.classes)


def forward_flops(architecture: Architecture, side: int) -> int:
    """Return what one image's logits take."""
    return sum(layer.flops for layer in layers(architecture, side))


def gradient_flops(architecture: Architecture, side: int) -> int:
    """Return what a logit's gradient in one image takes: each layer there and back."""
    return 2 * forward_flops(architecture, side)


def spectra_flops(architecture: Architecture, side: int) -> int:
    """Return what a logit's gradient in the spatial kernels takes, the stem's among them.

    There and back, but for the images' own gradient; and once more for each spatial kernel.
    """
    stem, *rest = layers(architecture, side)
    kernels = sum(layer.flops for layer in (stem, *rest) if layer.side > 1)
    return stem.flops + 2 * sum(layer.flops for layer in rest) + kernels


def work_flops(work: str, count: int, architecture: Architecture, case: Case) -> int:
    """Return what a work of `count` steps, samples or parts takes for all images of a case."""
    if work.startswith("spectra"):
        return case.images * spectra_flops(architecture, case.side)
    if work in ("gradient", "integrated_gradients", "smooth_grad"):
        return case.images * count * gradient_flops(architecture, case.side)
    forwards = {
        "forward": lambda: 1,
        "occlusion": lambda: 1 + squares(case.side, count)[2],
        "deletion_insertion": lambda: 2 * (count + 1),
        "pixel_flipping": lambda: flipped(case.side, count)[1],
    }
    return case.images * forwards[work]() * forward_flops(architecture, case.side)
