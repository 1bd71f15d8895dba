"""Does a map point where the evidence is? For images whose evidence is known as a mask.

All of it runs on the host, with NumPy.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from practical._inputs import ArrayLike, Heatmaps, check_count
from practical.metrics.complexity import check_heatmaps

Masks = Bool[ArrayLike, "batch height width"] | Integer[ArrayLike, "batch height width"]


class Localization(NamedTuple):
    """How much of a map's evidence lies on the mask, and what knowing nothing would give."""

    value: Float[Array, " batch"]  # in [0, 1], one number an image; 1 is perfect
    chance: Float[Array, " batch"]  # expectation for a random map, in (0, 1): larger masks, more

    @property
    def adjusted(self) -> Float[Array, " batch"]:
        """(value - chance) / (1 - chance): 1 is perfect, 0 chance level, below 0 worse than it."""
        return (self.value - self.chance) / (1 - self.chance)


def pointing_game(heatmaps: Heatmaps, masks: Masks, *, tolerance: int = 0) -> Localization:
    """Is the pixel of the highest relevance on the mask?

    Where several pixels share the maximum, the value is the share of them that hit: what breaking
    the tie at random would give. So a constant map is at chance level.

    Args:
        heatmaps: (B, H, W), any scale.
        masks: (B, H, W) bool, or integers 0 and 1: where the evidence is.
        tolerance: Also hit if so many pixels or fewer away from the mask, in a straight line.
            The paper's is 15, for photographs.

    Returns:
        Per image 1 for a hit, 0 for a miss, with ties in between; and the area share of the mask,
        widened by `tolerance`.

    Raises:
        ValueError: If an argument breaks its rule, there is a NaN, or a mask is empty or, with the
            tolerance, covers its whole image: then nothing could miss.

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, section 4.1.
    """
    maps, on = _checked(heatmaps, masks)
    if check_count("tolerance", tolerance, least=0):
        on = _widen(on, tolerance)
        _refuse(
            _count(on) == on[0].size,
            f"tolerance must leave a place to miss, got {tolerance}, with which the mask covers "
            "all of image {}; lower it",
        )
    highest = maps == maps.max((1, 2), keepdims=True)
    return _localization(_count(highest & on), _count(highest), on)


def relevance_mass(heatmaps: Heatmaps, masks: Masks) -> Localization:
    """Return the share of the positive relevance that lies on the mask.

    Negative relevance counts as none. A map without any positive relevance points nowhere and is
    given its chance level.

    Args:
        heatmaps: (B, H, W), any scale; 0 stands for "no evidence".
        masks: (B, H, W) bool, or integers 0 and 1: where the evidence is.

    Raises:
        ValueError: If an argument breaks its rule, there is a NaN, or a mask is empty or covers
            its whole image.

    References:
        Arras et al., CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural
        Network Explanations, Information Fusion 81, 2022 (relevance mass accuracy).
    """
    maps, on = _checked(heatmaps, masks)
    positive = np.maximum(maps, 0).astype(np.float64)
    largest = positive.max((1, 2), keepdims=True)
    # Over the largest, no sum overflows; where there is none, all pixels count the same.
    shares = np.divide(positive, largest, out=np.ones_like(positive), where=largest > 0)
    return _localization((shares * on).sum((1, 2)), shares.sum((1, 2)), on)


def relevance_rank(heatmaps: Heatmaps, masks: Masks) -> Localization:
    """Return the share of the K most relevant pixels that lie on the mask, K being its area.

    Where the K-th pixel ties with others, the value is the expectation over breaking the tie at
    random. So a constant map is at chance level.

    Args:
        heatmaps: (B, H, W), any scale: only the order of an image's pixels counts.
        masks: (B, H, W) bool, or integers 0 and 1: where the evidence is.

    Raises:
        ValueError: If an argument breaks its rule, there is a NaN, or a mask is empty or covers
            its whole image.

    References:
        Arras et al., CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural
        Network Explanations, Information Fusion 81, 2022 (relevance rank accuracy).
    """
    maps, on = _checked(heatmaps, masks)
    area = _count(on)
    ordered = np.sort(maps.reshape(len(maps), -1), axis=1)
    last = ordered[np.arange(len(maps)), -area][:, None, None]  # the K-th highest value
    above, tied = maps > last, maps == last
    open_places, candidates = area - _count(above), _count(tied)
    # Over one denominator, for the numbers are whole and the division alone is rounded.
    hits = _count(above & on) * candidates + open_places * _count(tied & on)
    return _localization(hits, area * candidates, on)


def focus(heatmaps: Heatmaps, masks: Masks) -> Localization:
    """Return the share of a mosaic's positive relevance in the two quadrants of the target class.

    It is the `relevance_mass` of a 2x2 mosaic, whose chance level is 1/2; `data.mosaics` makes
    such mosaics, with their masks, of any data set.

    Args:
        heatmaps: (B, H, W) of mosaics, explained for the class that two of the quadrants show.
        masks: (B, H, W) bool, or integers 0 and 1: two whole quadrants of each mosaic.

    Raises:
        ValueError: If an argument breaks its rule, there is a NaN, or a mask is anything but two
            whole quadrants.

    References:
        Arias-Duart et al., Focus! Rating XAI Methods and Finding Biases, FUZZ-IEEE 2022.
    """
    maps, on = _checked(heatmaps, masks)
    count, height, width = on.shape
    if height % 2 or width % 2:
        raise ValueError(
            f"masks must be those of 2x2 mosaics, of even height and width, got {height}x{width} "
            "pixels; data.mosaics makes them"
        )
    quadrants = on.reshape(count, 2, height // 2, 2, width // 2)
    whole = quadrants.all((2, 4))
    _refuse(
        (whole != quadrants.any((2, 4))).any((1, 2)) | (whole.sum((1, 2)) != 2),
        "masks must be True on exactly two whole quadrants of each mosaic; not so for image {}; "
        "data.mosaics makes them, relevance_mass takes any mask",
    )
    return relevance_mass(maps, on)


def _checked(heatmaps: Heatmaps, masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    maps, on = check_heatmaps(heatmaps), np.asarray(masks)
    if on.shape != maps.shape:
        raise ValueError(f"masks must have the heatmaps' shape, {maps.shape}, got {on.shape}")
    if on.dtype != bool:
        if not np.issubdtype(on.dtype, np.integer):
            raise ValueError(
                f"masks must be bool, or integers 0 and 1, got {on.dtype}; for masks of shares, "
                "masks > 0.5"
            )
        _refuse(
            ((on != 0) & (on != 1)).any((1, 2)),
            "masks must be bool, or integers 0 and 1, got others in image {}",
        )
        on = on.astype(bool)
    _refuse(
        _count(on) == 0,
        "masks must mark at least one pixel of each image, got none for image {}; leave it out",
    )
    _refuse(
        _count(on) == on[0].size,
        "masks must leave at least one pixel of each image unmarked, or nothing could miss, got "
        "none for image {}; leave it out",
    )
    return maps, on


def _refuse(wrong: Bool[np.ndarray, " batch"], message: str) -> None:
    """Raise ValueError with the numbers of the images that are `wrong` in place of {}."""
    if wrong.any():
        numbers = np.flatnonzero(wrong)
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        raise ValueError(message.format(listed))


def _count(pixels: Bool[np.ndarray, "batch height width"]) -> np.ndarray:
    return np.count_nonzero(pixels, axis=(1, 2)).astype(np.int64)


def _localization(part: np.ndarray, whole: np.ndarray, on: np.ndarray) -> Localization:
    chance = _count(on) / (on.shape[1] * on.shape[2])
    return Localization(jnp.asarray(part / whole, jnp.float32), jnp.asarray(chance, jnp.float32))


def _widen(on: Bool[np.ndarray, "b h w"], tolerance: int) -> Bool[np.ndarray, "b h w"]:
    """Return where the nearest pixel of the mask is at most `tolerance` away.

    First along each row; then, over the rows, by Pythagoras: a row at distance d may be left over
    by sqrt(tolerance ** 2 - d ** 2) at most.
    """
    height, width = on.shape[1:]
    columns = np.arange(width, dtype=np.int32)
    left = np.maximum.accumulate(np.where(on, columns, -width), axis=2)
    right = np.minimum.accumulate(np.where(on, columns, 2 * width)[:, :, ::-1], axis=2)[:, :, ::-1]
    across = np.minimum(columns - left, right - columns)  # at least `width` in a row without mask
    wide = np.zeros_like(on)
    for down in range(min(tolerance, height - 1) + 1):
        near = across <= min(math.isqrt(tolerance**2 - down**2), width - 1)
        wide[:, down:] |= near[:, : height - down]
        wide[:, : height - down] |= near[:, down:]
    return wide
