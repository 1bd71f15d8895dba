"""LIME, Kernel SHAP and RISE against Captum, scikit-learn and their definitions.

`practical` explains in float32. The others get the sets or masks that it drew, and ask PyTorch's
network in float64 for its answers.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator

import captum.attr
import jax
import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from comparison import Check, check
from networks import Twins, nhwc_to_nchw
from skimage.transform import resize
from sklearn.linear_model import Ridge
from watching import Watched, seen

from practical import attribution, models

GRIDS = (3, 3), (2, 4)  # superpixels of the two images: 9 and 8
HIDDEN = np.array([0.5, 0.4, 0.3], np.float32)  # what a hidden superpixel shows
WIDTH, PENALTY = 0.25, 1.0  # LIME's
SETS, MASKS, CELLS, SHARE = 200, 64, 5, 0.5
CAPTUM_SETS = 1000  # that Captum's Kernel SHAP draws for itself

Answer = Callable[[np.ndarray], np.ndarray]  # sets of superpixels shown -> one number each


def hiding_checks(pair: Twins, images: np.ndarray, targets: np.ndarray) -> Iterator[Check]:
    """Yield all comparisons."""
    double = copy.deepcopy(pair.torch).double()
    yield from surrogate_checks(pair.practical, double, images, targets)
    yield from rise_checks(pair.practical, double, images, targets)


def surrogate_checks(
    model: models.Classifier, torch_model: torch.nn.Module, images: np.ndarray, targets: np.ndarray
) -> Iterator[Check]:
    """Compare LIME and Kernel SHAP."""
    segments = np.stack([_grid(rows, columns, images.shape[1:3]) for rows, columns in GRIDS])
    options = {"segments": segments, "baseline": HIDDEN, "chunk_size": 40}

    def explain(method: Callable, samples: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each image's values by superpixel, and the sets that made them."""
        maps = method(Watched(model), images, targets, samples=samples, **options)
        shown = seen()[-len(images) * samples :].reshape(len(images), samples, *images.shape[1:])
        values, sets = [], []
        for i, numbers in enumerate(segments):
            first = np.unique(numbers, return_index=True)[1]  # a pixel of each superpixel
            here = shown[i].reshape(samples, -1, 3)[:, first] == images[i].reshape(-1, 3)[first]
            values.append(np.asarray(maps[i]).ravel()[first])
            sets.append(here.all(2))
        return values, sets

    answers = [
        _answer(torch_model, image, target, numbers)
        for image, target, numbers in zip(images, targets, segments, strict=True)
    ]

    def everyone(function: Callable, *columns) -> np.ndarray:
        return np.concatenate([function(*rows) for rows in zip(*columns, strict=True)])

    captum_of = list(zip(itertools.repeat(torch_model), images, targets, segments, strict=False))
    values, sets = explain(attribution.lime, SETS)
    yield check(
        "lime", "scikit-learn Ridge", np.concatenate(values), everyone(_ridge, answers, sets), 1e-4
    )
    yield check(
        "lime", "Captum Lime", np.concatenate(values), everyone(_captum_lime, captum_of, sets), 1e-4
    )
    every = [_shapley(answer, len(s)) for answer, s in zip(answers, values, strict=True)]
    exact = np.concatenate(every)
    values, _ = explain(attribution.kernel_shap, 2**9 - 2)
    yield check(
        "kernel_shap, all sets", "Shapley values, all sets", np.concatenate(values), exact, 1e-4
    )
    drawn = everyone(lambda of: _captum_shap(of, None, CAPTUM_SETS), captum_of)
    yield check("Captum KernelShap, 1000 sets", "Shapley values, all sets", drawn, exact, 0.5)
    values, sets = explain(attribution.kernel_shap, SETS)
    yield check(
        f"kernel_shap, {SETS} sets", "least squares with constraint",
        np.concatenate(values), everyone(_constrained, answers, sets), 1e-4,
    )  # fmt: skip
    yield check(
        f"kernel_shap, {SETS} sets", "Captum KernelShap, same sets",
        np.concatenate(values), everyone(_captum_shap, captum_of, sets), 5e-3,
    )  # fmt: skip


def _grid(rows: int, columns: int, sides: tuple[int, int]) -> np.ndarray:
    """Return the number of each pixel's rectangle."""
    down, across = (
        np.arange(side) * parts // side for side, parts in zip(sides, (rows, columns), strict=True)
    )
    return down[:, None] * columns + across


def _answer(model: torch.nn.Module, image: np.ndarray, target: int, segments: np.ndarray) -> Answer:
    """Return the function from sets of superpixels that are shown to the target's logit."""

    def answer(sets: np.ndarray) -> np.ndarray:
        pixels = np.asarray(sets, bool)[:, segments][..., None]
        shown = np.where(pixels, image, HIDDEN)
        with torch.no_grad():
            parts = torch.split(nhwc_to_nchw(shown).double(), 64)
            return torch.cat([model(part)[:, target] for part in parts]).numpy()

    return answer


def _nearness(sets: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((1 - np.sqrt(sets.mean(1))) / WIDTH) ** 2)


def _ridge(answer: Answer, sets: np.ndarray) -> np.ndarray:
    fitted = Ridge(alpha=PENALTY).fit(sets, answer(sets), sample_weight=_nearness(sets))
    return fitted.coef_


def _captum_lime(of, sets: np.ndarray) -> np.ndarray:
    model, *rest = of
    lime = captum.attr.Lime(
        model, SkLearnRidge(alpha=PENALTY),
        similarity_func=lambda _, __, shown, **___: torch.from_numpy(_nearness(shown.numpy())),
        perturb_func=_giving(sets),
    )  # fmt: skip
    return _captum(lime, *rest, samples=len(sets))


def _captum_shap(of, sets: np.ndarray | None, samples: int = 0) -> np.ndarray:
    """Return Captum's values for given sets, with the whole and the empty one; or for its own."""
    model, *rest = of
    shap = captum.attr.KernelShap(model)
    torch.manual_seed(0)
    if sets is not None:
        ends = np.stack([np.ones_like(sets[0]), np.zeros_like(sets[0])])
        sets = np.concatenate([ends, sets])
        samples, shap.perturb_func = len(sets), _giving(sets)
    return _captum(shap, *rest, samples=samples)


def _giving(sets: np.ndarray) -> Callable:
    def give(*_, **__):
        yield from torch.from_numpy(sets[:, None]).long()

    return give


def _captum(method, image, target, segments, *, samples: int) -> np.ndarray:
    hidden = torch.from_numpy(HIDDEN).double()[:, None, None].expand(3, *image.shape[:2])
    maps = method.attribute(
        nhwc_to_nchw(image[None]).double(), hidden[None], target=int(target),
        feature_mask=torch.from_numpy(segments)[None, None], n_samples=samples,
        perturbations_per_eval=50,
    )  # fmt: skip
    return maps[0, 0].numpy().ravel()[np.unique(segments, return_index=True)[1]]


def _shapley(answer: Answer, count: int) -> np.ndarray:
    """Return Shapley values by their definition: all sets, with and without each member."""
    sets = np.array(list(itertools.product([False, True], repeat=count)))
    worth, sizes = answer(sets), sets.sum(1)
    orders = [math.factorial(s) * math.factorial(count - s - 1) for s in range(count)]
    weights = np.array(orders) / math.factorial(count)
    values = []
    for i in range(count):
        without = np.flatnonzero(~sets[:, i])
        gains = worth[without + 2 ** (count - 1 - i)] - worth[without]
        values.append(weights[sizes[without]] @ gains)
    return np.array(values)


def _constrained(answer: Answer, sets: np.ndarray) -> np.ndarray:
    """Return least squares over the sets, the values adding up to the whole answer's change."""
    count = sets.shape[1]
    empty, whole = answer(np.stack([np.zeros(count), np.ones(count)]))
    # The last value is what the others leave of the change.
    rows = sets[:, :-1].astype(float) - sets[:, -1:]
    rest = answer(sets) - empty - sets[:, -1] * (whole - empty)
    free = np.linalg.lstsq(rows, rest, rcond=None)[0]
    return np.append(free, whole - empty - free.sum())


def rise_checks(
    model: models.Classifier, torch_model: torch.nn.Module, images: np.ndarray, targets: np.ndarray
) -> Iterator[Check]:
    """Compare RISE, and its masks, with the authors' definitions."""
    keys, (height, width) = jax.random.split(jax.random.key(7), len(images)), images.shape[1:3]
    options = {
        "samples": MASKS, "cells": CELLS, "share": SHARE, "key": keys, "chunk_size": 2 * MASKS,
    }  # fmt: skip
    # Under the masks a white image on black shows the masks themselves.
    attribution.rise(Watched(model), np.ones_like(images), targets, baseline="black", **options)
    masks = seen()[..., 0].reshape(len(images), MASKS, height, width).astype(np.float64)
    written = [[_mask(jax.random.fold_in(k, n), height, width) for n in range(MASKS)] for k in keys]
    yield check("rise, masks", "skimage resize, edges repeated", masks, np.array(written), 1e-5)

    colour = np.float32(models.IMAGENET_MEAN)
    ours = attribution.rise(model, images, targets, baseline=colour, **options)
    theirs = [_rise(torch_model, *of) for of in zip(images, targets, masks, strict=True)]
    # Ours divides by the masks' own sum at each pixel, RISE by what it is in expectation.
    ours = np.asarray(ours, np.float64) * masks.mean(1) / SHARE
    yield check("rise, times mask mean / share", "RISE's sum / N / p", ours, np.array(theirs), 1e-4)


def _mask(key: jax.Array, height: int, width: int) -> np.ndarray:
    """Return the mask of a key as the authors' `generate_masks` makes it."""
    grid, shift = jax.random.split(key)
    shown = np.asarray(jax.random.uniform(grid, (CELLS, CELLS)) < SHARE, np.float64)
    cells = [math.ceil(side / CELLS) for side in (height, width)]
    top, left = (
        int(s * cell) for s, cell in zip(jax.random.uniform(shift, (2,)), cells, strict=True)
    )
    size = [(CELLS + 1) * cell for cell in cells]
    whole = resize(shown, size, order=1, mode="edge", anti_aliasing=False)
    return whole[top : top + height, left : left + width]


def _rise(model: torch.nn.Module, image: np.ndarray, target: int, masks: np.ndarray) -> np.ndarray:
    """Return RISE's map: 0 in normalised space, where the mask is 0, is the mean colour."""
    layers = torch.from_numpy(masks)[:, None]
    normalised = (nhwc_to_nchw(image[None]).double() - model.mean) / model.std
    with torch.no_grad():
        answers = model.resnet(layers * normalised).softmax(1)[:, int(target)]
    return torch.einsum("n,nhw->hw", answers, layers[:, 0]).numpy() / len(masks) / SHARE
