"""Small networks and images to ask answers about, and what common mistakes make of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from practical import explainfix
from practical.grading.asking import TARGETS_HINT, Weighted
from practical.grading.exercise import Call, Mistake, Property
from practical.models import Classifier
from practical.models.architecture import Architecture

Network = Classifier | Weighted


def network(rng: np.random.Generator, classes: int = 3) -> Classifier:
    """Return a small random ResNet whose logits differ by some units.

    Its weights are drawn by NumPy, since JAX would compile for seconds before it draws any.
    """
    architecture = Architecture(
        block="basic", stage_sizes=(1,), widths=(5,), classes=classes, stem_width=4, stem_kernel=3,
        stem_stride=2, pool=False,
    )  # fmt: skip
    shapes = jax.eval_shape(
        architecture.module().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.float32)
    )

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "kernel":
            wide = np.sqrt(2 / np.prod(leaf.shape[:-1])) * (4 if len(leaf.shape) == 2 else 1)
            values = rng.normal(0, wide, leaf.shape)
        elif name == "bias":
            values = rng.normal(0, 0.5 if leaf.shape == (classes,) else 0.1, leaf.shape)
        else:  # of batch norms: scale and var, mean
            values = np.full(leaf.shape, name in ("scale", "var"))
        return jnp.asarray(values, jnp.float32)

    return Classifier(
        architecture=architecture,
        class_names=tuple(f"class {number}" for number in range(classes)),
        variables=jax.tree_util.tree_map_with_path(draw, shapes),
        mean=jnp.full(3, 0.5),
        std=jnp.full(3, 0.25),
    )


def images(rng: np.random.Generator, count: int, height: int = 8, width: int = 10) -> np.ndarray:
    """Return random images (count, height, width, 3)."""
    return rng.random((count, height, width, 3), np.float32)


def explained(
    rng: np.random.Generator, count: int, classes: int = 3, height: int = 8, width: int = 10
) -> dict[str, Any]:
    """Return a network, images, and a class for each, of which not all are the predicted ones.

    So an answer about the predicted classes is wrong in every case.
    """
    model, some = network(rng, classes), images(rng, count, height, width)
    targets = rng.integers(0, classes, count).astype(np.int32)
    likely = predicted(model, some)
    if (targets == likely).all():
        targets[0] = (likely[0] + 1) % classes
    return {"model": model, "images": some, "targets": targets}


def heatmaps(rng: np.random.Generator, count: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return random maps without ties, of different scales.

    Their sums are above 0, since a mistake may divide by them. The share of negative relevance
    differs between maps, so that no mistake is off by a constant. The highest pixels of a batch are
    not the highest of each map.
    """
    scales = rng.permutation(np.geomspace(0.5, 2, count))
    lowest = -rng.permutation(np.linspace(0.3, 0.9, count))
    maps = [
        scale * rng.permutation(np.linspace(low, 1.1, height * width)).reshape(height, width)
        for scale, low in zip(scales, lowest, strict=True)
    ]
    return np.stack(maps).astype(np.float32)


def masks(rng: np.random.Generator, count: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return masks of random rectangles of different sizes."""
    found = np.zeros((count, height, width), bool)
    for mask in found:
        top, left = rng.integers(0, height - 2), rng.integers(0, width - 3)
        mask[top : top + rng.integers(1, 4), left : left + rng.integers(2, 5)] = True
    return found


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["model", "mix"],
    meta_fields=["output", "part"],
)
@dataclass(frozen=True)
class Changed:
    """A network that returns something else than its logits, or only its head.

    It is a pytree, as the network is, so that it is compiled once.
    """

    model: Network
    output: Callable = lambda logits: logits
    part: str = "model"
    mix: Any = 1.0  # (classes, classes), by which the output is multiplied; 1 leaves it unchanged

    def __call__(self, given: Any) -> Any:
        """Return the output for images, or for features."""
        output = self.output((self.model.head if self.part == "head" else self.model)(given))
        return output if np.ndim(self.mix) == 0 else output @ self.mix

    def features(self, images: Any) -> Any:
        """Return the network's last feature maps."""
        return self.model.features(images)

    def head(self, features: Any) -> Any:
        """Return the output for feature maps."""
        return Changed(self.model, self.output, "head", self.mix)(features)


def softmaxed(model: Network) -> Changed:
    """Return a network whose output is the probabilities."""
    return Changed(model, jax.nn.softmax)


def _negative_log(logits: jax.Array) -> jax.Array:
    return -jax.nn.log_softmax(logits)


def loss(model: Network) -> Changed:
    """Return a network whose output is the cross-entropy of each class."""
    return Changed(model, _negative_log)


def all_targets(model: Network, images: np.ndarray, targets: np.ndarray) -> Changed:
    """Return a network each of whose outputs is what `model(images)[:, targets]` adds up."""
    classes = logits(model, images[:1]).shape[1]
    counts = np.bincount(targets, minlength=classes)
    return Changed(model, mix=np.tile(counts[:, None], classes).astype(np.float32))


def all_classes(model: Network, images: np.ndarray, targets: np.ndarray) -> Changed:
    """Return a network each of whose outputs is the sum of all logits."""
    classes = logits(model, images[:1]).shape[1]
    return Changed(model, mix=np.ones((classes, classes), np.float32))


def averaged(model: Network, images: np.ndarray, targets: np.ndarray) -> Changed:
    """Return a network whose outputs are the logits over the number of images."""
    classes = logits(model, images[:1]).shape[1]
    return Changed(model, mix=np.eye(classes, dtype=np.float32) / len(images))


def head(model: Network) -> Changed:
    """Return the network above its last feature maps."""
    return Changed(model, part="head")


def predicted(model: Network | Changed, images: np.ndarray) -> np.ndarray:
    """Return the most probable classes."""
    return logits(model, images).argmax(1)


def logits(model: Network | Changed, images: Any) -> np.ndarray:
    """Return the network's output."""
    return np.asarray(_logits(model, jnp.asarray(images, jnp.float32)))


def slope(model: Network | Changed, images: Any, targets: Any) -> np.ndarray:
    """Return the derivative of the target's output with respect to the images, or features."""
    return np.asarray(_slope(model, jnp.asarray(images, jnp.float32), jnp.asarray(targets)))


@jax.jit
def _logits(model, images):
    return model(images)


@jax.jit
def _slope(model, images, targets):
    rows = jnp.arange(len(targets))
    return jax.grad(lambda x: model(x)[rows, targets].sum())(images)


def wrong_outputs(method: Callable) -> tuple[Mistake, ...]:
    """Return the mistakes of differentiating something else than the targets' logits.

    Args:
        method: The right answer, as a function of `model`, `images`, `targets` and any others.
    """

    def of(change: Callable) -> Callable:
        return lambda model, **given: method(change(model), **given)

    def mixed(change: Callable) -> Callable:
        return lambda model, images, targets, **given: method(
            change(model, images, targets), images=images, targets=targets, **given
        )

    return (
        Mistake(
            "the gradient of all images' targets",
            TARGETS_HINT,
            mixed(all_targets),
        ),
        Mistake(
            "the gradient of all classes' logits",
            "Pick one logit per image, that of its target, before you add them up.",
            mixed(all_classes),
        ),
        Mistake(
            "the gradient of the mean over the images",
            "Add the targets' logits up; do not average them over the batch.",
            mixed(averaged),
        ),
        Mistake(
            "the gradient of a probability",
            "Differentiate the logit, which the model returns, without a softmax: a probability "
            "also changes when the logits of other classes change.",
            of(softmaxed),
        ),
        Mistake(
            "the gradient of the loss",
            "Differentiate the logit of the target, not the cross-entropy.",
            of(loss),
        ),
        Mistake(
            "the gradient of the predicted class",
            "Differentiate the logit of `targets`, which need not be the largest.",
            lambda model, images, targets, **given: method(
                model, images=images, targets=predicted(model, images), **given
            ),
        ),
    )


def located(rng: np.random.Generator) -> list[dict]:
    """Return cases of heatmaps and masks."""
    return [
        {"heatmaps": heatmaps(rng, 3), "masks": masks(rng, 3)},
        {"heatmaps": 40 * heatmaps(rng, 2, 7, 7), "masks": masks(rng, 2, 7, 7)},
    ]


def cut(kernels: np.ndarray) -> np.ndarray:
    """Return kernels whose filters are the rows of `kernels.reshape(-1, height, width)`."""
    height, width, *channels = kernels.shape
    return np.moveaxis(kernels.reshape(*channels, height, width), (2, 3), (0, 1))


def dct(size: int) -> np.ndarray:
    """Return the basis of square filters, as `dct_basis` of the exercise before gives it."""
    return np.asarray(explainfix.dct_basis((size, size)))


def relation(
    name: str,
    hint: str,
    draw: Callable[[np.random.Generator], list[dict]],
    change: Callable[[dict], dict],
    then: Callable[[np.ndarray], np.ndarray],
) -> Property:
    """Return a metamorphic property: a change of the arguments implies a change of the result.

    Args:
        name: What holds.
        hint: What it means.
        draw: Draws cases; the first one is used.
        change: Returns the arguments that differ.
        then: Takes the answer to the case, and returns the answer to the changed one.
    """

    def holds(call: Call, rng: np.random.Generator) -> bool:
        case = draw(rng)[0]
        before, after = (
            np.asarray(call(given), np.float64) for given in (case, case | change(case))
        )
        expected = then(before)
        return bool(np.abs(after - expected).max() <= 0.01 * np.abs(expected).max() + 1e-6)

    return Property(name, hint, holds)


def batch_order(draw: Callable[[np.random.Generator], list[dict]], *names: str) -> Property:
    """Return that images in the opposite order have their answers in the opposite order.

    Args:
        draw: Draws cases; the first one is asked about.
        names: The arguments that have a row for each image.
    """
    return relation(
        "the same for each image, whatever is in the batch beside it",
        "An image's answer depends on that image alone.",
        draw,
        lambda case: {name: case[name][::-1].copy() for name in names},
        lambda answer: answer[::-1],
    )


### BEGIN HIDDEN TESTS
MIRROR = relation(
    "the same in a mirror",
    "Where the mask lies in the image makes no difference, if the map is moved with it.",
    located,
    lambda case: {name: case[name][:, :, ::-1].copy() for name in ("heatmaps", "masks")},
    lambda answer: answer,
)
### END HIDDEN TESTS
