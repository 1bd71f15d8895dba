"""Hold `practical` against torchvision, number by number.

Every activation of seven networks with random weights, and the gradient of a logit with respect to
the pixels. Exits with status 1 if anything differs by more than rounding explains. README.md says
what the columns mean and where the tolerances come from.
"""

import argparse
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from comparison import ACTIVATIONS, GRADIENTS, Arrays, Row, compare, print_rows, verdict
from jax_resnet import Sequential
from networks import nchw_to_nhwc, nhwc_to_nchw, random_images, to_float64, twins

from practical import attribution, models
from practical._jit import jit  # with the XLA options that the explanations are compiled with

# Name: (count, height, width) of its images. Odd and unequal sides make padding visible.
NETWORKS = {
    "resnet18": (2, 72, 72),
    "resnet34": (2, 97, 75),
    "resnet50": (1, 224, 224),
    "resnet101": (1, 72, 72),
    "resnet152": (1, 72, 72),
    "resnext50_32x4d": (2, 96, 96),
    "wide_resnet50_2": (1, 96, 96),
}


def practical_activations(model: models.Classifier, images: np.ndarray) -> Arrays:
    """Return every activation under torchvision's name for it."""
    return {name: np.asarray(array) for name, array in _activations(model, images).items()}


@jit
def _activations(model: models.Classifier, images: jax.Array) -> dict[str, jax.Array]:
    layers = model.architecture.module().layers
    inputs = (jnp.asarray(images) - model.mean) / model.std
    pooled, state = Sequential(layers[:-1]).apply(
        model.variables, inputs, capture_intermediates=True, mutable=["intermediates"]
    )

    def captured(*place: str) -> jax.Array:
        tree = state["intermediates"]
        for step in place:
            tree = tree[step]
        return tree["__call__"][0]

    found = {"relu": captured("layers_0"), "avgpool": pooled}
    if model.architecture.pool:
        found["maxpool"] = Sequential(layers[:2]).apply(model.variables, inputs)
    for conv, norm, place in model.architecture.convolutions():
        found[conv], found[norm] = captured(*place, "Conv_0"), captured(*place, "BatchNorm_0")
    blocks = [
        f"layer{stage}.{block}"
        for stage, size in enumerate(model.architecture.stage_sizes, start=1)
        for block in range(size)
    ]
    found |= {name: captured(f"layers_{i}") for i, name in enumerate(blocks, start=2)}
    # The last two by the methods that users call, which need not go through the module above.
    return found | {"features()": model.features(images), "logits": model(images)}


def torch_activations(model: torch.nn.Module, images: torch.Tensor) -> Arrays:
    """Return the outputs of the stem, of the blocks and of the layers in these, in order."""
    found: Arrays = {}

    def keep(name: str) -> Callable:
        def hook(_module, _inputs, output):
            # A copy, here and now: the ReLU that comes next works in place.
            found[name] = nchw_to_nhwc(output).copy()

        return hook

    inner = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.MaxPool2d, torch.nn.AdaptiveAvgPool2d)
    handles = [
        module.register_forward_hook(keep(name))
        for name, module in model.resnet.named_modules()
        # A block's own ReLU runs two or three times, so the stem's is the only one kept.
        if isinstance(module, inner) or name == "relu" or _is_block(name)
    ]
    with torch.no_grad():
        logits = model(images)
    for handle in handles:
        handle.remove()
    found["avgpool"] = found["avgpool"][:, 0, 0]
    last = [name for name in found if _is_block(name)][-1]
    return found | {"features()": found[last], "logits": logits.numpy()}


def _is_block(name: str) -> bool:
    return name.startswith("layer") and name.count(".") == 1


def torch_gradient(model: torch.nn.Module, images: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    """Return autograd's derivative of each image's target logit."""
    leaf = images.clone().requires_grad_()
    model(leaf).gather(1, torch.from_numpy(targets)[:, None]).sum().backward()
    assert leaf.grad is not None
    return nchw_to_nhwc(leaf.grad)


def compare_network(name: str) -> list[Row]:
    """Return the comparisons of one network, in the order in which torch computes."""
    pair, images = twins(name), random_images(NETWORKS[name])
    targets = 123 + 321 * np.arange(len(images))

    def ours(model: models.Classifier) -> Arrays:
        slopes = np.asarray(attribution.gradient(model, images, targets))
        return practical_activations(model, images) | {"gradient": slopes}

    def theirs(model: torch.nn.Module, tensors: torch.Tensor) -> Arrays:
        slopes = torch_gradient(model, tensors, targets)
        return torch_activations(model, tensors) | {"gradient": slopes}

    tensors = nhwc_to_nchw(images)
    float32 = ours(pair.practical), theirs(pair.torch, tensors)
    with jax.enable_x64(True):
        float64 = ours(to_float64(pair.practical)), theirs(pair.torch.double(), tensors.double())
    both = zip(float32, float64, strict=True)
    return list(compare(*both, {"gradient": GRADIENTS}, ACTIVATIONS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--all", action="store_true", help="print the layers inside of blocks, too")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads (2)")
    options = parser.parse_args()
    unknown = [name for name in options.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"NETWORK must be one of {', '.join(NETWORKS)}, got {unknown[0]}")
    torch.set_num_threads(options.threads)

    results: dict[str, bool] = {}
    start = time.perf_counter()
    for name in options.networks or NETWORKS:
        rows = compare_network(name)
        count, height, width = NETWORKS[name]
        print(f"\n{name}, {count} of {height}x{width} pixels")
        inside = [row for row in rows if row.name.startswith("layer") and not _is_block(row.name)]
        print_rows(rows, inside=[] if options.all else inside)
        results |= {f"{name} {row.name}": row.good for row in rows}
        print(f"{time.perf_counter() - start:.0f} s so far", flush=True)
    return verdict(results)


if __name__ == "__main__":
    sys.exit(main())
