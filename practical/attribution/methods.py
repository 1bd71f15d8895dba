"""All explanations by name, each with its paper, its cost, and what it needs of the model."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float

from practical._inputs import Images, Model, Targets
from practical.attribution.cam import grad_cam, grad_cam_plus_plus
from practical.attribution.controls import center, edges, random
from practical.attribution.gradients import gradient, gradient_x_input, heatmap, saliency
from practical.attribution.guided import guided_backprop, guided_grad_cam
from practical.attribution.noise import smooth_grad, squaregrad, vargrad
from practical.attribution.paths import expected_gradients, integrated_gradients
from practical.attribution.perturbation import occlusion, rise
from practical.attribution.relevance import layerwise_relevance
from practical.attribution.surrogates import kernel_shap, lime
from practical.models import Classifier

# What a method may need of the model, from least to most.
NEEDS = {
    "nothing": "never asks the model",
    "answers": "any function from images to logits",
    "gradient": "a function that JAX can differentiate",
    "ReLUs": "a differentiable function whose non-linearities are ReLUs",
    "features and head": "the last feature maps and what follows them: `models.Split`",
    "Classifier": "the layers of a ResNet: `models.Classifier`",
}


@dataclass(frozen=True)
class Method:
    """An explanation, and what to know before calling it; it is called as its function is."""

    function: Callable
    paper: str
    needs: str  # of the model: a key of NEEDS
    forwards: str = "0"  # images that the model answers for, to explain one
    gradients: str = "0"  # images that it is differentiated for, to explain one
    unit: str = ""  # of its values; "" where only the pattern within an image counts
    # From channels to one value a pixel: contributions add up, and where the channels' slopes have
    # opposite signs their sum would hide that the pixel matters, so their authors' maps take the
    # largest magnitude.
    reduce: str = "sum"
    random: bool = False  # takes a `key`

    @property
    def __name__(self) -> str:
        return self.function.__name__

    @property
    def __wrapped__(self) -> Callable:  # for `inspect.signature`
        return self.function

    def __call__(
        self, model: Model, images: Images, targets: Targets, **options
    ) -> Float[Array, "batch height width ..."]:
        """Return the function's maps."""
        return self.function(model, images, targets, **options)

    def heatmap(
        self, model: Model, images: Images, targets: Targets, **options
    ) -> Float[Array, "batch height width"]:
        """Return the function's maps with one value a pixel, the channels reduced by `reduce`."""
        return heatmap(self.function(model, images, targets, **options), reduce=self.reduce)

    def calls(self, side: int, **options) -> tuple[int, int]:
        """Return how many images the model answers for, and is differentiated for, to explain one.

        Args:
            side: Pixels of the square image's side.
            options: Those that the method would be called with; the others have their defaults.
        """
        given = {
            name: parameter.default
            for name, parameter in inspect.signature(self).parameters.items()
        } | options
        if self.function is occlusion:
            line = -(-(side - given["window"]) // given["stride"]) + 1
            given["squares"] = line**2
        return tuple(
            sum(int(word) if word.isdigit() else given[word] for word in count.split(" + "))
            for count in (self.forwards, self.gradients)
        )  # type: ignore[return-value]

    def suits(self, model: Model) -> bool:
        """Return whether `model` has what the method needs, as far as that can be seen."""
        if self.needs == "Classifier":
            return isinstance(model, Classifier)
        return self.needs != "features and head" or all(
            hasattr(model, name) for name in ("features", "head")
        )


class _Methods(dict[str, Method]):
    """Methods by name; an unknown name is answered with the nearest known one."""

    def __missing__(self, name: str) -> Method:
        near = difflib.get_close_matches(str(name), self, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"method must be one of {', '.join(self)}, got {name!r}{hint}")


_SLOPE, _LOGIT = "logits per unit of pixel value", "logits"

METHODS: dict[str, Method] = _Methods(
    occlusion=Method(
        occlusion, "Zeiler & Fergus 2014", "answers", forwards="1 + squares", unit=_LOGIT
    ),
    rise=Method(
        rise, "Petsiuk et al. 2018", "answers", forwards="samples", unit="probability", random=True
    ),
    lime=Method(
        lime, "Ribeiro et al. 2016", "answers", forwards="samples + 2", unit=_LOGIT, random=True
    ),
    kernel_shap=Method(
        kernel_shap, "Lundberg & Lee 2017", "answers", forwards="samples + 2", unit=_LOGIT,
        random=True,
    ),
    gradient=Method(gradient, "Simonyan et al. 2014", "gradient", gradients="1", unit=_SLOPE),
    saliency=Method(saliency, "Simonyan et al. 2014", "gradient", gradients="1", unit=_SLOPE),
    gradient_x_input=Method(
        gradient_x_input, "Shrikumar et al. 2016", "gradient", gradients="1", unit=_LOGIT
    ),
    integrated_gradients=Method(
        integrated_gradients, "Sundararajan et al. 2017", "gradient", gradients="steps", unit=_LOGIT
    ),
    expected_gradients=Method(
        expected_gradients, "Erion et al. 2021", "gradient", gradients="samples", unit=_LOGIT,
        random=True,
    ),
    smooth_grad=Method(
        smooth_grad, "Smilkov et al. 2017", "gradient", gradients="samples", unit=_SLOPE,
        random=True, reduce="max_abs",
    ),
    squaregrad=Method(
        squaregrad, "Hooker et al. 2019", "gradient", gradients="samples",
        unit=f"({_SLOPE})²", random=True,
    ),
    vargrad=Method(
        vargrad, "Adebayo et al. 2018", "gradient", gradients="1 + samples",
        unit=f"({_SLOPE})²", random=True,
    ),
    guided_backprop=Method(
        guided_backprop, "Springenberg et al. 2015", "ReLUs", gradients="1", reduce="max_abs"
    ),
    grad_cam=Method(
        grad_cam, "Selvaraju et al. 2017", "features and head", gradients="1", unit=_LOGIT
    ),
    grad_cam_plus_plus=Method(
        grad_cam_plus_plus, "Chattopadhyay et al. 2018", "features and head", gradients="1"
    ),
    guided_grad_cam=Method(
        guided_grad_cam, "Selvaraju et al. 2017", "features and head", gradients="2",
        reduce="max_abs",
    ),
    layerwise_relevance=Method(
        layerwise_relevance, "Bach et al. 2015", "Classifier", gradients="1", unit=_LOGIT
    ),
    random=Method(random, "Samek et al. 2017", "nothing", random=True),
    center=Method(center, "Judd et al. 2009", "nothing"),
    edges=Method(edges, "Adebayo et al. 2018b", "nothing"),
)  # fmt: skip


def methods_table() -> str:
    """Return METHODS as a Markdown table: what the README shows."""
    rows = ["| method | paper | calls for one image | needs |", "| --- | --- | --- | --- |"]
    for name, method in METHODS.items():
        defaults = {
            key: parameter.default
            for key, parameter in inspect.signature(method).parameters.items()
            if key in ("samples", "steps")
        }
        calls = [
            f"{_filled(count, defaults)} {kind}{'' if count == '1' else 's'}"
            for kind, count in (("forward", method.forwards), ("gradient", method.gradients))
            if count != "0"
        ]
        rows.append(
            f"| `{name}` | {method.paper} | {' and '.join(calls) or 'none'} | {method.needs} |"
        )
    return "\n".join([*rows, ""])


def _filled(count: str, defaults: dict[str, int]) -> str:
    return " ".join(
        f"`{word}` ({defaults[word]:,})" if word in defaults else word for word in count.split()
    )
