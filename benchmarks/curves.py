"""Deletion, insertion and ROAD against the tools whose protocols they keep.

`practical` measures in float32, the others in float64, on the same images and maps.
"""

import dataclasses
import functools
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import quantus
import torch
from comparison import Check, check
from definitions import probabilities, rise_blur, rise_curve, road_impute, xplique_curve
from networks import nhwc_to_nchw
from watching import Watched, seen

from practical import metrics, models
from practical._keys import image_keys

NOISE = 0.01  # ROAD's, on imputed pixels
PERCENTAGES = range(10, 100, 10)


class Example:
    """What all metrics here are measured on: images, maps without ties, and both networks."""

    def __init__(self, model: models.Classifier, torch_model: torch.nn.Module, images: np.ndarray):
        self.model, self.torch, self.images = model, torch_model, images
        self.tensors = nhwc_to_nchw(images).double()
        self.targets = probabilities(torch_model, self.tensors).argmax(1)
        self.values = np.random.default_rng(5).normal(size=images.shape).astype(np.float32)
        self.heatmaps = self.values.mean(-1)
        for maps in self.values, self.heatmaps:
            assert all(np.unique(one).size == one.size for one in maps), "ties are broken at random"

    def of(self) -> tuple[models.Classifier, np.ndarray, np.ndarray]:
        """Return what every metric of `practical` takes first."""
        return self.model, self.images, self.targets


def rise_checks(example: Example) -> Iterator[Check]:
    """Compare RISE's protocol."""
    mean, std = example.torch.mean, example.torch.std
    blurred = rise_blur(example.tensors, mean, std)
    black = mean.expand(example.tensors.shape)  # 0 in normalised space
    for kind, start, finish in (
        ("deletion", example.tensors, black),
        ("insertion", blurred, example.tensors),
    ):
        curves = [
            rise_curve(example.torch, *of)
            for of in zip(start, finish, example.heatmaps, example.targets, strict=True)
        ]
        yield from _curve_checks(kind, example, curves, "rise", "RISE CausalMetric")


def xplique_checks(example: Example) -> Iterator[Check]:
    """Compare Xplique's protocol; Xplique itself needs TensorFlow, and is not run."""
    black = torch.zeros_like(example.tensors)
    for kind, start, end in (
        ("deletion", example.tensors, black),
        ("insertion", black, example.tensors),
    ):
        curves = [
            xplique_curve(example.torch, *of)
            for of in zip(start, end, example.values, example.targets, strict=True)
        ]
        yield from _curve_checks(kind, example, curves, "xplique", "Xplique CausalFidelity")


def _curve_checks(kind, example, curves, protocol, against) -> Iterator[Check]:
    metric = getattr(metrics, kind)
    curve = metric(*example.of(), example.heatmaps, protocol=protocol)
    scores, areas = zip(*curves, strict=True)
    yield check(f"{kind}, {protocol}, curve", against, curve.scores, np.array(scores), 5e-5)
    yield check(f"{kind}, {protocol}, auc", against, curve.auc, np.array(areas), 5e-5)


def quantus_checks(example: Example) -> Iterator[Check]:
    """Compare Quantus' protocol with its PixelFlipping, single values and many at a time."""
    for step in 1, 32:
        few = example
        if step == 1:  # one corner of one image, or it takes minutes
            few = Example(example.model, example.torch, example.images[:1, :16, :16])
        protocol = dataclasses.replace(metrics.PROTOCOLS["quantus"], step=step)
        curve = metrics.deletion(*few.of(), few.values, protocol=protocol)
        for what, ours, area in ("curve", curve.scores, False), ("auc", curve.auc, True):
            flipping = quantus.PixelFlipping(
                features_in_step=step, perturb_baseline="black", return_auc_per_sample=area,
                abs=False, normalise=False, disable_warnings=True,
            )  # fmt: skip
            maps = few.values.transpose(0, 3, 1, 2)
            theirs = _quantus(flipping, few.torch, few.images, few.targets, maps)
            name = f"deletion, quantus, steps of {step}, {what}"
            yield check(name, "Quantus PixelFlipping", ours, np.array(theirs), 5e-5)


def _quantus(
    metric, model: torch.nn.Module, images: np.ndarray, targets: np.ndarray, maps: np.ndarray
):
    return metric(
        model=model, x_batch=nhwc_to_nchw(images).double().numpy(), y_batch=targets,
        a_batch=maps.copy(), channel_first=True,
    )  # fmt: skip


@functools.partial(jax.tree_util.register_dataclass, data_fields=["model"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Winner:
    """A model of grey images that says which class wins, and nothing else: its probability is 1."""

    model: models.Classifier

    def __call__(self, images: jax.Array) -> jax.Array:
        logits = self.model(jnp.repeat(images, 3, axis=-1))
        return 100 * jax.nn.one_hot(logits.argmax(1), logits.shape[1])


def road_checks(example: Example) -> Iterator[Check]:
    """Compare imputation, its curve and the combined score."""
    key, heatmaps = jax.random.key(11), example.heatmaps
    noise = _noise(key, example.images.shape)
    areas = {}
    for order in "most", "least":
        curve = metrics.deletion(
            Watched(example.model), example.images, example.targets, heatmaps, protocol="road",
            order=order, key=key,
        )  # fmt: skip
        shown = seen().reshape(noise.shape)
        filled = np.array([_imputed(example, k, order, noise) for k in range(len(noise))])
        scores = [
            probabilities(example.torch, nhwc_to_nchw(images))[
                np.arange(len(images)), example.targets
            ]
            for images in filled
        ]
        scores = np.array(scores).T
        areas[order] = scores.mean(1)
        yield check(f"road, {order} first, pixels", "SciPy spsolve", shown, filled, 5e-3)
        yield check(f"road, {order} first, curve", "SciPy spsolve", curve.scores, scores, 5e-3)
    ours = metrics.road(*example.of(), heatmaps, key=key)
    # In units of the areas: their difference may be next to nothing.
    theirs, scale = (areas["least"] - areas["most"]) / 2, areas["most"]
    yield check("road, both", "half of least - most first", ours + scale, theirs + scale, 1e-3)

    # Of grey images: Quantus 0.6.0's ROAD counts pixels beyond the image where there are channels.
    grey = example.images[..., :1]
    classes = probabilities(example.torch, nhwc_to_nchw(grey).double()).argmax(1)
    right = metrics.deletion(
        Winner(example.model), grey, classes, heatmaps, protocol="road", key=key
    )
    yield check(
        "road, share still right", "Quantus ROAD, same noise",
        np.asarray(right.scores).mean(0), _quantus_road(example, grey, classes, key), 1e-6,
    )  # fmt: skip


def _noise(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return the noise of each of `practical`'s points and images, (points, *shape)."""
    keys = image_keys(key, shape[0])

    def draw(k: int) -> list[jax.Array]:
        return [jax.random.normal(jax.random.fold_in(one, k), shape[1:]) for one in keys]

    return NOISE * np.array([draw(k) for k in range(len(PERCENTAGES))], np.float64)


def _imputed(example: Example, k: int, order: str, noise: np.ndarray) -> np.ndarray:
    """Return the images with the k-th percentage of pixels imputed, noise included."""
    images = []
    for image, heatmap, one in zip(
        example.tensors.numpy(), example.heatmaps, noise[k], strict=True
    ):
        ranks = np.argsort(heatmap.ravel())
        ranks = ranks[::-1] if order == "most" else ranks
        removed = np.zeros(heatmap.size, bool)
        removed[ranks[: heatmap.size * PERCENTAGES[k] // 100]] = True
        removed = removed.reshape(heatmap.shape)
        filled = road_impute(image, removed).transpose(1, 2, 0)
        images.append(filled + one * removed[..., None])
    return np.array(images)


def _quantus_road(
    example: Example, grey: np.ndarray, classes: np.ndarray, key: jax.Array
) -> np.ndarray:
    """Return Quantus' ROAD of grey images, its noise replaced by `practical`'s."""
    orders = np.argsort(-example.heatmaps.reshape(len(grey), -1), axis=1)
    drawn = [
        one.ravel()[order[: order.size * percentage // 100]][None] / NOISE
        for percentage, noise in zip(PERCENTAGES, _noise(key, grey.shape), strict=True)
        for order, one in zip(orders, noise, strict=True)
    ]
    road = quantus.ROAD(
        percentages=list(PERCENTAGES), noise=NOISE, abs=False, normalise=False,
        return_aggregate=False, disable_warnings=True,
    )  # fmt: skip
    with mock.patch("numpy.random.randn", side_effect=drawn):
        answer = _quantus(road, example.torch, grey, classes, example.heatmaps[:, None])
    return np.array([answer[percentage] for percentage in PERCENTAGES])
