"""A torchvision network for images in [0, 1]. It needs PyTorch alone."""

from collections.abc import Sequence

import torch
from torch import nn


class Normalised(nn.Module):
    """A torchvision ResNet for images in [0, 1], normalised as `practical.models` does it."""

    def __init__(self, resnet: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.resnet = resnet
        for name, values in ("mean", mean), ("std", std):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.resnet((images - self.mean) / self.std)
