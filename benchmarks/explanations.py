"""Hold `practical.attribution` against Captum, and what Captum lacks against its definition.

On ResNet-18 with random weights, and on a smaller ResNet where the network is asked thousands of
times. Random methods are given the random numbers that `practical` draws. Exits with status 1 if
anything differs by more than rounding explains. README.md says what the columns mean and where the
tolerances come from.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from unittest import mock

import captum.attr
import jax
import jax.numpy as jnp
import numpy as np
import torch
from comparison import (
    ACTIVATIONS,
    GRADIENTS,
    Arrays,
    Check,
    Tolerance,
    check_means,
    compare,
    print_checks,
    print_rows,
    verdict,
)
from hiding import hiding_checks
from networks import (
    Twins,
    nchw_to_nhwc,
    nhwc_to_nchw,
    random_images,
    small_twins,
    to_float64,
    twins,
)
from relevance import relevance_checks
from watching import Watched, seen

from practical import attribution, models
from practical.attribution.paths import _integrated_gradients as integrated_gradients_core

COLOUR = (0.5, 0.4, 0.3)  # a baseline that is neither 0 nor the mean
NOISE, SAMPLES = 0.15, 4  # copies of each image; few, for float64 is slow
RUNS, DRAWS = 16, 8  # independent runs of each library, and copies of each image in a run

TOLERANCES = dict.fromkeys(
    [
        "saliency",
        "gradient x input",
        "integrated gradients",
        "guided backprop",
        "guided grad-cam",
        "smooth grad",
        "squaregrad",
        "vargrad",
        "expected gradients",
        "relevance, epsilon rule",
    ],
    GRADIENTS,
)
TOLERANCES["occlusion"] = Tolerance(5e-4, 5e-4, 1e-5)  # a small difference of large logits

# The moments of many noisy gradients, and Captum's names for them.
TUNNELS = {
    "smooth grad": (attribution.smooth_grad, "smoothgrad"),
    "squaregrad": (attribution.squaregrad, "smoothgrad_sq"),
    "vargrad": (attribution.vargrad, "vargrad"),
}


def plain(model: models.Classifier, images: np.ndarray, targets: np.ndarray) -> Arrays:
    """Return what `practical` says where nothing is random."""
    of = (model, images, targets)
    found = {
        "saliency": attribution.saliency(*of),
        "gradient x input": attribution.gradient_x_input(*of),
        "integrated gradients": _integrated_gradients(*of),
        "relevance, epsilon rule": attribution.layerwise_relevance(
            *of, rule="epsilon", epsilon=0.0, bias="absorb"
        ),
        "guided backprop": attribution.guided_backprop(*of),
        "guided grad-cam": attribution.guided_grad_cam(*of),
        "grad-cam, signed": attribution.grad_cam(*of, relu=False, upsample=False),
        "grad-cam": attribution.grad_cam(*of),
        "occlusion": attribution.occlusion(*of, baseline=np.float32(COLOUR), window=20, stride=12),
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


def captum_plain(model: torch.nn.Module, images: torch.Tensor, targets: np.ndarray) -> Arrays:
    """Return what Captum says, in the same units and axes."""
    target = torch.from_numpy(targets)
    colour = torch.tensor(COLOUR).to(images)[:, None, None].expand(images.shape).contiguous()
    of = {"inputs": images.clone().requires_grad_(), "target": target}
    layer = captum.attr.LayerGradCam(model, model.resnet.layer4)
    cam = layer.attribute(**of, relu_attributions=True)
    found = {
        "saliency": captum.attr.Saliency(model).attribute(**of).amax(1),
        "gradient x input": captum.attr.InputXGradient(model).attribute(**of),
        "integrated gradients": captum.attr.IntegratedGradients(model).attribute(
            **of, baselines=colour, n_steps=50, method="gausslegendre", internal_batch_size=25
        ),
        # Biases aside, the epsilon rule is the gradient times what the network is shown.
        "relevance, epsilon rule": (images - model.mean)
        * captum.attr.Saliency(model).attribute(**of, abs=False),
        "guided backprop": captum.attr.GuidedBackprop(model).attribute(**of),
        "guided grad-cam": captum.attr.GuidedGradCam(model, model.resnet.layer4).attribute(
            **of, interpolate_mode="bilinear"
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


def noisy(pair: Twins, images: np.ndarray, targets: np.ndarray) -> Iterator[tuple[str, ...]]:
    """Yield the moments of noisy gradients by name, ours and Captum's over the same copies."""
    tensors, target = _tensors(pair, images), torch.from_numpy(targets)
    watched, copies = Watched(pair.practical), len(images) * SAMPLES
    for name, (method, kind) in TUNNELS.items():
        options = {"noise": NOISE, "samples": SAMPLES, "chunk_size": copies}
        ours = np.asarray(method(watched, images, targets, **options))
        shown = nhwc_to_nchw(seen()[-copies:])  # vargrad looks at the images themselves first
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(pair.torch))
        with mock.patch.object(tunnel, "_add_noise_to_input", lambda *_, shown=shown: shown):
            theirs = tunnel.attribute(
                tensors, nt_type=kind, nt_samples=SAMPLES, target=target, abs=False
            )
        yield name, ours, nchw_to_nhwc(theirs)


def expected(
    pair: Twins, images: np.ndarray, targets: np.ndarray, references: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return expected gradients, ours and Captum's GradientShap over the same points."""
    copies = len(images) * SAMPLES
    ours = attribution.expected_gradients(
        Watched(pair.practical), images, targets, references=references, samples=SAMPLES,
        chunk_size=copies,
    )  # fmt: skip
    which, at = _places(seen(), np.repeat(images, SAMPLES, 0), references)
    with (
        mock.patch("numpy.random.choice", return_value=which),
        mock.patch("numpy.random.uniform", return_value=at),
    ):
        theirs = captum.attr.GradientShap(pair.torch).attribute(
            _tensors(pair, images), _tensors(pair, references), n_samples=SAMPLES, stdevs=0.0,
            target=torch.from_numpy(targets),
        )  # fmt: skip
    return np.asarray(ours), nchw_to_nhwc(theirs)


def _places(
    points: np.ndarray, images: np.ndarray, references: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return on the way from which reference each point lies, and how far along."""
    points, images, references = (a.astype(np.float64) for a in (points, images, references))
    ways = images[:, None] - references  # (points, references, H, W, C)
    gone = points[:, None] - references
    at = (gone * ways).sum((2, 3, 4)) / (ways * ways).sum((2, 3, 4))
    off = ((gone - at[:, :, None, None, None] * ways) ** 2).sum((2, 3, 4))
    which = off.argmin(1)
    return which, at[np.arange(len(at)), which]


def _tensors(pair: Twins, images: np.ndarray) -> torch.Tensor:
    return nhwc_to_nchw(images).to(pair.torch.mean.dtype)


def same_numbers(pair: Twins, images: np.ndarray, targets: np.ndarray) -> tuple[Arrays, Arrays]:
    """Return all gradient methods in the precision of the pair, ours and Captum's."""
    ours = plain(pair.practical, images, targets)
    theirs = captum_plain(pair.torch, _tensors(pair, images), targets)
    for name, one, other in noisy(pair, images, targets):
        ours[name], theirs[name] = one, other
    references = random_images((5, *images.shape[1:3]))[len(images) :]
    ours["expected gradients"], theirs["expected gradients"] = expected(
        pair, images, targets, references
    )
    return ours, theirs


def own_numbers(pair: Twins, images: np.ndarray, targets: np.ndarray) -> Iterator[Check]:
    """Yield comparisons of means, each library with random numbers of its own."""
    tensors, target = _tensors(pair, images), torch.from_numpy(targets)
    references = random_images((5, *images.shape[1:3]))[len(images) :]

    def ours(method: Callable, **options) -> np.ndarray:
        options |= {"samples": DRAWS, "chunk_size": len(images) * DRAWS}
        keys = [jax.random.key(run) for run in range(RUNS)]
        return np.stack([method(pair.practical, images, targets, key=k, **options) for k in keys])

    def theirs(explain: Callable[[], torch.Tensor]) -> np.ndarray:
        np.random.seed(0)  # noqa: NPY002 - what GradientShap draws from
        torch.manual_seed(0)
        return np.stack([nchw_to_nhwc(explain()) for _ in range(RUNS)])

    for name in "smooth grad", "vargrad":
        method, kind = TUNNELS[name]
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(pair.torch))
        yield check_means(
            name, "Captum NoiseTunnel",
            ours(method, noise=NOISE),
            theirs(lambda kind=kind, tunnel=tunnel: tunnel.attribute(
                tensors, nt_type=kind, nt_samples=DRAWS, stdevs=NOISE, target=target, abs=False
            )),
            1.5,
        )  # fmt: skip
    yield check_means(
        "expected gradients", "Captum GradientShap",
        ours(attribution.expected_gradients, references=references),
        theirs(lambda: captum.attr.GradientShap(pair.torch).attribute(
            tensors, _tensors(pair, references), n_samples=DRAWS, stdevs=0.0, target=target
        )),
        1.5,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (1)")
    torch.set_num_threads(parser.parse_args().threads)
    # Captum says at each call that it sets hooks and gradients; JAX, that sums stay in float32.
    warnings.filterwarnings("ignore", module="captum")
    warnings.filterwarnings("ignore", "scatter inputs have incompatible types", FutureWarning)
    start = time.perf_counter()

    def took() -> None:
        print(f"{time.perf_counter() - start:.0f} s so far", flush=True)

    pair, images = twins("resnet18"), random_images((2, 72, 72))
    targets = np.array([123, 444])
    print("\nresnet18, 2 of 72x72 pixels; the same random numbers, or none")
    single = same_numbers(pair, images, targets)
    with jax.enable_x64(True):
        exact = Twins(pair.torch.double(), to_float64(pair.practical))
        double = same_numbers(exact, images, targets)
    random = {*TUNNELS, "expected gradients"}
    rows = list(compare(*zip(single, double, strict=True), TOLERANCES, ACTIVATIONS, random))
    print_rows(rows, other="Captum")
    took()

    of = small_twins(), random_images((2, 30, 26)), np.array([3, 8])
    print("\nA small ResNet, 2 of 30x26 pixels; parts hidden, relevance handed back")
    checks = [*hiding_checks(*of), *relevance_checks(*of)]
    print_checks(checks)
    took()
    print("\nThe same; random numbers of their own, difference of means over its standard error")
    means = list(own_numbers(*of))
    print_checks(means)
    took()
    named = {row.name: row.good for row in rows}
    named |= {f"{row.name} ({row.against})": row.good for row in checks + means}
    return verdict(named)


if __name__ == "__main__":
    sys.exit(main())
