"""Calling a student's function: the same in the notebook and in the sandbox."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from practical.models import Classifier

# What Python, NumPy or JAX says, and what a student should do about it. The advice of the library
# itself often leads elsewhere: NumPy's about booleans leads to `^`.
_ADVICE = (
    (
        r"TracerArrayConversionError",
        "Inside `jax.grad` call `model(...)`, not `predict(model, ...)`, and functions of `jnp`, "
        "not of `np`: NumPy cannot be differentiated.",
    ),
    (
        r"Gradient only defined for scalar-output functions",
        "`jax.grad` needs one number: add up the targets' logits with `.sum()`.",
    ),
    (
        r"numpy boolean subtract",
        "Turn the booleans into numbers before you subtract them, for example with "
        "`.astype(float)`. `^` is not a difference: it loses the sign.",
    ),
    (
        r"read-only",
        "It writes into an array that it was given, which the cells below use again: work on a "
        "copy, made by `np.array(...)`.",
    ),
    (
        r"Cannot cast ufunc .* to dtype\('u?int",
        "An array of whole numbers cannot hold the results: create it without `int`, as "
        "`np.zeros(shape)`.",
    ),
    (
        r"list assignment index out of range",  # of np.trapezoid(fractions, scores)
        "`np.trapezoid` takes the scores first, and the fractions second.",
    ),
    (
        r"has no attribute 'trapz'",
        "In NumPy 2 this function is called `np.trapezoid`.",
    ),
    (
        r"cannot reshape array",
        "`reshape` keeps the numbers in their order and does not move axes: use `np.moveaxis` or "
        "`np.einsum`, and take sizes from `.shape`.",
    ),
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weighted:
    """A network whose head weights the positions of its feature maps.

    So the slope of its logits with respect to the features differs from position to position. In a
    `Classifier`, whose head averages over the positions first, it does not.
    """

    model: Classifier
    weights: Any  # (h, w, 1), for the feature maps' positions

    def __call__(self, images: Any) -> Any:
        """Return the logits of images."""
        return self.head(self.features(images))

    def features(self, images: Any) -> Any:
        """Return the network's last feature maps."""
        return self.model.features(images)

    def head(self, features: Any) -> Any:
        """Return the logits of feature maps."""
        return self.model.head(features * self.weights)


def advice(message: str, arguments: Mapping[str, Any]) -> str:
    """Return what to do about an error of a student's function, or nothing.

    Args:
        message: The error's type and text.
        arguments: What the function was given.
    """
    for pattern, words in _ADVICE:
        if re.search(pattern, message):
            return words
    shapes = [
        tuple(map(int, re.findall(r"\d+", shape)))
        for shape in re.findall(r"\(([\d, ]+)\)", message)
    ]
    if "broadcast" not in message or len(shapes) < 2:
        return ""
    # A chunk of an image against one that is transposed; a row of values against a square of them.
    images, targets = np.shape(arguments.get("images", 0)), np.shape(arguments.get("targets", 0))
    sizes = images[1:3]
    if len(set(sizes)) == 2 and {shape[-2:] for shape in shapes} == {sizes, sizes[::-1]}:
        return "Height and width are exchanged: an image's shape is (height, width, 3)."
    if targets and any(len(shape) > 1 and shape[-1:] == targets for shape in shapes):
        return TARGETS_HINT
    if shapes[0] != shapes[1] and shapes[0][: len(shapes[1])] == shapes[1][: len(shapes[0])]:
        return "One array has more axes than the other: reduce them, or insert one by `[:, None]`."
    return ""


TARGETS_HINT = (
    "`[:, targets]` gives each image the values of all images' targets. Each image's own is "
    "`[np.arange(len(targets)), targets]`."
)


def is_blank(error: BaseException) -> bool:
    """Return whether this is what an exercise raises that is not filled in.

    JAX and others raise NotImplementedError, too, and say what is not implemented.
    """
    return type(error) is NotImplementedError and not error.args


def ask(function: Callable, arguments: Mapping[str, Any]) -> Any:
    """Call a function by the order of its arguments, or by their names where it wants names.

    Raises:
        TypeError: If it takes neither; and whatever the function raises.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # it has none
        return function(*arguments.values())
    for given, named in ((arguments.values(), {}), ((), arguments)):
        try:
            bound = signature.bind(*given, **named)
        except TypeError:
            continue
        return function(*bound.args, **bound.kwargs)
    raise TypeError(f"it has to take the arguments {', '.join(arguments)}, in this order")
