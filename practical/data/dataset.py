"""The one form that every data set takes, and images that are read when they are looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from practical._names import ClassNames, check_class_names, listed

_CACHE_BYTES = 2 * 2**30  # decoded pixels kept in memory per array; above, they are read again


class LazyArray:
    """Rows that are made on first access: `read(i)` gives row `i`, of `shape[1:]` and `dtype`.

    Index it like a NumPy array along the first axis: an int, a slice, integers or booleans. Rows
    of uint8 are images in 0..255 and come out as float32 in [0, 1]. Rows read once stay in memory
    (one byte a value) while the whole array fits in 2 GiB.

    `identity(indices)`, if given, returns a text that is another one when any of these rows is
    another one. It saves reading all rows to find out whether an array is still the same.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        shape: Sequence[int],
        dtype: type,
        *,
        identity: Callable[[np.ndarray], str] | None = None,
    ):
        self.identity = identity
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(np.float32 if dtype is np.uint8 else dtype)
        self._read = read
        fits = np.prod(self.shape, dtype=np.int64) * np.dtype(dtype).itemsize <= _CACHE_BYTES
        # np.empty takes memory only as rows are written.
        self._rows = np.empty(self.shape, dtype) if fits else None
        self._have = np.zeros(self.shape[0], bool)
        self._stored = np.dtype(dtype)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        if isinstance(index, tuple):
            raise IndexError(
                "only the first axis of a LazyArray can be indexed, got an index for several axes; "
                "read the rows first, as in images[:][..., 0]"
            )
        wanted = np.arange(len(self))[index]
        rows = self._fetch(np.atleast_1d(wanted).ravel())
        rows = rows.reshape(*np.shape(wanted), *self.shape[1:])
        return rows / np.float32(255) if self._stored == np.uint8 else rows

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("a LazyArray makes its rows on demand and cannot be viewed uncopied")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _fetch(self, wanted: np.ndarray) -> np.ndarray:
        if self._rows is None:
            return self._read_many(wanted)
        with self._lock:
            missing = np.unique(wanted[~self._have[wanted]])
            if missing.size:
                self._rows[missing] = self._read_many(missing)
                self._have[missing] = True
            return self._rows[wanted]

    def _read_many(self, wanted: np.ndarray) -> np.ndarray:
        out = np.empty((len(wanted), *self.shape[1:]), self._stored)

        def put(place: int) -> None:
            out[place] = self._read(int(wanted[place]))

        if len(wanted) < 4:  # starting threads costs more than it saves
            for place in range(len(wanted)):
                put(place)
        else:
            with ThreadPoolExecutor() as pool:
                list(pool.map(put, range(len(wanted))))
        return out


@dataclass(frozen=True)
class Dataset:
    """Images with their classes, and the masks of their objects where those are known."""

    images: np.ndarray | LazyArray  # (N, H, W, 3) float32 in [0, 1]
    labels: np.ndarray  # (N,) int32 in 0..C-1
    class_names: tuple[str, ...]  # C names that people can read
    masks: np.ndarray | LazyArray | None = None  # (N, H, W) bool: True on the object
    name: str = ""  # what `load_dataset` was asked for

    def __post_init__(self):
        """Raise a ValueError if images, labels, class names and masks do not belong together."""
        object.__setattr__(self, "labels", np.asarray(self.labels))
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        count, classes, shape = len(self.images), len(self.class_names), self.images.shape
        if self.labels.shape != (count,) or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(
                f"labels must be integers, one for each of the {count} images, got "
                f"{self.labels.dtype} of shape {self.labels.shape}"
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, since there are {classes} class names, "
                f"got labels from {self.labels.min()} to {self.labels.max()}"
            )
        if self.masks is not None and self.masks.shape != shape[:3]:
            raise ValueError(f"masks must have shape {shape[:3]}, got {self.masks.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        masks = "with" if self.masks is not None else "without"
        return (
            f"Dataset({self.name!r}: {len(self)} images of {height}x{width} pixels, "
            f"{len(self.class_names)} classes, {masks} object masks)"
        )

    def select(self, indices) -> Dataset:
        """Return the images at `indices` (integers, booleans or a slice), read into memory."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            masks=None if self.masks is None else self.masks[indices],
        )

    def only(self, names: Sequence[str]) -> Dataset:
        """Return the images of some classes, numbered in the order of `names`, read when looked at.

        Raises:
            ValueError: If a name is none of the data set's, or comes twice, or there are none.
        """
        unknown = [name for name in names if name not in self.class_names]
        if isinstance(names, str) or unknown or len(set(names)) < max(len(names), 1):
            raise ValueError(
                f"names must be some of {listed(self.class_names)}, each once, got "
                f"{names if isinstance(names, str) else listed([*map(str, names)]) or 'none'}"
            )
        numbers = [self.class_names.index(name) for name in names]
        kept = np.flatnonzero(np.isin(self.labels, numbers))
        labels = np.array([numbers.index(label) for label in self.labels[kept]], np.int32)
        return replace(
            self,
            images=_subset(self.images, kept),
            labels=labels,
            class_names=tuple(names),
            masks=None if self.masks is None else _subset(self.masks, kept),
        )

    def numbered_as(self, class_names: ClassNames) -> Dataset:
        """Return the same images with the classes numbered in the order of `class_names`.

        Raises:
            ValueError: If these are not the data set's own names, each once.
        """
        if self.class_names == (names := check_class_names(class_names)):
            return self
        numbers = {name: number for number, name in enumerate(names)}
        known = set(self.class_names)
        missing = [name for name in names if name not in known]
        extra = [name for name in self.class_names if name not in numbers]
        if missing or extra or not len(numbers) == len(names) == len(self.class_names):
            parts = [
                f"{len(some)} {kind} ({listed(some)})"
                for kind, some in (("missing", missing), ("unknown to the model", extra)) if some
            ]  # fmt: skip
            raise ValueError(
                f"the data set must have the model's {len(names)} classes, got "
                f"{len(self.class_names)}: {', '.join(parts) or 'several have one name'}"
            )
        labels = np.array([numbers[name] for name in self.class_names], np.int32)[self.labels]
        return replace(self, labels=labels, class_names=names)

    def shrink(self, factor: int) -> Dataset:
        """Return the means of squares of `factor` pixels a side, read into memory.

        Smaller images train faster. A mask is True where at least half of a square is; a factor of
        1 returns the data set itself.

        Raises:
            ValueError: If `factor` is not a positive integer that divides height and width.
        """
        if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
            raise ValueError(f"factor must be an integer of at least 1, got {factor!r}")
        if factor == 1:
            return self
        height, width, channels = self.images.shape[1:]
        if height % factor or width % factor:
            raise ValueError(f"factor must divide {height}x{width} pixels, got {factor}")
        shape = len(self), height // factor, factor, width // factor, factor
        images = self.images[:].reshape(*shape, channels).mean((2, 4))
        masks = None if self.masks is None else self.masks[:].reshape(shape).mean((2, 4)) >= 0.5
        return replace(self, images=images, masks=masks)

    def per_class(self, count: int = 1) -> Dataset:
        """Return the first `count` images of each class, class by class, read into memory.

        Raises:
            ValueError: If a class has fewer than `count` images.
        """
        indices = []
        for label, name in enumerate(self.class_names):
            found = np.flatnonzero(self.labels == label)[:count]
            if len(found) < count:
                raise ValueError(
                    f"count must be at most the images of each class; {name!r} has "
                    f"{len(found)}, got count={count}"
                )
            indices.append(found)
        return self.select(np.concatenate(indices))


def _subset(rows: np.ndarray | LazyArray, kept: np.ndarray) -> np.ndarray | LazyArray:
    """Return some rows, which are still read when they are looked at if they were before."""
    if isinstance(rows, np.ndarray):
        return rows[kept]
    identity = rows.identity
    return LazyArray(
        lambda i: rows._read(int(kept[i])),
        (len(kept), *rows.shape[1:]),
        rows._stored.type,
        identity=None if identity is None else lambda chosen: identity(kept[chosen]),
    )
