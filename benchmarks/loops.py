"""The works of `speed.py` in plain PyTorch, as somebody who knows it would write them.

All take images in chunks of the same size as `practical` does, and any two pairs of an image and a
point (a step, a sample, a square) in one chunk.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from layouts import Example, spatial_kernels
from torch import nn
from work import CHUNK, NOISE, flipped, squares

Answer = list[torch.Tensor]


def forward(of: Example, _count: int) -> Answer:
    with torch.inference_mode():
        return [of.model(of.images)]


def gradient(of: Example, _count: int) -> Answer:
    chunks = zip(of.images.split(CHUNK), of.targets.split(CHUNK), strict=True)
    return [torch.cat([_slopes(of.model, *chunk) for chunk in chunks])]


def integrated_gradients(of: Example, steps: int) -> Answer:
    nodes, weights = (_like(of, a) for a in np.polynomial.legendre.leggauss(steps))
    total = torch.zeros_like(of.images)
    for i, k in _pairs(of, steps):
        points = of.images[i] * _last((nodes[k] + 1) / 2)
        total.index_add_(0, i, _last(weights[k] / 2) * _slopes(of.model, points, of.targets[i]))
    return [total * of.images]


def smooth_grad(of: Example, samples: int) -> Answer:
    total = torch.zeros_like(of.images)
    for i, k in _pairs(of, samples):
        images = of.images[i]
        drawn = NOISE * torch.randn_like(images) if of.noise is None else of.noise[i, k]
        total.index_add_(0, i, _slopes(of.model, images + drawn, of.targets[i]))
    return [total / samples]


@torch.inference_mode()
def occlusion(of: Example, parts: int) -> Answer:
    side = of.images.shape[2]
    window, stride, count = squares(side, parts)
    starts = torch.arange(math.isqrt(count), device=of.images.device) * stride
    places = torch.arange(side, device=of.images.device)
    inside = (places >= starts[:, None]) & (places < starts[:, None] + window)
    covered = (inside[:, None, :, None] & inside[None, :, None, :]).flatten(0, 1)
    total = torch.zeros_like(of.images[:, 0])
    for i, k in _pairs(of, count):
        shown = of.images[i].masked_fill(covered[k][:, None], 0)
        total.index_add_(0, i, _logits(of.model, shown, of.targets[i])[:, None, None] * covered[k])
    whole = [
        _logits(of.model, *chunk)
        for chunk in zip(of.images.split(CHUNK), of.targets.split(CHUNK), strict=True)
    ]
    return [torch.cat(whole)[:, None, None] - total / covered.sum(0)]


def deletion_insertion(of: Example, steps: int) -> Answer:
    pixels = of.heatmaps[0].numel()
    cutoffs = [math.floor(pixels * k / steps + 1e-6) for k in range(steps + 1)]
    mean = of.images.mean((2, 3), keepdim=True).expand(of.images.shape)
    ranks = _ranks(of.heatmaps[:, None])
    return [
        _curve(of, of.images, mean, ranks, cutoffs),
        _curve(of, _blurred(of.images), of.images, ranks, cutoffs),
    ]


def pixel_flipping(of: Example, steps: int) -> Answer:
    step, count = flipped(of.images.shape[2], steps)
    cutoffs = [step * k for k in range(1, count + 1)]
    black = of.images.amin((1, 2, 3), keepdim=True).expand(of.images.shape)
    return [_curve(of, of.images, black, _ranks(of.values), cutoffs)]


def spectra(of: Example, _count: int) -> Answer:
    """ExplainFix' spectra with saliency, all images one minibatch."""
    kernels = spatial_kernels(of.model)
    energies = _energies(kernels, _kernel_slopes(of, kernels, of.images, of.targets))
    return [part for kernel, ed in zip(kernels, energies, strict=True) for part in _all(kernel, ed)]


def spectra_images(of: Example, _count: int) -> Answer:
    """The same with minibatches of one image, and their mean."""
    kernels = spatial_kernels(of.model)
    rows = [
        _energies(kernels, _kernel_slopes(of, kernels, *one))
        for one in zip(of.images.split(1), of.targets.split(1), strict=True)
    ]
    means = [torch.stack(layer).mean(0) for layer in zip(*rows, strict=True)]
    return [part for kernel, ed in zip(kernels, means, strict=True) for part in _all(kernel, ed)]


def _pairs(of: Example, points: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    pairs = torch.arange(len(of.images) * points, device=of.images.device)
    for chunk in pairs.split(CHUNK):
        yield chunk // points, chunk % points


def _slopes(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    images = images.detach().requires_grad_()
    return torch.autograd.grad(_logits(model, images, targets).sum(), images)[0]


def _logits(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return model(images).gather(1, targets[:, None])[:, 0]


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).argsort(1, descending=True).argsort(1).reshape(values.shape)


@torch.inference_mode()
def _curve(
    of: Example, first: torch.Tensor, last: torch.Tensor, ranks: torch.Tensor, cutoffs: list[int]
) -> torch.Tensor:
    cuts = torch.tensor(cutoffs, device=ranks.device)
    scores = []
    for i, k in _pairs(of, len(cutoffs)):
        shown = torch.where(ranks[i] < _last(cuts[k]), last[i], first[i])
        scores.append(of.model(shown).softmax(1).gather(1, of.targets[i][:, None])[:, 0])
    return torch.cat(scores).reshape(len(of.images), len(cutoffs))


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """Return the images under an 11x11 Gaussian of sigma 5, edges repeated."""
    weights = torch.exp(-0.5 * (torch.arange(-5.0, 6.0, device=images.device) / 5) ** 2)
    rows = (weights / weights.sum()).expand(3, 1, 1, 11)
    padded = nn.functional.pad(images, (5, 5, 5, 5), mode="replicate")
    across = nn.functional.conv2d(padded, rows, groups=3)
    return nn.functional.conv2d(across, rows.transpose(2, 3), groups=3).clamp(0, 1)


def _kernel_slopes(of: Example, kernels: list[nn.Parameter], *chunk: torch.Tensor) -> Answer:
    return list(torch.autograd.grad(_logits(of.model, *chunk).sum(), kernels))


@torch.no_grad()
def _energies(kernels: list[nn.Parameter], slopes: Answer) -> Answer:
    """Return each layer's e^d: |filter on basis filter|, weighted by the sum of |slope|."""
    energies = []
    for kernel, slope in zip(kernels, slopes, strict=True):
        side = kernel.shape[2]
        basis = torch.from_numpy(_dct(side)).to(kernel)
        weights = slope.abs().sum((2, 3)).reshape(1, -1)
        energies.append((weights @ (kernel.reshape(-1, side**2) @ basis.T).abs())[0])
    return energies


def _dct(side: int) -> np.ndarray:
    """Return the orthonormal DCT-II basis of square filters, one a row."""
    n = np.arange(side)
    line = np.sqrt(2 / side) * np.cos(np.pi * (n + 0.5) * n[:, None] / side)
    line[0] /= np.sqrt(2)
    return np.einsum("iy,jx->ijyx", line, line).reshape(side**2, side**2)


@torch.no_grad()
def _all(kernel: nn.Parameter, ed: torch.Tensor) -> Answer:
    """Return e^d in diagonal order, e^1 and e^0."""
    side = kernel.shape[2]
    roots = ed.sqrt().reshape(side, side)
    rows, columns = roots.sum(1), roots.sum(0)
    order = sorted(
        itertools.product(range(side), repeat=2), key=lambda p: (sum(p), -abs(p[0] - p[1]), p[0])
    )
    places = torch.tensor([i * side + j for i, j in order], device=ed.device)
    return [ed[places], torch.cat([rows, columns]), rows + columns]


def _like(of: Example, array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(of.images)


def _last(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
