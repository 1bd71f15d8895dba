"""Models that compute with fewer digits, for what asks them thousands of times."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._arguments import check_callable, without_self
from practical._inputs import ArrayLike
from practical.models.classifier import Classifier
from practical.models.folded import fold

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
_PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def with_precision(model: Callable, precision: Precision) -> Callable:
    """Return `model` at a precision of its own, for forward passes.

    Perturbation methods and metrics (occlusion, RISE, LIME, deletion, ...) ask a model thousands of
    times, and take differences that are large beside its rounding. docs/scale.md has what fewer
    digits cost in the areas under deletion curves. Gradients are best left in float32: their sums
    must add up to a logit.

    Args:
        model: Images in [0, 1] to logits.
        precision: "float32", what every function of this package uses otherwise;
            "tensorfloat32", whose products are rounded to 10 bits and summed in float32, on GPUs
            that have it (the same as float32 elsewhere); or "bfloat16", in which all weights and
            maps are kept, with 7 bits, in half of the memory (of a plain function, the images
            alone: what it has closed over stays as it is).

    Returns:
        A model, which is a JAX pytree as `model` is. Its logits are float32. It explains itself to
        all methods that need nothing but answers.

    Raises:
        ValueError: If `precision` is none of these.
        TypeError: If the model is not callable.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
    check_callable(model)
    if isinstance(model, Classifier):
        model = _folded(model) if precision == "bfloat16" else model
    return _WithPrecision(without_self(model), precision)


# Batch norms have sums of thousands of values in them: they are folded before they are rounded.
_folded = jax.jit(fold)


@partial(jax.tree_util.register_dataclass, data_fields=["model"], meta_fields=["precision"])
@dataclass(frozen=True)
class _WithPrecision:
    model: Any
    precision: Precision

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> Float[Array, "b classes"]:
        if self.precision != "bfloat16":
            with jax.default_matmul_precision(self.precision):
                return self.model(images).astype(jnp.float32)
        model, images = jax.tree.map(_rounded, (self.model, jnp.asarray(images)))
        return model(images).astype(jnp.float32)


def _rounded(leaf: Any) -> Any:
    floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.bfloat16) if floating else leaf
