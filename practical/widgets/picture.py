"""One explanation of one image, and how right it is: computed, and drawn as one picture."""

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from practical import _outputs
from practical._inputs import ArrayLike, ChunkSize, Model, check_images
from practical._names import ClassNames, check_class_names
from practical.attribution import METHODS, Method
from practical.metrics import Curve, Protocol, deletion, insertion
from practical.metrics.protocols import find_protocol
from practical.models import predict

if TYPE_CHECKING:  # drawing imports it, and importing this module does not
    import matplotlib.figure

SIZE = (12, 3.9)  # inches
_CONTROL = "random"


class Explanation(NamedTuple):
    """A heatmap of one image, and its curves; the curves' second row is the control's, noise."""

    heatmap: Float[Array, "height width"]
    deletion: Curve
    insertion: Curve


def explanation_figure(
    model: Model,
    image: Float[ArrayLike, "height width channels"],
    target: int | np.integer | Integer[Array, ""],
    method: str | Callable,
    *,
    options: Mapping[str, Any] | None = None,
    class_names: ClassNames | None = None,
    protocol: Protocol | str = "practical",
    chunk_size: ChunkSize = 32,
) -> "matplotlib.figure.Figure":
    """Return a picture of an image, its heatmap, and the map's deletion and insertion curves.

    Args:
        model: Images in [0, 1] to logits.
        image: (H, W, C) in [0, 1].
        target: The class to explain.
        method: The name of one in `attribution.METHODS`, or a function that is called as they are.
        options: The method's own, by name.
        class_names: One for each of the model's classes; by default their numbers.
        protocol: What deletion and insertion mean; see `metrics.Protocol`.
        chunk_size: Images in flight ("auto": as many as fit), for the curves and for methods that
            have this option.

    Raises:
        ValueError: If an argument breaks its rule, or the model answers NaN.
    """
    import matplotlib.pyplot as plt

    if np.ndim(image) != 3:
        raise ValueError(f"image must have shape (height, width, channels), got {np.shape(image)}")
    images = check_images(np.asarray(image)[None], name="image[None]")
    chances = probabilities(model, images)[0]
    names = check_names(class_names, len(chances))
    if not isinstance(method, Method):
        method = METHODS[method] if isinstance(method, str) else Method(method, "", "answers")
    protocol = find_protocol(protocol)
    explanation = explain(model, images, target, method, options or {}, protocol, chunk_size)
    figure = plt.figure(figsize=SIZE, layout="constrained")
    draw(figure, images[0], int(target), chances, names, method, protocol, explanation)
    return figure


def explain(
    model,
    images,
    target,
    method: Method,
    options: Mapping[str, Any],
    protocol,
    chunk_size: ChunkSize,
) -> Explanation:
    """Return the explanation of a batch of one image."""
    accepted = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in accepted:
            raise ValueError(
                f"options must be those of {method.__name__}, "
                f"{', '.join(accepted) or 'which has none'}; got {name!r}"
            )
    sizes = {"chunk_size": chunk_size} if "chunk_size" in accepted else {}
    heatmap = method.heatmap(model, images, [target], **{**sizes, **options})
    if heatmap.shape != images.shape[:3]:
        raise ValueError(
            f"method must return one value for each pixel, shape {images.shape[:3]}, "
            f"got {heatmap.shape} from {method.__name__}"
        )
    control = METHODS[_CONTROL].heatmap(model, images, [target])
    curves = (
        measure(
            model, jnp.concatenate([images, images]), [target, target],
            jnp.concatenate([heatmap, control]), protocol=protocol, chunk_size=chunk_size,
        )
        for measure in (deletion, insertion)
    )  # fmt: skip
    return Explanation(heatmap[0], *curves)


def draw(
    figure, image, target: int, chances, names: Sequence[str], method: Method, protocol: Protocol,
    explanation: Explanation,
) -> None:  # fmt: skip
    """Draw image, heatmap, deletion and insertion on an empty figure."""
    from practical import plotting

    shown = np.asarray(image)
    if shown.shape[-1] != 3:  # of any other number of channels, the mean is shown
        shown = np.repeat(shown.mean(-1, keepdims=True), 3, axis=-1)
    name, label, best = names[target], method.__name__, int(chances.argmax())
    left, middle, *right = figure.subplots(1, 4, width_ratios=(1, 1.15, 1.3, 1.3))
    plotting.plot_images(shown[None], axes=[left])
    rest = "" if best == target else f"\nand {name}: {chances[target]:.1%}"
    answer = f"The model says\n{names[best]}: {chances[best]:.1%}{rest}"
    left.set_title(plotting.plain_text(answer), fontsize=9)

    heatmap = np.asarray(explanation.heatmap)
    limit, signed = plotting.shared_limit(heatmap[None]), bool(heatmap.min() < 0)
    plotting.plot_heatmap(heatmap, shown, limit=limit, signed=signed, ax=middle)
    plotting.add_scale(middle, limit, signed=signed, label=method.unit or "no unit")
    reading = "red speaks for it, blue against it" if signed else "the brighter, the more it counts"
    question = f"Where is the evidence for {name}?\n{reading}"
    middle.set_title(plotting.plain_text(question), fontsize=9)

    for ax, kind, good, verb in zip(
        right, ("deletion", "insertion"), ("low", "high"), ("replaced", "shown"), strict=True
    ):
        curve = getattr(explanation, kind)
        rows = {
            row: Curve(curve.fractions, curve.scores[i : i + 1], curve.weights)
            for i, row in enumerate((label, f"{_CONTROL}, a control"))
        }
        plotting.plot_curves(rows, ylabel=f"{protocol.output} of {name}", ax=ax)
        ax.lines[1].set(linestyle="--", color="grey")
        # Below, since there is no corner that no curve goes through.
        ax.legend(
            title="area under the curve", fontsize=8, title_fontsize=8, frameon=False,
            loc="upper center", bbox_to_anchor=(0.5, -0.2),
        )  # fmt: skip
        ax.set_xlabel(plotting.plain_text(f"{protocol.unit}s {verb}, most relevant first (%)"))
        ax.set_title(f"{kind.title()}: {good} is right", fontsize=9)
        if protocol.output == "probability":
            ax.set_ylim(0, 1.05)
    figure.suptitle(
        plotting.plain_text(
            f"{label} for {name}: the map, and what the model answers as its pixels go or come"
        )
    )


def png(figure) -> bytes:
    """Return the figure as a file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def probabilities(model, images) -> Float[np.ndarray, "batch classes"]:
    """Return the model's softmax for each image."""
    return _outputs.probabilities(predict(model, images))


def check_names(class_names: ClassNames | None, count: int) -> Sequence[str]:
    """Return one name for each of the model's classes."""
    if class_names is None:
        return [f"class {k}" for k in range(count)]
    return check_class_names(class_names, count)
