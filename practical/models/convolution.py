"""The convolution of our networks: JAX's, in the forms that XLA:CPU is fast at."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from practical._jit import asked_precision

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _as_flax_calls_it(
    images, kernel, strides, padding, *, feature_group_count=1, rhs_dilation=(1, 1), **_
):
    # The ignored arguments are the same in all of our layers: NHWC, and no precision of their own.
    edges = tuple((before, after) for before, after in padding)
    return convolve(
        images, kernel, tuple(strides), edges, feature_group_count, dilation=tuple(rhs_dilation)
    )


def convolve(images, kernel, strides, padding, groups, *, dilation=(1, 1)):
    """Return the convolution of NHWC maps with an HWIO kernel; all but the arrays is static.

    Its gradient has the precision that is asked for here: JAX traces it later, when whoever asked
    by `jax.default_matmul_precision` may have left.
    """
    options = _Options(strides, padding, groups, asked_precision(), kernel_dilation=tuple(dilation))
    return _convolve(images, kernel, options)


class _Options(NamedTuple):
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    groups: int = 1
    precision: str | None = None  # of products; None is the platform's own
    dilation: tuple[int, int] = (1, 1)  # of the maps
    kernel_dilation: tuple[int, int] = (1, 1)

    def span(self, kernel) -> tuple[int, int]:
        """Return the rows and columns from a kernel's first value to its last."""
        rows, columns = (
            (side - 1) * step + 1
            for side, step in zip(kernel.shape[:2], self.kernel_dilation, strict=True)
        )
        return rows, columns


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images, kernel, options):
    if not _is_stem(kernel, options):
        return _direct(images, kernel, options)
    by_phases, direct = (partial(form, options=options) for form in (_by_phases, _direct))
    return lax.platform_dependent(images, kernel, cpu=by_phases, default=direct)


def _forward(images, kernel, options):
    return _convolve(images, kernel, options), (images, kernel)


def _backward(options, saved, slopes):
    images, kernel = saved

    def by_jax(slopes, kernel):
        return jax.linear_transpose(lambda maps: _direct(maps, kernel, options), images)(slopes)[0]

    def on_cpu(slopes, kernel):
        if _is_stem(kernel, options):
            return jax.vjp(lambda maps: _by_phases(maps, kernel, options), images)[1](slopes)[0]
        return _as_convolution(slopes, kernel, images.shape, options)

    by_images = lax.platform_dependent(slopes, kernel, cpu=on_cpu, default=by_jax)
    by_kernel = jax.vjp(lambda kernel: _direct(images, kernel, options), kernel)[1](slopes)[0]
    return by_images, by_kernel


_convolve.defvjp(_forward, _backward)


def _direct(images, kernel, options):
    strides, padding, groups, precision, dilation, kernel_dilation = options
    rows, columns = options.span(kernel)
    if images.shape[1] < rows or images.shape[2] < columns:
        # XLA:CPU does maps that are smaller than the kernel pixel by pixel, a hundred times slower.
        rows, columns = (
            (*edge, between - 1) for edge, between in zip(padding, dilation, strict=True)
        )
        zero = jnp.zeros((), images.dtype)
        images = lax.pad(images, zero, ((0, 0, 0), rows, columns, (0, 0, 0)))
        images = lax.optimization_barrier(images)  # or it becomes the convolution's padding again
        padding, dilation = ((0, 0), (0, 0)), (1, 1)
    return lax.conv_general_dilated(
        images, kernel, strides, padding, lhs_dilation=dilation, rhs_dilation=kernel_dilation,
        dimension_numbers=_LAYOUT, feature_group_count=groups, precision=precision,
    )  # fmt: skip


def _as_convolution(slopes, kernel, shape, options):
    """Return the gradient of maps of `shape`: a convolution with the turned kernel.

    It is what JAX does too, but JAX exchanges the kernel's inputs and outputs by naming the axes
    otherwise. In the body of a loop XLA:CPU then falls back to a convolution that is 8 to 30 times
    slower.
    """
    rows, columns, inputs, outputs = kernel.shape
    strides, padding, groups = options[:3]
    turned = kernel[::-1, ::-1].reshape(rows, columns, inputs, groups, outputs // groups)
    turned = turned.transpose(0, 1, 4, 3, 2)
    turned = turned.reshape(rows, columns, outputs // groups, groups * inputs)
    edges = []
    for span, size, (before, _), stride, length in zip(
        options.span(kernel), shape[1:3], padding, strides, slopes.shape[1:3], strict=True
    ):
        low = span - 1 - before
        high = size + span - 1 - low - ((length - 1) * stride + 1)
        edges.append((low, high))
    back = options._replace(strides=(1, 1), padding=tuple(edges), dilation=strides)
    return _direct(slopes, turned, back)


def _is_stem(kernel, options) -> bool:
    """Return whether a convolution reads every other pixel of few channels."""
    rows, columns, inputs, _ = kernel.shape
    strided = options.strides == (2, 2) and options.groups == 1
    return strided and inputs <= 4 and min(rows, columns) > 2


def _by_phases(images, kernel, options):
    """Return a convolution of stride 2 as one of stride 1 over blocks of 2x2 pixels.

    Its four times as many channels fill the processor's registers, which three leave idle, and its
    gradient writes no pixel of zeros between two others.
    """
    edges, kernel_edges = [], []
    for size, side, (before, after) in zip(
        images.shape[1:3], kernel.shape[:2], options.padding, strict=True
    ):
        outputs = (size + before + after - side) // 2 + 1
        first = before % 2  # zeros before the kernel, so that it begins with a block
        blocks = -(-(first + side) // 2)
        edges.append((before + first, 2 * (outputs + blocks - 1) - before - first - size))
        kernel_edges.append((first, 2 * blocks - first - side))

    def in_blocks(array, edges):
        array = lax.pad(array, jnp.zeros((), array.dtype), [(*e, 0) for e in edges])
        b, h, w, c = array.shape
        array = array.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        return array.reshape(b, h // 2, w // 2, 4 * c)

    nothing = (0, 0)
    blocks = in_blocks(images, [nothing, *edges, nothing])
    # The kernel has its inputs in the same order, its outputs in place of the batch.
    small = in_blocks(kernel.transpose(3, 0, 1, 2), [nothing, *kernel_edges, nothing])
    whole = options._replace(strides=(1, 1), padding=(nothing, nothing))
    return _convolve(blocks, small.transpose(1, 2, 3, 0), whole)


Conv = partial(nn.Conv, conv_general_dilated=_as_flax_calls_it)
