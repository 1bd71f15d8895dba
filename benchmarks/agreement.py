"""Hold `practical` against torchvision and Captum, number by number.

Every activation of five networks with random weights, the gradient of a logit with respect to
the pixels, and for ResNet-18 the explanations as well. Exits with status 1 if anything differs
by more than rounding explains. README.md says what the columns mean and where the tolerances
come from.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import captum.attr
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax_resnet import Sequential
from networks import nchw_to_nhwc, nhwc_to_nchw, random_images, to_float64, twins

from practical import attribution, models
from practical._jit import jit  # with the XLA options that the explanations are compiled with
from practical.attribution.gradients import _integrated_gradients as integrated_gradients_core

# Name: (count, height, width) of its images. Odd and unequal sides make padding visible.
NETWORKS = {
    "resnet18": (2, 72, 72),
    "resnet34": (2, 97, 75),
    "resnet50": (1, 224, 224),
    "resnext50_32x4d": (2, 96, 96),
    "wide_resnet50_2": (1, 96, 96),
}
EXPLAINED = "resnet18"  # the network whose explanations are compared with Captum's
COLOUR = (0.5, 0.4, 0.3)  # a baseline that is neither 0 nor the mean

Arrays = dict[str, np.ndarray]


class Tolerance(NamedTuple):
    """The largest differences allowed, in units of the array's root mean square."""

    float32_max: float
    float32_rms: float  # root mean square over the array
    float64_max: float


ACTIVATIONS = Tolerance(1e-4, 1e-4, 1e-11)
# A pre-activation that rounding moves over 0, or another winner in a max-pool's window, changes a
# few pixels by any amount. The mean still tells, and in float64 it does not happen.
GRADIENTS = Tolerance(np.inf, 5e-2, 1e-5)
TOLERANCES = {
    "gradient": GRADIENTS,
    "saliency": GRADIENTS,
    "gradient x input": GRADIENTS,
    "integrated gradients": GRADIENTS,
    "occlusion": Tolerance(5e-4, 5e-4, 1e-5),  # a small difference of large logits
}


class Row(NamedTuple):
    """One comparison. All but the first difference are over the array's root mean square."""

    name: str
    shape: tuple[int, ...]
    difference: float  # float32: largest |practical - torch|, as it is
    float32_max: float
    float32_rms: float
    torch_max: float  # largest |torch's float32 - torch's float64|: rounding alone
    float64_max: float  # largest |practical - torch|
    good: bool


def compare(ours: tuple[Arrays, Arrays], theirs: tuple[Arrays, Arrays]) -> Iterator[Row]:
    """Compare arrays of the same names, each library's in (float32, float64)."""
    if ours[0].keys() != theirs[0].keys():
        raise ValueError(f"compared different things: {ours[0].keys() ^ theirs[0].keys()}")
    for name, exact in theirs[1].items():
        scale = _rms(exact)
        float32 = _difference(ours[0][name], theirs[0][name])
        rounding = _difference(theirs[0][name], exact)
        float64 = _difference(ours[1][name], exact)
        errors = float32.max() / scale, _rms(float32) / scale, float64.max() / scale
        allowed = TOLERANCES.get(name, ACTIVATIONS)
        good = all(error <= most for error, most in zip(errors, allowed, strict=True))  # NaN is not
        yield Row(
            name, exact.shape, float32.max(), *errors[:2], rounding.max() / scale, errors[2], good
        )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    if ours.shape != theirs.shape:
        return np.array(np.inf)
    return np.abs(ours.astype(np.float64) - theirs.astype(np.float64))


def _rms(array: np.ndarray) -> np.floating:
    return np.sqrt(np.mean(np.square(array)))


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


def practical_explanations(
    model: models.Classifier, images: np.ndarray, targets: np.ndarray, *, all_methods: bool
) -> Arrays:
    """Return what `practical.attribution` says."""
    of = (model, images, targets)
    found = {"gradient": attribution.gradient(*of)}
    if all_methods:
        found |= {
            "saliency": attribution.saliency(*of),
            "gradient x input": attribution.gradient_x_input(*of),
            "integrated gradients": _integrated_gradients(*of),
            "grad-cam, signed": attribution.grad_cam(*of, relu=False, upsample=False),
            "grad-cam": attribution.grad_cam(*of),
            "occlusion": attribution.occlusion(
                *of, baseline=np.float32(COLOUR), window=20, stride=12
            ),
        }
    return {name: np.asarray(array) for name, array in found.items()}


def _integrated_gradients(
    model: models.Classifier, images: np.ndarray, targets: np.ndarray
) -> jax.Array:
    if model.mean.dtype == jnp.float32:
        return attribution.integrated_gradients(
            model, images, targets, baseline=np.float32(COLOUR), steps=50
        )
    # The public function rounds the path's points to float32, and the ReLUs that this moves over
    # their kink would hide whether the rule is Captum's. Its core takes them as they are.
    exact = jnp.asarray(images, jnp.float64)
    start = jnp.broadcast_to(jnp.asarray(np.float32(COLOUR), jnp.float64), exact.shape)
    nodes, weights = np.polynomial.legendre.leggauss(50)
    return integrated_gradients_core(
        model, exact, jnp.asarray(targets), start, (nodes + 1) / 2, weights / 2, chunk_size=32
    )


def captum_explanations(
    model: torch.nn.Module, images: torch.Tensor, targets: np.ndarray, *, all_methods: bool
) -> Arrays:
    """Return what Captum says, in the same units and axes."""
    target = torch.from_numpy(targets)
    colour = torch.tensor(COLOUR).to(images)[:, None, None].expand(images.shape).contiguous()
    leaf = images.clone().requires_grad_()
    model(leaf).gather(1, target[:, None]).sum().backward()  # autograd itself, without Captum
    found = {"gradient": leaf.grad}
    if all_methods:
        of = {"inputs": images.clone().requires_grad_(), "target": target}
        layer = captum.attr.LayerGradCam(model, model.resnet.layer4)
        cam = layer.attribute(**of, relu_attributions=True)
        found |= {
            "saliency": captum.attr.Saliency(model).attribute(**of).amax(1),
            "gradient x input": captum.attr.InputXGradient(model).attribute(**of),
            "integrated gradients": captum.attr.IntegratedGradients(model).attribute(
                **of, baselines=colour, n_steps=50, method="gausslegendre", internal_batch_size=25
            ),
            "grad-cam, signed": layer.attribute(**of)[:, 0],
            "grad-cam": captum.attr.LayerAttribution.interpolate(
                cam, tuple(images.shape[2:]), "bilinear"
            )[:, 0],
            # All three channels are hidden together, so they hold the same map.
            "occlusion": captum.attr.Occlusion(model).attribute(
                images, (3, 20, 20), (3, 12, 12), colour, target, perturbations_per_eval=8
            )[:, 0],
        }
    return {name: nchw_to_nhwc(tensor) for name, tensor in found.items()}


def compare_network(name: str) -> list[Row]:
    """Return the comparisons of one network, in the order in which torch computes."""
    pair, images = twins(name), random_images(NETWORKS[name])
    targets = 123 + 321 * np.arange(len(images))
    every = name == EXPLAINED

    def ours(model: models.Classifier) -> Arrays:
        explanations = practical_explanations(model, images, targets, all_methods=every)
        return practical_activations(model, images) | explanations

    def theirs(model: torch.nn.Module, tensors: torch.Tensor) -> Arrays:
        explanations = captum_explanations(model, tensors, targets, all_methods=every)
        return torch_activations(model, tensors) | explanations

    tensors = nhwc_to_nchw(images)
    float32 = ours(pair.practical), theirs(pair.torch, tensors)
    with jax.enable_x64(True):
        float64 = ours(to_float64(pair.practical)), theirs(pair.torch.double(), tensors.double())
    return list(compare(*zip(float32, float64, strict=True)))


def print_table(name: str, rows: Sequence[Row], *, every: bool) -> None:
    """Print one network's rows; those inside of blocks only if asked for, or if they are bad."""
    count, height, width = NETWORKS[name]
    print(f"\n{name}, {count} of {height}x{width} pixels")
    print(f"{'layer':<22}{'shape':<16}{'max abs':>9}{'max':>9}{'rms':>9}{'torch':>9}{'float64':>9}")
    inside = [row for row in rows if row.name.startswith("layer") and not _is_block(row.name)]
    for row in rows:
        if every or not row.good or row not in inside:
            _print_row(row)
    if not every and inside:
        print(f"{len(inside)} convolutions and batch norms inside of the blocks, the worst:")
        _print_row(max(inside, key=lambda row: (not row.good, row.float64_max)))


def _print_row(row: Row) -> None:
    numbers = "".join(f"{number:>9.1e}" for number in row[2:-1])
    shape = "x".join(map(str, row.shape))
    print(f"{row.name:<22}{shape:<16}{numbers}{'' if row.good else '  BEYOND TOLERANCE'}")


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

    bad: list[str] = []
    total, start = 0, time.perf_counter()
    for name in options.networks or NETWORKS:
        rows = compare_network(name)
        print_table(name, rows, every=options.all)
        bad += [f"{name} {row.name}" for row in rows if not row.good]
        total += len(rows)
        print(f"{time.perf_counter() - start:.0f} s so far", flush=True)
    print()
    if bad:
        print(f"DISAGREEMENT: {len(bad)} of {total} beyond tolerance, first {', '.join(bad[:3])}")
        return 1
    print(f"agreement: {total} comparisons, none beyond tolerance")
    return 0


if __name__ == "__main__":
    sys.exit(main())
