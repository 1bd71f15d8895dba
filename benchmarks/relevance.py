"""Layer-wise relevance against Captum's LRP, and against what it is equal to.

Captum's LRP goes through modules that stand in a row, each used once. So it is shown ResNets whose
skip connections are silent, folded into such a row; the sums of real ones are held against the
gradient, in `explanations`.
"""

import copy
from collections.abc import Iterator

import captum.attr
import numpy as np
import torch
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from comparison import Check, check
from networks import Twins, nchw_to_nhwc, nhwc_to_nchw, random_images
from torch import nn

from practical import attribution, models

WIDTHS = 12, 16, 24  # of the stages; the stem has 8 channels
STEM, CLASSES, GAMMA = 8, 6, 0.25
EPSILON = 1e-5  # of a batch norm


class Chain(nn.Module):
    """Convolutions and ReLUs in a row, after the stem's ReLU: pool, stages, mean, dense layer."""

    def __init__(self, layers: list[nn.Module], dense: nn.Linear):
        super().__init__()
        self.layers, self.mean, self.dense = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), dense

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.dense(self.mean(self.layers(maps)).flatten(1))


def relevance_checks(pair: Twins, images: np.ndarray, targets: np.ndarray) -> Iterator[Check]:
    """Yield all comparisons."""
    double = copy.deepcopy(pair.torch).double()
    logits = double(nhwc_to_nchw(images).double())[np.arange(len(images)), targets]
    for rule in "gamma", "epsilon":
        maps = attribution.layerwise_relevance(pair.practical, images, targets, rule=rule)
        sums = np.asarray(maps, np.float64).sum((1, 2, 3))
        yield check(f"relevance, {rule}, its sum", "the logit", sums, logits.detach().numpy(), 1e-4)

    model, stem, row = _silent_skips()
    images, targets = random_images((2, 40, 36)), np.array([1, 4])
    theirs = _captum(stem, row, images, targets)
    for rule, expected in theirs.items():
        ours = attribution.layerwise_relevance(
            model, images, targets, rule=rule, gamma=GAMMA, epsilon=0.0, bias="absorb"
        )
        yield check(f"relevance, {rule}, skips silent", "Captum LRP", ours, expected, 1e-3)


def _silent_skips() -> tuple[models.Classifier, nn.Conv2d, Chain]:
    """Return a ResNet whose skips are all 0; its stem, folded, and the rest in a row, in float64.

    Biases are below 0: Captum's gamma rule favours what contributes above 0, but no biases.
    """
    generator = torch.Generator().manual_seed(3)
    state: dict[str, torch.Tensor] = {}

    def convolution(conv: str, norm: str, into: int, out: int, side: int, stride: int) -> nn.Conv2d:
        draw = torch.rand(out, into, side, side, generator=generator) * 2 - 1
        weight = draw * (6 / draw[0].numel()) ** 0.5
        bias = -0.2 * torch.rand(out, generator=generator)
        state[f"{conv}.weight"] = weight
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.ones(out), bias
        state[f"{norm}.running_mean"] = torch.zeros(out)
        state[f"{norm}.running_var"] = torch.ones(out)
        folded = nn.Conv2d(into, out, side, stride, side // 2).double()
        folded.weight.data = weight.double() / (1 + EPSILON) ** 0.5
        folded.bias.data = bias.double()
        return folded

    stem = convolution("conv1", "bn1", 3, STEM, 7, 2)
    layers: list[nn.Module] = [nn.MaxPool2d(3, 2, 1)]
    into = STEM
    for stage, out in enumerate(WIDTHS, start=1):
        name, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        layers += [convolution(f"{name}.conv1", f"{name}.bn1", into, out, 3, stride), nn.ReLU()]
        layers += [convolution(f"{name}.conv2", f"{name}.bn2", out, out, 3, 1), nn.ReLU()]
        skip = f"{name}.downsample"
        convolution(f"{skip}.0", f"{skip}.1", into, out, 1, stride)
        for part in "weight", "bias":
            state[f"{skip}.1.{part}"] = torch.zeros(out)
        into = out
    dense = nn.Linear(into, CLASSES)
    dense.weight.data = torch.rand(CLASSES, into, generator=generator) * 2 - 1
    dense.bias.data = torch.rand(CLASSES, generator=generator)
    state |= {f"fc.{name}": tensor.data.clone() for name, tensor in dense.named_parameters()}
    model = models.from_torchvision({name: tensor.numpy() for name, tensor in state.items()})
    return model, stem, Chain(layers, dense.double())


def _captum(
    stem: nn.Conv2d, row: Chain, images: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the pixels' relevance by both rules."""
    mean, std = (
        torch.tensor(np.float32(values)).double()[:, None, None]
        for values in (models.IMAGENET_MEAN, models.IMAGENET_STD)
    )
    pixels, target = (nhwc_to_nchw(images).double() - mean) / std, torch.from_numpy(targets)
    maps = stem(pixels).relu().detach()

    whole = nn.Sequential(stem, nn.ReLU(), row)
    _set_rules(whole, EpsilonRule)
    found = {"epsilon": captum.attr.LRP(whole).attribute(pixels.requires_grad_(), target)}

    _set_rules(row, lambda: GammaRule(GAMMA))
    above = captum.attr.LRP(row).attribute(maps.requires_grad_(), target).detach()
    low, high = (0 - mean) / std + 0 * pixels, (1 - mean) / std + 0 * pixels
    found["gamma"] = _box(stem, pixels, low, high, above)
    return {rule: nchw_to_nhwc(relevance) for rule, relevance in found.items()}


def _set_rules(network: nn.Module, rule) -> None:
    """Give convolutions a `rule`, everything else the epsilon rule."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.rule = rule()
        elif isinstance(module, nn.Linear | nn.MaxPool2d | nn.AdaptiveAvgPool2d):
            module.rule = EpsilonRule()


def _box(
    stem: nn.Conv2d,
    pixels: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    above: torch.Tensor,
) -> torch.Tensor:
    """Return the pixels' relevance by the box rule (Montavon et al. 2019, table 10.1)."""
    weight = stem.weight.detach()
    pixels, low, high = (part.detach().requires_grad_() for part in (pixels, low, high))

    def convolve(maps: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(maps, kernel, stride=stem.stride, padding=stem.padding)

    distances = (
        convolve(pixels, weight)
        - convolve(low, weight.clamp(min=0))
        - convolve(high, weight.clamp(max=0))
    )
    (distances * (above / distances).detach()).sum().backward()
    return sum(part * part.grad for part in (pixels, low, high)).detach()
