"""How large a network is, and how much it computes."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from practical._arguments import as_argument
from practical._programs import programs_in


class Size(NamedTuple):
    """What a network takes."""

    parameters: int  # numbers that training changes: no batch norm's running mean or variance
    flops: int  # floating-point operations for one image, a multiplication and an addition each


def size(model: Any, image_shape: tuple[int, int, int]) -> Size:
    """Return the parameters of a network, and the operations that one image takes.

    Only convolutions and matrix products are counted, as papers do; where they give "GFLOPs" of
    multiply-adds (torchvision does), ours are twice as many.

    Args:
        model: A `models.Classifier`, or any pytree whose leaves are all parameters.
        image_shape: (H, W, C).

    Raises:
        ValueError: If `image_shape` is not three positive integers, the model is no pytree of
            arrays, or it has a branch or a loop of unknown length.
    """
    if len(image_shape) != 3 or not all(isinstance(n, int) and n > 0 for n in image_shape):
        raise ValueError(f"image_shape must be (height, width, channels), got {image_shape!r}")
    variables = getattr(model, "variables", None)
    leaves = jax.tree.leaves(model if variables is None else variables["params"])
    unknown = [leaf for leaf in leaves if not hasattr(leaf, "shape")]
    if unknown:
        raise ValueError(
            "model must be a pytree of arrays, which are its parameters, got one with "
            f"{unknown[0]!r} in it; jax.tree_util.Partial(function, arrays) makes one of a function"
        )
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    traced = jax.make_jaxpr(lambda model, images: model(images))(as_argument(model, image), image)
    return Size(sum(int(np.size(leaf)) for leaf in leaves), _flops(traced.jaxpr))


def _flops(jaxpr: Any) -> int:
    total, platforms = 0, []
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        shapes = [np.shape(variable.aval) for variable in (*equation.invars, *equation.outvars)]
        if name == "conv_general_dilated":
            outputs = shapes[1][parameters["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(shapes[2]) * math.prod(shapes[1]) // outputs
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            total += 2 * math.prod(shapes[2]) * math.prod(shapes[0][axis] for axis in contracted)
        elif name == "platform_index":
            platforms += equation.outvars
        elif name == "cond" and equation.invars[0] in platforms:
            # The same in a form that a platform likes; the last one is the network's own.
            total += _flops(parameters["branches"][-1].jaxpr)
        elif name in ("while", "cond"):
            raise ValueError(
                f"model must compute the same for every image, got one with a {name!r} in it, "
                "whose operations depend on its values"
            )
        else:
            times = parameters["length"] if name == "scan" else 1
            total += times * sum(map(_flops, programs_in(equation)))
    return total
