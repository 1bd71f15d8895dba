"""Mosaics of a data set's images: where the evidence is, for data sets without masks as well."""

import numpy as np

from practical.data.dataset import Dataset, LazyArray


def mosaics(dataset: Dataset, *, count: int = 64, seed: int = 0) -> Dataset:
    """Return 2x2 mosaics: two images of a target class among two of other classes.

    The classes take turns as the target. The two images of the target class are different ones,
    the other two are of different classes (with only two classes: different images of the other
    one), and the four are in random places. Images keep their size, so a mosaic has twice the
    height and the width; it is put together when it is looked at.

    Args:
        dataset: Any data set with at least two images of each of at least two classes.
        count: How many mosaics. The first k of a larger `count` are the same mosaics.
        seed: A non-negative integer: which images come together, and where.

    Returns:
        A data set whose labels are the target classes, and whose masks are True on the two
        quadrants that show the target class.

    Raises:
        ValueError: If there are fewer than two classes, or images of a class, or an option is out
            of its range.

    References:
        Arias-Duart et al., Focus! Rating XAI Methods and Finding Biases, FUZZ-IEEE 2022.
    """
    if not _is_integer(count) or count < 1:
        raise ValueError(f"count must be an integer of at least 1, got {count!r}")
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    members = _members(dataset)
    labels = np.arange(count, dtype=np.int32) % len(members)
    drawn = [_draw(seed, number, int(label), members) for number, label in enumerate(labels)]
    tiles, on_target = (np.stack(part) for part in zip(*drawn, strict=True))
    height, width, channels = dataset.images.shape[1:]

    def image(number: int) -> np.ndarray:
        four = np.asarray(dataset.images[tiles[number]]).reshape(2, 2, height, width, channels)
        return four.swapaxes(1, 2).reshape(2 * height, 2 * width, channels)

    def mask(number: int) -> np.ndarray:
        return on_target[number].reshape(2, 2).repeat(height, 0).repeat(width, 1)

    return Dataset(
        images=LazyArray(image, (count, 2 * height, 2 * width, channels), np.float32),
        labels=labels,
        class_names=dataset.class_names,
        masks=LazyArray(mask, (count, 2 * height, 2 * width), bool),
        name=f"mosaics of {dataset.name}" if dataset.name else "mosaics",
    )


def _members(dataset: Dataset) -> list[np.ndarray]:
    """Return the indices of each class's images, or say which class has too few."""
    names = dataset.class_names
    if len(names) < 2:
        raise ValueError(
            f"dataset must have at least two classes, for a mosaic shows two, got {len(names)}"
        )
    members = [np.flatnonzero(dataset.labels == label) for label in range(len(names))]
    if few := [f"{names[k]!r} has {len(m)}" for k, m in enumerate(members) if len(m) < 2]:
        listed = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
        raise ValueError(
            f"dataset must have at least two images of each class; {listed}. Take more images, or "
            "leave the class out"
        )
    return members


def _draw(
    seed: int, number: int, label: int, members: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a mosaic's four places, row by row, and which show class `label`."""
    # Raw Philox words and whole numbers: the same on every platform and NumPy version.
    bits = np.random.Philox(np.random.SeedSequence([seed, number]))
    target = members[label][list(_two(bits, len(members[label])))]
    others = [k for k in range(len(members)) if k != label]
    if len(others) > 1:
        classes = [members[others[k]] for k in _two(bits, len(others))]
        rest = np.array([mine[_below(bits, len(mine))] for mine in classes])
    else:
        rest = members[others[0]][list(_two(bits, len(members[others[0]])))]
    places = np.argsort(bits.random_raw(4), kind="stable")
    return np.concatenate([target, rest])[places], np.array([True, True, False, False])[places]


def _two(bits: np.random.Philox, count: int) -> tuple[int, int]:
    """Return two different numbers below `count`, all ordered pairs equally likely."""
    first, second = _below(bits, count), _below(bits, count - 1)
    return first, second + (second >= first)


def _below(bits: np.random.Philox, count: int) -> int:
    return int(bits.random_raw()) * count >> 64


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
