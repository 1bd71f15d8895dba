"""The part of the model's answer that is followed: the target's logit, or its probability."""

import math
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from practical._arguments import is_traced
from practical._inputs import Inputs, at_least_single, logits_shape
from practical._jit import jit

OUTPUTS = ("probability", "logit")
_NOT_THE_USERS = ("practical", "jaxtyping")  # packages whose lines a warning is not about
_EXAMINED = 8  # images whose answers are looked at, where they may be probabilities already


def check_output(output: str, inputs: Inputs | None = None) -> str:
    """Return `output`, or raise ValueError unless it is one of `OUTPUTS` that the model has.

    Args:
        output: What an explanation or a metric follows.
        inputs: With the model, whose single logit has no probability.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    if inputs is not None and output == "probability":
        _check_classes(logits_shape(inputs.model, inputs.images).shape)
    return output


def target_output(
    model, images: Float[Array, "b h w c"], targets: Int[Array, " b"], output: str = "logit"
) -> Float[Array, " b"]:
    """Return the model's answer for each image's target, NaN where its logits are not finite."""
    logits = wide_logits(model, images)
    # XLA:CPU's softmax may turn a row of NaN into finite numbers (jaxlib 0.10.2 does).
    answers = jax.nn.softmax(logits) if output == "probability" else logits
    answers = jnp.where((logits < jnp.inf).all(1)[:, None], answers, jnp.nan)
    return jnp.take_along_axis(answers, targets[:, None], 1)[:, 0]


def wide_logits(model, images: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
    """Return the model's logits, those of half precision as float32.

    A softmax, a sum or a difference of bfloat16 keeps two or three digits.
    """
    return at_least_single(model(images))


def probabilities(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Return the softmax of logits; warn if they are probabilities already.

    Raises:
        ValueError: If there is only one logit per image.
    """
    _check_classes(np.shape(logits))
    _warn_of_probabilities(logits)
    return np.asarray(jax.nn.softmax(at_least_single(logits)))


def predicted_classes(logits: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    """Return the class of each image's highest logit.

    Raises:
        ValueError: If there is only one logit per image.
    """
    _check_classes(np.shape(logits))
    return np.asarray(logits).argmax(1)


def check_logits(inputs: Inputs, output: str, scores: Float[Array, "..."]) -> None:
    """Warn if the model's answers, whose softmax was taken, are probabilities already.

    Args:
        inputs: With the model and its images.
        output: The model is not asked unless it is "probability".
        scores: Any of the resulting probabilities, or their means or differences. The softmax of
            probabilities is at most e / (e + classes - 1), so larger scores rule the mistake out.
    """
    if output != "probability" or is_traced((inputs, scores)):
        return
    classes = logits_shape(inputs.model, inputs.images).shape[1]
    if np.abs(np.asarray(scores)).max() <= math.e / (math.e + classes - 1) + 1e-6:
        _warn_of_probabilities(np.asarray(_one_by_one(inputs.model, inputs.images[:_EXAMINED])))


@jit
def _one_by_one(model, images: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
    """Return the logits, with one image in flight, which any `chunk_size` allows."""
    return jax.lax.map(lambda image: model(image[None])[0], images)


def _check_classes(shape: tuple[int, ...]) -> None:
    if shape[1] < 2:
        raise ValueError(
            f"model must return at least two logits per image for a probability or a predicted "
            f"class, got shape {shape}: the softmax of one logit is always 1. For one logit z of a "
            "sigmoid, return two, jnp.concatenate([jnp.zeros_like(z), z], 1); or follow the "
            'logit, output="logit", where a function takes it'
        )


def _warn_of_probabilities(logits: np.ndarray) -> None:
    rows = logits.astype(np.float64)
    # Probabilities of half precision sum to 1 within two percent. The logits of one image may do
    # so by chance, those of four hardly.
    narrow = logits.dtype.itemsize < 4
    slack, least = (0.02, 4) if narrow else (1e-5, 1)
    in_range = (rows >= 0).all() and (rows <= 1).all() and len(rows) >= least
    if in_range and (abs(rows.sum(1) - 1) <= slack).all():
        # Python shows a warning once per line. Attributed to a line of the package, it would be
        # silent for the next model. jaxtyping's checks, if on, stand between the functions.
        level = 0
        while sys._getframe(level).f_globals.get("__name__", "").split(".")[0] in _NOT_THE_USERS:
            level += 1
        warnings.warn(
            "the model's answers look like probabilities (all in [0, 1], each row sums to 1), and "
            "their softmax was taken once more; give a model that returns the logits (Keras: "
            'classifier_activation=None), or output="logit" to follow its answers as they are',
            stacklevel=level + 1,
        )
