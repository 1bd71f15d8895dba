"""What of the model's answer is followed: the target's logit, or its probability."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

OUTPUTS = ("probability", "logit")


def check_output(output: str) -> str:
    """Return `output`, or raise ValueError unless it is one of `OUTPUTS`."""
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    return output


def target_output(
    model, images: Float[Array, "b h w c"], targets: Int[Array, " b"], output: str = "logit"
) -> Float[Array, " b"]:
    """Return the model's answer for each image's target, NaN where its logits are not finite."""
    logits = model(images)
    # XLA:CPU's softmax may turn a row of NaN into finite numbers (jaxlib 0.10.2 does).
    answers = jax.nn.softmax(logits) if output == "probability" else logits
    answers = jnp.where((logits < jnp.inf).all(1)[:, None], answers, jnp.nan)
    return jnp.take_along_axis(answers, targets[:, None], 1)[:, 0]
