"""Batch norms in inference: a scale and a shift, which the convolution before can do as well."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

_EPSILON = nn.BatchNorm.epsilon  # jax-resnet leaves it at flax's default


def fold_batch_norms(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's parameters without batch norms, with the same logits.

    Each convolution's kernel is scaled, and it has a bias.
    """
    return _fold(variables["params"], variables["batch_stats"])


def _fold(params: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Any]:
    if "BatchNorm_0" not in params:
        return {
            name: _fold(part, statistics[name]) if name in statistics else part
            for name, part in params.items()
        }
    norm, seen = params["BatchNorm_0"], statistics["BatchNorm_0"]
    scale = norm["scale"] / jnp.sqrt(seen["var"] + _EPSILON)
    kernel = params["Conv_0"]["kernel"] * scale[None, None, None]
    return {"Conv_0": {"kernel": kernel, "bias": norm["bias"] - seen["mean"] * scale}}
