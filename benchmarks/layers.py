"""Time a network's layers one by one, in turn with PyTorch's: why `speed.py` finds what it finds.

    .venv-bench/bin/python benchmarks/layers.py [resnet18:160x8 ...] [--rounds 10]

Each kind of convolution, the max-pool, and the whole network, there and back to its input. What
the layers leave of the whole is elementwise: batch norms, ReLUs, sums, and copies. PyTorch is
channels-last and eager.
"""

import argparse
import collections
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import layouts
import machine
import numpy as np
import ours
import torch
from networks import nchw_to_nhwc, nhwc_to_nchw, random_images, twins
from speed import timed
from tables import markdown
from torch import nn
from work import CASES, Case, parse_case

from practical._jit import jit
from practical.models.convolution import convolve
from practical.models.pooling import max_pool

HEADER = [
    "layer", "times", "there: practical", "PyTorch", "ratio", "GFLOP/s", "PyTorch's",
    "back: practical", "PyTorch", "ratio", "GFLOP/s", "PyTorch's",
]  # fmt: skip


class Kind(NamedTuple):
    """A convolution, or the max-pool."""

    inputs: tuple[int, int, int, int]  # (B, C, H, W)
    outputs: tuple[int, int, int, int]
    side: int  # of the window
    stride: int
    groups: int
    pool: bool

    @property
    def flops(self) -> int:
        """Operations; the gradient in the input takes as many."""
        if self.pool:
            return 0
        return 2 * int(np.prod(self.outputs)) * self.side**2 * self.inputs[1] // self.groups

    def __str__(self) -> str:
        _, channels, height, width = self.inputs
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        what = "max-pool" if self.pool else f"to {self.outputs[1]}"
        return f"{self.side}x{self.side}{stride}{groups}, {height}x{width}x{channels} {what}"


class Times(NamedTuple):
    """Seconds of a layer, ours and PyTorch's."""

    forward: tuple[float, float]
    back: tuple[float, float]  # the gradient in the input, without the forward


def main() -> None:
    """Print a table a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", type=parse_case, default=[CASES["resnet18"]],
                        help="resnet18, resnet50, or NETWORK:SIDExIMAGES")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    layouts.set_up("highest")
    ours.set_precision("highest")
    for name, value in machine.describe("highest").items():
        print(f"- {name}: {value}")
    for case in options.cases:
        print(f"\n{case.network}, {case.images} images of {case.side}x{case.side} pixels\n")
        print("\n".join(table(case, options.rounds)), flush=True)


def table(case: Case, rounds: int) -> list[str]:
    """Return the lines of a case's table: a row a kind of layer, and then all of the network."""
    pair, images = twins(case.network), random_images((case.images, case.side, case.side))
    network = pair.torch.requires_grad_(False).to(layouts.device())
    network = layouts.Laid(network, channels_last=True)
    rows, sums, total = [], np.zeros((2, 2)), 0
    for kind, count in kinds(network, last(nhwc_to_nchw(images))).items():
        times = layer(kind, rounds)
        rows.append(row(str(kind), count, times, kind.flops))
        sums += count * np.array(times)
        total += count * kind.flops
    rows.append(row("all of these", 1, Times(*map(tuple, sums)), total))
    rows.append(row("whole network", 1, whole(pair.practical, network, images, rounds), total))
    return markdown(HEADER, rows)


def kinds(network: nn.Module, images: torch.Tensor) -> collections.Counter[Kind]:
    """Return the layers that images go through, and how often each kind of them is there."""
    found: collections.Counter[Kind] = collections.Counter()

    def note(module: Any, given: tuple[torch.Tensor], answer: torch.Tensor) -> None:
        pool = isinstance(module, nn.MaxPool2d)
        side, stride = (
            one if isinstance(one, int) else one[0] for one in (module.kernel_size, module.stride)
        )
        groups = 1 if pool else module.groups
        found[Kind(tuple(given[0].shape), tuple(answer.shape), side, stride, groups, pool)] += 1

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d)
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def layer(kind: Kind, rounds: int) -> Times:
    """Time one layer on values of a normal distribution."""
    draw = torch.Generator().manual_seed(0)
    kernel = kind.outputs[1], kind.inputs[1] // kind.groups, kind.side, kind.side
    maps, slopes, kernel = (
        torch.randn(shape, generator=draw) for shape in (kind.inputs, kind.outputs, kernel)
    )
    edges = ((kind.side // 2, kind.side // 2),) * 2

    def layer_of_ours(maps, kernel):
        if kind.pool:
            return max_pool(maps)
        return convolve(maps, kernel, (kind.stride, kind.stride), edges, kind.groups)

    def layer_of_theirs(maps, kernel):
        if kind.pool:
            return nn.functional.max_pool2d(maps, kind.side, kind.stride, kind.side // 2)
        padding = kind.side // 2
        return nn.functional.conv2d(
            maps, kernel, stride=kind.stride, padding=padding, groups=kind.groups
        )

    return both(
        (layer_of_ours, (nhwc(maps), jnp.asarray(kernel.permute(2, 3, 1, 0).numpy()))),
        (layer_of_theirs, (last(maps), last(kernel))),
        (nhwc(slopes), last(slopes)),
        rounds,
    )


def whole(model: Any, network: nn.Module, images: np.ndarray, rounds: int) -> Times:
    """Time the network from images to the logits of the first class."""
    return both(
        (lambda images, model: model(images)[:, 0], (jnp.asarray(images), model)),
        (lambda images, network: network(images)[:, 0], (last(nhwc_to_nchw(images)), network)),
        (jnp.ones(len(images)), torch.ones(len(images), device=layouts.device())),
        rounds,
    )


def both(
    mine: tuple[Callable, tuple[Any, Any]],
    theirs: tuple[Callable, tuple[Any, Any]],
    slopes: tuple[jax.Array, torch.Tensor],
    rounds: int,
) -> Times:
    """Time two functions of an input and something else, there and back to the input.

    The way back starts with what the forward has kept.
    """
    (function, given), (their_function, their_given) = mine, theirs
    forward = jit(function)
    pull = jit(lambda maps, other: jax.vjp(lambda maps: function(maps, other), maps)[1])(*given)
    back = jit(lambda pull, slopes: pull(slopes)[0])
    maps = their_given[0].detach().requires_grad_()
    answer = their_function(maps, their_given[1])

    def there() -> None:
        with torch.inference_mode():
            their_function(*their_given)
        layouts.synchronise()

    def and_back() -> None:
        torch.autograd.grad(answer, maps, slopes[1], retain_graph=True)
        layouts.synchronise()

    calls = {
        "forward": (lambda: jax.block_until_ready(forward(*given)), there),
        "back": (lambda: jax.block_until_ready(back(pull, slopes[0])), and_back),
    }
    return Times(**{name: in_turn(*pair, rounds) for name, pair in calls.items()})


def in_turn(mine: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both."""
    mine(), theirs()
    seconds = [(timed(mine), timed(theirs)) for _ in range(rounds)]
    first, second = (statistics.median(one) for one in zip(*seconds, strict=True))
    return first, second


def row(name: str, count: int, times: Times, flops: int) -> list[str]:
    """Return a row's cells."""
    cells = [name, str(count)]
    for mine, theirs in times:
        cells += [f"{1e3 * mine:.2f} ms", f"{1e3 * theirs:.2f} ms", f"{mine / theirs:.2f}"]
        cells += [f"{flops / time / 1e9:.0f}" if flops else "" for time in (mine, theirs)]
    return cells


def nhwc(maps: torch.Tensor) -> jax.Array:
    return jnp.asarray(nchw_to_nhwc(maps))


def last(maps: torch.Tensor) -> torch.Tensor:
    return maps.to(layouts.device()).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
