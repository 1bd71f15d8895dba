"""The works of `speed.py` that Captum and Quantus do, in chunks of the same size as `practical`."""

from typing import Any

import torch
from layouts import Example, device
from work import CHUNK, NOISE, flipped, squares


def captum_gradient(of: Example, _count: int) -> Any:
    from captum.attr import Saliency

    images = of.images.clone().requires_grad_()
    return [Saliency(of.model).attribute(images, of.targets, abs=False)]


def captum_integrated_gradients(of: Example, steps: int) -> Any:
    from captum.attr import IntegratedGradients

    return [IntegratedGradients(of.model).attribute(
        of.images, 0, of.targets, n_steps=steps, method="gausslegendre", internal_batch_size=CHUNK
    )]  # fmt: skip


def captum_smooth_grad(of: Example, samples: int) -> Any:
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(of.model))
    if of.noise is not None:
        parts = iter(of.noise.split(_each(of), 1))  # Captum draws some of all images' at a time

        def noisy(images: torch.Tensor, *_: Any) -> torch.Tensor:
            return (images[:, None] + next(parts)).flatten(0, 1)

        tunnel._add_noise_to_input = noisy
    return [tunnel.attribute(
        of.images, nt_type="smoothgrad", nt_samples=samples, nt_samples_batch_size=_each(of),
        stdevs=NOISE, target=of.targets, abs=False,
    )]  # fmt: skip


def captum_occlusion(of: Example, parts: int) -> Any:
    from captum.attr import Occlusion

    window, stride, _ = squares(of.images.shape[2], parts)
    with torch.inference_mode():
        maps = Occlusion(of.model).attribute(
            of.images, (3, window, window), (3, stride, stride), 0, of.targets,
            perturbations_per_eval=_each(of),
        )  # fmt: skip
    return [maps[:, 0]]  # the channels are hidden together, so they hold the same map


def quantus_pixel_flipping(of: Example, steps: int) -> Any:
    import quantus

    metric = quantus.PixelFlipping(
        features_in_step=flipped(of.images.shape[2], steps)[0], perturb_baseline="black",
        abs=False, normalise=False, disable_warnings=True,
    )  # fmt: skip
    curves = metric(
        model=of.model, x_batch=of.images.cpu().numpy(), y_batch=of.targets.cpu().numpy(),
        a_batch=of.values.cpu().numpy(), channel_first=True, device=device().type,
        batch_size=CHUNK,
    )  # fmt: skip
    return [torch.tensor(curves)]


def _each(of: Example) -> int:
    """Return how many copies of every image fill a chunk."""
    return max(1, CHUNK // len(of.images))
