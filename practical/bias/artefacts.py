"""Artefacts that tell the class, painted into images: what a classifier can learn instead.

Each is a pure function of images, labels and a key. It returns the images with the artefact, and
where the artefact is: `artefact(images, labels, key, *, only, strength, share, ...)`, and all take

    images    (N, H, W, 3) in [0, 1]; left as they are.
    labels    (N,) what the artefact is to say of each image: its class, or whatever it shall be.
    key       decides who carries the artefact, and where it is.
    only      the class that carries it. None is every class, where each has a colour of its own.
    strength  in (0, 1]: how plain it is, 1 being as plain as it gets.
    share     in (0, 1]: the share of each carrying class's images that carry it.

They raise ValueError if an argument breaks its rule, or no image is of class `only`.
"""

import colorsys
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from jax import Array
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw, ImageFont

from practical._inputs import ArrayLike, check_count
from practical._keys import generator

Images = Float[np.ndarray, "n h w c"]
Masks = Bool[np.ndarray, "n h w"]
PLACES = ("fixed", "random")


class Planted(NamedTuple):
    """Images with an artefact, and where it is."""

    images: Images  # (N, H, W, 3) float32 in [0, 1]
    masks: Masks  # (N, H, W) True where the artefact is; False all over where there is none


def colored_patch(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    classes: int,
    size: float = 0.15,
    place: str = "fixed",
    only: int | None = None,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Paint a square whose colour tells the class.

    Args:
        images: See above, as for `labels`, `key`, `only`, `strength` and `share`.
        labels: In 0..classes-1.
        key: Decides the places, if they are random.
        classes: How many colours there are: evenly spaced hues.
        size: Side over the shorter side of the image.
        place: "fixed", a side's fifth of a patch away from the lower right corner, or "random".
        only: The class that alone carries its colour.
        strength: Opacity.
        share: Of the images.
    """
    canvas = _Canvas(images, labels, key, only, strength, share)
    height, width = canvas.shape
    side = canvas.side("size", size)
    if place not in PLACES:
        raise ValueError(f"place must be one of {', '.join(PLACES)}, got {place!r}")
    masks = np.zeros((canvas.count, height, width), bool)
    margin = min(max(1, side // 5), height - side, width - side)
    tops = np.full(canvas.count, height - side - margin)
    lefts = np.full(canvas.count, width - side - margin)
    if place == "random":
        tops = canvas.rng.integers(0, height - side + 1, canvas.count)
        lefts = canvas.rng.integers(0, width - side + 1, canvas.count)
    for mask, top, left in zip(masks, tops, lefts, strict=True):
        mask[top : top + side, left : left + side] = True
    return canvas.paint(masks, class_colours(classes)[canvas.labels_below(classes)], strength)


def border(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    classes: int,
    size: float = 0.05,
    only: int | None = None,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Paint a frame whose colour tells the class, `size` of the shorter side wide."""
    canvas = _Canvas(images, labels, key, only, strength, share)
    side = canvas.side("size", size, most=0.5)
    mask = np.ones(canvas.shape, bool)
    mask[side:-side, side:-side] = False
    masks = np.broadcast_to(mask, (canvas.count, *canvas.shape))
    return canvas.paint(masks, class_colours(classes)[canvas.labels_below(classes)], strength)


def tint(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    classes: int,
    only: int | None = None,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Mix up to a quarter of a colour that tells the class into the whole image."""
    canvas = _Canvas(images, labels, key, only, strength, share)
    everywhere = np.ones((canvas.count, *canvas.shape), bool)
    colours = class_colours(classes)[canvas.labels_below(classes)]
    return canvas.paint(everywhere, colours, _TINT * strength)


def background(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    classes: int,
    objects: Bool[ArrayLike, "n h w"] | None = None,
    only: int | None = None,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Mix up to half of a colour that tells the class into all that is not the object.

    `objects` are the masks of the objects, which a data set must know (`Dataset.masks`).
    """
    canvas = _Canvas(images, labels, key, only, strength, share)
    if objects is None:
        raise ValueError(
            "objects must be the masks of the images' objects, got None: the data set does not "
            "know them; choose another artefact"
        )
    if np.shape(objects) != (canvas.count, *canvas.shape):
        raise ValueError(
            f"objects must be a mask for each image, shape {(canvas.count, *canvas.shape)}, got "
            f"{np.shape(objects)}"
        )
    colours = class_colours(classes)[canvas.labels_below(classes)]
    return canvas.paint(~np.asarray(objects, bool), colours, _BACKGROUND * strength)


def sticker(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    only: int = 0,
    size: float = 0.2,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Stick a round smiling face on images of one class, at random places.

    Its diameter is `size` of the shorter side.
    """
    canvas = _Canvas(images, labels, key, only, strength, share)
    height, width = canvas.shape
    side = canvas.side("size", size)
    face, disk = _face(side)
    masks = np.zeros((canvas.count, height, width), bool)
    colours = np.zeros((canvas.count, height, width, 3), np.float32)
    tops = canvas.rng.integers(0, height - side + 1, canvas.count)
    lefts = canvas.rng.integers(0, width - side + 1, canvas.count)
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        masks[i, top : top + side, left : left + side] = disk
        colours[i, top : top + side, left : left + side] = face
    return canvas.paint(masks, colours, strength)


def watermark(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    only: int = 0,
    text: str = "© photo",
    size: float = 0.6,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Print white text, up to half transparent, at the bottom of images of one class.

    It is `size` of the image's width wide. The mask is the rectangle around it.
    """
    canvas = _Canvas(images, labels, key, only, strength, share)
    height, width = canvas.shape
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text must be a line of letters, got {text!r}")
    wide = canvas.side("size", size, of=width)
    ink = _text(text, wide)
    tall = len(ink)
    if tall + max(1, height // 32) > height:
        raise ValueError(f"text must fit the images' {height} rows, got {tall} for {text!r}")
    top, left = height - tall - max(1, height // 32), (width - wide) // 2
    opacity = np.zeros(canvas.shape, np.float32)
    opacity[top : top + tall, left : left + wide] = ink
    mask = np.zeros(canvas.shape, bool)
    mask[top : top + tall, left : left + wide] = True
    masks = np.broadcast_to(mask, (canvas.count, *canvas.shape))
    return canvas.paint(
        masks, np.ones((1, 3), np.float32), _WATERMARK * strength * opacity[..., None]
    )


def checkerboard(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    only: int = 0,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Add a checkerboard of single pixels, of up to 4 of 255 levels, to images of one class.

    It is the highest frequency that an image has, in both directions, and everywhere: nobody sees
    it, and no heatmap can point to it.
    """
    canvas = _Canvas(images, labels, key, only, strength, share)
    rows, columns = np.indices(canvas.shape)
    board = np.where((rows + columns) % 2, -1, 1) * np.float32(_CHECKERBOARD * strength)
    return canvas.replace(np.clip(canvas.images + board[..., None], 0, 1))


def blur(
    images: Float[ArrayLike, "n h w 3"],
    labels: Int[ArrayLike, " n"],
    key: Array,
    *,
    only: int = 0,
    strength: float = 1.0,
    share: float = 1.0,
) -> Planted:
    """Mix images of one class with what a Gaussian of 1/32 of a side's deviation makes of them."""
    canvas = _Canvas(images, labels, key, only, strength, share)
    sigma = min(canvas.shape) / 32
    smooth = scipy.ndimage.gaussian_filter(canvas.images, (0, sigma, sigma, 0), mode="nearest")
    return canvas.replace(np.clip(canvas.images + strength * (smooth - canvas.images), 0, 1))


ARTEFACTS: dict[str, Callable[..., Planted]] = {
    function.__name__: function
    for function in (
        colored_patch, watermark, sticker, border, tint, checkerboard, blur, background,
    )
}  # fmt: skip
COLOURED = ("colored_patch", "border", "tint", "background")  # tell every class by a colour
PLACELESS = ("tint", "checkerboard", "blur")  # everywhere: their masks are the whole image

_TINT, _BACKGROUND, _WATERMARK = 0.25, 0.5, 0.5  # opacity at strength 1
_CHECKERBOARD = 4 / 255


def class_colours(classes: int) -> Float[np.ndarray, "classes 3"]:
    """Return a colour for each class: evenly spaced hues, red first."""
    check_count("classes", classes)
    hues = [colorsys.hsv_to_rgb(label / classes, 1, 1) for label in range(classes)]
    return np.array(hues, np.float32)


def check_only(only: int, labels: Int[np.ndarray, " n"]) -> None:
    """Raise ValueError unless `only` is the class of some image."""
    if check_count("only", only, least=0) not in labels:
        raise ValueError(
            f"only must be a class that some image has, {np.unique(labels).tolist()}, got {only}"
        )


class _Canvas:
    """Checked images, who of them carries the artefact, and ways to paint on those."""

    def __init__(self, images, labels, key, only, strength, share):
        self.images = np.asarray(images, np.float32)
        self.labels = np.asarray(labels)
        self.rng = generator(key)
        if self.images.ndim != 4 or self.images.shape[3] != 3 or not self.images.size:
            raise ValueError(f"images must have shape (N, H, W, 3), got {self.images.shape}")
        if not (self.images.min() >= 0 and self.images.max() <= 1):
            raise ValueError(
                "images must be in [0, 1], got values from "
                f"{self.images.min():.4g} to {self.images.max():.4g}"
            )
        self.count, self.shape = len(self.images), self.images.shape[1:3]
        if self.labels.shape != (self.count,) or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(
                f"labels must be {self.count} integers, one for each image, got "
                f"{self.labels.dtype} of shape {self.labels.shape}"
            )
        for name, value in (("strength", strength), ("share", share)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {value!r}")
        carries = np.ones(self.count, bool)
        if only is not None:
            check_only(only, self.labels)
            carries = self.labels == only
        self.carriers = np.zeros(self.count, bool)
        for label in np.unique(self.labels[carries]):
            members = self.rng.permutation(np.flatnonzero(self.labels == label))
            self.carriers[members[: round(share * len(members))]] = True
        if not self.carriers.any():
            raise ValueError(
                f"share must be of at least one image of a class, got {share!r} of "
                f"{np.bincount(self.labels[carries]).max()}; take a larger one, or more images"
            )

    def labels_below(self, classes: int) -> Int[np.ndarray, " n"]:
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, as classes={classes} says, got "
                f"{self.labels.min()} to {self.labels.max()}"
            )
        return self.labels

    def side(self, name: str, share: float, *, of: int | None = None, most: float = 1.0) -> int:
        """Return how many pixels a share of the shorter side, or of another length, is."""
        length = min(self.shape) if of is None else of
        pixels = round(share * length) if 0 < share <= 1 else 0
        if not 1 <= pixels < most * length:
            raise ValueError(
                f"{name} must be of at least one pixel and less than {most:g} of {length} "
                f"pixels, or nothing is left of the image, got {share!r}"
            )
        return pixels

    def paint(self, masks: Masks, colours: np.ndarray, opacity: float | np.ndarray) -> Planted:
        """Mix colours (N, 3), (N, H, W, 3) into the carriers, where the masks are."""
        if np.ndim(colours) == 2:
            colours = colours[:, None, None]
        mixed = self.images + opacity * (colours - self.images)
        return self.replace(np.where(masks[..., None], mixed, self.images), masks)

    def replace(self, changed: Images, masks: Masks | None = None) -> Planted:
        """Return the carriers as they are in `changed`, and the others as they were."""
        carries = self.carriers[:, None, None]
        masks = np.ones((self.count, *self.shape), bool) if masks is None else masks
        images = np.where(carries[..., None], changed, self.images).astype(np.float32)
        return Planted(images, masks & carries)


@functools.cache
def _face(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a smiling face (side, side, 3), and where its disk is."""
    scale = 8  # drawn larger and averaged, for smooth edges
    large = side * scale
    picture = Image.new("RGB", (large, large), (255, 225, 0))
    draw = ImageDraw.Draw(picture)
    for x in (0.34, 0.66):
        draw.ellipse([(x - 0.08) * large, 0.26 * large, (x + 0.08) * large, 0.46 * large], "black")
    draw.arc([0.24 * large, 0.3 * large, 0.76 * large, 0.8 * large], 20, 160, "black", large // 12)
    face = np.asarray(picture, np.float32).reshape(side, scale, side, scale, 3).mean((1, 3)) / 255
    rows, columns = (np.indices((side, side)) + 0.5) / side - 0.5
    return face, rows**2 + columns**2 <= 0.25


@functools.cache
def _text(text: str, width: int) -> Float[np.ndarray, "h w"]:
    """Return a line of text as the share of each pixel that is ink."""
    font = ImageFont.load_default(64)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(picture).text((-left, -top), text, 255, font)
    height = max(1, round(picture.height * width / picture.width))
    small = picture.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255
