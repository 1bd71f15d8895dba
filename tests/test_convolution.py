import jax
import numpy as np
import pytest
from jax import lax

from practical.models.convolution import Conv

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "groups", "dilation"),
    [((9, 9), 3, 1, 1, 1), ((10, 7), 3, 2, 1, 1), ((12, 13), 7, 2, 1, 1), ((8, 9), 1, 2, 1, 1),
     ((7, 10), 3, 2, 2, 1), ((6, 6), 5, 3, 3, 1), ((9, 7), 3, 1, 2, 2), ((3, 4), 3, 1, 1, 4)],
)  # fmt: skip
def test_both_gradients_are_those_of_jax(size, kernel, stride, groups, dilation):
    inputs, outputs, pad = 6, 12, kernel // 2 * dilation
    layer = Conv(
        outputs,
        (kernel, kernel),
        (stride, stride),
        padding=[(pad, pad)] * 2,
        feature_group_count=groups,
        kernel_dilation=dilation,
        use_bias=False,
    )
    images = RNG.normal(size=(2, *size, inputs)).astype(np.float32)
    weights = RNG.normal(size=(kernel, kernel, inputs // groups, outputs)).astype(np.float32)

    def ours(images, weights):
        return layer.apply({"params": {"kernel": weights}}, images)

    def jaxs(images, weights):
        return lax.conv_general_dilated(
            images, weights, (stride, stride), [(pad, pad)] * 2, feature_group_count=groups,
            rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    answer, back = jax.vjp(ours, images, weights)
    expected, jaxs_back = jax.vjp(jaxs, images, weights)
    np.testing.assert_array_equal(answer, expected)
    slopes = RNG.normal(size=answer.shape).astype(np.float32)
    for mine, theirs in zip(back(slopes), jaxs_back(slopes), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
