"""The convolution of our networks: JAX's, with a gradient that XLA:CPU can do fast in a loop."""

from functools import partial

import jax
from flax import linen as nn
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _as_flax_calls_it(images, kernel, strides, padding, *, feature_group_count=1, **_):
    # What is left out is the same in all of our layers: NHWC, no dilation, the default precision.
    edges = tuple((before, after) for before, after in padding)
    return convolve(images, kernel, tuple(strides), edges, feature_group_count)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(images, kernel, strides, padding, groups):
    """Return the convolution of NHWC maps with an HWIO kernel; all but the arrays is static."""
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _forward(images, kernel, strides, padding, groups):
    return convolve(images, kernel, strides, padding, groups), (images, kernel)


def _backward(strides, padding, groups, saved, slopes):
    images, kernel = saved

    def with_kernel(kernel):
        return lax.conv_general_dilated(
            images, kernel, strides, padding, dimension_numbers=_LAYOUT, feature_group_count=groups
        )

    def by_jax(slopes, kernel):
        def with_images(images):
            return lax.conv_general_dilated(
                images, kernel, strides, padding, dimension_numbers=_LAYOUT,
                feature_group_count=groups,
            )  # fmt: skip

        return jax.linear_transpose(with_images, images)(slopes)[0]

    def as_convolution(slopes, kernel):
        """Convolve with the turned kernel, its inputs and outputs exchanged.

        It is what JAX does too, but JAX exchanges them by naming the axes otherwise. In the body
        of a loop XLA:CPU then falls back to a convolution that is 8 to 30 times slower.
        """
        rows, columns, inputs, outputs = kernel.shape
        turned = kernel[::-1, ::-1].reshape(rows, columns, inputs, groups, outputs // groups)
        turned = turned.transpose(0, 1, 4, 3, 2)
        turned = turned.reshape(rows, columns, outputs // groups, groups * inputs)
        edges = []
        for side, size, (before, _), stride, length in zip(
            kernel.shape[:2], images.shape[1:3], padding, strides, slopes.shape[1:3], strict=True
        ):
            low = side - 1 - before
            high = size + side - 1 - low - ((length - 1) * stride + 1)
            edges.append((low, high))
        return lax.conv_general_dilated(
            slopes, turned, (1, 1), edges, lhs_dilation=strides, dimension_numbers=_LAYOUT,
            feature_group_count=groups,
        )  # fmt: skip

    by_images = lax.platform_dependent(slopes, kernel, cpu=as_convolution, default=by_jax)
    return by_images, jax.vjp(with_kernel, kernel)[1](slopes)[0]


convolve.defvjp(_forward, _backward)

Conv = partial(nn.Conv, conv_general_dilated=_as_flax_calls_it)
