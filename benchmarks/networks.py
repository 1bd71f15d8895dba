"""The same network twice, in torchvision and in `practical`, and images to show to both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from normalised import Normalised
from torch import nn

from practical import models

SEED = 2412


class Twins(NamedTuple):
    """One network in both libraries. Both take images in [0, 1] and normalise them inside."""

    torch: Normalised  # in evaluation mode, NCHW
    practical: models.Classifier


def twins(name: str) -> Twins:
    """Build torchvision's network `name` with seeded random weights, and its JAX counterpart."""
    resnet = torchvision.models.get_model(name, weights=None)
    _randomise(resnet, torch.Generator().manual_seed(SEED))
    return _both(resnet)


def small_twins() -> Twins:
    """Build the smallest of torchvision's ResNets, one block a stage and ten classes, twice.

    Its classes win by what is in an image: with weights at random alone, one class always does.
    """
    kind = torchvision.models.resnet
    resnet = kind.ResNet(kind.BasicBlock, [1, 1, 1, 1], num_classes=10)
    _randomise(resnet, torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        logits = _normalised(resnet)(nhwc_to_nchw(random_images((64, 24, 24))))
        scale = 2 / logits.std(0)
        resnet.fc.weight.mul_(scale[:, None])
        resnet.fc.bias.sub_(logits.mean(0)).mul_(scale)
    return _both(resnet)


def _both(resnet: nn.Module) -> Twins:
    state = {key: tensor.numpy().copy() for key, tensor in resnet.state_dict().items()}
    return Twins(_normalised(resnet), models.from_torchvision(state))


def _normalised(resnet: nn.Module) -> Normalised:
    return Normalised(resnet, models.IMAGENET_MEAN, models.IMAGENET_STD).eval()


def random_images(shape: tuple[int, int, int]) -> np.ndarray:
    """Return (count, height, width, 3) float32 in [0, 1]: smooth colours, and noise on them."""
    count, height, width = shape
    generator = torch.Generator().manual_seed(SEED)
    coarse = torch.rand(count, 3, height // 12, width // 12, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.rand(count, 3, height, width, generator=generator)
    return nchw_to_nhwc(0.7 * smooth + 0.3 * noise)


def nhwc_to_nchw(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def nchw_to_nhwc(images: torch.Tensor) -> np.ndarray:
    """Return the same values as NumPy; other than four-axis arrays keep their axes."""
    array = images.detach().cpu().numpy()
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def to_float64(model: models.Classifier) -> models.Classifier:
    """Return `model` with the same weights in float64; only inside `jax.enable_x64`."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)


@torch.no_grad()
def _randomise(resnet: nn.Module, generator: torch.Generator) -> None:
    """Give every tensor random values that keep activations alive, none of them 0 or 1.

    Batch norms first learn the statistics of some images, as in a trained network; then these
    are moved off the truth, so that no activation has mean 0 and variance 1 either.
    """

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    norms = [module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.copy_(uniform(module.weight, -1, 1) * (3 / fan_in) ** 0.5)
        elif isinstance(module, nn.Linear):
            module.weight.copy_(uniform(module.weight, -1, 1) * (3 / module.in_features) ** 0.5)
            module.bias.copy_(uniform(module.bias, -1, 1))
    for norm in norms:
        norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
        norm.bias.copy_(uniform(norm.bias, -0.5, 0.5))
        norm.momentum = None  # the mean over all batches seen
    resnet.train()
    resnet(torch.randn(8, 3, 64, 64, generator=generator))
    for norm in norms:
        norm.running_mean.add_(norm.running_var.sqrt() * uniform(norm.running_mean, -0.3, 0.3))
        norm.running_var.mul_(uniform(norm.running_var, 0.6, 1.6))
    resnet.eval()
