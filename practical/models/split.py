"""Any model as two functions, for the explanations that look at its last feature maps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from practical._arguments import without_self
from practical._inputs import ArrayLike


@partial(jax.tree_util.register_dataclass, data_fields=["features", "head"], meta_fields=[])
@dataclass(frozen=True)
class Split:
    """A model of two parts: what `attribution.grad_cam` needs, for any network.

    Both parts are callables. Arrays in those that JAX knows as pytrees (a
    `jax.tree_util.Partial`, a flax.nnx or equinox module), or in the pytree that a method belongs
    to, are the leaves of this one.
    """

    features: Callable[[Array], Array]  # images (B, H, W, C) in [0, 1] to maps (B, h, w, k)
    head: Callable[[Array], Array]  # maps (B, h, w, k) to logits (B, classes)

    def __post_init__(self):
        object.__setattr__(self, "features", without_self(self.features))
        object.__setattr__(self, "head", without_self(self.head))

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> Float[Array, "b classes"]:
        """Return the logits of each image."""
        return self.head(self.features(jnp.asarray(images)))
