"""Metrics of one number an image against Captum, Quantus and their definitions."""

from collections.abc import Callable, Iterator

import captum.attr
import captum.metrics
import numpy as np
import quantus
import torch
from comparison import Check, check
from curves import Example
from networks import nhwc_to_nchw
from watching import Watched, seen

from practical import attribution, metrics

# What is removed shows it. No pixel of the images is equal to it.
COLOUR = np.array([0.5, 0.4, 0.3], np.float32)
SAMPLES, RADIUS = 24, 0.02


def removal_checks(example: Example) -> Iterator[Check]:
    """Compare infidelity and sensitivity-n over the sets of pixels that `practical` removed."""
    watched = Watched(example.model), example.images, example.targets, example.heatmaps
    options = {"samples": SAMPLES, "baseline": COLOUR, "chunk_size": SAMPLES}
    for scale in False, True:
        ours = metrics.infidelity(*watched, scale=scale, **options)
        shown, removed = _removed(example)
        theirs = captum.metrics.infidelity(
            example.torch,
            lambda _, shown=shown, removed=removed: (removed, shown),
            example.tensors,
            # A third of the map for each channel, all of which are removed together.
            torch.from_numpy(example.heatmaps).double()[:, None].expand(-1, 3, -1, -1) / 3,
            target=torch.from_numpy(example.targets),
            n_perturb_samples=SAMPLES,
            normalize=scale,
        )
        name = f"infidelity, {'scaled' if scale else 'as it is'}"
        yield check(name, "Captum infidelity", ours, theirs.numpy(), 1e-4)

    ours = metrics.sensitivity_n(*watched, **options)
    shown, removed = _removed(example)
    with torch.no_grad():
        targets = np.repeat(example.targets, SAMPLES)
        left = example.torch(shown).numpy()[np.arange(len(shown)), targets]
        whole = example.torch(example.tensors).numpy()[np.arange(len(ours)), example.targets]
    sums = (np.repeat(example.heatmaps, SAMPLES, 0) * removed[:, 0].numpy()).sum((1, 2))
    drops = np.repeat(whole, SAMPLES) - left
    pairs = zip(sums.reshape(-1, SAMPLES), drops.reshape(-1, SAMPLES), strict=True)
    theirs = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    yield check("sensitivity_n", "definition, NumPy", ours, np.array(theirs), 1e-4)


def _removed(example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the model was shown since the last call, and where pixels were missing."""
    shown = seen()[: len(example.images) * SAMPLES]  # then come the whole images
    removed = (shown != np.repeat(example.images, SAMPLES, 0)).all(-1)
    mask = torch.from_numpy(removed).double()[:, None].expand(-1, 3, -1, -1)
    return nhwc_to_nchw(shown).double(), mask


def robustness_checks(example: Example) -> Iterator[Check]:
    """Compare the largest change of a gradient over the same images close by."""
    shown: list[np.ndarray] = []

    def gradient(model, images, targets):
        shown.append(np.asarray(images))
        return attribution.gradient(model, images, targets)

    ours = metrics.max_sensitivity(*example.of(), gradient, samples=SAMPLES, radius=RADIUS)
    near = np.stack(shown[1:], axis=1).reshape(-1, *example.images.shape[1:])
    theirs = captum.metrics.sensitivity_max(
        lambda inputs, target: captum.attr.Saliency(example.torch).attribute(
            inputs, target, abs=False
        ),
        example.tensors,
        perturb_func=lambda _: nhwc_to_nchw(near).double(),
        n_perturb_samples=SAMPLES,
        target=torch.from_numpy(example.targets),
    )
    # Not tighter: where a ReLU's input is 0 but for rounding, gradients jump.
    yield check("max_sensitivity", "Captum sensitivity_max", ours, theirs.numpy(), 5e-3)


def map_checks(example: Example) -> Iterator[Check]:
    """Compare what needs no model: how concentrated a map is, and where it points."""
    maps = np.random.default_rng(6).normal(size=(16, 24, 24)).astype(np.float32)
    given = _quantus(example, maps)
    yield check(
        "sparseness", "Quantus Sparseness",
        metrics.sparseness(maps), given(quantus.Sparseness, abs=True), 1e-5,
    )  # fmt: skip
    yield check(
        "entropy", "Quantus Complexity",
        metrics.entropy(maps), given(quantus.Complexity, abs=True), 1e-5,
    )  # fmt: skip

    masks = _masks(maps.shape)
    s_batch = {"s_batch": masks[:, None].astype(float)}
    positive = np.maximum(maps, 0)
    for name, ours, theirs in (
        (
            "relevance_mass",
            metrics.relevance_mass(maps, masks),
            _quantus(example, positive)(quantus.RelevanceMassAccuracy, **s_batch),
        ),
        (
            "relevance_rank",
            metrics.relevance_rank(maps, masks),
            given(quantus.RelevanceRankAccuracy, **s_batch),
        ),
        (
            "pointing_game",
            metrics.pointing_game(maps, masks),
            given(quantus.PointingGame, **s_batch),
        ),
    ):
        against = f"Quantus {name.title().replace('_', '')}"
        yield check(name, against, ours.value, theirs, 1e-6)
    choices = np.array(
        [[a, b, 1 - a, 1 - b] for a, b in [(1, 1), (1, 0), (0, 1), (0, 0)] * 4], bool
    )
    mosaic = choices.reshape(-1, 2, 2).repeat(12, 1).repeat(12, 2)
    yield check(
        "focus", "Quantus Focus",
        metrics.focus(maps, mosaic).value, given(quantus.Focus, custom_batch=choices), 1e-6,
    )  # fmt: skip


def _masks(shape: tuple[int, ...]) -> np.ndarray:
    """Return rectangles of any place and size, and masks of single pixels here and there."""
    random = np.random.default_rng(7)
    masks = random.random(shape) < random.uniform(0.05, 0.95, (shape[0], 1, 1))
    for mask in masks[::2]:
        top, left = random.integers(0, [side // 2 for side in shape[1:]])
        mask[:] = False
        mask[top : top + random.integers(1, 12), left : left + random.integers(1, 12)] = True
    return masks


def _quantus(example: Example, maps: np.ndarray) -> Callable[..., np.ndarray]:
    def measure(kind: Callable, *, abs: bool = False, **given) -> np.ndarray:
        metric = kind(abs=abs, normalise=False, disable_warnings=True)
        return np.array(metric(
            model=example.torch, x_batch=np.zeros((len(maps), 3, *maps.shape[1:])),
            y_batch=np.zeros(len(maps), int), a_batch=maps[:, None].astype(np.float64),
            channel_first=True, **given,
        ), np.float64)  # fmt: skip

    return measure


def map_differences(example: Example) -> Iterator[tuple[str, float, float]]:
    """Yield what is known to differ from Quantus, with our number and its own."""
    mask = np.zeros((1, 24, 24), bool)
    mask[:, -6:] = True  # the lowest quarter
    tied, signed = np.zeros((2, 1, 24, 24), np.float32)
    tied[:, -12:] = 1
    signed[:, 6:] = -0.2
    signed[mask] = 1
    s_batch = {"s_batch": mask[:, None].astype(float)}
    empty = {"s_batch": np.zeros((1, 1, 24, 24))}
    given = _quantus(example, tied)
    yield (
        "pointing_game, half of the maxima on it",
        float(metrics.pointing_game(tied, mask).value[0]),
        given(quantus.PointingGame, **s_batch)[0],
    )
    yield (
        "relevance_rank, half of the maxima on it",
        float(metrics.relevance_rank(tied, mask).value[0]),
        given(quantus.RelevanceRankAccuracy, **s_batch)[0],
    )
    yield (
        "relevance_mass, with relevance below 0",
        float(metrics.relevance_mass(signed, mask).value[0]),
        _quantus(example, signed)(quantus.RelevanceMassAccuracy, **s_batch)[0],
    )
    yield "pointing_game, empty mask (refused)", np.nan, given(quantus.PointingGame, **empty)[0]
