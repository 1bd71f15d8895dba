"""A panel of controls for `explanation_figure`, which is its picture.

Widgets need a kernel and a browser at the same time, and a kernel cannot tell whether a browser
listens. So a panel is displayed as one output in two forms, the widgets and the picture that it
opens with: a live front-end takes the first; an HTML page, an untrusted notebook and a preview on
the web take the second. Nothing hangs on a guess.
"""

import base64
import html
import io
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float

from practical._inputs import Images, Model, check_count, check_images
from practical._names import ClassNames
from practical.attribution import METHODS
from practical.attribution.methods import NEEDS
from practical.metrics import Protocol
from practical.metrics.protocols import find_protocol
from practical.widgets.controls import as_options, controls
from practical.widgets.picture import (
    SIZE,
    Explanation,
    check_names,
    draw,
    explain,
    explanation_figure,
    png,
    probabilities,
)

if TYPE_CHECKING:  # a panel imports ipywidgets, and a picture matplotlib
    import matplotlib.figure

STATIC = "PRACTICAL_STATIC"


def explore(
    model: Model,
    images: Images,
    class_names: ClassNames,
    *,
    method: str = "integrated_gradients",
    protocol: Protocol | str = "practical",
    chunk_size: int = 32,
    static: bool | None = None,
) -> "Panel | matplotlib.figure.Figure":
    """Return a panel that explains one image at a time: make it the value of a notebook's cell.

    It opens with the first image, the class that the model predicts, and `method`. From then on it
    computes when its button is pressed.

    Args:
        model: Images in [0, 1] to logits.
        images: (B, H, W, C) in [0, 1]: those to choose from.
        class_names: One for each of the model's classes.
        method: The name in `attribution.METHODS` of the explanation to begin with.
        protocol: What deletion and insertion mean; see `metrics.Protocol`.
        chunk_size: Images in flight, for the curves and for methods that have this option.
        static: Return only the first picture, as a figure. By default outside of a Jupyter kernel,
            and where the environment variable PRACTICAL_STATIC is set, to anything but 0: for
            notebooks that are executed and never opened.

    Raises:
        ValueError: If an argument breaks its rule. A mistake in the panel is said in the panel.
    """
    images = check_images(images)
    protocol = find_protocol(protocol)
    protocol.cutoffs(*images.shape[1:])  # refuses now what does not fit the images
    check_count("chunk_size", chunk_size)
    if not METHODS[method].suits(model):
        raise ValueError(
            f"method must suit the model, and {method} needs {NEEDS[METHODS[method].needs]}; "
            f"{', '.join(_suitable(model))} suit a {type(model).__name__}"
        )
    chances = probabilities(model, images)
    names = check_names(class_names, chances.shape[1])
    if static is None:
        static = os.environ.get(STATIC, "0") not in ("", "0") or not _in_a_kernel()
    if not static:
        return Panel(model, images, chances, names, method, protocol, chunk_size)
    first = controls(METHODS[method], min(images.shape[1:3]))
    figure = explanation_figure(
        model, images[0], int(chances[0].argmax()), method,
        options=as_options({name: one.arguments["value"] for name, one in first.items()}),
        class_names=names, protocol=protocol, chunk_size=chunk_size,
    )  # fmt: skip
    if _in_a_kernel():  # which shows a cell's value, and then each open figure: this one twice
        import matplotlib.pyplot as plt

        plt.close(figure)
    return figure


class Panel:
    """What `explore` returns. The widgets are attributes, `explanation` is what the picture shows.

    `controls` are those of the chosen method, by option.
    """

    def __init__(
        self,
        model: Model,
        images: Float[Array, "batch height width channels"],
        chances: Float[np.ndarray, "batch classes"],
        class_names: Sequence[str],
        method: str,
        protocol: Protocol,
        chunk_size: int,
    ):
        import ipywidgets as widgets

        self._model, self._images, self._chances = model, images, chances
        self._names, self._protocol, self._chunk_size = class_names, protocol, chunk_size
        self._made: dict[str, dict[str, Any]] = {}  # every method's controls, as they were left
        self.explanation: Explanation | None = None  # none while there is no picture
        self.controls: dict[str, Any] = {}

        pictures = [
            (f"{i}: {class_names[k]}, {chances[i, k]:.1%}", i)
            for i, k in enumerate(chances.argmax(1))
        ]
        self.image: Any = widgets.Dropdown(options=pictures, value=0, **_look("image"))
        self.target: Any = widgets.Dropdown(**_look("class"))
        self.method: Any = widgets.Dropdown(
            options=_suitable(model), value=method, **_look("method")
        )
        self.thumbnail = widgets.Image(format="png", width=128, layout={"margin": "4px"})
        self.about, self.cost, self.message = (widgets.HTML() for _ in range(3))
        self.button = widgets.Button(description="Explain")
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self._options = widgets.VBox()
        choices = widgets.VBox([self.image, self.target, self.method, self.about])
        self.box: Any = widgets.VBox(
            [
                widgets.HBox([self.thumbnail, choices, self._options]),
                widgets.HBox([self.button, self.cost]),
                self.message,
                self.picture,
            ]
        )
        self.image.observe(lambda _: self._image_chosen(), "value")
        self.target.observe(lambda _: self._changed(), "value")
        self.method.observe(lambda _: self._method_chosen(), "value")
        self.button.on_click(lambda _: self._compute())
        self._image_chosen()
        self._method_chosen()
        self._compute()

    def __repr__(self) -> str:
        return f"Panel({self.method.value}, image {self.image.value})"

    def _repr_mimebundle_(self, **_) -> dict[str, Any]:
        bundle = {**self.box._repr_mimebundle_(), "text/plain": repr(self)}
        if self.picture.value:
            bundle["image/png"] = base64.b64encode(self.picture.value).decode()
        return bundle

    def options(self) -> dict[str, Any]:
        """Return what the controls say, as the method's keyword options."""
        return as_options({name: widget.value for name, widget in self.controls.items()})

    def _image_chosen(self) -> None:
        chances = self._chances[self.image.value]
        self.thumbnail.value = _thumbnail(self._images[self.image.value])
        order = np.argsort(-chances, kind="stable")
        self.target.options = [(f"{self._names[k]}, {chances[k]:.1%}", int(k)) for k in order]
        self.target.value = int(order[0])
        self._changed()

    def _method_chosen(self) -> None:
        import ipywidgets as widgets

        name = self.method.value
        if name not in self._made:
            self._made[name] = {
                option: getattr(widgets, control.kind)(
                    **_look("seed" if option == "key" else option), **control.arguments
                )
                for option, control in controls(METHODS[name], min(self._images.shape[1:3])).items()
            }
            for widget in self._made[name].values():
                widget.observe(lambda _: self._changed(), "value")
        self.controls = self._made[name]
        self._options.children = tuple(self.controls.values())
        method = METHODS[name]
        needs = NEEDS[method.needs].replace("`", "")
        self.about.value = html.escape(f"{method.paper}; needs {needs}")
        self._changed()

    def _changed(self) -> None:
        """Say what the choice will cost; the picture, if there is one, is of an earlier choice."""
        height, width, channels = self._images.shape[1:]
        calls = METHODS[self.method.value].calls(max(height, width), **self.options())
        curves = 4 * len(self._protocol.cutoffs(height, width, channels))
        counts = [
            f"{count:,} {kind}"
            for count, kind in zip(calls, ("forward", "gradient"), strict=True)
            if count
        ]
        self.cost.value = (
            f"Model calls: {' and '.join(counts) or 'none'} for the map, "
            f"{curves} forward for the curves of map and control."
        )
        self.button.button_style = "primary"

    def _compute(self) -> None:
        from matplotlib.figure import Figure

        self.button.disabled, self.button.description = True, "Explaining …"
        self.message.value = "A method's first run takes longer: it is compiled."
        self.explanation = None
        started = time.monotonic()
        row, target, method = self.image.value, self.target.value, METHODS[self.method.value]
        try:
            explanation = explain(
                self._model, self._images[row : row + 1], target, method, self.options(),
                self._protocol, self._chunk_size,
            )  # fmt: skip
            figure = Figure(SIZE, layout="constrained")  # unknown to pyplot: nobody else shows it
            draw(
                figure, self._images[row], target, self._chances[row], self._names, method,
                self._protocol, explanation,
            )  # fmt: skip
            self.picture.value, self.explanation = png(figure), explanation
            self.message.value = f"Took {time.monotonic() - started:.1f} s."
            self.button.button_style = ""
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            self.message.value = f'<b style="color:#b00020">{html.escape(f"{kind}{error}")}</b>'
            if kind:  # not a wrong choice: where it came from is in Jupyter's log
                raise
        finally:
            if self.explanation is None:
                self.picture.value = b""  # the last picture would pass for this one's
            self.picture.layout.display = None if self.picture.value else "none"
            self.button.disabled, self.button.description = False, "Explain"


def _suitable(model) -> list[str]:
    return [name for name, method in METHODS.items() if method.suits(model)]


def _in_a_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _look(description: str) -> dict[str, Any]:
    return {"description": description, "style": {"description_width": "6.5em"}}


def _thumbnail(image) -> bytes:
    from PIL import Image

    colours = np.asarray(image)
    if colours.shape[-1] != 3:
        colours = np.repeat(colours.mean(-1, keepdims=True), 3, axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.rint(255 * colours))).save(buffer, format="PNG")
    return buffer.getvalue()
