"""Agreement with PyTorch and Captum; ../shared/golden says how the numbers were made.

The reference network takes its images as they are, from -8 to 8; ours come in [0, 1]. So each
pixel is mapped to (x + 8) / 16, and mean 0.5 with std 1/16 maps it back, exactly. A gradient in
our units is 16 times the reference's; a baseline of 0.5 is its zero.
"""

import numpy as np
import pytest

from practical import attribution
from practical.models import from_torchvision

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # what ../shared/golden/README.md asks for


def nhwc(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1)


def to_unit(array: np.ndarray) -> np.ndarray:
    return (nhwc(array) + 8) / 16


@pytest.fixture(scope="module")
def state(golden):
    return {name[6:]: array for name, array in golden.items() if name.startswith("state/")}


@pytest.fixture(scope="module")
def model(state):
    return from_torchvision(state, mean=(0.5,) * 3, std=(1 / 16,) * 3)


@pytest.fixture(scope="module")
def inputs(golden):
    return to_unit(golden["x"]), golden["target"]


def test_the_architecture_is_read_off_the_shapes(model):
    found = model.architecture
    assert (found.block, found.stage_sizes, found.widths) == ("basic", (1, 1), (8, 16))
    assert (found.classes, found.stem_width, found.stem_kernel) == (10, 8, 7)
    assert (found.groups, found.expansion) == (1, 1)


def test_logits(model, golden, inputs):
    np.testing.assert_allclose(model(inputs[0]), golden["logits"], **CLOSE)


def test_number_of_parameters(model, golden):
    import jax

    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
    assert parameters == golden["n_params"]


def test_kernels_have_torchvisions_names(model, state):
    convolutions = {name[:-7] for name, array in state.items() if array.ndim == 4}
    assert set(model.kernels()) == convolutions
    for name, kernel in model.kernels().items():
        np.testing.assert_array_equal(kernel, state[f"{name}.weight"].transpose(2, 3, 1, 0))


def test_gradient(model, golden, inputs):
    maps = attribution.gradient(model, *inputs) / 16
    np.testing.assert_allclose(maps, nhwc(golden["captum/saliency_signed"]), **CLOSE)


def test_gradient_x_input(model, golden, inputs):
    maps = attribution.gradient_x_input(model, *inputs, baseline=0.5)
    np.testing.assert_allclose(maps, nhwc(golden["captum/input_x_gradient"]), **CLOSE)


@pytest.mark.parametrize("steps", [16, 50])
def test_integrated_gradients(model, golden, inputs, steps):
    baseline = to_unit(golden["baseline"])
    maps = attribution.integrated_gradients(
        model, *inputs, baseline=baseline, steps=steps, chunk_size=32
    )
    expected = nhwc(golden[f"captum/integrated_gradients_{steps}"])
    np.testing.assert_allclose(maps, expected, **CLOSE)
    # Captum's delta is the sum of the attributions minus the change of the logit: ours, signed.
    error = attribution.completeness_error(model, *inputs, maps, baseline=baseline, relative=False)
    delta = golden[f"captum/integrated_gradients_{steps}_delta"]
    # Sums of 7,000 terms whose magnitudes add up to some tens.
    np.testing.assert_allclose(error, np.abs(delta), rtol=1e-4, atol=1e-4)


def test_grad_cam(model, golden, inputs):
    maps = attribution.grad_cam(model, *inputs, upsample=False)
    np.testing.assert_allclose(maps, golden["captum/grad_cam_layer2"][:, 0], **CLOSE)


def test_occlusion(model, golden, inputs):
    maps = attribution.occlusion(model, *inputs, window=9, stride=3, baseline=0.5)
    expected = golden["captum/occlusion_w9_s3_zero"]
    assert (expected == expected[:, :1]).all()  # one value a pixel
    np.testing.assert_allclose(maps, expected[:, 0], **CLOSE)
