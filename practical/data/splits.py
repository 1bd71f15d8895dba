"""Both splits of a data set, as the commands take them."""

from collections.abc import Sequence
from typing import Any

from practical._inputs import check_count
from practical.data import Dataset, load_dataset
from practical.data.folder import TooFewError


def load_at_most(name: str, split: str, most: int, **options: Any) -> Dataset:
    """Return the first `most` images of a split, or all if it has fewer, read when looked at.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    try:
        return load_dataset(name, split, count=most, **options)
    except TooFewError:
        return load_dataset(name, split, **options)


def load_splits(
    name: str,
    *,
    training: int,
    validation: int,
    image_size: int | None = None,
    shrink: int = 1,
    classes: Sequence[str] | None = None,
) -> tuple[Dataset, Dataset]:
    """Return the first training and validation images of some classes, in memory.

    A split with fewer images than asked for is taken whole.

    Raises:
        ValueError: If an argument breaks its rule.
    """

    def load(split: str, option: str, most: int) -> Dataset:
        check_count(option, most)
        whole = load_dataset(name, split, image_size=image_size)
        some = whole if classes is None else whole.only(classes)
        return some.select(slice(most)).shrink(shrink)

    return load("train", "--training", training), load("validation", "--validation", validation)
