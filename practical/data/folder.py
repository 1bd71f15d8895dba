"""Anybody's own images: one folder per class."""

import os
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from practical.data.dataset import Dataset, LazyArray
from practical.data.files import Files
from practical.data.images import decode, image_shape, resize_and_crop

_VALIDATION_SHARE = 0.2
_TRAIN, _VALIDATION = {"train"}, {"val", "valid", "validation"}  # names of the splits' folders
_TEST = {"test"}  # validates where there is no validation folder
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}  # what a file manager leaves, with all hidden files
_LISTED = 3  # how many of many names an error message gives


class TooFewError(ValueError):
    """A split has fewer images than were asked for."""


def folder(
    path: str | Path, split: str, *, image_size: int | None = None, count: int | None = None,
    seed: int = 0,
) -> Dataset:  # fmt: skip
    """Return a split of the images below `path`, read when they are looked at.

    Either `path/train/CLASS/*` and `path/val/CLASS/*`, or `path/CLASS/*`, of which `seed` draws a
    fifth of each class for validation. The validation folder may also be called `valid` or
    `validation`, in any case. A folder `test` beside the two is left alone; without a validation
    folder, it is used for validation. The images come in an order drawn from `seed`, in which every
    class is spread evenly. Two spellings of a class name that differ only in their Unicode
    normalization (NFC, NFD) are one class, named in NFC.

    Args:
        path: The folder.
        split: "train" or "validation".
        image_size: If given, the shorter side is resized to so many pixels, and the centre
            square of that side is cut out; without it, all images must have the same size.
        count: How many, from the first; by default all.
        seed: A non-negative integer.

    Raises:
        ValueError: If the folder has another layout, under two classes, files that are not images,
            images of different sizes, or class names that are not UTF-8.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"folder:PATH must name a folder; {root} is not one")
    _check_utf8(root, str(root))
    class_names, by_class = _split_files(root, split, seed)
    labels = np.repeat(
        np.arange(len(class_names), dtype=np.int32), [len(by_class[name]) for name in class_names]
    )
    order = spread_over_classes(labels, seed=seed, count=count)
    paths = [file for name in class_names for file in by_class[name]]
    files = [paths[index] for index in order]
    known = Files(root, files)
    shapes = _read_shapes(files)
    if image_size is None:
        height, width = _one_shape(files, shapes)
    else:
        height = width = image_size

    def read(index: int) -> np.ndarray:
        image = decode(known.unchanged(index))
        return image if image_size is None else resize_and_crop(image, image_size)

    return Dataset(
        images=LazyArray(read, (len(order), height, width, 3), np.uint8, identity=known.identity),
        labels=labels[order],
        class_names=tuple(class_names),
        name=f"folder:{path}",
    )


def spread_over_classes(
    labels: np.ndarray, *, seed: int = 0, count: int | None = None
) -> np.ndarray:
    """Return the first `count` indices of a random order in which the classes take turns.

    Each round has one image of every class that still has some, so the first images show all
    classes. The order is the same on every platform and NumPy version.

    Raises:
        ValueError: If `count` or `seed` is out of its range; `TooFewError` if `count` is too high.
    """
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    if count is not None and (not _is_integer(count) or not 1 <= count <= len(labels)):
        raise (TooFewError if _is_integer(count) and count > len(labels) else ValueError)(
            f"count must be an integer from 1 to {len(labels)}, the number of images in this "
            f"split, or None for all; got {count!r}"
        )
    # Raw Philox words: NumPy does not promise the same `permutation` in every version.
    keys = np.random.Philox(np.random.SeedSequence([seed])).random_raw(len(labels))
    shuffled = np.argsort(keys, kind="stable")
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = shuffled[labels[shuffled] == label]
        turn[mine] = np.arange(len(mine))
    return np.lexsort((keys, turn))[:count]


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _split_files(root: Path, split: str, seed: int) -> tuple[list[str], dict[str, list[Path]]]:
    """Return the class names, sorted, and the files of each in this split."""
    folders = [child for child in _visible(root) if child.is_dir()]
    # A class may be called "train", too; its folder holds no folders.
    parts = [f for f in folders if any(child.is_dir() for child in f.iterdir())]
    train, validation, test = (
        [folder for folder in parts if folder.name.lower() in names]
        for names in (_TRAIN, _VALIDATION, _TEST)
    )
    if train or validation:
        held_out = validation or test
        if len(train) != 1 or len(held_out) != 1:
            raise ValueError(
                f"{root} must have the folder train/ and one of val/, valid/, validation/ and "
                f"test/ (or else only one folder per class); it has {_names(folders)}"
            )
        if extra := [folder for folder in folders if folder not in (*train, *validation, *test)]:
            raise ValueError(
                f"{root} has folders beside {train[0].name}/ and {held_out[0].name}/: "
                f"{_names(extra)}; move them away"
            )
        found = {"train": _by_class(train[0]), "validation": _by_class(held_out[0])}
        if differing := set(found["train"]) ^ set(found["validation"]):
            raise ValueError(
                f"{train[0].name}/ and {held_out[0].name}/ of {root} must have the same classes; "
                f"only in one: {_some(sorted(differing))}"
            )
        files = found[split]
    else:
        files = {
            name: _share(paths, split, seed, name, root) for name, paths in _by_class(root).items()
        }
    return sorted(files), files


def _by_class(root: Path) -> dict[str, list[Path]]:
    children = _visible(root)
    if stray := [child for child in children if not child.is_dir()]:
        raise ValueError(
            f"{root} must hold one folder per class and no other files; it has "
            f"{_names(stray)}. Move them into a class's folder or away"
        )
    if not children:
        raise ValueError(f"{root} has no images: it must hold one folder of images per class")
    files: dict[str, list[Path]] = {}
    for child in children:
        _check_utf8(child, child.name)
        files.setdefault(unicodedata.normalize("NFC", child.name), []).extend(_images(child))
    if len(files) < 2:
        raise ValueError(
            f"{root} has one class, {next(iter(files))!r}, and a classifier needs two or more: "
            f"give every class a folder"
        )
    return files


def _images(folder: Path) -> list[Path]:
    """Return the files of one class's folder."""
    paths = _visible(folder)
    if not paths:
        raise ValueError(f"the class {folder.name!r} has no images in {folder}; add some")
    if inner := [path for path in paths if path.is_dir()]:
        raise ValueError(
            f"the class folder {folder} must hold only images; it has the folders {_names(inner)}"
        )
    return paths


def _check_utf8(path: Path, name: str) -> None:
    """Raise a ValueError unless `name` can be written to a file."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the name of the folder {os.fsencode(path)!r} must be UTF-8, because class names are "
            f"written into files; rename it"
        ) from error


def _share(paths: list[Path], split: str, seed: int, name: str, root: Path) -> list[Path]:
    """Return the part of one class's files that `seed` draws for `split`."""
    if len(paths) < 2:
        raise ValueError(
            f"the class {name!r} in {root} has one image, and a split needs one for training and "
            f"one for validation; add more"
        )
    held_out = max(1, round(_VALIDATION_SHARE * len(paths)))
    order = spread_over_classes(np.zeros(len(paths), np.int32), seed=seed)
    chosen = order[:held_out] if split == "validation" else order[held_out:]
    return [paths[index] for index in sorted(chosen)]


def _visible(path: Path) -> list[Path]:
    """Return what is in a folder, by name, without hidden and system files."""
    return sorted(
        child
        for child in path.iterdir()
        if not child.name.startswith(".") and child.name.lower() not in _SYSTEM_FILES
    )


def _read_shapes(files: list[Path]) -> list[tuple[int, int]]:
    broken = []

    def shape(file: Path) -> tuple[int, int]:
        try:
            return image_shape(file)
        except (ValueError, OSError) as error:
            broken.append(str(error))
            return 0, 0

    with ThreadPoolExecutor() as pool:
        shapes = list(pool.map(shape, files))
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(files)} files cannot be read as images: {_some(sorted(broken))}"
        )
    return shapes


def _one_shape(files: list[Path], shapes: list[tuple[int, int]]) -> tuple[int, int]:
    if len(set(shapes)) > 1:
        other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
        (h0, w0), (h1, w1) = shapes[0], shapes[other]
        raise ValueError(
            f"image_size must be given where images differ in size: {files[0].name} is {h0}x{w0} "
            f"and {files[other].name} is {h1}x{w1} pixels (height x width); pass, for instance, "
            f"image_size=224 to resize and crop all"
        )
    return shapes[0]


def _names(paths: Iterable[Path]) -> str:
    return _some(sorted(path.name for path in paths))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
