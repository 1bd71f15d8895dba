"""`practical`'s side of `speed.py`, which needs no other library."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from work import CHUNK, NOISE, flipped, squares

from practical import attribution, explainfix, metrics, models
from practical._keys import image_keys

Arrays = list[np.ndarray]


class Example(NamedTuple):
    """What is explained: on the device, as a user would keep it."""

    model: models.Classifier
    images: jax.Array
    targets: jax.Array
    heatmaps: jax.Array  # (B, H, W), without ties
    values: jax.Array  # (B, H, W, 3), without ties


def load(folder: Path) -> Example:
    """Read what `speed.py` wrote."""
    with np.load(folder / "example.npz") as file:
        arrays = [jnp.asarray(file[name]) for name in Example._fields[1:]]
    return Example(models.Classifier.load(folder / "model.safetensors"), *arrays)


def set_precision(precision: str) -> None:
    """Have a GPU's products in float32 ("highest") or "tf32"; a CPU's always are in float32."""
    if jax.default_backend() != "cpu":
        names = {"highest": "highest", "tf32": "tensorfloat32"}
        jax.config.update("jax_default_matmul_precision", names[precision])


def noise(example: Example, samples: int) -> np.ndarray:
    """Return the noise that `smooth_grad` adds to each image's samples, (B, samples, H, W, C)."""

    def draw(key: jax.Array, k: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, k), example.images.shape[1:])

    keys, numbers = image_keys(None, len(example.images)), jnp.arange(samples)
    return NOISE * np.asarray(jax.vmap(lambda key: jax.vmap(draw, (None, 0))(key, numbers))(keys))


def _forward(of: Example, _count: int) -> Any:
    return of.model(of.images)


def _gradient(of: Example, _count: int) -> Any:
    return attribution.gradient(*of[:3], chunk_size=CHUNK)


def _integrated_gradients(of: Example, steps: int) -> Any:
    return attribution.integrated_gradients(*of[:3], steps=steps, chunk_size=CHUNK)


def _smooth_grad(of: Example, samples: int) -> Any:
    return attribution.smooth_grad(*of[:3], noise=NOISE, samples=samples, chunk_size=CHUNK)


def _occlusion(of: Example, parts: int) -> Any:
    window, stride, _ = squares(of.images.shape[1], parts)
    return attribution.occlusion(*of[:3], window=window, stride=stride, chunk_size=CHUNK)


def _deletion_insertion(of: Example, steps: int) -> Any:
    return [
        metric(*of[:3], of.heatmaps, steps=steps, chunk_size=CHUNK).scores
        for metric in (metrics.deletion, metrics.insertion)
    ]


def _pixel_flipping(of: Example, steps: int) -> Any:
    step, _ = flipped(of.images.shape[1], steps)
    protocol = dataclasses.replace(metrics.PROTOCOLS["quantus"], step=step)
    return metrics.deletion(*of[:3], of.values, protocol=protocol, chunk_size=CHUNK).scores


def _spectra(of: Example, _count: int) -> Any:
    return _energies(explainfix.saliency_spectra(
        *of[:3], per="minibatch", batch_size=len(of.images)
    ))  # fmt: skip


def _spectra_images(of: Example, _count: int) -> Any:
    return _energies(explainfix.saliency_spectra(*of[:3]))


def _energies(spectra: explainfix.Spectra) -> list[jax.Array]:
    """Return e^d, e^1 and e^0 of each layer, which the original always computes."""
    return [energies for layer in spectra.layers for energies in spectra[layer]]


WORKS: dict[str, Callable[[Example, int], Any]] = {
    "forward": _forward,
    "gradient": _gradient,
    "integrated_gradients": _integrated_gradients,
    "smooth_grad": _smooth_grad,
    "occlusion": _occlusion,
    "deletion_insertion": _deletion_insertion,
    "pixel_flipping": _pixel_flipping,
    "spectra": _spectra,
    "spectra_images": _spectra_images,
}


def compute(work: str, of: Example, count: int) -> Any:
    """Return a work's answer when it is there."""
    return jax.block_until_ready(WORKS[work](of, count))


def arrays(answer: Any) -> Arrays:
    """Return an answer as NumPy arrays."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(answer)]
