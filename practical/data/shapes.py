"""The embedded data set: ten shapes on natural-looking backgrounds, with exact object masks.

Nothing is stored. Image `i` of a split is a function of (seed, split, i) alone, so any part can be
drawn again anywhere. The class chooses the object's outline and nothing else: the background,
the distractors, the pose, the colours and the texture come from streams that never see it, so
the object is the only evidence, and its mask says where that is.

Every pixel is the same on every platform and NumPy version: the random numbers are raw Philox
words (which NumPy guarantees), and only +, -, *, / and sqrt touch them, one rounding each, no
sine, no matrix product, no order of summation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from practical._files import fingerprint
from practical.data.dataset import Dataset, LazyArray

CLASS_NAMES = (
    "disk", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "arrow", "hexagon",
)  # fmt: skip
_COUNTS = {"train": 25_000, "validation": 2_000}
_SUPERSAMPLING = 4  # points per pixel side for the antialiased edge
_RADIUS = (0.16, 0.30)  # of the object's circle, in image sides


class Scene(NamedTuple):
    """One image and what it was made of."""

    image: np.ndarray  # (S, S, 3) uint8
    mask: np.ndarray  # (S, S) bool: every pixel that the object touches
    label: int  # index into CLASS_NAMES
    background: np.ndarray  # (S, S, 3) uint8: the same scene without the object


def shapes(split: str, *, image_size: int = 64, count: int | None = None, seed: int = 0) -> Dataset:
    """Return `count` images of the embedded data set, drawn when they are looked at.

    Args:
        split: "train" or "validation"; they share no image.
        image_size: Side in pixels, 64 to 128.
        count: How many; by default 25,000 for training and 2,000 for validation. The first k of
            a larger set are the smaller set, and each run of ten has every class once.
        seed: A non-negative integer; another seed is another data set.

    Raises:
        ValueError: If an argument is out of its range.
    """
    _check(split, image_size, seed)
    count = _COUNTS[split] if count is None else count
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"count must be a positive integer, got {count!r}")

    def image(index: int) -> np.ndarray:
        return draw_scene(split, index, image_size=image_size, seed=seed).image

    def mask(index: int) -> np.ndarray:
        label = class_of(split, index, seed=seed)
        return _coverage(label, _Stream(seed, split, index, "pose"), image_size) > 0

    def identity(rows: np.ndarray) -> str:
        # Seed and index decide an image. A few drawn ones reveal a change of the drawing itself.
        drawn = [image(int(row)) for row in rows[:8]]
        return f"{split} {seed} {fingerprint(rows)} {fingerprint(drawn)}"

    square = (image_size, image_size)
    return Dataset(
        images=LazyArray(image, (count, *square, 3), np.uint8, identity=identity),
        labels=np.array([class_of(split, i, seed=seed) for i in range(count)], np.int32),
        class_names=CLASS_NAMES,
        masks=LazyArray(mask, (count, *square), bool),
        name="shapes",
    )


def draw_scene(
    split: str, index: int, *, image_size: int = 64, seed: int = 0, label: int | None = None
) -> Scene:
    """Draw image `index`, with its own class or, as a counterfactual, with class `label`.

    The scene with another `label` differs in the outline of the object alone.
    """
    _check(split, image_size, seed)
    if not isinstance(index, int | np.integer) or index < 0:
        raise ValueError(f"index must be an integer of at least 0, got {index!r}")
    label = class_of(split, index, seed=seed) if label is None else label
    if label not in range(len(CLASS_NAMES)):
        raise ValueError(f"label must be from 0 to {len(CLASS_NAMES) - 1}, got {label!r}")
    background = _background(_Stream(seed, split, index, "background"), image_size)
    for number in range(_Stream(seed, split, index, "distractors").integer(4)):
        stream = _Stream(seed, split, index, "distractor", number)
        background = _distract(background, stream)
    coverage = _coverage(label, _Stream(seed, split, index, "pose"), image_size)
    paint = _paint(
        _Stream(seed, split, index, "paint"),
        _Pose.draw(_Stream(seed, split, index, "pose"), _RADIUS),
        background,
    )
    image = background + (paint - background) * coverage[..., None]
    grain = _Stream(seed, split, index, "grain").uniform(-0.02, 0.02, image.shape)
    return Scene(_to_uint8(image + grain), coverage > 0, label, _to_uint8(background + grain))


def class_of(split: str, index: int, *, seed: int = 0) -> int:
    """Return the class of image `index`: each run of ten is a random order of the ten."""
    run, place = divmod(index, len(CLASS_NAMES))
    keys = _Stream(seed, split, run, "classes").uniform(0, 1, (len(CLASS_NAMES),))
    return int(np.argsort(keys, kind="stable")[place])


def _check(split: str, image_size: int, seed: int) -> None:
    if split not in _COUNTS:
        raise ValueError(f'split must be "train" or "validation", got {split!r}')
    if not isinstance(image_size, int | np.integer) or not 64 <= image_size <= 128:
        raise ValueError(
            f"image_size must be an integer from 64 to 128 pixels for shapes, got {image_size!r}"
        )
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")


_ROLES = ("classes", "background", "distractors", "distractor", "pose", "paint", "grain")


class _Stream:
    """Independent uniform numbers for one role in one image."""

    def __init__(self, seed: int, split: str, index: int, role: str, number: int = 0):
        key = [seed, list(_COUNTS).index(split), index, _ROLES.index(role), number]
        self._bits = np.random.Philox(np.random.SeedSequence(key))

    def uniform(self, low=0.0, high=1.0, shape: tuple[int, ...] = ()) -> np.ndarray:
        words = np.asarray(self._bits.random_raw(shape or None), np.uint64)
        return np.asarray(low + (high - low) * ((words >> np.uint64(11)) * 2.0**-53))

    def integer(self, below: int) -> int:
        return int(self.uniform() * below)

    def direction(self) -> tuple[float, float]:
        """Return a uniform unit vector, by rejection: sine and cosine differ by platform."""
        while True:
            x, y = self.uniform(-1, 1, (2,))
            squared = x * x + y * y
            if 0.01 < squared <= 1:
                length = np.sqrt(squared)
                return x / length, y / length


def _background(stream: _Stream, size: int) -> np.ndarray:
    """Blend three colours by two fields of 1/f value noise, under a slope of light."""
    field, other = _noise(stream, size), _noise(stream, size)
    low, high, third = stream.uniform(0.05, 0.95, (3, 3))
    image = low + (high - low) * field[..., None]
    image = image + (third - image) * (other * other)[..., None]
    across, down = stream.uniform(-0.3, 0.3, (2,))
    ramp = (np.arange(size) + 0.5) / size - 0.5
    return np.clip(image * (1 + across * ramp[None, :, None] + down * ramp[:, None, None]), 0, 1)


def _noise(stream: _Stream, size: int) -> np.ndarray:
    """Sum smoothly interpolated lattices of 2 to 32 cells; amplitude falls with frequency."""
    total = np.zeros((size, size))
    cells, amplitude, weight = 2, 1.0, 0.0
    persistence = float(stream.uniform(0.45, 0.7))
    while cells <= 32:
        lattice = stream.uniform(0, 1, (cells + 1, cells + 1))
        place = (np.arange(size) + 0.5) / size * cells
        low = place.astype(int)
        t = place - low
        t = t * t * (3 - 2 * t)
        rows = lattice[low] * (1 - t)[:, None] + lattice[low + 1] * t[:, None]
        total = total + amplitude * (rows[:, low] * (1 - t) + rows[:, low + 1] * t)
        weight += amplitude
        cells, amplitude = 2 * cells, amplitude * persistence
    # The octaves average out towards 0.5; stretch so that the fields use their range.
    return np.clip(0.5 + 1.8 * (total / weight - 0.5), 0, 1)


class _Pose(NamedTuple):
    """Where an outline of unit size lands, in image sides."""

    x: float
    y: float
    radius: float
    cosine: float
    sine: float
    squeeze: float  # second axis over first

    @classmethod
    def draw(cls, stream: _Stream, radius: tuple[float, float]) -> "_Pose":
        r = float(stream.uniform(*radius))
        x, y = stream.uniform(r, 1 - r, (2,))
        return cls(float(x), float(y), r, *stream.direction(), float(stream.uniform(0.8, 1)))

    def coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the outline's own coordinates of image points (x, y)."""
        x, y = (x - self.x) / self.radius, (y - self.y) / self.radius
        return x * self.cosine + y * self.sine, (y * self.cosine - x * self.sine) / self.squeeze


def _inside(outline: Callable, pose: _Pose, size: int) -> np.ndarray:
    """Return the share of each pixel, (S, S) in [0, 1], that lies inside `outline`."""
    low_x, high_x = _span(pose.x, pose.radius, size)
    low_y, high_y = _span(pose.y, pose.radius, size)
    fine = _SUPERSAMPLING
    x = (np.arange(low_x * fine, high_x * fine) + 0.5) / (size * fine)
    y = (np.arange(low_y * fine, high_y * fine) + 0.5) / (size * fine)
    inside = outline(*pose.coordinates(x[None, :], y[:, None]))
    counts = inside.reshape(high_y - low_y, fine, high_x - low_x, fine).sum((1, 3), dtype=int)
    share = np.zeros((size, size))
    share[low_y:high_y, low_x:high_x] = counts / fine**2
    return share


def _span(center: float, radius: float, size: int) -> tuple[int, int]:
    # 1.2: no outline reaches further from its centre than 1.1.
    low, high = int((center - 1.2 * radius) * size), int((center + 1.2 * radius) * size) + 1
    return max(low, 0), min(high, size)


def _coverage(label: int, pose_stream: _Stream, size: int) -> np.ndarray:
    return _inside(_OUTLINES[CLASS_NAMES[label]], _Pose.draw(pose_stream, _RADIUS), size)


def _paint(stream: _Stream, pose: _Pose, behind: np.ndarray) -> np.ndarray:
    """Return the object's colours, (S, S, 3): two colours in a pattern, unlike what is behind.

    What is behind is read in the pose's circle, not under the outline: the class must not show.
    """
    size = len(behind)
    center = (np.arange(size) + 0.5) / size
    u, v = pose.coordinates(center[None, :], center[:, None])
    rows, columns = np.nonzero(u * u + v * v <= 1)
    # Sums of integers are exact, in any order.
    there = (behind[rows, columns] * 255).astype(int).sum(0) / (255.0 * len(rows))
    for _ in range(50):
        first = stream.uniform(0, 1, (3,))
        if np.abs(first - there).max() > 0.35:
            break
    second = np.clip(first + stream.uniform(-0.3, 0.3, (3,)), 0, 1)
    period = float(stream.uniform(0.35, 0.8))
    stripes = np.floor(u / period + 100) % 2 + 0 * v
    blend = (
        np.zeros_like(stripes),
        stripes,
        np.where(np.floor(v / period + 100) % 2 == stripes, 1.0, 0.0),
        np.clip(0.5 + 0.5 * u, 0, 1) + 0 * v,
    )[stream.integer(4)]
    return first + (second - first) * blend[..., None]


def _distract(image: np.ndarray, stream: _Stream) -> np.ndarray:
    outline = _DISTRACTORS[stream.integer(len(_DISTRACTORS))]
    pose = _Pose.draw(stream, (0.08, 0.18))
    share = _inside(outline, pose, len(image))[..., None]
    return image + (_paint(stream, pose, image) - image) * share


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _polygon(*corners: tuple[float, float]) -> Callable:
    """Return the even-odd test of a polygon; literal corners, so that no sine is computed."""

    def outline(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        inside = np.zeros(np.broadcast_shapes(u.shape, v.shape), bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y0 != y1:
                inside ^= ((v < y0) != (v < y1)) & (u < x0 + (v - y0) * ((x1 - x0) / (y1 - y0)))
        return inside

    return outline


_OUTLINES: dict[str, Callable] = {
    "disk": lambda u, v: u * u + v * v <= 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.78,
    "triangle": _polygon((0.0, 1.05), (-0.909, -0.525), (0.909, -0.525)),
    "star": _polygon(
        (0.0, 1.05), (-0.247, 0.34), (-0.999, 0.324), (-0.4, -0.13), (-0.617, -0.849),
        (0.0, -0.42), (0.617, -0.849), (0.4, -0.13), (0.999, 0.324), (0.247, 0.34),
    ),
    "cross": lambda u, v: (
        (np.minimum(np.abs(u), np.abs(v)) <= 0.28) & (np.maximum(np.abs(u), np.abs(v)) <= 0.95)
    ),
    "ring": lambda u, v: np.abs(u * u + v * v - 0.6) <= 0.32,
    "heart": lambda u, v: _heart(1.15 * u, 1.15 * v),
    "crescent": lambda u, v: (
        (u * u + v * v <= 0.95) & ((u - 0.45) * (u - 0.45) + v * v >= 0.6)
    ),
    "arrow": _polygon(
        (1.05, 0.0), (0.15, 0.75), (0.15, 0.27), (-0.95, 0.27), (-0.95, -0.27), (0.15, -0.27),
        (0.15, -0.75),
    ),
    "hexagon": _polygon(
        (0.98, 0.0), (0.49, 0.8487), (-0.49, 0.8487), (-0.98, 0.0), (-0.49, -0.8487),
        (0.49, -0.8487),
    ),
}  # fmt: skip


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    round_part = u * u + v * v - 0.65
    return round_part * round_part * round_part <= u * u * v * v * v


# No class's objects: a bar, a half disk, an angle, three dots.
_DISTRACTORS: tuple[Callable, ...] = (
    lambda u, v: (np.abs(u) <= 1) & (np.abs(v) <= 0.2),
    lambda u, v: (u * u + v * v <= 0.95) & (v >= 0),
    lambda u, v: (
        (np.minimum(u, v) >= -0.6) & (np.minimum(u, v) <= -0.2) & (np.maximum(u, v) <= 0.7)
    ),
    lambda u, v: np.minimum((np.abs(u) - 0.7) * (np.abs(u) - 0.7), u * u) + v * v <= 0.06,
)
