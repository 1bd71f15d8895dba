"""How a network's answers change with its spatial filters: what spectra and pruning weigh by."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from practical._arguments import as_model, is_traced
from practical._inputs import Inputs, check_count
from practical._outputs import wide_logits

Kernels = dict[str, Float[Array, "_ _ _ _"]]  # HWIO; each layer has a shape of its own


def spatial_kernels(model: Any) -> dict[str, Float[Array, "h w i o"]]:
    """Return the kernels (HWIO) that are larger than 1x1, by name.

    Raises:
        ValueError: If there is none, or one is not finite, or the model does not say.
    """
    model = as_model(model)
    if not hasattr(model, "kernels"):
        raise ValueError(
            "model must say what its convolutions are, as a models.Classifier does by kernels(), "
            f"got {type(model).__name__}"
        )
    kernels = {name: k for name, k in model.kernels().items() if k.shape[:2] != (1, 1)}
    if not kernels:
        raise ValueError("model must have a convolution larger than 1x1, got none")
    for name, kernel in kernels.items():
        if not is_traced(kernel) and not np.isfinite(np.asarray(kernel)).all():
            raise ValueError(f"model must have finite kernels, got NaN or infinity in {name}")
    return kernels


def check_per(per: str, batch_size: int | None) -> None:
    """Raise ValueError unless `per` is known, and `batch_size` given for minibatches alone."""
    if per not in ("image", "minibatch"):
        raise ValueError(f"per must be 'image' or 'minibatch', got {per!r}")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if (batch_size is None) == (per == "minibatch"):
        raise ValueError(
            f"batch_size must be given for per='minibatch' and only there, got {batch_size!r} for "
            f"per={per!r}"
        )


def kernel_slopes(
    model: Any, images: Float[Array, "b h w c"], targets: Int[Array, " b"]
) -> tuple[Kernels, Kernels]:
    """Return the spatial kernels, and the slopes of the sum of the images' target logits."""
    kernels = spatial_kernels(model)

    def logits(kernels):
        answers = wide_logits(as_model(model).replace_kernels(kernels), images)
        return answers[jnp.arange(len(images)), targets].sum()

    return kernels, jax.grad(logits)(kernels)


def over_minibatches(function: Callable, inputs: Inputs, size: int) -> list[Any]:
    """Return the function's answers for `size` images at a time; the last may be fewer."""
    return [
        function(inputs.model, inputs.images[k : k + size], inputs.targets[k : k + size])
        for k in range(0, len(inputs.images), size)
    ]
