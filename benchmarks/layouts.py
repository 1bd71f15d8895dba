"""Networks of PyTorch's side of `speed.py` in its layouts, eager and compiled. No JAX."""

import copy
import functools
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo
import torchvision
from normalised import Normalised
from torch import nn

# Name: (whether compiled, whether channels-last).
VARIANTS = {
    "eager": (False, False),
    "eager-nhwc": (False, True),
    "compiled": (True, False),
    "compiled-nhwc": (True, True),
}


class Example(NamedTuple):
    """What is explained: on the device, NCHW."""

    model: nn.Module
    images: torch.Tensor
    targets: torch.Tensor
    heatmaps: torch.Tensor  # (B, H, W), without ties
    values: torch.Tensor  # (B, 3, H, W), without ties
    noise: torch.Tensor | None = None  # (B, samples, 3, H, W), for a comparison; None draws it


class Laid(nn.Module):
    """A network in one of PyTorch's two layouts."""

    def __init__(self, network: nn.Module, channels_last: bool):
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.layout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.contiguous(memory_format=self.layout))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up(precision: str) -> None:
    """Use all of the machine, and a GPU's products in float32 ("highest") or "tf32"."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True  # XLA tries algorithms, too
    # Every shape and kind of gradient of every layout is compiled; at the limit PyTorch would go on
    # without compiling, and not say so.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # Captum says at each call that it sets gradients; Inductor, what a GPU could do besides.
    warnings.filterwarnings("ignore", module="captum|torch|quantus")


def load(folder: Path, network: str) -> Example:
    """Read what `speed.py` wrote."""
    resnet = torchvision.models.get_model(network, weights=None)
    model = Normalised(resnet, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    with np.load(folder / "example.npz") as file:
        images, targets, heatmaps, values = (
            torch.from_numpy(file[name]).to(device()) for name in Example._fields[1:5]
        )
    images, values = (array.permute(0, 3, 1, 2).contiguous() for array in (images, values))
    return Example(model.eval().to(device()), images, targets, heatmaps, values)


def with_variant(of: Example, work: str, variant: str) -> Example:
    """Return the example with its network compiled and laid out, with gradients where needed."""
    return of._replace(model=_laid(of.model, work.startswith("spectra"), *VARIANTS[variant]))


def forget() -> None:
    """Give back the memory of all networks laid out so far."""
    _laid.cache_clear()
    torch.compiler.reset()


@functools.cache  # works that need the same network share it, compiled once for each shape
def _laid(model: nn.Module, slopes: bool, compiled: bool, channels_last: bool) -> nn.Module:
    model = copy.deepcopy(model).requires_grad_(False)
    for kernel in spatial_kernels(model) if slopes else []:
        kernel.requires_grad_(True)
    laid = Laid(model, channels_last).eval()
    return torch.compile(laid, dynamic=False) if compiled else laid


def spatial_kernels(model: nn.Module) -> list[nn.Parameter]:
    """Return the convolutions' weights that are larger than 1x1, in order."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [module.weight for module in convolutions if module.kernel_size != (1, 1)]


def synchronise() -> None:
    """Wait for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
